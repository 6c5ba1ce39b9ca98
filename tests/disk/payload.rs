//! Writing, reading, checking and syncing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use seedbank::base::{Checked, PieceIndex};
use seedbank::disk::{Access, DiskError, FileState, WritePath, block_digests};

use crate::rig::{PIECE, Rig, block_on, write};

const FILES: &[(&str, u64)] = &[
    ("t/a", 100_000),
    ("t/empty", 0),
    (".pad/1", 31_072),
    ("t/sub/dir/b", 5),
    ("t/c", 300_001),
];

#[test]
fn both_write_paths_make_the_same_files() {
    for path in [WritePath::Pwrite, WritePath::Mmap, WritePath::Auto] {
        let rig = Rig::new(FILES);
        block_on(async {
            let opened = rig.open(write(false, &[]), path).await.unwrap();
            assert_eq!(opened.states[0], FileState::Missing);
            assert_eq!(opened.states[2], FileState::Virtual);
            let payload = opened.payload;
            for piece in rig.pieces().into_iter().rev() {
                let checked = payload
                    .check_and_write(piece, rig.data(piece), rig.hash(piece), true, || ())
                    .await;
                let digests = Some(block_digests(&rig.data(piece)));
                assert_eq!(checked.unwrap(), Checked::Good { digests });
            }
            let synced = payload.sync(rig.pieces()).await.unwrap();
            assert_eq!(
                synced.iter().map(|(file, _)| *file).collect::<Vec<_>>(),
                [0, 3, 4]
            );
            let now = payload.identities().await.unwrap();
            assert!(
                synced
                    .iter()
                    .all(|&(file, identity)| now[file] == Some(identity))
            );
            assert!(now[1].is_some() && now[2].is_none());
            payload.close().await.unwrap();
        });
        for (at, file) in rig.layout.payload_files() {
            assert_eq!(fs::read(&file.path).unwrap(), rig.content(at), "{path:?}");
        }
        assert!(!rig.root().join(".pad").exists());
    }
}

#[test]
fn pieces_that_come_at_once_are_judged_one_by_one() {
    let rig = Rig::new(FILES);
    block_on(async {
        let payload = rig.open_to_write().await.unwrap().payload;
        let told = Arc::new(Mutex::new(BTreeSet::new()));
        let judge = |piece: PieceIndex| {
            let (payload, told) = (payload.clone(), Arc::clone(&told));
            let mut data = rig.data(piece);
            let is_bad = piece.get() % 3 == 1;
            data[0] ^= u8::from(is_bad);
            let hash = rig.hash(piece);
            tokio::spawn(async move {
                let note = move || assert!(told.lock().unwrap().insert(piece));
                let checked = payload.check_and_write(piece, data, hash, false, note);
                (piece, is_bad, checked.await.unwrap())
            })
        };
        let judged: Vec<_> = rig.pieces().into_iter().map(judge).collect();
        for judged in judged {
            let (piece, is_bad, checked) = judged.await.unwrap();
            assert_eq!(matches!(checked, Checked::Bad { .. }), is_bad, "{piece}");
            assert_eq!(told.lock().unwrap().contains(&piece), !is_bad, "{piece}");
            let stored = payload.check(piece, rig.hash(piece), false, || ()).await;
            assert_eq!(
                matches!(stored, Ok(Checked::Good { .. })),
                !is_bad,
                "{piece}"
            );
        }
    });
}

#[test]
fn a_bad_piece_is_never_written() {
    let rig = Rig::new(FILES);
    let piece = rig.pieces()[0];
    block_on(async {
        let payload = rig.open_to_write().await.unwrap().payload;
        let mut data = rig.data(piece);
        data[20_000] ^= 1;
        let checked = payload
            .check_and_write(piece, data, rig.hash(piece), false, || ())
            .await
            .unwrap();
        let Checked::Bad { digests } = checked else {
            panic!("taken for good")
        };
        let good = block_digests(&rig.data(piece));
        assert_eq!(digests[0], good[0]);
        assert_ne!(digests[1], good[1]);
        let short = rig.data(piece)[1..].to_vec();
        let hash = seedbank::disk::sha1(&short);
        let checked = payload
            .check_and_write(piece, short, hash, false, || ())
            .await
            .unwrap();
        assert!(matches!(checked, Checked::Bad { .. }), "of another length");
    });
    assert!(fs::read(rig.path(0)).unwrap().iter().all(|&byte| byte == 0));
}

