//! A move of a payload that is stopped after each of its steps, and what comes of it: whichever way it goes on, the bytes are right at one
//! place, nothing that was durable is hashed by the next start, and what belongs to others stays.
//!
//! `SEEDBANK_CRASH_FULL=1` goes on in every way after every step; else in one, by turns.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use seedbank::base::FileIdentity;
use seedbank::disk::{OnStep, Step};
use seedbank::engine::{EngineError, ErrorKind, Event, Goal, Moved, move_payload};
use seedbank::store::{Choices, Commit, Moving, Note, Store};
use tempfile::TempDir;

use crate::skip;
use crate::small_disk::SmallDisk;
use crate::world::{PIECE, World};

/// How a move that was stopped goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    MoveAgain,
    MoveBack,
    StartThere,
    StartHere,
}

const WAYS: [Then; 4] = [
    Then::MoveAgain,
    Then::MoveBack,
    Then::StartThere,
    Then::StartHere,
];

/// A torrent that is whole in the catalog, at `source`, with somebody's file beside it.
struct Rig {
    world: World,
    new: PathBuf,
    _other: Option<TempDir>,
}

fn identity(path: &Path) -> FileIdentity {
    let found = fs::metadata(path).unwrap();
    FileIdentity {
        device: found.dev(),
        inode: found.ino(),
        size: found.len(),
        mtime_ns: found.mtime() * 1_000_000_000 + found.mtime_nsec(),
    }
}

/// A temporary folder on another filesystem than that of temporary files.
fn elsewhere() -> Option<TempDir> {
    let device = |folder: &TempDir| folder.path().metadata().unwrap().dev();
    let here = tempfile::tempdir().unwrap();
    let there = tempfile::tempdir_in("/dev/shm").ok();
    let there = there.filter(|there| device(there) != device(&here));
    if there.is_none() {
        skip::say("there is no second filesystem for temporary files");
    }
    there
}

fn free_run() -> Arc<OnStep> {
    Arc::new(|_| ControlFlow::Continue(()))
}

/// Goes on for `steps` steps and no further.
fn fuse(steps: usize) -> Arc<OnStep> {
    let left = AtomicUsize::new(steps);
    Arc::new(move |_| {
        let spent = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            left.checked_sub(1)
        });
        match spent {
            Ok(_) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })
}

impl Rig {
    async fn new(other: Option<TempDir>) -> Self {
        let world = World::new();
        let base = other.as_ref().map_or(world.root.path(), TempDir::path);
        let new = base.join("new");
        fs::create_dir_all(new.join("pair")).unwrap();
        fs::write(new.join("pair/yours"), "yours").unwrap();
        fs::write(world.path("source/pair/mine"), "mine").unwrap();
        let rig = Self {
            world,
            new,
            _other: other,
        };
        rig.commit(0..16, true).await;
        rig
    }

    fn old(&self) -> PathBuf {
        self.world.path("source")
    }

    fn info_hash(&self) -> seedbank::base::InfoHash {
        self.world.metainfo.info.info_hash()
    }

    async fn store(&self) -> Store {
        Store::open(self.world.path("state")).await.unwrap().store
    }

    /// Has `durable` pieces of the files as they are now in a store of its own.
    async fn commit(&self, durable: std::ops::Range<u32>, clean: bool) {
        let store = self.store().await;
        let (info_hash, bytes) = (self.info_hash(), self.world.metainfo.to_torrent());
        let choices = Choices::new(self.old());
        store.put_torrent(info_hash, bytes, choices).await.unwrap();
        store.load(info_hash, 16, 2).await.unwrap();
        let identities = ["a", "b"].map(|name| identity(&self.old().join("pair").join(name)));
        let commit = Commit {
            finished: durable.len() == 16,
            durable: durable.collect(),
            identities: identities.into_iter().enumerate().collect(),
            clean,
            ..Commit::default()
        };
        store.commit(info_hash, commit).await.unwrap();
        store.close().await.unwrap();
    }

    async fn go(&self, to: &Path, on_step: Arc<OnStep>) -> Result<Moved, EngineError> {
        let store = self.store().await;
        let choices = store.choices(self.info_hash()).await.unwrap().unwrap();
        let info = &self.world.metainfo.info;
        let moved = move_payload(&store, info, choices, to, on_step).await;
        store.close().await.unwrap();
        moved
    }

    async fn choices(&self) -> Choices {
        let store = self.store().await;
        let choices = store.choices(self.info_hash()).await.unwrap().unwrap();
        store.close().await.unwrap();
        choices
    }

