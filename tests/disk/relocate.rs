//! Moving a payload: what is renamed, copied, refused, removed and left.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seedbank::base::{FileIdentity, Geometry};
use seedbank::disk::{
    Access, Arrival, Disk, DiskError, FileSpec, Layout, OnStep, Outlook, Relocation, SpecKind,
    Step, WritePath,
};
use tempfile::TempDir;

use crate::rig::{PIECE, block_on, noise, past_forks};
use crate::skip;
use crate::small_disk::SmallDisk;

const FILES: &[(&str, u64)] = &[
    ("t/a", 100_000),
    ("t/empty", 0),
    ("t/sub/dir/b", 5),
    ("t/c", 300_001),
];

/// A payload with a pad and a link, in the folder `old`, and a folder `new` to move it to.
struct Rig {
    folder: TempDir,
    other: Option<TempDir>,
    disk: Disk,
    known: Vec<Option<FileIdentity>>,
}

fn go_on() -> Arc<OnStep> {
    Arc::new(|_| ControlFlow::Continue(()))
}

/// A temporary folder on another filesystem than that of temporary files.
fn elsewhere() -> Option<TempDir> {
    let here = tempfile::tempdir().unwrap();
    let there = tempfile::tempdir_in("/dev/shm").ok();
    let device = |folder: &TempDir| folder.path().metadata().unwrap().dev();
    let there = there.filter(|there| device(there) != device(&here));
    if there.is_none() {
        skip::say("there is no second filesystem for temporary files");
    }
    there
}

impl Rig {
    fn new(other: Option<TempDir>) -> Self {
        let mut rig = Self {
            folder: tempfile::tempdir().unwrap(),
            other,
            disk: Disk::new(1),
            known: Vec::new(),
        };
        for (at, (name, length)) in FILES.iter().enumerate() {
            let path = rig.old().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, noise(*length as usize, at as u32)).unwrap();
        }
        symlink("../c", rig.old().join("t/sub/link")).unwrap();
        fs::create_dir(rig.new_place()).unwrap();
        rig.known = block_on(rig.disk.look(rig.layout(&rig.old())))
            .unwrap()
            .files;
        rig
    }

    fn old(&self) -> PathBuf {
        self.folder.path().join("old")
    }

    fn new_place(&self) -> PathBuf {
        let other = self.other.as_ref().map(TempDir::path);
        other.unwrap_or(self.folder.path()).join("new")
    }

    fn layout(&self, root: &Path) -> Arc<Layout> {
        let spec = |(name, length): (&str, u64), kind| FileSpec {
            path: root.join(name),
            length,
            kind,
        };
        let files = FILES.iter().map(|&file| spec(file, SpecKind::Payload));
        let mut files: Vec<_> = files.collect();
        files.insert(1, spec((".pad/x", 31_072), SpecKind::Pad));
        let target = root.join("t/c");
        files.push(spec(("t/sub/link", 0), SpecKind::Symlink { target }));
        let total = files.iter().map(|file| file.length).sum();
        let geometry = Geometry::new(total, PIECE).unwrap();
        Arc::new(Layout::new(root.to_owned(), geometry, files).unwrap())
    }

    fn relocation(&self, begun: bool) -> Arc<Relocation> {
        past_forks();
        Arc::new(Relocation {
            from: self.layout(&self.old()),
            to: self.layout(&self.new_place()),
            known: self.known.clone(),
            tag: "feed".to_owned(),
            begun,
        })
    }

    fn look_ahead(&self, begun: bool) -> Result<Outlook, DiskError> {
        block_on(self.disk.look_ahead(self.relocation(begun)))
    }

    fn carry(&self) -> Result<Vec<Arrival>, DiskError> {
        block_on(self.disk.carry(self.relocation(true), go_on()))
    }

    fn clear_away(&self) -> Vec<PathBuf> {
        let clearing = self.disk.clear_away(self.relocation(true), go_on());
        block_on(clearing).unwrap()
    }

    /// All of it is in `folder`, and nothing else but `besides`.
    fn assert_whole(&self, folder: &Path, besides: &[&str]) {
        for (at, (name, length)) in FILES.iter().enumerate() {
            let found = fs::read(folder.join(name)).unwrap();
            assert!(found == noise(*length as usize, at as u32), "{name}");
        }
        let link = fs::read_link(folder.join("t/sub/link")).unwrap();
        assert_eq!(link, Path::new("../c"));
        let mut expected: Vec<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        expected.push("t/sub/link".to_owned());
        expected.extend(besides.iter().map(|&name| name.to_owned()));
        expected.sort();
        assert_eq!(names(folder), expected);
    }
}

