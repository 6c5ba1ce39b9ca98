//! The state folder after a power cut: whatever the medium kept of what no sync had covered, it opens, every promise holds, and
//! nothing is claimed that was not committed or was taken back.
//!
//! A real store works through a random schedule. At each sync, and whenever it rests, two layers of its folder are known: what
//! syncs have covered (*synced*) and what it looks like now (*written*). Crash states are made of the two: each sector of 512 bytes
//! is the old or the new one, each file has the old length or the new, each name stands for the old file or the new or none. Of
//! what the database library writes without us, only its snapshots are taken for whole, which it syncs before it names them.
//!
//! `SEEDBANK_CRASH_STATES=n` tries so many states instead of a few; `SEEDBANK_TEST_SEED=n` repeats a run.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::*;

const SECTOR: usize = 512;
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

// --- two layers of a folder --------------------------------------------------------------------

/// A file or folder, whatever it is called.
type Node = (u64, Option<SystemTime>);
type Names = BTreeMap<OsString, Node>;
type Content = Arc<Vec<u8>>;

/// What is in a folder, by path within it.
#[derive(Clone, Default)]
struct Layer {
    names: BTreeMap<PathBuf, Names>,
    content: HashMap<Node, Content>,
}

impl Layer {
    fn of(root: &Path) -> Self {
        let mut layer = Self::default();
        layer.add(root, Path::new(""));
        layer
    }

    fn add(&mut self, root: &Path, within: &Path) {
        let mut names = Names::new();
        for path in durable::list(&root.join(within)).unwrap() {
            let name = path.file_name().unwrap().to_owned();
            // Another thread may rename it meanwhile.
            let Some(node) = node_at(&path) else { continue };
            if path.is_dir() {
                self.add(root, &within.join(&name));
            } else if let Ok(bytes) = fs::read(&path) {
                self.content.insert(node, Arc::new(bytes));
            }
            names.insert(name, node);
        }
        self.names.insert(within.to_owned(), names);
    }
}

fn node_at(path: &Path) -> Option<Node> {
    let meta = fs::symlink_metadata(path).ok()?;
    Some((meta.ino(), meta.created().ok()))
}

/// A moment at which the power may go.
#[derive(Clone)]
struct Cut {
    synced: Layer,
    written: Layer,
    /// The last content of files that are gone from `written`.
    gone: HashMap<Node, Content>,
}

/// Looks on as a store works.
struct Witness {
    root: PathBuf,
    synced: Layer,
    seen: HashMap<Node, Content>,
    cuts: Vec<Cut>,
}

static WITNESSES: Mutex<Vec<Arc<Mutex<Witness>>>> = Mutex::new(Vec::new());

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Called by the store when it has synced the file or folder at `path`.
pub(in crate::store) fn witness(path: &Path) {
    let witnesses = locked(&WITNESSES).clone();
    for witness in witnesses {
        let mut witness = locked(&witness);
        if path.starts_with(&witness.root) {
            witness.on_sync(path);
        }
    }
}

/// A witness of what happens in one folder, until it is dropped.
struct Watched(Arc<Mutex<Witness>>);

impl Watched {
    /// All that is there is on the medium.
    fn new(root: &Path) -> Self {
        let synced = Layer::of(root);
        let witness = Arc::new(Mutex::new(Witness {
            root: root.to_owned(),
            seen: synced.content.clone(),
            synced,
            cuts: Vec::new(),
        }));
        locked(&WITNESSES).push(Arc::clone(&witness));
        Self(witness)
    }

    /// The moments since this was last asked, and now.
    fn cuts(&self) -> (Vec<Cut>, Cut) {
        let mut witness = locked(&self.0);
        let now = witness.cut();
        (std::mem::take(&mut witness.cuts), now)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        locked(&WITNESSES).retain(|other| !Arc::ptr_eq(other, &self.0));
    }
}

impl Witness {
    fn cut(&mut self) -> Cut {
        let written = Layer::of(&self.root);
        let gone = self.seen.clone();
        self.seen.extend(written.content.clone());
        Cut {
            synced: self.synced.clone(),
            written,
            gone,
        }
    }

