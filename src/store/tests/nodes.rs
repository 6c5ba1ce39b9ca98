//! What is remembered of the DHT: each address, the best, only what is news; damage to it costs nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;
use crate::base::limits::{STORED_IDENTITIES_MAX, STORED_NODES_MAX};
use crate::store::database::Batch;
use crate::store::open::open_unlocked;
use crate::store::{codec, nodes};

const NOW: i64 = 1_700_000_000;

fn node(n: u16) -> KnownNode {
    let mut id = [0x5a; 20];
    // Spread, as ids are.
    id[..8].copy_from_slice(
        &u64::from(n)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .to_be_bytes(),
    );
    let [high, low] = n.to_be_bytes();
    KnownNode {
        id,
        addr: SocketAddr::from(([10, 1, high, low], 6_881)),
        dialects: 1,
        last_answer: NOW - i64::from(n),
        round_trip_ms: 80,
        failures: 0,
    }
}

fn identity_at(external: Option<IpAddr>, last_used: i64) -> Identity {
    Identity {
        external,
        id: [7; 20],
        last_used,
    }
}

/// A few of each kind of row, best first.
pub(super) fn saved() -> SavedNodes {
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 6_882));
    SavedNodes {
        identities: vec![
            identity_at(Some(Ipv4Addr::new(10, 0, 0, 1).into()), NOW),
            identity_at(Some(Ipv6Addr::LOCALHOST.into()), NOW - 1),
            identity_at(None, NOW - 2),
        ],
        nodes: vec![
            node(1),
            KnownNode {
                addr: v6,
                last_answer: NOW - 10,
                ..node(1)
            },
            node(20),
        ],
    }
}

/// All rows of the cache as they are stored.
fn rows(folder: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let database = open_unlocked(&folder.join("db")).unwrap();
    [b"d/", b"i/"]
        .iter()
        .flat_map(|prefix| database.sealed_rows(*prefix).map(Result::unwrap))
        .collect()
}

fn with_database(folder: &Path, change: impl FnOnce(&mut Batch)) {
    let mut database = open_unlocked(&folder.join("db")).unwrap();
    let mut batch = Batch::default();
    change(&mut batch);
    database.apply(batch).unwrap();
}

#[test]
fn a_node_with_two_addresses_and_an_id_for_each_of_ours_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        assert_eq!(store.nodes().await, SavedNodes::default());
        let mut shuffled = saved();
        shuffled.nodes.reverse();
        shuffled.identities.reverse();
        store.put_nodes(shuffled).await.unwrap();
        store.close().await.unwrap();
        let (store, _) = open(folder.path()).await;
        assert_eq!(store.nodes().await, saved());
        store.put_nodes(SavedNodes::default()).await.unwrap();
        assert_eq!(store.nodes().await, SavedNodes::default());
    });
}

#[test]
fn of_too_many_the_best_nodes_and_the_newest_ids_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let many = u16::try_from(STORED_NODES_MAX).unwrap() + 100;
    let mut nodes: Vec<_> = (0..many).rev().map(node).collect();
    // The one that answered last, but three failures weigh more than 2,100 s of silence.
    nodes.last_mut().unwrap().failures = 3;
    let identities = (0..20u8)
        .map(|n| identity_at(Some(Ipv4Addr::new(10, 0, 0, n).into()), n.into()))
        .collect();
    let worst = *nodes.last().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        let twice = [nodes.clone(), nodes].concat();
        store
            .put_nodes(SavedNodes {
                identities,
                nodes: twice,
            })
            .await
            .unwrap();
        let found = store.nodes().await;
        let expected: Vec<_> = (1..).map(node).take(STORED_NODES_MAX).collect();
        assert_eq!(found.nodes, expected);
        assert!(!found.nodes.contains(&worst));
        let used: Vec<_> = found.identities.iter().map(|id| id.last_used).collect();
        assert_eq!(used, [19, 18, 17, 16, 15, 14, 13, 12]);
        assert_eq!(used.len(), STORED_IDENTITIES_MAX);
    });
}

