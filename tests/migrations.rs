//! A database of every past version is read in full by this one.
//!
//! Each version has a writer below that knows nothing of today's code: keys and values are the bytes that version wrote. They
//! are never edited.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by its panic"
)]

use std::fs;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use seedbank::base::{FileIdentity, InfoHash, PieceDigest};
use seedbank::store::{
    History, Identity, KnownNode, KnownPeer, Note, ScrubMark, Store, Totals, check,
};

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

/// The number of the last commit of version 1.
const SEQUENCE_1: u64 = 5;

/// Notes of version 1 on torrent 11…: piece 7 is verified, blocks 2 and 3 of piece 9 are there.
const NOTES_1: &str = "010000000000000700000000000000002d9335a984700231020000000000000900000002000000048fbd32eea633e5ad";

/// Opens the bare database. A handle that was dropped lets go of its file a moment later, when its threads have ended.
fn open(state: &Path) -> sled::Db {
    let give_up = Instant::now() + Duration::from_secs(20);
    let config = sled::Config::new().path(state.join("db"));
    loop {
        match config.clone().flush_every_ms(None).open() {
            Err(error)
                if error.to_string().contains("acquire lock") && Instant::now() < give_up =>
            {
                std::thread::yield_now();
            }
            opened => return opened.unwrap(),
        }
    }
}

