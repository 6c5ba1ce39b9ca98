//! Rules of the store, held through its public face.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::*;
use crate::base::FileIdentity;
use crate::base::limits::{STORE_VALUE_MAX, STORED_PEERS_MAX};

const IH: InfoHash = InfoHash([0xab; 20]);
const OTHER: InfoHash = InfoHash([0xcd; 20]);
const PIECES: u32 = 9_000;
const FILES: usize = 45;

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

async fn open(folder: &Path) -> (Store, History) {
    let opened = Store::open(folder.to_owned()).await.unwrap();
    (opened.store, opened.history)
}

async fn load(store: &Store) -> Option<Record> {
    store.load(IH, PIECES, FILES).await.unwrap()
}

async fn durable(store: &Store) -> Vec<u32> {
    let record = load(store).await;
    record.map_or(Vec::new(), |record| record.durable.iter().collect())
}

fn pieces(durable: impl IntoIterator<Item = u32>) -> Commit {
    Commit {
        durable: durable.into_iter().collect(),
        ..Commit::default()
    }
}

fn identity(n: u64) -> FileIdentity {
    FileIdentity {
        device: n,
        inode: n + 1,
        size: n + 2,
        mtime_ns: -3,
    }
}

fn blocks(piece: u32, blocks: std::ops::Range<u32>) -> Note {
    Note::Blocks { piece, blocks }
}

#[test]
fn everything_put_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let totals = Totals {
        downloaded: 7,
        uploaded: u64::MAX,
    };
    let commit = Commit {
        clean: false,
        durable: vec![0, 1, 4_095, 4_096, PIECES - 1],
        identities: vec![(0, identity(1)), (20, identity(2)), (44, identity(3))],
        finished: false,
        partial: Some(vec![(9, 3..4), (8, 0..2), (9, 7..16)]),
        totals,
    };
    let peers: Vec<_> = ["1.2.3.4:5", "[2001:db8::1]:65535"]
        .map(|addr| KnownPeer {
            addr: addr.parse().unwrap(),
            last_seen: -1,
            failures: 255,
        })
        .into();
    let nodes = SavedNodes {
        identities: vec![Identity {
            external: None,
            id: [3; 20],
            last_used: 1 << 40,
        }],
        nodes: vec![KnownNode {
            id: [4; 20],
            addr: "[::1]:9".parse().unwrap(),
            dialects: 2,
            last_answer: 1 << 40,
            round_trip_ms: 12,
            failures: 1,
        }],
    };
    let mut choices = Choices::new("/some where/ö".into());
    choices.paused = true;
    block_on(async {
        let (store, history) = open(folder.path()).await;
        assert_eq!(history, History::Fresh);
        assert_eq!(load(&store).await, None);
        store
            .put_torrent(IH, b"d4:infod..ee".to_vec(), choices.clone())
            .await
            .unwrap();
        store.commit(IH, commit.clone()).await.unwrap();
        store.put_peers(IH, peers.clone()).await.unwrap();
        store.put_nodes(nodes.clone()).await.unwrap();
        store.close().await.unwrap();

        let (store, history) = open(folder.path()).await;
        assert_eq!(history, History::Current);
        let record = load(&store).await.unwrap();
        assert_eq!(record.durable.iter().collect::<Vec<_>>(), commit.durable);
        assert!(!record.finished);
        for (at, found) in record.identities.iter().enumerate() {
            let expected = commit.identities.iter().find(|(file, _)| *file == at);
            assert_eq!(found.as_ref(), expected.map(|(_, identity)| identity));
        }
        assert_eq!(record.partial, [(8, 0..2), (9, 3..4), (9, 7..16)]);
        assert_eq!(record.totals, totals);
        let mut found = store.peers(IH).await;
        found.sort_by_key(|peer| peer.addr);
        assert_eq!(found, peers);
        assert_eq!(store.peers(OTHER).await, []);
        assert_eq!(store.nodes().await, nodes);
        let catalog = store.catalog().await.unwrap();
        assert_eq!(catalog.entries.len(), 1);
        assert_eq!(catalog.entries[0].choices, choices);
        assert_eq!(catalog.entries[0].metainfo, b"d4:infod..ee");
    });
}