#[test]
fn only_what_changed_enough_to_matter_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let old = KnownNode {
        last_answer: NOW,
        ..node(1)
    };
    let with = |change: fn(&mut KnownNode)| {
        let mut node = old;
        change(&mut node);
        node
    };
    let alike = [
        old,
        with(|node| node.last_answer += 3_599),
        with(|node| node.last_answer -= 3_599),
        with(|node| node.round_trip_ms = 120),
        with(|node| node.round_trip_ms = 54),
    ];
    let news = [
        with(|node| node.last_answer += 3_600),
        with(|node| node.last_answer = i64::MIN),
        with(|node| node.round_trip_ms = 121),
        with(|node| node.round_trip_ms = 53),
        with(|node| node.round_trip_ms = u32::MAX),
        with(|node| node.failures = 1),
        with(|node| node.dialects = 3),
    ];
    let put = |store: Store, node| async move {
        let nodes = vec![node];
        let identities = saved().identities;
        store
            .put_nodes(SavedNodes { identities, nodes })
            .await
            .unwrap();
        store.nodes().await.nodes
    };
    block_on(async {
        let (store, _) = open(folder.path()).await;
        assert_eq!(put(store.clone(), old).await, [old]);
        for node in alike {
            assert_eq!(put(store.clone(), node).await, [old], "{node:?}");
        }
        for node in news {
            assert_eq!(put(store.clone(), node).await, [node]);
            assert_eq!(put(store.clone(), old).await, [old], "{node:?}");
        }
        // Small steps add up to news all the same.
        let mut node = old;
        for _ in 0..4 {
            node.last_answer += 1_000;
            put(store.clone(), node).await;
        }
        assert_eq!(store.nodes().await.nodes, [node]);
    });
}

#[test]
fn a_table_that_did_nothing_but_answer_again_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut table = saved();
    let log = folder.path().join("db/db");
    block_on(async {
        let (store, _) = open(folder.path()).await;
        store.put_nodes(table.clone()).await.unwrap();
        let before = fs::read(&log).unwrap();
        for _ in 0..11 {
            for node in &mut table.nodes {
                node.last_answer += 300;
            }
            store.put_nodes(table.clone()).await.unwrap();
        }
        assert!(fs::read(&log).unwrap() == before);
        table.identities[0].last_used += 300;
        store.put_nodes(table.clone()).await.unwrap();
        assert!(fs::read(&log).unwrap() != before);
    });
}

#[test]
fn round_trips_too_short_to_differ_are_alike() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        for (put, kept) in [(0, 0), (1, 0), (15, 0), (16, 16), (10, 10), (3, 10)] {
            let nodes = vec![KnownNode {
                round_trip_ms: put,
                ..node(1)
            }];
            let identities = Vec::new();
            let saved = SavedNodes { identities, nodes };
            store.put_nodes(saved).await.unwrap();
            assert_eq!(store.nodes().await.nodes[0].round_trip_ms, kept, "{put}");
        }
    });
}

/// Every truncation and every flip of a bit of `bytes`, from byte `from` on.
fn damaged(bytes: &[u8], from: usize) -> Vec<Vec<u8>> {
    let cuts = (from..bytes.len()).map(|len| bytes[..len].to_vec());
    let flips = (from * 8..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 0x80 >> (bit % 8);
        flipped
    });
    cuts.chain(flips).collect()
}

