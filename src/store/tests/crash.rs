//! The state folder after a power cut: whatever the medium kept of what no sync had covered, it opens, every promise holds, and
//! nothing is claimed that was not committed or was taken back.
//!
//! A real store works through a random schedule. At each sync, and whenever it rests, two layers of its folder are known: what
//! syncs have covered (*synced*) and what it looks like now (*written*). Crash states are made of the two: each sector of 512 bytes
//! is the old or the new one, each file has the old length or the new, each name stands for the old file or the new or none. Of
//! the syncs of the database library itself, which are not seen from here, two are known: when a snapshot gets its name, at a
//! start, the snapshot is synced, and so is the log that it is of.
//!
//! `SEEDBANK_CRASH_STATES=n` tries so many states instead of a few; `SEEDBANK_TEST_SEED=n` repeats a run.

use std::collections::BTreeMap;

pub(in crate::store) use medium::witness;
use medium::{Cut, Watched};

use super::*;

pub(super) mod medium;

const TORRENTS: u8 = 4;
const STATES: usize = 160;
/// Steps of one schedule.
const STEPS: usize = 24;

/// A generator of pseudo-random numbers (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn pieces(&mut self) -> BTreeSet<u32> {
        let count = 1 + self.below(12);
        (0..count)
            .map(|_| self.below(PIECES as usize) as u32)
            .collect()
    }
}

fn torrent(n: u8) -> InfoHash {
    InfoHash([n; 20])
}

/// What is promised of one torrent.
#[derive(Clone, Default, Debug, PartialEq)]
struct Promise {
    bits: BTreeSet<u32>,
    /// Which metainfo and which choices are in the catalog.
    entry: Option<(u64, u64)>,
}

type Promises = BTreeMap<u8, Promise>;

#[derive(Clone, Debug)]
enum Step {
    Commit(BTreeSet<u32>),
    Finish,
    Clear(BTreeSet<u32>),
    ClearAll,
    Note(u32),
    Put(u64),
    Choose(u64),
    Remove,
    Peers(u64),
    Nodes(u64),
}

fn metainfo(n: u64) -> Vec<u8> {
    format!("d4:infod6:lengthi{n}ee{}e", "x".repeat(n as usize % 2_000)).into_bytes()
}

fn choices(n: u64) -> Choices {
    Choices::new(format!("/dest/{n}").into())
}

fn peers_of(n: u64) -> Vec<KnownPeer> {
    let peer = |at: u64| KnownPeer {
        addr: SocketAddr::from(([10, 0, 0, at as u8], 1 + (n % 9) as u16)),
        last_seen: 5,
        failures: 0,
    };
    (0..n % 40).map(peer).collect()
}

fn nodes_of(n: u64) -> SavedNodes {
    let node = |at: u64| KnownNode {
        id: [at as u8; 20],
        addr: SocketAddr::from(([10, 0, 1, at as u8], 9)),
        dialects: 1,
        last_answer: 7,
        round_trip_ms: 12,
        failures: (n % 5) as u8,
    };
    SavedNodes {
        identities: Vec::new(),
        nodes: (0..n % 60).map(node).collect(),
    }
}

impl Step {
    fn draw(dice: &mut Dice, promise: &Promise) -> Self {
        match dice.below(16) {
            0..=4 => Self::Commit(dice.pieces()),
            5 => Self::Finish,
            6..=7 => {
                let mut some = dice.pieces();
                some.extend(promise.bits.iter().take(3));
                Self::Clear(some)
            }
            8 => Self::ClearAll,
            9..=10 => Self::Note(dice.below(PIECES as usize) as u32),
            11..=12 => Self::Put(dice.roll() % 10_000),
            13 if promise.entry.is_some() => Self::Choose(dice.roll() % 10_000),
            13 => Self::Remove,
            14 => Self::Peers(dice.roll()),
            _ => Self::Nodes(dice.roll()),
        }
    }

    fn promise(&self, promise: &mut Promise) {
        match self {
            Self::Commit(some) => promise.bits.extend(some),
            Self::Finish => promise.bits = (0..PIECES).collect(),
            Self::Clear(some) => promise.bits.retain(|piece| !some.contains(piece)),
            Self::ClearAll => promise.bits.clear(),
            Self::Put(n) => promise.entry = Some((*n, *n)),
            Self::Choose(n) => promise.entry = promise.entry.map(|(metainfo, _)| (metainfo, *n)),
            Self::Remove => *promise = Promise::default(),
            Self::Note(_) | Self::Peers(_) | Self::Nodes(_) => {}
        }
    }

