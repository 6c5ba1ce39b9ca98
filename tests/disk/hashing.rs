//! Hashing and verifying whole payloads.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use seedbank::disk::{
    DiskError, Finding, PieceState, Subtree, Verification, digest, hash_payload, identities,
};

use crate::rig::{PIECE, Rig, block_on};

const FILES: &[(&str, u64)] = &[
    ("t/a", 100_000),
    ("t/empty", 0),
    (".pad/1", 31_072),
    ("t/b", 5),
    ("t/c", 700_001),
];

#[test]
fn a_payload_hashes_as_its_pieces_and_files_do_one_by_one() {
    let rig = Rig::new(FILES);
    rig.fill();
    let mut blake3 = blake3::Hasher::new();
    for (at, _) in rig.layout.payload_files() {
        blake3.update(rig.content(at));
    }
    for threads in [1, 3] {
        let read = AtomicU64::new(0);
        let count = |bytes| _ = read.fetch_add(bytes, Ordering::Relaxed);
        let hashed = hash_payload(&rig.layout, threads, &count).unwrap();
        let pieces: Vec<_> = rig
            .pieces()
            .into_iter()
            .map(|piece| rig.hash(piece))
            .collect();
        assert_eq!(hashed.pieces, pieces);
        assert_eq!(hashed.blake3, *blake3.finalize().as_bytes());
        let found = block_on(rig.disk.look(rig.layout.clone())).unwrap();
        assert_eq!(
            hashed.identities,
            found.files.into_iter().flatten().collect::<Vec<_>>()
        );
        assert_eq!(read.into_inner(), rig.bytes.len() as u64);
    }
}

#[test]
fn a_missing_or_short_file_cannot_be_hashed() {
    let rig = Rig::new(FILES);
    assert!(matches!(
        hash_payload(&rig.layout, 2, &|_| {}),
        Err(DiskError::NotFound { .. })
    ));
    rig.fill();
    fs::write(rig.path(3), "abc").unwrap();
    assert!(matches!(
        hash_payload(&rig.layout, 2, &|_| {}),
        Err(DiskError::Vanished { .. })
    ));
    fs::remove_file(rig.path(3)).unwrap();
    let error = hash_payload(&rig.layout, 2, &|_| {}).unwrap_err();
    assert!(matches!(error, DiskError::NotFound { path } if path == rig.path(3)));
}

/// What a look at all pieces finds, in order.
fn verify(rig: &Rig, subtrees: bool) -> Vec<Finding> {
    let found = Mutex::new(Vec::new());
    let verification = Verification {
        layout: &rig.layout,
        pieces: &rig.pieces(),
        expected: &|piece| rig.hash(piece),
        threads: 2,
        subtrees,
    };
    let take = |finding| {
        found.lock().unwrap().push(finding);
        ControlFlow::Continue(())
    };
    verification.run(&take).unwrap();
    let mut found = found.into_inner().unwrap();
    found.sort_by_key(|finding| finding.piece.get());
    let pieces: Vec<_> = found.iter().map(|finding| finding.piece).collect();
    assert_eq!(pieces, rig.pieces(), "each once");
    found
}

fn states(rig: &Rig) -> Vec<PieceState> {
    let found = verify(rig, false);
    found.into_iter().map(|finding| finding.state).collect()
}

#[test]
fn verify_tells_bad_from_missing_and_changes_nothing() {
    let rig = Rig::new(FILES);
    let all_missing = states(&rig);
    assert!(
        all_missing
            .iter()
            .all(|&state| state == PieceState::Missing)
    );
    assert!(!rig.root().exists());
    rig.fill();
    let mut damaged = rig.content(0).to_vec();
    damaged[40_000] ^= 1;
    fs::write(rig.path(0), damaged).unwrap();
    fs::write(rig.path(4), &rig.content(4)[..600_000]).unwrap();
    let before = block_on(rig.disk.look(rig.layout.clone())).unwrap();
    let states = states(&rig);
    let start = rig.bytes.len() as u64 - 700_001;
    for (piece, &state) in rig.pieces().into_iter().zip(&states) {
        let end =
            rig.layout.geometry().offset_of(piece) + u64::from(rig.layout.geometry().len_of(piece));
        let due = match piece.get() {
            1 => PieceState::Bad,
            _ if end > start + 600_000 => PieceState::Missing,
            _ => PieceState::Good,
        };
        assert_eq!(state, due, "{piece}");
    }
    let after = block_on(rig.disk.look(rig.layout.clone())).unwrap();
    assert_eq!(after, before);
    assert_eq!(identities(&rig.layout).unwrap(), before.files);
}

#[test]
fn a_piece_in_a_hole_is_missing_and_one_beside_it_is_what_its_bytes_are() {
    let rig = Rig::new(&[("a", 10 * u64::from(PIECE))]);
    fs::create_dir_all(rig.root()).unwrap();
    let file = File::create(rig.path(0)).unwrap();
    file.set_len(10 * u64::from(PIECE)).unwrap();
    let [good, bad] = [2u32, 5].map(|at| u64::from(at * PIECE));
    let content = &rig.content(0)[good as usize..][..PIECE as usize];
    file.write_all_at(content, good).unwrap();
    file.write_all_at(content, bad).unwrap();
    let wanted = |at| match at {
        2 => PieceState::Good,
        5 => PieceState::Bad,
        _ => PieceState::Missing,
    };
    assert_eq!(states(&rig), (0..10).map(wanted).collect::<Vec<_>>());
}

#[test]
fn a_hole_where_zeros_belong_is_good() {
    let rig = Rig::new(&[
        (".pad/1", 3 * u64::from(PIECE)),
        ("a", u64::from(PIECE) + 5),
    ]);
    let mut rig = rig;
    rig.bytes = vec![0; rig.bytes.len()].into();
    fs::create_dir_all(rig.root()).unwrap();
    let file = File::create(rig.path(1)).unwrap();
    file.set_len(u64::from(PIECE) + 5).unwrap();
    assert_eq!(states(&rig), [PieceState::Good; 5]);
}

#[test]
fn the_look_ends_when_told_to() {
    let rig = Rig::new(FILES);
    rig.fill();
    let looked = AtomicU64::new(0);
    let verification = Verification {
        layout: &rig.layout,
        pieces: &rig.pieces(),
        expected: &|piece| rig.hash(piece),
        threads: 1,
        subtrees: false,
    };
    let count = |_| match looked.fetch_add(1, Ordering::Relaxed) {
        0..3 => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    };
    verification.run(&count).unwrap();
    assert_eq!(looked.into_inner(), 4);
}

#[test]
fn the_digest_of_the_whole_follows_from_the_pieces_where_they_fit() {
    let rig = Rig::new(&[("a", 700_001), ("b", 5), ("c", 100_000)]);
    rig.fill();
    assert!(Subtree::fits(&rig.layout));
    let found = verify(&rig, true).into_iter();
    let nodes: Vec<_> = found.map(|finding| finding.subtree.unwrap()).collect();
    let whole = *blake3::hash(&rig.bytes).as_bytes();
    assert_eq!(Subtree::merge(&nodes), Some(whole));
    assert_eq!(digest(&rig.layout).unwrap(), whole);

    let padded = Rig::new(FILES);
    padded.fill();
    assert!(!Subtree::fits(&padded.layout));
    let mut hasher = blake3::Hasher::new();
    for (at, _) in padded.layout.payload_files() {
        hasher.update(padded.content(at));
    }
    assert_eq!(
        digest(&padded.layout).unwrap(),
        *hasher.finalize().as_bytes()
    );
}