/// As many rows of one kind as wanted, of `kind` 0 to 4: nodes by IPv4 and IPv6, ids of ours by IPv4, IPv6 and no address.
fn row(kind: usize, n: usize) -> (Vec<u8>, Vec<u8>) {
    let n = u16::try_from(n).unwrap();
    let [high, low] = n.to_be_bytes();
    let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n).octets();
    let node = [1u8; 14];
    let own = [2u8; 28];
    let id = node_id(n);
    let (key, body): (Vec<u8>, &[u8]) = match kind {
        0 => ([b"d/", &id[..], &[10, 9, high, low, 0, 9]].concat(), &node),
        1 => ([b"d/", &id[..], &v6, &[0, 9]].concat(), &node),
        2 => ([b"i/", &[10, 9, high, low][..]].concat(), &own),
        3 => ([b"i/", &v6[..]].concat(), &own),
        _ => (b"i/".to_vec(), &own),
    };
    let value = codec::seal(&key, body);
    (key, value)
}

fn node_id(n: u16) -> [u8; 20] {
    node(n).id
}

#[test]
fn a_row_of_each_kind_is_sound_and_no_truncation_or_flipped_bit_of_it_is() {
    let sound = |key: &[u8], value: &[u8]| {
        codec::unseal(key, value).is_some_and(|body| nodes::is_sound(key, body))
    };
    let mut tried = 0;
    for kind in 0..5 {
        let (key, value) = row(kind, 1);
        assert!(sound(&key, &value), "{kind}");
        for value in damaged(&value, 0) {
            assert!(!sound(&key, &value), "{kind}: {value:?}");
            tried += 1;
        }
        for key in damaged(&key, 0) {
            assert!(!sound(&key, &value), "{kind}: {key:?}");
            tried += 1;
        }
        // Whole, but too long or too short for what it is.
        let body = codec::unseal(&key, &value).unwrap();
        for body in [&body[1..], &[body, &[0]].concat()] {
            assert!(!sound(&key, &codec::seal(&key, body)), "{kind}");
        }
    }
    assert!(tried > 2_000, "{tried}");
}

/// A database that has every way to damage one row in it, each at a row of its own.
fn wreck(folder: &Path) -> usize {
    let (mut at, mut wrecked) = (100, BTreeSet::new());
    with_database(folder, |batch| {
        for kind in 0..5 {
            let (key, value) = row(kind, 0);
            let (keys, values) = (damaged(&key, 2).len(), damaged(&value, 0).len());
            for n in 0..keys + values {
                let (key, value) = row(kind, at);
                let (key, value) = match n.checked_sub(keys) {
                    None => (damaged(&key, 2).swap_remove(n), value),
                    Some(n) => (key.clone(), damaged(&value, 0).swap_remove(n)),
                };
                batch.put_sealed(&key, &value);
                wrecked.insert(key);
                at += 1;
            }
        }
    });
    wrecked.len()
}

#[test]
fn damaged_nodes_and_ids_cost_neither_the_database_nor_the_sound_ones_and_go_at_the_next_save() {
    let folder = tempfile::tempdir().unwrap();
    // The id without an address has but one row, which is among those wrecked below.
    let mut made = saved();
    made.identities.pop();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        load(&store).await;
        store.commit(IH, pieces([1, 8_000])).await.unwrap();
        store.put_nodes(made.clone()).await.unwrap();
        store.close().await.unwrap();
    });
    let sound = rows(folder.path());
    let wrecked = wreck(folder.path());
    assert!(wrecked > 1_500, "{wrecked}");
    let report = check(folder.path()).unwrap();
    assert_eq!(report.problems, [""; 0]);
    assert_eq!(report.passed_over.len(), wrecked.min(1_000));
    block_on(async {
        let (store, history) = open(folder.path()).await;
        assert_eq!(history, History::Current);
        assert_eq!(durable(&store).await, [1, 8_000]);
        assert_eq!(store.nodes().await, made);
        assert_eq!(durable(&store).await, [1, 8_000]);
        store.put_nodes(made.clone()).await.unwrap();
        store.close().await.unwrap();
    });
    assert_eq!(rows(folder.path()), sound);
    assert_eq!(check(folder.path()).unwrap().passed_over, [""; 0]);
}

