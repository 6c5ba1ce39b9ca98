//! The search for metadata among peers of every kind, in virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use proptest::prelude::*;
use sha1::{Digest, Sha1};

use super::requests::LATE;
use super::*;
use crate::base::limits::{METADATA_PIPELINE, METAINFO_MAX};
use crate::proto::wire::metadata::METADATA_PIECE_LEN;

const US: PeerId = PeerId([9; 20]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Sends what is true.
    Honest,
    /// The same, as slowly as it can.
    Lame,
    /// Sends wrong bytes, all of them wrong, or one piece.
    Wrong { one: bool },
    /// Sends consistent metadata of another size.
    OtherSize,
    /// Claims the largest size and sends bytes.
    Huge,
    /// Says nothing at all.
    Silent,
    /// Says the size and never answers.
    Stalls,
    /// Turns every request down.
    Rejects,
    /// Sends wrong bytes, as slowly as it can.
    Slow,
    /// Sends a wrong piece and leaves.
    Leaves,
    /// Has nothing.
    Empty,
}

const LIARS: [Kind; 10] = [
    Kind::Wrong { one: false },
    Kind::Wrong { one: true },
    Kind::OtherSize,
    Kind::Huge,
    Kind::Silent,
    Kind::Stalls,
    Kind::Rejects,
    Kind::Slow,
    Kind::Leaves,
    Kind::Empty,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Dialled(SocketAddr),
    Greets(PeerKey),
    Answers(PeerKey, u32),
    Gone(PeerKey),
}

struct World {
    now: Instant,
    fetch: MetadataFetch,
    truth: Vec<u8>,
    kinds: BTreeMap<SocketAddr, Kind>,
    here: BTreeMap<PeerKey, SocketAddr>,
    queue: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    events: u64,
    random: Random,
    banned: Vec<(SocketAddr, MetadataLie)>,
    requests: u32,
    found: Option<(Vec<u8>, Vec<SocketAddr>)>,
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    std::iter::repeat_with(|| random.next() as u8)
        .take(len)
        .collect()
}

fn is_honest(kind: Kind) -> bool {
    matches!(kind, Kind::Honest | Kind::Lame)
}

fn addr(n: usize) -> SocketAddr {
    ([10, 0, (n >> 8) as u8, n as u8], 6881).into()
}

impl World {
    fn new(size: usize, kinds: &[Kind], seed: u64) -> Self {
        let now = Instant::now();
        let truth = bytes(size, seed);
        let info_hash = InfoHash(Sha1::digest(&truth).into());
        let addrs: Vec<_> = (0..kinds.len()).map(addr).collect();
        let mut fetch = MetadataFetch::new(info_hash, US, seed);
        fetch.on_addresses(now, Source::Tracker, &addrs);
        Self {
            now,
            fetch,
            truth,
            kinds: addrs.into_iter().zip(kinds.iter().copied()).collect(),
            here: BTreeMap::new(),
            queue: BinaryHeap::new(),
            events: 0,
            random: Random::new(seed ^ 1),
            banned: Vec::new(),
            requests: 0,
            found: None,
        }
    }

    fn later(&mut self, wait: Duration, event: Event) {
        self.events += 1;
        let jitter = Duration::from_millis(self.random.below(50) as u64);
        let at = self.now + wait + jitter;
        self.queue.push(Reverse((at, self.events, event)));
    }

    fn kind(&self, key: PeerKey) -> Kind {
        self.here
            .get(&key)
            .map_or(Kind::Silent, |at| self.kinds[at])
    }

    fn perform(&mut self) {
        const SOON: Duration = Duration::from_millis(50);
        while let Some(action) = self.fetch.poll() {
            assert!(self.found.is_none(), "nothing follows");
            match action {
                MetadataAction::Dial(addr) => self.later(SOON, Event::Dialled(addr)),
                MetadataAction::Request { key, piece } => {
                    self.requests += 1;
                    let wait = match self.kind(key) {
                        Kind::Stalls => continue,
                        Kind::Slow | Kind::Lame => Duration::from_millis(3_900),
                        _ => SOON,
                    };
                    self.later(wait, Event::Answers(key, piece));
                }
                MetadataAction::Close { key, .. } => self.later(SOON, Event::Gone(key)),
                MetadataAction::Banned { addr, why } => self.banned.push((addr, why)),
                MetadataAction::Found { raw, from } => self.found = Some((raw, from)),
            }
        }
        assert!(self.fetch.held() <= METADATA_BYTES_MAX);
        assert!(self.fetch.len() <= METADATA_PEERS_MAX);
    }

