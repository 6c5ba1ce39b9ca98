//! A database of every past version is read in full by this one.
//!
//! Each version has a writer below that knows nothing of today's code: keys and values are the bytes that version wrote. They
//! are never edited.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by its panic"
)]

use std::future::Future;
use std::path::Path;

use data_encoding::HEXLOWER;
use seedbank::base::{FileIdentity, InfoHash};
use seedbank::store::{History, KnownNode, KnownPeer, Note, Store, Totals};

const IH: InfoHash = InfoHash([0x11; 20]);
const DONE: InfoHash = InfoHash([0x22; 20]);

/// Keys and values of version 1: torrent 11… has 5,000 pieces, torrent 22… is finished.
const VERSION_1: &[(&str, &str)] = &[
    (
        "622f1111111111111111111111111111111111111111000000080000",
        "62000000010000000300000005000000067d7f87d6770557da",
    ),
    (
        "642f3333333333333333333333333333333333333333",
        "640a0000021ae203000000006553f1010000002d012b52cadc962bbce3",
    ),
    (
        "662f111111111111111111111111111111111111111100000000",
        "6601000000000000000100000000000000020000000000000003fffffffffffffffc000000000000000000000000000000000000006ef353fdf01001c0",
    ),
    (
        "662f111111111111111111111111111111111111111100000001",
        "6601000000000000000100000000000000020000000000000003fffffffffffffffc00000000000000000000000000000000000000ac4b1878dcdda707",
    ),
    (
        "682f111111111111111111111111111111111111111100000000",
        "6800000000000000038000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001993c4ebce56f0c43",
    ),
    (
        "682f111111111111111111111111111111111111111100000001",
        "6800000000000000038000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000001000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000e6afc972a1ae4161",
    ),
    (
        "6d2f65706f6368",
        "6dc6c6e55c976a603de060ee5902614d508a0fad52f57a96fb",
    ),
    (
        "6d2f6e6f6465",
        "6d4444444444444444444444444444444444444444c48f09bf4268161a",
    ),
    ("6d2f73657175656e6365", "6d0000000000000005ae014a6ca4270771"),
    ("6d2f76657273696f6e", "6d000000017de122f9bbb182f6"),
    (
        "702f11111111111111111111111111111111111111110a0000011ae1",
        "70000000006553f10002616bb17949a0a04f",
    ),
    (
        "702f111111111111111111111111111111111111111120010db8000000000000000000000001c8d5",
        "70000000006553f10002e0b0cf48f406c26c",
    ),
    (
        "732f1111111111111111111111111111111111111111",
        "73000000000000000a0000000000000014d2499468b6432760",
    ),
    (
        "732f2222222222222222222222222222222222222222",
        "7300000000000000000000000000000000a4de17a3531e1686",
    ),
    (
        "742f1111111111111111111111111111111111111111",
        "7400001388000000150000d599d302fad09e22",
    ),
    (
        "742f2222222222222222222222222222222222222222",
        "740000000300000001010130b919506a3d8f77",
    ),
];

/// Notes of version 1 on torrent 11…: piece 7 is verified, blocks 2 and 3 of piece 9 are there.
const NOTES_1: &str = "010000000000000700000000000000002d9335a984700231020000000000000900000002000000048fbd32eea633e5ad";

fn write_version_1(state: &Path) {
    let database = sled::open(state.join("db")).unwrap();
    for (key, value) in VERSION_1 {
        let key = HEXLOWER.decode(key.as_bytes()).unwrap();
        let value = HEXLOWER.decode(value.as_bytes()).unwrap();
        database.insert(key, value).unwrap();
    }
    database.flush().unwrap();
    std::fs::create_dir(state.join("notes")).unwrap();
    let notes = HEXLOWER.decode(NOTES_1.as_bytes()).unwrap();
    std::fs::write(state.join("notes").join(IH.to_string()), notes).unwrap();
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn everything_that_version_1_wrote_is_read() {
    let state = tempfile::tempdir().unwrap();
    write_version_1(state.path());
    block_on(async {
        let opened = Store::open(state.path().to_owned()).await.unwrap();
        assert_eq!(opened.history, History::Current);
        let store = opened.store;
        let record = store.load(IH, 5_000, 21).await.unwrap().unwrap();
        let durable: Vec<_> = record.durable.iter().collect();
        assert_eq!(durable, [0, 4_095, 4_096, 4_999]);
        assert!(!record.finished && !record.clean);
        let identity = FileIdentity {
            device: 1,
            inode: 2,
            size: 3,
            mtime_ns: -4,
        };
        let known: Vec<_> = record.identities.iter().flatten().collect();
        assert_eq!(known, [&identity, &identity]);
        assert_eq!(record.identities[0], Some(identity));
        assert_eq!(record.identities[20], Some(identity));
        assert_eq!(record.partial, [(8, 1..3), (8, 5..6)]);
        let blocks = Note::Blocks {
            piece: 9,
            blocks: 2..4,
        };
        assert_eq!(record.notes, [Note::Verified(7), blocks]);
        let totals = Totals {
            downloaded: 10,
            uploaded: 20,
        };
        assert_eq!(record.totals, totals);

        let done = store.load(DONE, 3, 1).await.unwrap().unwrap();
        assert!(done.finished && done.clean && done.durable.is_full());

        let peers = ["10.0.0.1:6881", "[2001:db8::1]:51413"].map(|addr| KnownPeer {
            addr: addr.parse().unwrap(),
            last_seen: 1_700_000_000,
            failures: 2,
        });
        assert_eq!(store.peers(IH).await, peers);
        let node = KnownNode {
            id: [0x33; 20],
            addr: "10.0.0.2:6882".parse().unwrap(),
            dialects: 3,
            last_answer: 1_700_000_001,
            round_trip_ms: 45,
            failures: 1,
        };
        let saved = store.nodes().await;
        assert_eq!(saved.own, Some([0x44; 20]));
        assert_eq!(saved.nodes, [node]);
        store.close().await.unwrap();
    });
}

#[test]
fn version_0_is_an_empty_database_and_becomes_a_fresh_one() {
    let state = tempfile::tempdir().unwrap();
    drop(sled::open(state.path().join("db")).unwrap());
    block_on(async {
        let opened = Store::open(state.path().to_owned()).await.unwrap();
        assert_eq!(opened.history, History::Fresh);
        opened.store.close().await.unwrap();
        let opened = Store::open(state.path().to_owned()).await.unwrap();
        assert_eq!(opened.history, History::Current);
    });
}