    /// Starts the torrent in `dest`; trusted, rechecked and missing pieces.
    async fn start(&self, dest: &Path) -> (u32, u32, u32) {
        let engine = self.world.engine("state").await;
        let mut events = engine.subscribe();
        let mut torrent = self.world.torrent("", Goal::Download, vec![]);
        torrent.dest = dest.to_owned();
        engine.add(torrent).await.unwrap();
        let counts = loop {
            if let Event::Resume {
                trusted,
                rechecked,
                missing,
                ..
            } = events.recv().await.unwrap()
            {
                break (trusted, rechecked, missing);
            }
        };
        engine.shutdown().await;
        counts
    }

    /// All is in `place` and the other has nothing but what belongs to others.
    async fn assert_only_in(&self, place: &Path, what: &str) {
        for name in ["a", "b"] {
            let salt = if name == "a" { 1 } else { 2 };
            let found = fs::read(place.join("pair").join(name)).unwrap();
            let expected = crate::world::bytes(found.len(), salt);
            let length = if name == "a" { 10 } else { 6 } * PIECE as usize;
            assert!(found.len() == length && found == expected, "{name}: {what}");
        }
        for (folder, others) in [(self.old(), "mine"), (self.new.clone(), "yours")] {
            let mut expected = vec![others];
            if folder == place {
                expected.extend(["a", "b"]);
            }
            expected.sort_unstable();
            let entries = fs::read_dir(folder.join("pair")).unwrap();
            let mut found: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            found.sort();
            assert_eq!(found, expected, "{}: {what}", folder.display());
        }
        let choices = self.choices().await;
        assert_eq!(
            (choices.dest.as_path(), choices.moving),
            (place, None),
            "{what}"
        );
        assert_eq!(self.start(place).await, (16, 0, 0), "{what}");
    }

    async fn go_on(&self, then: Then, what: &str) -> PathBuf {
        let place = match then {
            Then::MoveAgain | Then::StartThere => self.new.clone(),
            Then::MoveBack | Then::StartHere => self.old(),
        };
        match then {
            Then::MoveAgain | Then::MoveBack => {
                let moved = self.go(&place, free_run()).await.unwrap();
                assert!(moved.warnings().is_empty(), "{moved:?}: {what}");
            }
            Then::StartThere | Then::StartHere => {
                let choices = self.choices().await;
                if choices.dest == place || choices.moving.is_some() {
                    assert_eq!(self.start(&place).await, (16, 0, 0), "{what}");
                } else {
                    // It is over: whoever wants it back has to say so.
                    self.go(&place, free_run()).await.unwrap();
                }
            }
        }
        place
    }
}