/// Everything below `folder` that is no folder, and folders that are empty with a slash after them.
fn names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        let name = |path: &Path| {
            let name = path.strip_prefix(folder).unwrap();
            name.to_str().unwrap().to_owned()
        };
        let entries: Vec<_> = fs::read_dir(&at).unwrap().map(Result::unwrap).collect();
        if entries.is_empty() && at != folder {
            names.push(name(&at) + "/");
        }
        for entry in entries {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                names.push(name(&entry.path()));
            }
        }
    }
    names.sort();
    names
}

#[test]
fn on_one_filesystem_files_keep_their_identity_and_nothing_is_copied() {
    let rig = Rig::new(None);
    let outlook = rig.look_ahead(false).unwrap();
    assert_eq!((outlook.same_folder, outlook.copy), (false, 0));
    let arrivals = rig.carry().unwrap();
    for (arrival, known) in arrivals.iter().zip(&rig.known) {
        match (arrival, known) {
            (Arrival::Moved(is), Some(known)) => assert_eq!(is, known),
            (Arrival::Nothing, None) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(rig.clear_away().is_empty());
    rig.assert_whole(&rig.new_place(), &[]);
    assert!(names(&rig.old()).is_empty());
}

#[test]
fn across_filesystems_originals_stay_until_they_are_cleared_away() {
    let Some(other) = elsewhere() else { return };
    let rig = Rig::new(Some(other));
    assert!(rig.look_ahead(false).unwrap().copy >= 400_000);
    let arrivals = rig.carry().unwrap();
    rig.assert_whole(&rig.old(), &[]);
    rig.assert_whole(&rig.new_place(), &[]);
    for (at, arrival) in arrivals.iter().enumerate() {
        match arrival {
            Arrival::Copied { was, is } => {
                assert_eq!(Some(*was), rig.known[at]);
                assert_eq!((was.size, was.mtime_ns), (is.size, is.mtime_ns));
            }
            Arrival::Nothing => assert_eq!(rig.known[at], None),
            Arrival::Moved(_) => panic!("{arrival:?}"),
        }
    }
    assert!(rig.clear_away().is_empty());
    rig.assert_whole(&rig.new_place(), &[]);
    assert!(names(&rig.old()).is_empty());
}

#[test]
fn what_is_not_the_payloads_stays_where_it_is() {
    for other in [None, elsewhere()] {
        let rig = Rig::new(other);
        fs::write(rig.old().join("t/sub/mine"), "mine").unwrap();
        fs::create_dir_all(rig.new_place().join("t/sub")).unwrap();
        fs::write(rig.new_place().join("t/sub/yours"), "yours").unwrap();
        rig.look_ahead(false).unwrap();
        rig.carry().unwrap();
        assert!(rig.clear_away().is_empty());
        rig.assert_whole(&rig.new_place(), &["t/sub/yours"]);
        assert_eq!(names(&rig.old()), ["t/sub/mine"]);
    }
}

#[test]
fn a_strangers_file_in_the_new_place_is_refused_and_nothing_changes() {
    let same_bytes = noise(100_000, 0);
    type Spoil<'a> = &'a dyn Fn(&Path);
    let spoilers: [Spoil<'_>; 6] = [
        &|new| fs::write(new.join("t/a"), "short").unwrap(),
        &|new| fs::write(new.join("t/a"), &same_bytes).unwrap(),
        &|new| fs::create_dir(new.join("t/a")).unwrap(),
        &|new| symlink("nowhere", new.join("t/a")).unwrap(),
        &|new| fs::write(new.join("t/sub"), "a file for a folder").unwrap(),
        &|new| {
            fs::create_dir(new.join("t/sub")).unwrap();
            symlink("elsewhere", new.join("t/sub/link")).unwrap();
        },
    ];
    for other in [None, elsewhere()] {
        let mut rig = Rig::new(other);
        for (at, spoil) in spoilers.iter().enumerate() {
            fs::create_dir(rig.new_place().join("t")).unwrap();
            spoil(&rig.new_place());
            let before = names(&rig.new_place());
            let refused = rig.look_ahead(false);
            assert!(
                matches!(refused, Err(DiskError::NotOurs { .. })),
                "{at}: {refused:?}"
            );
            let refused = rig.carry();
            assert!(
                matches!(refused, Err(DiskError::NotOurs { .. })),
                "{at}: {refused:?}"
            );
            assert_eq!(names(&rig.new_place()), before, "{at}");
            rig.assert_whole(&rig.old(), &[]);
            fs::remove_dir_all(rig.new_place().join("t")).unwrap();
        }
        // Something that was there before and is not known.
        rig.known.fill(None);
        rig.look_ahead(false).unwrap();
    }
}

#[test]
fn a_folder_or_file_that_is_missing_is_not_made() {
    let rig = Rig::new(None);
    fs::remove_dir(rig.new_place()).unwrap();
    match rig.look_ahead(false) {
        Err(DiskError::NotFound { path }) => assert_eq!(path, rig.new_place()),
        other => panic!("{other:?}"),
    }
    assert!(!rig.new_place().exists());
    fs::create_dir(rig.new_place()).unwrap();
    fs::remove_file(rig.old().join("t/empty")).unwrap();
    rig.look_ahead(false).unwrap();
    fs::rename(rig.old(), rig.folder.path().join("unmounted")).unwrap();
    match rig.look_ahead(false) {
        Err(DiskError::NotFound { path }) => assert_eq!(path, rig.old().join("t/a")),
        other => panic!("{other:?}"),
    }
    assert!(names(&rig.new_place()).is_empty());
}

#[test]
fn what_was_moved_by_hand_is_found_and_a_stranger_in_its_place_is_not_taken_for_it() {
    let rig = Rig::new(None);
    fs::rename(rig.old().join("t"), rig.new_place().join("t")).unwrap();
    rig.look_ahead(false).unwrap();
    rig.carry().unwrap();
    assert!(rig.clear_away().is_empty());
    rig.assert_whole(&rig.new_place(), &[]);
    let kept = rig.folder.path().join("kept");
    fs::rename(rig.new_place().join("t/c"), kept).unwrap();
    fs::write(rig.new_place().join("t/c"), noise(300_001, 77)).unwrap();
    let refused = rig.look_ahead(true);
    assert!(
        matches!(refused, Err(DiskError::NotOurs { .. })),
        "{refused:?}"
    );
}

#[test]
fn two_paths_to_one_folder_are_seen_and_nothing_is_removed() {
    let rig = Rig::new(None);
    fs::remove_dir(rig.new_place()).unwrap();
    symlink(rig.old(), rig.new_place()).unwrap();
    assert!(rig.look_ahead(false).unwrap().same_folder);
    assert!(rig.clear_away().is_empty());
    rig.assert_whole(&rig.old(), &[]);
    // The same one level down, where only the files tell.
    fs::remove_file(rig.new_place()).unwrap();
    fs::create_dir(rig.new_place()).unwrap();
    for (name, _) in FILES {
        let path = rig.new_place().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::hard_link(rig.old().join(name), path).unwrap();
    }
    rig.carry().unwrap();
    assert!(rig.clear_away().is_empty());
    for (name, _) in FILES {
        assert!(rig.old().join(name).exists(), "{name}");
    }
}

#[test]
fn a_payload_in_use_is_neither_moved_nor_removed() {
    for other in [None, elsewhere()] {
        let rig = Rig::new(other);
        let layout = rig.layout(&rig.old());
        let user = Disk::new(1);
        let opened = block_on(user.open(Arc::clone(&layout), Access::Read, WritePath::Auto));
        let used = opened.unwrap().payload;
        for refused in [rig.look_ahead(false).map(drop), rig.carry().map(drop)] {
            assert!(
                matches!(refused, Err(DiskError::InUse { .. })),
                "{refused:?}"
            );
        }
        assert!(names(&rig.new_place()).is_empty());
        block_on(used.close()).unwrap();
        rig.carry().unwrap();
    }
}

#[test]
fn what_was_changed_since_it_was_copied_is_left() {
    let Some(other) = elsewhere() else { return };
    let rig = Rig::new(Some(other));
    rig.carry().unwrap();
    fs::write(rig.old().join("t/c"), "written after the copy").unwrap();
    assert_eq!(rig.clear_away(), [rig.old().join("t/c")]);
    assert_eq!(names(&rig.old()), ["t/c"]);
    rig.assert_whole(&rig.new_place(), &[]);
    // Without its copy, an original is not removed either.
    let Some(other) = elsewhere() else { return };
    let rig = Rig::new(Some(other));
    rig.carry().unwrap();
    fs::remove_file(rig.new_place().join("t/a")).unwrap();
    assert_eq!(rig.clear_away(), [rig.old().join("t/a")]);
    assert_eq!(names(&rig.old()), ["t/a"]);
}

#[test]
fn a_copy_cut_off_has_a_name_of_its_own_and_is_begun_anew() {
    let Some(other) = elsewhere() else { return };
    let rig = Rig::new(Some(other));
    let stop: Arc<OnStep> = Arc::new(|step| match step {
        Step::Copied(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let cut = block_on(rig.disk.carry(rig.relocation(true), stop));
    assert!(matches!(cut, Err(DiskError::Interrupted)), "{cut:?}");
    assert_eq!(names(&rig.new_place()), ["t/.feed.moving"]);
    rig.carry().unwrap();
    assert!(rig.clear_away().is_empty());
    rig.assert_whole(&rig.new_place(), &[]);
}

#[test]
fn what_a_stopped_copy_takes_does_not_keep_it_from_going_on() {
    let Some(small) = SmallDisk::mount() else {
        return skip::say("no right to mount a small disk");
    };
    let rig = Rig::new(Some(small.folder()));
    // Room for 110 pages of 4 KiB: the payload takes 100, a copy of its first file 25.
    fs::write(rig.new_place().join("ballast"), vec![1; 146 << 12]).unwrap();
    let stop: Arc<OnStep> = Arc::new(|step| match step {
        Step::Copied(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let cut = block_on(rig.disk.carry(rig.relocation(true), stop));
    assert!(matches!(cut, Err(DiskError::Interrupted)), "{cut:?}");
    rig.look_ahead(true).unwrap();
    rig.carry().unwrap();
    assert!(rig.clear_away().is_empty());
    rig.assert_whole(&rig.new_place(), &["ballast"]);
}

#[test]
fn a_link_in_place_of_a_file_is_replaced_by_what_it_stands_for() {
    let rig = Rig::new(None);
    let at = rig.old().join("t/c");
    fs::rename(&at, rig.old().join("really")).unwrap();
    symlink("../really", &at).unwrap();
    assert!(rig.look_ahead(false).unwrap().copy >= 300_001);
    rig.carry().unwrap();
    assert!(rig.clear_away().is_empty());
    rig.assert_whole(&rig.new_place(), &[]);
    let file = fs::symlink_metadata(rig.new_place().join("t/c")).unwrap();
    assert!(file.is_file());
    assert_eq!(names(&rig.old()), ["really"]);
}

#[test]
fn a_hole_takes_no_room() {
    let Some(other) = elsewhere() else { return };
    let rig = Rig::new(Some(other));
    let path = rig.old().join("t/c");
    let long = fs::OpenOptions::new().write(true).open(path).unwrap();
    long.set_len(1 << 42).unwrap();
    let outlook = rig.look_ahead(false).unwrap();
    assert!(outlook.copy < 1 << 20, "{outlook:?}");
}