fn write_version_1(state: &Path) {
    let database = open(state);
    insert(&database, VERSION_1);
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

/// Keys and values of version 2 in place of those of version 1 with DHT nodes in them: a node has two addresses, and we had
/// two ids.
const VERSION_2: &[(&str, &str)] = &[
    (
        "642f33333333333333333333333333333333333333330a0000021ae2",
        "6403000000006553f1010000002d019a78d4ea5b4ab139",
    ),
    (
        "642f333333333333333333333333333333333333333320010db80000000000000000000000021ae3",
        "6403000000006553f1020000002d006b4e4146ed03ea96",
    ),
    (
        "692f",
        "69444444444444444444444444444444444444444400000000000000000a7725fb46755aba",
    ),
    (
        "692fc6336403",
        "695555555555555555555555555555555555555555000000006553f10325fdac3b8f60f6c0",
    ),
    (
        "692f20010db8000000000000000000000003",
        "695555555555555555555555555555555555555555000000006553f1048fe99e9ef475214b",
    ),
    ("6d2f76657273696f6e", "6d000000022fdb76107b015dae"),
];

/// Keys of version 1 that version 2 does not have.
const GONE_IN_2: &[&str] = &["m/node", "d/33333333333333333333"];

fn write_version_2(state: &Path) {
    write_version_1(state);
    let database = open(state);
    for key in GONE_IN_2 {
        assert!(database.remove(key).unwrap().is_some());
    }
    insert(&database, VERSION_2);
    database.flush().unwrap();
}

/// Rows that version 3 has besides those of version 2: torrent 11… was re-read up to piece 7, and three digests are known.
const VERSION_3: &[(&str, &str)] = &[
    (
        "672f1111111111111111111111111111111111111111",
        "670000000700000001000000006553f105000000006553f106cb5ee5e2b2e549ea",
    ),
    (
        "672f111111111111111111111111111111111111111100000000",
        "6766666666666666666666666666666666000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000007777777777777777777777777777777700cc3fd3e6d65a2d",
    ),
    (
        "672f111111111111111111111111111111111111111100000001",
        "67000000000000000000000000000000008888888888888888888888888888888800000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000c21d4f5d97f9eb7a",
    ),
    ("6d2f76657273696f6e", "6d00000003d9a512e6b826f23c"),
];

fn write_version_3(state: &Path) {
    write_version_2(state);
    let database = open(state);
    insert(&database, VERSION_3);
    database.flush().unwrap();
}

fn insert(database: &sled::Db, rows: &[(&str, &str)]) {
    for (key, value) in rows {
        let key = HEXLOWER.decode(key.as_bytes()).unwrap();
        let value = HEXLOWER.decode(value.as_bytes()).unwrap();
        database.insert(key, value).unwrap();
    }
}

/// What every version's rows say of the torrents.
async fn hold_torrents(store: &Store) {
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
}

/// The node of version 1.
fn node() -> KnownNode {
    KnownNode {
        id: [0x33; 20],
        addr: "10.0.0.2:6882".parse().unwrap(),
        dialects: 3,
        last_answer: 1_700_000_001,
        round_trip_ms: 45,
        failures: 1,
    }
}

/// Our id of version 1, as version 2 has it.
fn own() -> Identity {
    Identity {
        external: None,
        id: [0x44; 20],
        last_used: 0,
    }
}

/// Opens the state folder, and holds everything in it against what version 1 wrote.
async fn hold_version_1(state: &Path) -> History {
    let opened = Store::open(state.to_owned()).await.unwrap();
    let store = opened.store;
    hold_torrents(&store).await;
    let saved = store.nodes().await;
    assert_eq!(saved.identities, [own()]);
    assert_eq!(saved.nodes, [node()]);
    store.close().await.unwrap();
    opened.history
}

#[test]
fn everything_that_version_1_wrote_is_read() {
    let state = tempfile::tempdir().unwrap();
    write_version_1(state.path());
    block_on(async {
        let history = hold_version_1(state.path()).await;
        assert_eq!(history, History::Migrated { from: 1 });
        let history = hold_version_1(state.path()).await;
        assert_eq!(history, History::Current);
    });
}

/// Says that the last commit had the number `last`.
fn write_watermark(state: &Path, last: u64) {
    let number = last.to_be_bytes();
    let checksum = blake3::hash(&number);
    let sealed = [&number, &checksum.as_bytes()[..8]].concat();
    fs::write(state.join("db.sequence"), sealed).unwrap();
}

#[test]
fn a_migration_counts_on_and_hides_no_commit_that_is_missing() {
    let state = tempfile::tempdir().unwrap();
    write_version_1(state.path());
    write_watermark(state.path(), SEQUENCE_1);
    assert_eq!(check(state.path()).unwrap().problems, [""; 0]);
    let history = block_on(hold_version_1(state.path()));
    assert_eq!(history, History::Migrated { from: 1 });
    assert_eq!(check(state.path()).unwrap().problems, [""; 0]);
    let number = fs::read(state.path().join("db.sequence")).unwrap();
    let number = u64::from_be_bytes(*number.first_chunk().unwrap());
    assert!(number > SEQUENCE_1, "{number}");

    let state = tempfile::tempdir().unwrap();
    write_version_1(state.path());
    write_watermark(state.path(), SEQUENCE_1 + 1);
    assert_eq!(check(state.path()).unwrap().problems.len(), 1);
    let opened = block_on(Store::open(state.path().to_owned())).unwrap();
    assert!(matches!(opened.history, History::Rebuilt { .. }));
}

/// Holds everything in an open state folder against what version 2 wrote.
async fn hold_version_2(store: &Store) {
    hold_torrents(store).await;
    let v6 = KnownNode {
        addr: "[2001:db8::2]:6883".parse().unwrap(),
        last_answer: 1_700_000_002,
        failures: 0,
        ..node()
    };
    let external = |ip: &str, last_used| Identity {
        external: Some(ip.parse().unwrap()),
        id: [0x55; 20],
        last_used,
    };
    let saved = store.nodes().await;
    assert_eq!(saved.nodes, [v6, node()]);
    let ids = [
        external("2001:db8::3", 1_700_000_004),
        external("198.51.100.3", 1_700_000_003),
        own(),
    ];
    assert_eq!(saved.identities, ids);
}

#[test]
fn everything_that_version_2_wrote_is_read() {
    let state = tempfile::tempdir().unwrap();
    write_version_2(state.path());
    block_on(async {
        for history in [History::Migrated { from: 2 }, History::Current] {
            let opened = Store::open(state.path().to_owned()).await.unwrap();
            assert_eq!(opened.history, history);
            hold_version_2(&opened.store).await;
            assert_eq!(opened.store.scrub_mark(IH).await, None);
            assert_eq!(opened.store.digests(IH, 0).await, []);
            opened.store.close().await.unwrap();
        }
    });
}

#[test]
fn everything_that_version_3_wrote_is_read() {
    let state = tempfile::tempdir().unwrap();
    write_version_3(state.path());
    block_on(async {
        let opened = Store::open(state.path().to_owned()).await.unwrap();
        assert_eq!(opened.history, History::Current);
        let store = opened.store;
        hold_version_2(&store).await;
        let mark = ScrubMark {
            next: 7,
            bad: 1,
            began: 1_700_000_005,
            finished: 1_700_000_006,
        };
        assert_eq!(store.scrub_mark(IH).await, Some(mark));
        let digest = |byte| PieceDigest([byte; 16]);
        let first = [(0, digest(0x66)), (59, digest(0x77))];
        assert_eq!(store.digests(IH, 59).await, first);
        assert_eq!(store.digests(IH, 60).await, [(61, digest(0x88))]);
        assert_eq!(store.digests(IH, 120).await, []);
        store.close().await.unwrap();
    });
    assert_eq!(check(state.path()).unwrap().problems, [""; 0]);
}

#[test]
fn damaged_nodes_of_version_1_are_dropped_and_the_rest_is_migrated() {
    let state = tempfile::tempdir().unwrap();
    write_version_1(state.path());
    let database = open(state.path());
    let sound = database.get("d/33333333333333333333").unwrap().unwrap();
    for (key, value) in [
        ("d/", b"".as_slice()),
        ("d/short", &sound),
        ("d/sound but elsewhere!", &sound),
        ("d/noise, noise, noise!", &[b'd'; 300]),
        ("m/node of nobody", b"m"),
    ] {
        database.insert(key, value).unwrap();
    }
    database.flush().unwrap();
    drop(database);
    block_on(async {
        let history = hold_version_1(state.path()).await;
        assert_eq!(history, History::Migrated { from: 1 });
    });
    let report = check(state.path()).unwrap();
    assert_eq!(report.problems, [""; 0]);
    assert_eq!(report.passed_over, [""; 0]);
    assert_eq!(report.rows, VERSION_1.len());
}

#[test]
fn every_truncation_and_flipped_bit_of_the_node_and_the_id_of_version_1_costs_them_alone() {
    for key in ["m/node", "d/33333333333333333333"] {
        let state = tempfile::tempdir().unwrap();
        write_version_1(state.path());
        let sound = {
            let database = open(state.path());
            database.get(key).unwrap().unwrap().to_vec()
        };
        let cuts = (0..sound.len()).map(|len| sound[..len].to_vec());
        let flips = (0..sound.len() * 8).map(|bit| {
            let mut flipped = sound.clone();
            flipped[bit / 8] ^= 0x80 >> (bit % 8);
            flipped
        });
        for damaged in cuts.chain(flips) {
            let state = tempfile::tempdir().unwrap();
            write_version_1(state.path());
            let database = open(state.path());
            database.insert(key, damaged).unwrap();
            database.flush().unwrap();
            drop(database);
            block_on(async {
                let opened = Store::open(state.path().to_owned()).await.unwrap();
                assert_eq!(opened.history, History::Migrated { from: 1 });
                hold_torrents(&opened.store).await;
                let saved = opened.store.nodes().await;
                let is_id = key == "m/node";
                assert_eq!(saved.nodes.is_empty(), !is_id);
                assert_eq!(saved.identities.is_empty(), is_id);
                opened.store.close().await.unwrap();
            });
        }
    }
}

/// Each step of a migration is one append to the log of the database: whatever part of it a crash left there, the next start ends
/// with everything.
#[test]
fn a_migration_that_was_interrupted_anywhere_goes_on() {
    let before = tempfile::tempdir().unwrap();
    write_version_1(before.path());
    // What the database does at any start is not what is interrupted here.
    drop(open(before.path()));
    let after = tempfile::tempdir().unwrap();
    copy(before.path(), after.path());
    assert_eq!(
        block_on(hold_version_1(after.path())),
        History::Migrated { from: 1 }
    );
    let [mut old, new] = [&before, &after].map(|state| fs::read(state.path().join(LOG)).unwrap());
    old.resize(new.len().max(old.len()), 0);
    let differs = |at: &usize| old.get(*at) != new.get(*at);
    let first = (0..new.len()).find(differs).unwrap();
    let last = (0..new.len()).rfind(differs).unwrap() + 1;
    let mut seen = [0, 0, 0];
    for cut in (first..last).step_by(5).chain([last]) {
        let state = tempfile::tempdir().unwrap();
        copy(before.path(), state.path());
        let torn = [&new[..cut], &old[cut..]].concat();
        fs::write(state.path().join(LOG), torn).unwrap();
        match block_on(hold_version_1(state.path())) {
            History::Migrated { from: 1 } => seen[0] += 1,
            History::Migrated { from: 2 } => seen[1] += 1,
            History::Current => seen[2] += 1,
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
    assert!(seen[0] > 10 && seen[1] > 0 && seen[2] > 0, "{seen:?}");
}

/// The log of the database within the state folder.
const LOG: &str = "db/db";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let there = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &there);
        } else {
            fs::copy(&path, &there).unwrap();
        }
    }
}

#[test]
fn version_0_is_an_empty_database_and_becomes_a_fresh_one() {
    let state = tempfile::tempdir().unwrap();
    drop(open(state.path()));
    block_on(async {
        let opened = Store::open(state.path().to_owned()).await.unwrap();
        assert_eq!(opened.history, History::Fresh);
        opened.store.close().await.unwrap();
        let opened = Store::open(state.path().to_owned()).await.unwrap();
        assert_eq!(opened.history, History::Current);
    });
}