    fn size(&self, kind: Kind) -> Option<u32> {
        match kind {
            Kind::OtherSize => Some(self.truth.len() as u32 + 20_000),
            Kind::Huge => Some(METAINFO_MAX as u32),
            Kind::Empty => None,
            _ => Some(self.truth.len() as u32),
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Dialled(addr) => {
                let info = PeerInfo {
                    addr,
                    listen: None,
                    id: PeerId([1; 20]),
                    incoming: false,
                    fast: true,
                };
                if let Ok(key) = self.fetch.on_connected(now, info) {
                    self.here.insert(key, addr);
                    self.later(Duration::from_millis(50), Event::Greets(key));
                }
            }
            Event::Greets(key) => {
                let kind = self.kind(key);
                if kind != Kind::Silent {
                    let size = self.size(kind);
                    self.fetch.on_size(now, key, size);
                }
            }
            Event::Answers(key, piece) => self.answer(key, piece),
            Event::Gone(key) => {
                self.here.remove(&key);
                self.fetch.on_disconnected(now, key);
            }
        }
    }

    fn answer(&mut self, key: PeerKey, piece: u32) {
        let kind = self.kind(key);
        if kind == Kind::Rejects {
            return self.fetch.on_rejected(self.now, key, piece);
        }
        let Some(size) = self.size(kind).filter(|_| self.here.contains_key(&key)) else {
            return;
        };
        let len = metadata_piece_len(size, piece).unwrap() as usize;
        let begin = (piece * METADATA_PIECE_LEN) as usize;
        let lie = match kind {
            Kind::Honest | Kind::Lame => false,
            Kind::Wrong { one: true } => piece == 0,
            _ => true,
        };
        let mut data = if lie {
            vec![key.get() as u8; len]
        } else {
            Vec::new()
        };
        if !lie {
            data.extend_from_slice(&self.truth[begin..begin + len]);
        }
        self.fetch.on_data(self.now, key, piece, Some(size), data);
        if kind == Kind::Leaves {
            self.later(Duration::ZERO, Event::Gone(key));
        }
    }

    /// Runs until the metadata is there; the virtual seconds that it took.
    fn run(&mut self, seconds: u64) -> f64 {
        let begin = self.now;
        let end = begin + Duration::from_secs(seconds);
        self.perform();
        while self.found.is_none() {
            let event = self.queue.peek().map(|Reverse((at, ..))| *at);
            let deadline = self.fetch.next_deadline();
            let next = [event, deadline].into_iter().flatten().min();
            let Some(next) = next else {
                self.announce();
                continue;
            };
            self.now = next.max(self.now);
            assert!(self.now < end, "not found within {seconds} s");
            if event.is_some_and(|at| at <= self.now) {
                let Reverse((_, _, event)) = self.queue.pop().unwrap();
                self.happen(event);
            } else {
                self.fetch.handle_timeout(self.now);
            }
            self.perform();
        }
        self.now.duration_since(begin).as_secs_f64()
    }

    /// The tracker names everybody once more.
    fn announce(&mut self) {
        self.now += Duration::from_secs(1_800);
        let all: Vec<_> = self.kinds.keys().copied().collect();
        self.fetch.on_addresses(self.now, Source::Tracker, &all);
        self.perform();
    }

    fn check(&self) {
        let (raw, from) = self.found.as_ref().unwrap();
        assert!(*raw == self.truth);
        for (addr, why) in &self.banned {
            assert!(!is_honest(self.kinds[addr]), "{addr}: {why}");
        }
        assert!(from.iter().any(|addr| is_honest(self.kinds[addr])));
    }
}

const PIECE: usize = METADATA_PIECE_LEN as usize;

#[test]
fn several_peers_share_the_work_and_nothing_is_asked_twice() {
    let mut world = World::new(300 * PIECE + 5, &[Kind::Honest; 8], 1);
    let seconds = world.run(60);
    world.check();
    assert_eq!(world.requests, 301);
    let alone = World::new(300 * PIECE + 5, &[Kind::Honest], 1).run(60);
    assert!(seconds < alone / 4.0, "{seconds} s against {alone} s alone");
    assert_eq!(world.found.unwrap().1.len(), 8);
}