#[test]
fn reads_are_concatenated_over_files_and_pads() {
    let rig = Rig::new(FILES);
    rig.fill();
    let geometry = *rig.layout.geometry();
    let ranges = [(2, 0, PIECE), (3, 0, PIECE), (4, 0, 10), (0, 5, 7)];
    let ranges = ranges.map(|(piece, begin, len)| geometry.range(piece, begin, len).unwrap());
    let mut due = Vec::new();
    for range in ranges {
        let start = geometry.offset(range) as usize;
        due.extend_from_slice(&rig.bytes[start..start + range.len() as usize]);
    }
    block_on(async {
        let payload = rig
            .open(Access::Read, WritePath::Auto)
            .await
            .unwrap()
            .payload;
        assert_eq!(payload.read(ranges.to_vec()).await.unwrap(), due);
        assert!(payload.read(Vec::new()).await.unwrap().is_empty());
        let refused = payload.write(ranges[0], vec![0; PIECE as usize]).await;
        assert!(matches!(refused, Err(DiskError::ReadOnly { .. })));
    });
}

#[test]
fn check_tells_good_from_bad_and_digests_the_blocks() {
    let rig = Rig::new(FILES);
    rig.fill();
    let (first, second) = (rig.pieces()[0], rig.pieces()[1]);
    let file = fs::OpenOptions::new()
        .write(true)
        .open(rig.path(0))
        .unwrap();
    file.write_all_at(b"damage", 40_000).unwrap();
    block_on(async {
        let payload = rig
            .open(Access::Read, WritePath::Auto)
            .await
            .unwrap()
            .payload;
        let good = payload
            .check(first, rig.hash(first), true, || ())
            .await
            .unwrap();
        let digests = Some(block_digests(&rig.data(first)));
        assert_eq!(good, Checked::Good { digests });
        let Checked::Bad { digests } = payload
            .check(second, rig.hash(second), true, || ())
            .await
            .unwrap()
        else {
            panic!("taken for good")
        };
        assert_eq!(digests.len(), 2);
        assert_ne!(digests[0], block_digests(&rig.data(second))[0]);
        assert_eq!(digests[1], block_digests(&rig.data(second))[1]);
    });
}

#[test]
fn recheck_finds_exactly_the_good_pieces() {
    let rig = Arc::new(Rig::new(FILES));
    rig.fill();
    fs::remove_file(rig.path(3)).unwrap();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(rig.path(4))
        .unwrap();
    file.set_len(290_000).unwrap();
    file.write_all_at(b"damage", 100_000).unwrap();
    let missing = rig.layout.pieces_of(3);
    // File 4 starts after the others; these are the bytes of it that are wrong.
    let start = rig.bytes.len() as u64 - 300_001;
    let wrong = [start + 100_000, start + 290_000, start + 300_000];
    let told = Arc::new(Mutex::new(Vec::new()));
    let found = block_on(async {
        let payload = rig
            .open(Access::Read, WritePath::Auto)
            .await
            .unwrap()
            .payload;
        let (hashes, log) = (Arc::clone(&rig), Arc::clone(&told));
        payload
            .recheck(
                rig.pieces(),
                Arc::new(move |piece| hashes.hash(piece)),
                move |piece, good| {
                    log.lock().unwrap().push((piece, good));
                },
            )
            .await
            .unwrap()
    });
    for &(piece, good) in &found {
        let offset = rig.layout.geometry().offset_of(piece);
        let bytes = offset..offset + u64::from(rig.layout.geometry().len_of(piece));
        let damaged = missing.contains(&piece.get()) || wrong.iter().any(|at| bytes.contains(at));
        assert_eq!(good, !damaged, "{piece}");
    }
    let mut told = told.lock().unwrap().clone();
    told.sort();
    assert_eq!(told, found);
}