#[test]
fn a_second_opener_is_refused_and_told_who_holds_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        let error = Store::open(folder.path().to_owned()).await.unwrap_err();
        let us = std::process::id();
        assert!(
            matches!(&error, StoreError::InUse { pid: Some(pid), .. } if *pid == us),
            "{error}"
        );
        assert!(error.to_string().contains(&us.to_string()));
        assert!(matches!(
            check(folder.path()),
            Err(StoreError::InUse { .. })
        ));
        assert!(matches!(
            rebuild(folder.path().to_owned()).await,
            Err(StoreError::InUse { .. })
        ));
        let other = store.clone();
        store.close().await.unwrap();
        open(folder.path()).await.0.close().await.unwrap();
        assert!(matches!(other.catalog().await, Err(StoreError::Closed)));
    });
}

#[test]
fn a_finished_torrent_keeps_one_row_of_progress_until_a_piece_is_cleared() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        load(&store).await;
        store.commit(IH, pieces(0..PIECES - 1)).await.unwrap();
        let finish = Commit {
            finished: true,
            ..pieces([PIECES - 1])
        };
        store.commit(IH, finish).await.unwrap();
        let record = load(&store).await.unwrap();
        assert!(record.finished && record.durable.is_full());
        store.clone().close().await.unwrap();
        let report = check(folder.path()).unwrap();
        // version, sequence, epoch; torrent, totals.
        assert_eq!((report.rows, report.problems), (5, vec![]));

        let (store, _) = open(folder.path()).await;
        assert!(load(&store).await.unwrap().durable.is_full());
        store.clear(IH, vec![5_000]).await.unwrap();
        let record = load(&store).await.unwrap();
        assert!(!record.finished);
        assert_eq!(record.durable.count(), PIECES - 1);
        assert!(!durable(&store).await.contains(&5_000));
    });
}

#[test]
fn finished_is_not_believed_while_a_bit_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        load(&store).await;
        let early = Commit {
            finished: true,
            ..pieces([3])
        };
        store.commit(IH, early).await.unwrap();
        let record = load(&store).await.unwrap();
        assert!(!record.finished);
        assert_eq!(durable(&store).await, [3]);
    });
}

#[test]
fn a_record_of_another_shape_is_not_believed_and_leaves_no_trace() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        load(&store).await;
        store.commit(IH, pieces([1, 8_000])).await.unwrap();
        assert_eq!(store.load(IH, 100, 1).await.unwrap(), None);
        store.commit(IH, pieces([2])).await.unwrap();
        let record = store.load(IH, 100, 1).await.unwrap().unwrap();
        assert_eq!(record.durable.iter().collect::<Vec<_>>(), [2]);
    });
}

#[test]
fn pieces_and_files_out_of_bounds_and_torrents_not_loaded_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        let error = store.commit(IH, pieces([0])).await.unwrap_err();
        assert!(matches!(error, StoreError::NotLoaded { .. }));
        load(&store).await;
        for wrong in [
            pieces([PIECES]),
            Commit {
                identities: vec![(FILES, identity(0))],
                ..pieces([1])
            },
            Commit {
                partial: Some(vec![(PIECES, 0..1)]),
                ..pieces([1])
            },
        ] {
            let error = store.commit(IH, wrong).await.unwrap_err();
            assert!(matches!(error, StoreError::OutOfBounds { .. }), "{error}");
        }
        assert!(durable(&store).await.is_empty());
    });
}

#[test]
fn notes_last_until_a_commit_or_a_clear_covers_them() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        load(&store).await;
        let notes = vec![
            Note::Verified(1),
            Note::Verified(2),
            blocks(3, 0..4),
            blocks(4, 1..2),
            Note::Verified(PIECES),
        ];
        store.note(IH, notes).await.unwrap();
        store.clone().close().await.unwrap();

        let (store, _) = open(folder.path()).await;
        let expected = [
            Note::Verified(1),
            Note::Verified(2),
            blocks(3, 0..4),
            blocks(4, 1..2),
        ];
        assert_eq!(load(&store).await.unwrap().notes, expected);
        store.commit(IH, pieces([1])).await.unwrap();
        assert_eq!(load(&store).await.unwrap().notes, expected[1..]);
        store.clear(IH, vec![4]).await.unwrap();
        assert_eq!(load(&store).await.unwrap().notes, expected[1..3]);
        let stop = Commit {
            partial: Some(vec![(3, 0..4)]),
            ..Commit::default()
        };
        store.commit(IH, stop).await.unwrap();
        let record = load(&store).await.unwrap();
        assert_eq!(record.notes, expected[1..2]);
        assert_eq!(record.partial, [(3, 0..4)]);
        store.commit(IH, pieces([3])).await.unwrap();
        assert_eq!(load(&store).await.unwrap().partial, []);
        store.clear_all(IH).await.unwrap();
        assert_eq!(load(&store).await, None);
    });
}