    async fn take(self, store: &Store, n: u8) {
        let ih = torrent(n);
        let done = match self {
            Self::Commit(some) => {
                let first = some.first().copied().unwrap_or_default();
                let commit = Commit {
                    identities: vec![(first as usize % FILES, identity(first.into()))],
                    partial: first
                        .is_multiple_of(3)
                        .then(|| vec![(first.saturating_sub(1), 0..1)]),
                    ..pieces(some)
                };
                store.commit(ih, commit).await
            }
            Self::Finish => {
                let finished = true;
                let commit = Commit {
                    finished,
                    ..pieces(0..PIECES)
                };
                store.commit(ih, commit).await
            }
            Self::Clear(some) => store.clear(ih, some.into_iter().collect()).await,
            Self::ClearAll => store.clear_all(ih).await,
            Self::Note(piece) => store.note(ih, vec![Note::Verified(piece)]).await,
            Self::Put(n) => store.put_torrent(ih, metainfo(n), choices(n)).await,
            Self::Choose(n) => store.put_choices(ih, choices(n)).await,
            Self::Remove => {
                store.remove_torrent(ih).await.unwrap();
                store.load(ih, PIECES, FILES).await.map(drop)
            }
            Self::Peers(n) => store.put_peers(ih, peers_of(n)).await,
            Self::Nodes(n) => store.put_nodes(nodes_of(n)).await,
        };
        done.unwrap();
    }
}

async fn load_all(store: &Store) -> BTreeMap<u8, Option<Record>> {
    let mut records = BTreeMap::new();
    for n in 0..TORRENTS {
        let record = store.load(torrent(n), PIECES, FILES).await.unwrap();
        records.insert(n, record);
    }
    records
}

/// What was counted.
#[derive(Default, Debug)]
struct Tally {
    states: usize,
    rebuilt: usize,
}

/// Opens `folder` and holds what it says against what was promised before and after the step that was under way.
async fn hold(folder: &Path, before: &Promises, after: &Promises, what: &str, tally: &mut Tally) {
    let opened = Store::open(folder.to_owned()).await;
    let Opened { store, history } = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    tally.states += 1;
    let promised = before.values().any(|promise| !promise.bits.is_empty());
    if let History::Rebuilt { why } = &history
        && promised
    {
        eprintln!("{what}: rebuilt: {why}");
        tally.rebuilt += 1;
    }
    let catalog = store.catalog().await.unwrap();
    assert_eq!(catalog.damaged, [], "{what}");
    for n in 0..TORRENTS {
        let (before, after) = (&before[&n], &after[&n]);
        let mut entries = catalog.entries.iter();
        let entry = entries.find(|entry| entry.info_hash == torrent(n));
        let allowed = [before.entry, after.entry];
        match entry {
            None => assert!(allowed.contains(&None), "{what}: torrent {n} is lost"),
            Some(entry) => {
                let fits = |of: fn((u64, u64)) -> u64, is: &dyn Fn(u64) -> bool| {
                    allowed.iter().flatten().any(|entry| is(of(*entry)))
                };
                assert!(
                    fits(|(metainfo, _)| metainfo, &|n| metainfo(n) == entry.metainfo),
                    "{what}: metainfo of torrent {n}"
                );
                assert!(
                    fits(|(_, chosen)| chosen, &|n| choices(n) == entry.choices),
                    "{what}: choices of torrent {n}"
                );
            }
        }
    }
    for (n, record) in load_all(&store).await {
        let bits = record
            .as_ref()
            .map(|record| record.durable.iter().collect());
        let bits: BTreeSet<u32> = bits.unwrap_or_default();
        let (before, after) = (&before[&n].bits, &after[&n].bits);
        assert!(
            bits == *before || bits == *after,
            "{what}: torrent {n}, {history:?}: {} bits, promised {} or {}",
            bits.len(),
            before.len(),
            after.len()
        );
        let peers = store.peers(torrent(n)).await;
        assert!(peers.iter().all(|peer| peer.last_seen == 5), "{what}");
    }
    let nodes = store.nodes().await.nodes;
    assert!(nodes.iter().all(|node| node.last_answer == 7), "{what}");
    // It works, whatever it was.
    store.commit(torrent(0), pieces([11])).await.unwrap();
    store.close().await.unwrap();
}

/// Tries states of `cut`, and cuts the power again while some of them recover.
async fn try_states(
    cut: &Cut,
    count: usize,
    (before, after): (&Promises, &Promises),
    dice: &mut Dice,
    (what, tally): (&str, &mut Tally),
) {
    for _ in 0..count {
        let folder = folder();
        let state = folder.path().join("state");
        cut.build(dice, &state);
        if dice.below(3) > 0 {
            hold(&state, before, after, what, tally).await;
            continue;
        }
        let watched = Watched::new(&state);
        let opened = Store::open(state.clone()).await;
        let store = opened
            .unwrap_or_else(|error| panic!("{what}: {error}"))
            .store;
        store.close().await.unwrap();
        let (mut cuts, now) = watched.cuts();
        cuts.push(now);
        drop(watched);
        let again = folder.path().join("again");
        cuts[dice.below(cuts.len())].build(dice, &again);
        let what = format!("{what}, then cut again");
        hold(&again, before, after, &what, tally).await;
    }
}