#[test]
fn pieces_never_written_are_bad_unless_they_are_zeros() {
    let rig = Rig::new(&[("a", 200_000)]);
    block_on(async {
        let payload = rig.open_to_write().await.unwrap().payload;
        let zeros = seedbank::disk::sha1(&vec![0; PIECE as usize]);
        let last = seedbank::disk::sha1(&vec![0; 200_000 % PIECE as usize]);
        let hashes = move |piece: seedbank::base::PieceIndex| match piece.get() {
            1 => zeros,
            6 => last,
            _ => [7; 20],
        };
        let found = payload
            .recheck(rig.pieces(), Arc::new(hashes), |_, _| {})
            .await
            .unwrap();
        let good: Vec<_> = found
            .iter()
            .filter(|(_, good)| *good)
            .map(|(piece, _)| piece.get())
            .collect();
        assert_eq!(good, [1, 6]);
    });
}

#[test]
fn a_file_cut_short_deleted_or_replaced_is_told_by_the_sync() {
    for path in [WritePath::Pwrite, WritePath::Mmap] {
        for harm in ["cut", "delete", "replace"] {
            let rig = Rig::new(&[("a", 200_000), ("b", 100_000)]);
            block_on(async {
                let payload = rig.open(write(false, &[]), path).await.unwrap().payload;
                let pieces = rig.pieces();
                payload
                    .check_and_write(
                        pieces[0],
                        rig.data(pieces[0]),
                        rig.hash(pieces[0]),
                        false,
                        || (),
                    )
                    .await
                    .unwrap();
                match harm {
                    "cut" => fs::OpenOptions::new()
                        .write(true)
                        .open(rig.path(0))
                        .unwrap()
                        .set_len(9)
                        .unwrap(),
                    "delete" => fs::remove_file(rig.path(0)).unwrap(),
                    _ => {
                        fs::write(rig.root().join("new"), vec![0; 200_000]).unwrap();
                        fs::rename(rig.root().join("new"), rig.path(0)).unwrap();
                    }
                }
                let error = payload.sync(vec![pieces[0]]).await.unwrap_err();
                assert!(
                    matches!(&error, DiskError::Vanished { path } if *path == rig.path(0)),
                    "{harm} {path:?}: {error}"
                );
                if harm == "cut" {
                    let error = payload
                        .check_and_write(
                            pieces[1],
                            rig.data(pieces[1]),
                            rig.hash(pieces[1]),
                            false,
                            || (),
                        )
                        .await;
                    assert!(
                        matches!(error, Err(DiskError::Vanished { .. })),
                        "{path:?} grew it again"
                    );
                    assert_eq!(fs::metadata(rig.path(0)).unwrap().len(), 9);
                }
                assert!(
                    payload.sync(vec![*pieces.last().unwrap()]).await.is_ok(),
                    "the other file is fine"
                );
            });
        }
    }
}

#[test]
fn a_torrent_of_more_files_than_may_be_open_is_written_and_synced() {
    let count = seedbank::base::limits::OPEN_FILES + 200;
    let names: Vec<String> = (0..count).map(|at| format!("d{}/f{at}", at % 7)).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), 1_000)).collect();
    for path in [WritePath::Pwrite, WritePath::Mmap] {
        let rig = Rig::new(&files);
        block_on(async {
            let payload = rig.open(write(false, &[]), path).await.unwrap().payload;
            for piece in rig.pieces() {
                payload
                    .check_and_write(piece, rig.data(piece), rig.hash(piece), false, || ())
                    .await
                    .unwrap();
            }
            let open = fs::read_dir("/proc/self/fd").unwrap();
            let ours = open
                .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
                .filter(|target| target.starts_with(rig.root()))
                .count();
            let bound = seedbank::base::limits::OPEN_FILES + seedbank::base::limits::LOCKED_FILES;
            assert!(ours <= bound + 4, "{ours}");
            assert_eq!(payload.sync(rig.pieces()).await.unwrap().len(), count);
        });
        for (at, file) in rig.layout.payload_files() {
            assert_eq!(fs::read(&file.path).unwrap(), rig.content(at));
        }
    }
}