#[test]
fn who_alone_sends_a_wrong_copy_is_banned_at_once_and_never_dialled_again() {
    let mut world = World::new(2 * PIECE, &[Kind::Wrong { one: true }], 2);
    world.perform();
    while world.banned.is_empty() {
        let Reverse((at, _, event)) = world.queue.pop().unwrap();
        world.now = at;
        world.happen(event);
        world.perform();
    }
    assert_eq!(world.banned, [(addr(0), MetadataLie::WholeCopy)]);
    world.now += Duration::from_secs(7_200);
    world
        .fetch
        .on_addresses(world.now, Source::User, &[addr(0)]);
    world.fetch.handle_timeout(world.now);
    assert!(!matches!(world.fetch.poll(), Some(MetadataAction::Dial(_))));
}

#[test]
fn of_a_wrong_mix_only_those_are_convicted_whose_pieces_are_wrong() {
    let kinds = [Kind::Honest, Kind::Wrong { one: true }, Kind::Honest];
    for seed in 0..50 {
        let mut world = World::new(12 * PIECE, &kinds, seed);
        world.run(60);
        world.check();
        let liars: Vec<_> = world.banned.iter().map(|(addr, _)| *addr).collect();
        assert!(liars.is_empty() || liars == [addr(1)], "{liars:?}");
    }
}

#[test]
fn a_liar_that_left_is_convicted_by_the_good_copy() {
    let mut world = World::new(4 * PIECE, &[Kind::Leaves], 3);
    world.perform();
    while world.fetch.held() == 0 {
        let Reverse((at, _, event)) = world.queue.pop().unwrap();
        world.now = at;
        world.happen(event);
        world.perform();
    }
    world.kinds.insert(addr(1), Kind::Honest);
    world
        .fetch
        .on_addresses(world.now, Source::Tracker, &[addr(1)]);
    world.run(60);
    world.check();
    assert_eq!(world.banned.len(), 1);
    assert_eq!(world.banned[0].0, addr(0));
}

#[test]
fn one_honest_peer_among_a_hundred_liars_of_each_kind_is_heard() {
    for (n, liar) in LIARS.into_iter().enumerate() {
        let mut kinds = vec![liar; 100];
        kinds.push(Kind::Honest);
        let mut world = World::new(7 * PIECE + 9, &kinds, n as u64);
        let seconds = world.run(900);
        println!("{liar:?}: {seconds:.1} s, {} banned", world.banned.len());
        world.check();
    }
}

#[test]
fn a_slow_peer_has_all_the_time_that_it_needs_when_nobody_waits() {
    let mut world = World::new(60 * PIECE, &[Kind::Lame], 6);
    let seconds = world.run(100);
    world.check();
    assert!(seconds > 70.0, "{seconds}");
}

#[test]
fn a_slow_honest_peer_goes_on_where_it_was_when_liars_took_its_place() {
    for (n, liar) in LIARS.into_iter().enumerate() {
        let mut kinds = vec![liar; 60];
        kinds.push(Kind::Lame);
        let mut world = World::new(30 * PIECE, &kinds, n as u64);
        let seconds = world.run(3_600);
        println!("{liar:?}: {seconds:.1} s, {} banned", world.banned.len());
        world.check();
    }
}

#[test]
fn a_size_that_the_peer_itself_contradicts_costs_it_the_connection() {
    let now = Instant::now();
    let mut world = World::new(2 * PIECE, &[], 4);
    let info = |n| PeerInfo {
        addr: addr(n),
        listen: None,
        id: PeerId([n as u8; 20]),
        incoming: true,
        fast: true,
    };
    let fetch = &mut world.fetch;
    let keys = [1, 2, 3].map(|n| fetch.on_connected(now, info(n)).unwrap());
    for key in keys {
        fetch.on_size(now, key, Some(2 * PIECE as u32));
    }
    while fetch.poll().is_some() {}
    fetch.on_size(now, keys[0], Some(5));
    fetch.on_data(now, keys[1], 0, Some(7), vec![0; PIECE]);
    fetch.on_data(now, keys[1], 1, Some(7), vec![0; PIECE]);
    let closed = |fetch: &mut MetadataFetch| {
        let actions = std::iter::from_fn(|| fetch.poll());
        let close = actions.filter_map(|action| match action {
            MetadataAction::Close { key, reason } => Some((key, reason)),
            _ => None,
        });
        close.collect::<Vec<_>>()
    };
    let reason = CloseReason::Contradiction;
    let closed_now = closed(fetch);
    assert!(closed_now.contains(&(keys[0], reason)), "{closed_now:?}");
    assert!(closed_now.iter().all(|(_, why)| *why == reason));
    // It may have been asked only now, since the others have gone.
    fetch.handle_timeout(now + LATE);
    fetch.on_data(now, keys[2], 1, None, vec![0; 5]);
    fetch.on_data(now, keys[2], 0, None, vec![0; 5]);
    assert_eq!(closed(fetch), [(keys[2], reason)]);
    assert_eq!(fetch.held(), 0);
}