/// A folder in memory where there is such a place: it does not wait for a disk, and gives no inode number twice.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// One schedule of a store from its first start.
async fn schedule(seed: u64, deaf_to: Option<&'static str>, tally: &mut Tally) {
    let mut dice = Dice(seed);
    let folder = folder();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    let watched = Watched::deaf_to(deaf_to, &state);
    let mut promises: Promises = (0..TORRENTS).map(|n| (n, Promise::default())).collect();
    let (mut store, _) = open(&state).await;
    load_all(&store).await;
    for at in 0..STEPS {
        let before = promises.clone();
        let mut steps = Vec::new();
        if dice.below(12) == 0 {
            store.close().await.unwrap();
            store = open(&state).await.0;
            load_all(&store).await;
        } else {
            // Several at once share a barrier, each for a torrent of its own.
            let first = dice.below(TORRENTS.into()) as u8;
            let count = if dice.coin() {
                1
            } else {
                1 + dice.below(3) as u8
            };
            for n in (0..count).map(|n| (first + n) % TORRENTS) {
                let promise = promises.get_mut(&n).unwrap();
                let step = Step::draw(&mut dice, promise);
                step.promise(promise);
                steps.push((n, step));
            }
            let taken = steps.clone().into_iter().map(|(n, step)| {
                let store = store.clone();
                tokio::spawn(async move { step.take(&store, n).await })
            });
            for task in taken.collect::<Vec<_>>() {
                task.await.unwrap();
            }
        }
        let what = format!("seed {seed}, step {at}: {steps:?}");
        let what = what.get(..200).unwrap_or(&what);
        let (during, now) = watched.cuts();
        if !during.is_empty() {
            let cut = &during[dice.below(during.len())];
            let promised = (&before, &promises);
            let what = format!("{what}, under way");
            try_states(cut, 2, promised, &mut dice, (&what, tally)).await;
        }
        let promised = (&promises, &promises);
        try_states(&now, 1, promised, &mut dice, (what, tally)).await;
    }
    store.close().await.unwrap();
}

#[test]
fn no_power_cut_costs_a_promise_and_none_that_the_barriers_allow_costs_the_database() {
    let wanted = std::env::var("SEEDBANK_CRASH_STATES").ok();
    let wanted = wanted.map_or(STATES, |text| text.parse().unwrap());
    let given = std::env::var("SEEDBANK_TEST_SEED").ok();
    let mut seed: u64 = given.map_or_else(rand::random, |text| text.parse().unwrap());
    eprintln!("crash of the store: SEEDBANK_TEST_SEED={seed}");
    let mut tally = Tally::default();
    while tally.states < wanted {
        block_on(schedule(seed, None, &mut tally));
        seed = seed.wrapping_add(1);
    }
    eprintln!("{tally:?}");
    assert_eq!(tally.rebuilt, 0, "{tally:?}");
}

#[test]
fn folders_that_a_killed_process_made_and_did_not_sync_are_durable_at_the_next_start() {
    const FOLDERS: [&str; 3] = ["db", "notes", "torrents"];
    let (made, state) = (folder(), folder());
    block_on(async {
        let (store, _) = open(made.path()).await;
        let put = store.put_torrent(torrent(0), metainfo(0), choices(0));
        put.await.unwrap();
        store.close().await.unwrap();
        let watched = Watched::new(state.path());
        for path in durable::list(made.path()).unwrap() {
            fs::rename(&path, state.path().join(path.file_name().unwrap())).unwrap();
        }
        let (_, killed) = watched.cuts();
        assert_eq!(FOLDERS.map(|name| killed.is_durable(name)), [false; 3]);
        let (store, history) = open(state.path()).await;
        assert_eq!(history, History::Current);
        let (_, opened) = watched.cuts();
        assert_eq!(FOLDERS.map(|name| opened.is_durable(name)), [true; 3]);
        store.close().await.unwrap();
    });
}

#[test]
fn a_barrier_that_is_left_out_is_found_out() {
    for barrier in ["db/db", "torrents", "db"] {
        let fails = |seed: &u64| {
            let mut tally = Tally::default();
            let run = || block_on(schedule(*seed, Some(barrier), &mut tally));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err()
        };
        let found = (0..40).find(fails);
        eprintln!("without the sync of {barrier}: found out at seed {found:?}");
        assert!(found.is_some(), "{barrier}");
    }
}
