//! Hashing and verifying whole payloads.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use seedbank::disk::{DiskError, PieceState, hash_payload, verify};

use crate::rig::{Rig, block_on};

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

#[test]
fn verify_tells_bad_from_missing_and_changes_nothing() {
    let rig = Rig::new(FILES);
    let expected = |piece| rig.hash(piece);
    let all_missing = verify(&rig.layout, &expected, 2, &|_| {}).unwrap();
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
    let states = verify(&rig.layout, &expected, 2, &|_| {}).unwrap();
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
    assert_eq!(block_on(rig.disk.look(rig.layout.clone())).unwrap(), before);
}