#[test]
fn a_save_in_a_place_that_is_damaged_writes_it_anew() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        store.put_nodes(saved()).await.unwrap();
        store.close().await.unwrap();
    });
    let sound = rows(folder.path());
    with_database(folder.path(), |batch| {
        for (key, value) in &sound {
            batch.put_sealed(key, &value[1..]);
        }
    });
    block_on(async {
        let (store, history) = open(folder.path()).await;
        assert_eq!(history, History::Current);
        assert_eq!(store.nodes().await, SavedNodes::default());
        store.put_nodes(saved()).await.unwrap();
        store.close().await.unwrap();
    });
    assert_eq!(rows(folder.path()), sound);
}

/// Small and seeded, so that a day is the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A stranger who just came.
fn newcomer(dice: &mut Dice, now: i64) -> KnownNode {
    let id = [0; 20].map(|_: u8| dice.below(256) as u8);
    let ip = [0; 4].map(|_: u8| dice.below(256) as u8);
    KnownNode {
        id,
        addr: SocketAddr::from((ip, 1 + dice.below(65_535) as u16)),
        dialects: 1,
        last_answer: now,
        round_trip_ms: 20 + dice.below(300) as u32,
        failures: 0,
    }
}

/// Five minutes in the life of a table: everybody answered, a twentieth is replaced, one in a hundred missed a query.
fn five_minutes(table: &mut [KnownNode], dice: &mut Dice, now: i64) {
    for node in table {
        if dice.below(20) == 0 {
            *node = newcomer(dice, now);
        }
        node.last_answer = now - dice.below(300) as i64;
        node.failures = u8::from(dice.below(100) == 0);
        let jitter = 90 + dice.below(21);
        node.round_trip_ms = (u64::from(node.round_trip_ms) * jitter / 100) as u32;
    }
}

fn size_of(folder: &Path) -> u64 {
    let files = durable::list(folder).unwrap().into_iter();
    let sizes = files.map(|path| match fs::metadata(&path) {
        Ok(found) if found.is_dir() => size_of(&path),
        Ok(found) => found.len(),
        // Gone since it was listed.
        Err(_) => 0,
    });
    sizes.sum()
}

#[test]
fn a_day_of_saving_a_table_keeps_the_database_small() {
    const BATCHES: i64 = 288;
    /// The rows take some 100 KiB. The log of the database takes a second segment of 512 KiB when the first is full, and so
    /// on, until those that hold little any more are emptied and used again: at 2,560 KiB, where it is after a month as well.
    const LARGEST: u64 = 4 << 20;
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice(42);
    let mut table: Vec<_> = (0..1_500).map(|_| newcomer(&mut dice, NOW)).collect();
    let identities = vec![identity_at(None, NOW)];
    block_on(async {
        let (store, _) = open(folder.path()).await;
        let mut sizes = Vec::new();
        for batch in 0..BATCHES {
            let now = NOW + batch * 300;
            five_minutes(&mut table, &mut dice, now);
            let saved = SavedNodes {
                identities: identities.clone(),
                nodes: table.clone(),
            };
            store.put_nodes(saved).await.unwrap();
            sizes.push(size_of(folder.path()));
            if batch % (BATCHES / 12) == 0 {
                eprintln!("batch {batch:3}: {} KiB", sizes[batch as usize] >> 10);
            }
        }
        assert_eq!(store.nodes().await.nodes.len(), table.len());
        store.close().await.unwrap();
        eprintln!("closed: {} KiB", size_of(folder.path()) >> 10);
        let largest = *sizes.iter().max().unwrap();
        assert!(largest <= LARGEST, "{} KiB", largest >> 10);
        let (first, second) = sizes.split_at(sizes.len() / 2);
        let [first, second] = [first, second].map(|half| *half.iter().max().unwrap());
        assert!(second <= first + first / 4, "from {first} to {second}");
        let (_, history) = open(folder.path()).await;
        assert_eq!(history, History::Current);
    });
}