#[test]
fn files_are_made_in_full_before_the_first_byte() {
    let rig = Rig::new(FILES);
    block_on(async {
        let opened = rig.open_to_write().await.unwrap();
        let found = rig.disk.look(Arc::clone(&rig.layout)).await.unwrap();
        assert_eq!(
            found.device,
            fs::metadata(rig.root()).ok().map(|found| found.dev())
        );
        for (at, file) in rig.layout.payload_files() {
            assert_eq!(found.files[at].unwrap().size, file.length);
            let blocks = fs::metadata(&file.path).unwrap().blocks();
            if rustix::fs::fallocate(
                tempfile::tempfile_in(rig.root()).unwrap(),
                rustix::fs::FallocateFlags::empty(),
                0,
                1,
            )
            .is_ok()
            {
                assert!(blocks * 512 >= file.length, "allocated, not just long");
            }
        }
        drop(opened);
    });
}

#[test]
fn looking_and_reading_change_nothing() {
    let rig = Rig::new(FILES);
    block_on(async {
        let found = rig.disk.look(Arc::clone(&rig.layout)).await.unwrap();
        assert_eq!(found.device, None);
        assert!(found.files.iter().all(Option::is_none));
        let missing = rig.open(Access::Read, WritePath::Auto).await;
        assert!(matches!(missing, Err(DiskError::NotFound { .. })));
        assert!(!rig.root().exists());
        rig.fill();
        let before = rig.disk.look(Arc::clone(&rig.layout)).await.unwrap();
        let opened = rig.open(Access::Read, WritePath::Mmap).await.unwrap();
        assert_eq!(
            opened.states[0],
            FileState::Existing(before.files[0].unwrap())
        );
        opened
            .payload
            .read(vec![rig.layout.geometry().whole(rig.pieces()[0])])
            .await
            .unwrap();
        opened.payload.close().await.unwrap();
        assert_eq!(
            rig.disk.look(Arc::clone(&rig.layout)).await.unwrap(),
            before
        );
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn pieces_and_runs_written_in_any_order_make_the_payload(
        lengths in prop::collection::vec(prop_oneof![Just(0u64), 1u64..90_000], 1..6),
        order in any::<u64>(),
        mapped: bool,
    ) {
        let names: Vec<String> = (0..lengths.len()).map(|at| if at % 3 == 1 { format!(".pad/{at}") } else { format!("{at}") }).collect();
        let files: Vec<_> = names.iter().map(String::as_str).zip(lengths).collect();
        let rig = Rig::new(&files);
        let path = if mapped { WritePath::Mmap } else { WritePath::Pwrite };
        block_on(async {
            let payload = rig.open(write(false, &[]), path).await.unwrap().payload;
            let mut pieces = rig.pieces();
            pieces.sort_by_key(|piece| (u64::from(piece.get()) + 1).wrapping_mul(order | 1).rotate_left(17));
            for &piece in &pieces {
                let geometry = rig.layout.geometry();
                for block in 0..geometry.blocks_in(piece) {
                    let range = geometry.run(piece, block..block + 1).unwrap();
                    let data = rig.data(piece)[range.begin() as usize..range.end() as usize].to_vec();
                    payload.write(range, data).await.unwrap();
                }
                let checked = payload.check(piece, rig.hash(piece), false, || ()).await.unwrap();
                assert!(matches!(checked, Checked::Good { .. }));
            }
            payload.sync(pieces).await.unwrap();
            payload.close().await.unwrap();
        });
        for (at, file) in rig.layout.payload_files() {
            prop_assert_eq!(fs::read(&file.path).unwrap(), rig.content(at));
        }
    }
}