    fn on_sync(&mut self, path: &Path) {
        let cut = self.cut();
        let within = path.strip_prefix(&self.root).unwrap();
        if let Some(names) = cut.written.names.get(within) {
            self.synced.names.insert(within.to_owned(), names.clone());
        } else {
            let node = node_at(path).unwrap();
            let content = Arc::clone(&cut.written.content[&node]);
            self.synced.content.insert(node, content);
        }
        self.cuts.push(cut);
    }
}

// --- what the medium may have kept -------------------------------------------------------------

impl Cut {
    /// Makes a folder as it may be found after this cut.
    fn build(&self, dice: &mut Dice, to: &Path) {
        fs::create_dir_all(to).unwrap();
        self.build_folder(dice, Path::new(""), to);
    }

    fn build_folder(&self, dice: &mut Dice, within: &Path, to: &Path) {
        let none = Names::new();
        let old = self.synced.names.get(within).unwrap_or(&none);
        let new = self.written.names.get(within).unwrap_or(&none);
        let all: BTreeSet<&OsString> = old.keys().chain(new.keys()).collect();
        let style = dice.below(3);
        for name in all {
            let (old, new) = (old.get(name), new.get(name));
            let node = match style {
                0 => old,
                1 => new,
                _ if dice.coin() => old,
                _ => new,
            };
            let Some(node) = node else { continue };
            let (inside, path) = (within.join(name), to.join(name));
            if self.written.names.contains_key(&inside) || self.synced.names.contains_key(&inside) {
                fs::create_dir_all(&path).unwrap();
                self.build_folder(dice, &inside, &path);
            } else {
                fs::write(&path, self.content(dice, name, node)).unwrap();
            }
        }
    }

    fn content(&self, dice: &mut Dice, name: &OsStr, node: &Node) -> Vec<u8> {
        let written = self.written.content.get(node).or(self.gone.get(node));
        let new = written.map_or(&[][..], |content| content);
        if name.to_string_lossy().starts_with("snap.") {
            return new.to_vec();
        }
        let old = self.synced.content.get(node);
        mixed(dice, old.map_or(&[][..], |content| content), new)
    }
}

/// A file that was synced as `old` and then written as `new`.
fn mixed(dice: &mut Dice, old: &[u8], new: &[u8]) -> Vec<u8> {
    let len = old.len().max(new.len());
    let sector = |of: &[u8], at: usize| {
        let mut sector = [0; SECTOR];
        let there = of.get(at * SECTOR..).unwrap_or_default();
        let there = &there[..there.len().min(SECTOR)];
        sector[..there.len()].copy_from_slice(there);
        sector
    };
    let count = len.div_ceil(SECTOR);
    let changed: Vec<usize> = (0..count)
        .filter(|&at| sector(old, at) != sector(new, at))
        .collect();
    let style = dice.below(7);
    let pivot = changed
        .get(dice.below(changed.len().max(1)))
        .copied()
        .unwrap_or(0);
    let mut bytes = Vec::with_capacity(count * SECTOR);
    for at in 0..count {
        let is_new = match style {
            0 => false,
            1 => true,
            2 => at < pivot,
            3 => at > pivot,
            4 => at == pivot,
            5 => at != pivot,
            _ => dice.coin(),
        };
        bytes.extend_from_slice(&sector(if is_new { new } else { old }, at));
    }
    let len = match dice.below(3) {
        0 => old.len(),
        1 => new.len(),
        _ => len,
    };
    bytes.truncate(len);
    bytes
}

// --- the schedule ------------------------------------------------------------------------------

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
async fn schedule(seed: u64, tally: &mut Tally) {
    let mut dice = Dice(seed);
    let folder = folder();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    let watched = Watched::new(&state);
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
        block_on(schedule(seed, &mut tally));
        seed = seed.wrapping_add(1);
    }
    eprintln!("{tally:?}");
    assert_eq!(tally.rebuilt, 0, "{tally:?}");
}