/// A peer at `addr` that has told the size and is asked, and for what.
fn asked_peer(world: &mut World, addr: SocketAddr, size: usize) -> (PeerKey, Vec<u32>) {
    let info = PeerInfo {
        addr,
        listen: None,
        id: PeerId([1; 20]),
        incoming: true,
        fast: true,
    };
    let key = world.fetch.on_connected(world.now, info).unwrap();
    world.fetch.on_size(world.now, key, Some(size as u32));
    (key, requests(world))
}

fn requests(world: &mut World) -> Vec<u32> {
    let actions = std::iter::from_fn(|| world.fetch.poll());
    let requests = actions.filter_map(|action| match action {
        MetadataAction::Request { piece, .. } => Some(piece),
        _ => None,
    });
    requests.collect()
}

#[test]
fn a_pipeline_that_is_turned_down_counts_once() {
    let mut world = World::new(9 * PIECE, &[], 7);
    let (key, mut asked) = asked_peer(&mut world, addr(1), 9 * PIECE);
    for left in [2, 1, 0] {
        assert_eq!(asked.len(), METADATA_PIPELINE);
        for piece in asked {
            world.fetch.on_rejected(world.now, key, piece);
            world.now += Duration::from_millis(100);
        }
        let open = world.fetch.len() == 1;
        assert_eq!(open, left > 0, "{left} more may be turned down");
        world.now += REJECT_PAUSE;
        world.fetch.handle_timeout(world.now);
        asked = requests(&mut world);
    }
}

#[test]
fn a_liar_does_not_take_those_with_it_that_are_known_at_its_address() {
    let mut world = World::new(PIECE, &[], 8);
    let at = |ip, port| SocketAddr::from(([10, 0, 0, ip], port));
    let (shared, alone) = (1, 2);
    let honest = at(shared, 6_881);
    let known = [honest, at(alone, 6_881)];
    world.fetch.on_addresses(world.now, Source::Dht, &known);
    for ip in [shared, alone] {
        let (key, asked) = asked_peer(&mut world, at(ip, 5_000), PIECE);
        if ip == alone {
            world.fetch.on_listen_port(key, 6_881);
        }
        for piece in asked {
            world
                .fetch
                .on_data(world.now, key, piece, None, vec![0; PIECE]);
        }
    }
    let known: Vec<_> = world.fetch.addresses().map(|known| known.addr).collect();
    assert_eq!(known, [honest], "the other was the liar itself");
}

#[test]
fn claims_of_the_largest_size_wait_for_memory_and_small_ones_go_first() {
    let now = Instant::now();
    let mut world = World::new(PIECE, &[], 5);
    let fetch = &mut world.fetch;
    let mut asked = BTreeSet::new();
    for n in 0..METADATA_INCOMING_MAX {
        let info = PeerInfo {
            addr: addr(n),
            listen: None,
            id: PeerId([1; 20]),
            incoming: true,
            fast: true,
        };
        let key = fetch.on_connected(now, info).unwrap();
        let last = n + 1 == METADATA_INCOMING_MAX;
        let size = if last { PIECE } else { METAINFO_MAX - PIECE };
        fetch.on_size(now, key, Some(size as u32));
        let requests = std::iter::from_fn(|| fetch.poll());
        asked.extend(requests.filter_map(|action| match action {
            MetadataAction::Request { key, .. } => Some(key.get()),
            _ => None,
        }));
    }
    assert_eq!(asked, BTreeSet::from([1, 2, METADATA_INCOMING_MAX as u64]));
    let info = PeerInfo {
        addr: addr(77),
        listen: None,
        id: PeerId([1; 20]),
        incoming: true,
        fast: true,
    };
    assert_eq!(fetch.on_connected(now, info), Err(Refusal::Full));
    let ours = PeerInfo { id: US, ..info };
    assert_eq!(fetch.on_connected(now, ours), Err(Refusal::Ourselves));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn liars_of_any_kind_delay_an_honest_peer_and_never_keep_it_out(
        liars in prop::collection::vec(prop::sample::select(LIARS.to_vec()), 0..60),
        honest in 1usize..3, size in 1usize..20 * PIECE, seed: u64,
    ) {
        let mut kinds = liars;
        kinds.extend(vec![Kind::Honest; honest]);
        let mut world = World::new(size, &kinds, seed);
        world.run(900);
        world.check();
    }
}