#[test]
fn a_database_that_vanished_is_rebuilt_and_its_notes_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        load(&store).await;
        let choices = Choices::new("/dest".into());
        store
            .put_torrent(IH, b"de".to_vec(), choices)
            .await
            .unwrap();
        store.note(IH, vec![Note::Verified(1)]).await.unwrap();
        store.close().await.unwrap();
        fs::remove_dir_all(folder.path().join("db")).unwrap();
        let (store, history) = open(folder.path()).await;
        assert!(matches!(history, History::Rebuilt { .. }));
        assert_eq!(load(&store).await, None);
    });
}

#[test]
fn a_removed_torrent_leaves_nothing_and_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        for ih in [IH, OTHER] {
            store.load(ih, PIECES, FILES).await.unwrap();
            store.commit(ih, pieces([7])).await.unwrap();
            store.note(ih, vec![Note::Verified(9)]).await.unwrap();
            let choices = Choices::new("/dest".into());
            store
                .put_torrent(ih, b"de".to_vec(), choices)
                .await
                .unwrap();
        }
        store.remove_torrent(IH).await.unwrap();
        assert_eq!(load(&store).await, None);
        let other = store.load(OTHER, PIECES, FILES).await.unwrap().unwrap();
        assert_eq!(other.notes, [Note::Verified(9)]);
        let catalog = store.catalog().await.unwrap();
        assert_eq!(catalog.entries.len(), 1);
        assert_eq!(catalog.entries[0].info_hash, OTHER);
        for within in ["torrents", "notes"] {
            for path in durable::list(&folder.path().join(within)).unwrap() {
                assert!(!path.to_string_lossy().contains(&IH.to_string()));
            }
        }
    });
}

#[test]
fn a_torrent_is_clean_if_its_last_commit_was() {
    let folder = tempfile::tempdir().unwrap();
    let commit = |clean| Commit {
        clean,
        ..Commit::default()
    };
    block_on(async {
        let mut is_clean = Vec::new();
        for step in 0..5 {
            let (store, _) = open(folder.path()).await;
            let record = store.load(IH, 10, 1).await.unwrap();
            is_clean.push(record.map(|record| record.clean));
            store.commit(IH, commit(step == 1)).await.unwrap();
            store.close().await.unwrap();
        }
        assert_eq!(
            is_clean,
            [None, Some(false), Some(true), Some(false), Some(false)]
        );
    });
}

#[test]
fn an_unfinished_snapshot_does_not_keep_the_database_from_opening() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        load(&store).await;
        store.commit(IH, pieces([1])).await.unwrap();
        store.close().await.unwrap();
        let left = folder.path().join("db/snap.00000000000001F4.generating");
        fs::write(&left, b"half").unwrap();
        let (store, history) = open(folder.path()).await;
        assert_eq!(history, History::Current);
        assert_eq!(durable(&store).await, [1]);
    });
}

#[test]
fn rebuild_moves_the_database_aside_and_keeps_the_catalog() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let missing = rebuild(folder.path().join("nothing")).await;
        assert!(matches!(missing, Err(StoreError::Missing { .. })));
        let (store, _) = open(folder.path()).await;
        let choices = Choices::new("/dest".into());
        store
            .put_torrent(IH, b"de".to_vec(), choices)
            .await
            .unwrap();
        load(&store).await;
        store.commit(IH, pieces([1])).await.unwrap();
        store.close().await.unwrap();
        for _ in 0..2 {
            assert!(rebuild(folder.path().to_owned()).await.unwrap().moved);
            assert!(folder.path().join("db.broken").is_dir());
        }
        let (store, _) = open(folder.path()).await;
        assert_eq!(load(&store).await, None);
        assert_eq!(store.catalog().await.unwrap().entries.len(), 1);
    });
}