/// Stops a move after every step; answers how many there are.
async fn matrix(other: impl Fn() -> Option<TempDir>) -> Option<usize> {
    let full = std::env::var_os("SEEDBANK_CRASH_FULL").is_some_and(|value| value == "1");
    for steps in 0..200 {
        let ways: Vec<Then> = if full {
            WAYS.to_vec()
        } else {
            vec![WAYS[steps % WAYS.len()]]
        };
        for then in ways {
            let rig = Rig::new(other()).await;
            let new = rig.new.clone();
            match rig.go(&new, fuse(steps)).await {
                Ok(_) => {
                    rig.assert_only_in(&new, "unstopped").await;
                    return Some(steps);
                }
                Err(EngineError::Stopped) => {}
                Err(error) => panic!("after {steps} steps: {error}"),
            }
            let what = format!("{then:?} after {steps} steps");
            let place = rig.go_on(then, &what).await;
            rig.assert_only_in(&place, &what).await;
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_on_one_filesystem_goes_on_after_a_stop_at_any_step() {
    let steps = matrix(|| None).await.unwrap();
    assert!(steps >= 6, "{steps}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_across_filesystems_goes_on_after_a_stop_at_any_step() {
    if elsewhere().is_none() {
        return;
    }
    let steps = matrix(elsewhere).await.unwrap();
    assert!(steps >= 12, "{steps}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_stopped_and_turned_round_again_and_again_loses_nothing() {
    for other in [None, elsewhere()] {
        let rig = Rig::new(other).await;
        let places = [rig.new.clone(), rig.old()];
        for turn in 0..24 {
            // Sometimes it gets there, and the next is a new move.
            let stopped = rig.go(&places[turn % 2], fuse(1 + turn * 7 % 13)).await;
            assert!(
                matches!(stopped, Ok(_) | Err(EngineError::Stopped)),
                "turn {turn}: {stopped:?}"
            );
        }
        rig.go(&rig.new, free_run()).await.unwrap();
        rig.assert_only_in(&rig.new, "turned round").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_already_stays_and_a_third_place_has_to_wait_for_the_second() {
    let rig = Rig::new(None).await;
    assert_eq!(
        rig.go(&rig.old(), free_run()).await.unwrap(),
        Moved::default()
    );
    rig.assert_only_in(&rig.old(), "nothing to do").await;
    let stopped = rig.go(&rig.new, fuse(3)).await;
    assert!(matches!(stopped, Err(EngineError::Stopped)), "{stopped:?}");
    let third = rig.world.path("third");
    fs::create_dir_all(&third).unwrap();
    let engine = rig.world.engine("state").await;
    let torrent = rig.world.torrent("third", Goal::Download, vec![]);
    let refused = engine.add(torrent).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unfinished, "{refused}");
    engine.shutdown().await;
    rig.go(&third, free_run()).await.unwrap();
    assert_eq!(rig.choices().await.dest, third);
    assert_eq!(rig.start(&third).await, (16, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_changes_nothing() {
    for other in [None, elsewhere()] {
        let rig = Rig::new(other).await;
        let in_the_way = rig.new.join("pair/b");
        fs::write(&in_the_way, "a stranger's").unwrap();
        let refused = rig.go(&rig.new, free_run()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::FileExists, "{refused}");
        assert_eq!(fs::read(&in_the_way).unwrap(), b"a stranger's");
        fs::remove_file(in_the_way).unwrap();
        rig.assert_only_in(&rig.old(), "refused").await;
        let refused = rig
            .go(&rig.world.path("none"), free_run())
            .await
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
        assert!(!rig.world.path("none").exists());
        fs::rename(rig.old().join("pair/a"), rig.world.path("a")).unwrap();
        let refused = rig.go(&rig.new, free_run()).await.unwrap_err();
        assert!(matches!(refused, EngineError::Missing { .. }), "{refused}");
        fs::rename(rig.world.path("a"), rig.old().join("pair/a")).unwrap();
        rig.assert_only_in(&rig.old(), "missing").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_appears_on_the_way_is_not_taken_for_ours_and_all_is_brought_back() {
    for other in [None, elsewhere()] {
        let rig = Rig::new(other).await;
        let place = rig.new.join("pair/b");
        let put = place.clone();
        let on_step = move |_| {
            // Once the first file is on its way, another program puts the second one there.
            if put.with_file_name("a").exists() && !put.exists() {
                fs::write(&put, "a stranger's").unwrap();
            }
            ControlFlow::Continue(())
        };
        let refused = rig.go(&rig.new, Arc::new(on_step)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::FileExists, "{refused}");
        assert_eq!(fs::read(&place).unwrap(), b"a stranger's");
        fs::remove_file(place).unwrap();
        rig.assert_only_in(&rig.old(), "brought back").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_reads_back_wrong_is_removed_and_the_old_place_stays() {
    let Some(other) = elsewhere() else { return };
    let rig = Rig::new(Some(other)).await;
    let copy = rig.new.join("pair/a");
    let on_step = move |step| {
        if matches!(step, Step::Checking(_)) {
            let file = fs::OpenOptions::new().write(true).open(&copy).unwrap();
            let mtime = file.metadata().unwrap().modified().unwrap();
            file.write_all_at(b"rot", 5 * u64::from(PIECE)).unwrap();
            file.set_modified(mtime).unwrap();
        }
        ControlFlow::Continue(())
    };
    let failed = rig.go(&rig.new, Arc::new(on_step)).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Io, "{failed}");
    rig.assert_only_in(&rig.old(), "brought back").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_that_was_damaged_before_the_move_is_durable_no_more() {
    let Some(other) = elsewhere() else { return };
    let rig = Rig::new(Some(other)).await;
    let path = rig.old().join("pair/a");
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mtime = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(b"rot", 5 * u64::from(PIECE)).unwrap();
    file.set_modified(mtime).unwrap();
    let moved = rig.go(&rig.new, free_run()).await.unwrap();
    assert_eq!(moved.damaged, 1);
    assert_eq!(moved.copied, 16 * u64::from(PIECE));
    assert!(!path.exists());
    assert_eq!(rig.start(&rig.new).await, (15, 0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unfinished_download_moves_with_all_that_is_known_of_it() {
    for other in [None, elsewhere()] {
        let rig = Rig::new(other).await;
        let store = rig.store().await;
        store.remove_torrent(rig.info_hash()).await.unwrap();
        store.close().await.unwrap();
        rig.commit(0..12, false).await;
        // Written after that, and noted, and the process was killed.
        let path = rig.old().join("pair/b");
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        let rest = crate::world::bytes(6 * PIECE as usize, 2);
        file.write_all_at(&rest, 0).unwrap();
        let store = rig.store().await;
        let note = vec![Note::Verified(12)];
        store.note(rig.info_hash(), note).await.unwrap();
        store.close().await.unwrap();
        rig.go(&rig.new, free_run()).await.unwrap();
        assert_eq!(rig.start(&rig.new).await, (12, 1, 3));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_somebody_changed_are_moved_and_not_vouched_for() {
    for other in [None, elsewhere()] {
        let rig = Rig::new(other).await;
        let path = rig.old().join("pair/b");
        let mut content = fs::read(&path).unwrap();
        content[PIECE as usize] ^= 1;
        fs::write(&path, content).unwrap();
        rig.go(&rig.new, free_run()).await.unwrap();
        assert_eq!(rig.start(&rig.new).await, (10, 6, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torrent_whose_record_is_lost_moves_too_and_is_hashed_at_the_next_start() {
    let rig = Rig::new(elsewhere()).await;
    let stopped = rig.go(&rig.new, fuse(4)).await;
    assert!(matches!(stopped, Err(EngineError::Stopped)), "{stopped:?}");
    fs::remove_dir_all(rig.world.path("state/db")).unwrap();
    rig.go(&rig.new, free_run()).await.unwrap();
    let choices = rig.choices().await;
    assert_eq!((choices.dest, choices.moving), (rig.new.clone(), None));
    assert!(!rig.old().join("pair/a").exists());
    assert_eq!(rig.start(&rig.new).await, (0, 16, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_place_that_cannot_be_cleared_yet_is_cleared_later() {
    let Some(other) = elsewhere() else { return };
    let rig = Rig::new(Some(other)).await;
    let held = Arc::new(std::sync::Mutex::new(None));
    let (hold, path) = (Arc::clone(&held), rig.old().join("pair/a"));
    let on_step = move |step| {
        // Another program comes to use the original once it is copied.
        if matches!(step, Step::Checking(_)) {
            let file = fs::File::open(&path).unwrap();
            file.lock_shared().unwrap();
            *hold.lock().unwrap() = Some(file);
        }
        ControlFlow::Continue(())
    };
    let moved = rig.go(&rig.new, Arc::new(on_step)).await.unwrap();
    assert!(moved.uncleared.is_some(), "{moved:?}");
    let from = Moving::From(rig.old());
    assert_eq!(rig.choices().await.moving, Some(from.clone()));
    // It runs where it is now; what is left to do is not forgotten.
    assert_eq!(rig.start(&rig.new).await, (16, 0, 0));
    assert_eq!(rig.choices().await.moving, Some(from));
    drop(held.lock().unwrap().take());
    assert_eq!(rig.start(&rig.new).await, (16, 0, 0));
    rig.assert_only_in(&rig.new, "cleared").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_leaves_the_old_place_in_use_and_nothing_half_done() {
    let Some(small) = SmallDisk::mount() else {
        return;
    };
    let mut rig = Rig::new(None).await;
    rig.new = small.path().to_owned();
    fs::create_dir(rig.new.join("pair")).unwrap();
    fs::write(rig.new.join("pair/yours"), "yours").unwrap();
    // Told before anything is done.
    let filler = rig.new.join("filler");
    fs::write(&filler, vec![1; 900 << 10]).unwrap();
    let full = rig.go(&rig.new, free_run()).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::DiskFull, "{full}");
    rig.assert_only_in(&rig.old(), "full before").await;
    fs::remove_file(&filler).unwrap();
    // Found on the way, when others were faster.
    let fill = filler.clone();
    let on_step = move |step| {
        if matches!(step, Step::Copying(_)) {
            // As much as there is room for.
            let _ = fs::write(&fill, vec![1; 1 << 20]);
        }
        ControlFlow::Continue(())
    };
    let full = rig.go(&rig.new, Arc::new(on_step)).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::DiskFull, "{full}");
    rig.assert_only_in(&rig.old(), "full on the way").await;
    fs::remove_file(&filler).unwrap();
    rig.go(&rig.new, free_run()).await.unwrap();
    rig.assert_only_in(&rig.new, "with room").await;
}