#[test]
fn a_full_row_of_every_kind_stays_within_the_largest_value() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        load(&store).await;
        let commit = Commit {
            identities: (0..FILES).map(|file| (file, identity(9))).collect(),
            partial: Some((0..500).map(|n| (PIECES - 1, n * 2..n * 2 + 1)).collect()),
            ..pieces(0..PIECES - 1)
        };
        store.commit(IH, commit).await.unwrap();
        assert_eq!(load(&store).await.unwrap().partial.len(), 500);
        store.close().await.unwrap();
    });
    let database = open::open_unlocked(&folder.path().join("db")).unwrap();
    let largest = database
        .sealed_rows(b"")
        .map(|row| row.unwrap().1.len())
        .max();
    assert!((800..=STORE_VALUE_MAX).contains(&largest.unwrap()));
}

#[test]
fn choices_keep_any_path_and_pass_over_unknown_fields() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let odd = Path::new(std::ffi::OsStr::from_bytes(b"/a/\xff\"\n")).to_owned();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        let choices = Choices::new(odd);
        store
            .put_torrent(IH, b"de".to_vec(), choices.clone())
            .await
            .unwrap();
        assert_eq!(store.catalog().await.unwrap().entries[0].choices, choices);
        let json = folder.path().join(format!("torrents/{IH}.json"));
        fs::remove_file(json.with_extension("json.copy")).unwrap();
        fs::write(&json, r#"{"version":1,"dest":"/x","colour":[1]}"#).unwrap();
        let catalog = store.catalog().await.unwrap();
        assert_eq!(catalog.entries[0].choices, Choices::new("/x".into()));
        fs::write(&json, r#"{"version":3,"place":"/x"}"#).unwrap();
        let catalog = store.catalog().await.unwrap();
        assert_eq!(catalog.entries, []);
        assert!(catalog.damaged[0].1.contains("version 3"));
        let refused = store.choices(IH).await;
        assert!(
            matches!(refused, Err(StoreError::Newer { found: 3, .. })),
            "{refused:?}"
        );
    });
}

#[test]
fn what_only_this_version_can_say_is_kept_from_older_ones_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join(format!("torrents/{IH}.json"));
    let plain = Choices::new("/old".into());
    let begun = |moving| Choices {
        moving: Some(moving),
        ..plain.clone()
    };
    block_on(async {
        let (store, _) = open(folder.path()).await;
        for (choices, version) in [
            (plain.clone(), 1),
            (begun(Moving::To("/new".into())), 2),
            (begun(Moving::From("/new".into())), 2),
            (
                Choices {
                    unbegun: true,
                    ..plain.clone()
                },
                2,
            ),
        ] {
            store
                .put_torrent(IH, b"de".to_vec(), choices.clone())
                .await
                .unwrap();
            assert_eq!(store.choices(IH).await.unwrap(), Some(choices));
            let text = fs::read_to_string(&json).unwrap();
            let said: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(said["version"], version, "{text}");
            let fields = said.as_object().unwrap().len();
            assert_eq!(fields, if version == 1 { 5 } else { 6 }, "{text}");
        }
    });
}

/// Run by the test below in a process of its own: does things, tells them, and dies without a farewell.
#[test]
fn child_that_commits_and_aborts() {
    let Some(folder) = std::env::var_os("SEEDBANK_TEST_ABORT") else {
        return;
    };
    block_on(async {
        let (store, _) = open(Path::new(&folder)).await;
        load(&store).await;
        store.commit(IH, pieces([1, 2, 8_999])).await.unwrap();
        store.clear(IH, vec![2]).await.unwrap();
        let notes = vec![Note::Verified(4), blocks(5, 0..3)];
        store.note(IH, notes).await.unwrap();
        store.put_nodes(nodes::saved()).await.unwrap();
        std::process::abort();
    });
}

#[test]
fn commits_clears_notes_and_nodes_survive_a_process_that_aborts() {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::child_that_commits_and_aborts"])
        .env("SEEDBANK_TEST_ABORT", folder.path())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(!status.success());
    block_on(async {
        let (store, history) = open(folder.path()).await;
        assert_eq!(history, History::Current);
        let record = load(&store).await.unwrap();
        assert_eq!(record.durable.iter().collect::<Vec<_>>(), [1, 8_999]);
        assert_eq!(record.notes, [Note::Verified(4), blocks(5, 0..3)]);
        assert_eq!(store.nodes().await, nodes::saved());
    });
}

pub(super) mod crash;
mod damage;
mod digests;
mod full;
mod model;
mod nodes;
mod peers;
mod together;
