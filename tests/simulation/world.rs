//! A world of nodes, each a `Swarm`, joined by links with latency; a node's upload is shared by all that request of it.
//!
//! The connection of the real client is boiled down to what matters here: grants become requests in a pipeline of fixed depth,
//! refusals come back block by block as with the fast extension, and blocks come as runs.

mod link;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use seedbank::base::{BLOCK_LEN, Bitfield, BlockRange, Checked, Geometry, PeerId, PieceIndex};
use seedbank::swarm::{Action, Config, PeerInfo, PeerKey, Source, Start, Swarm, Verdict};

/// Requests outstanding on one link.
const PIPELINE: u32 = 16;
/// What a liar sends now and then in place of a good block.
const BAD: u8 = 2;
const GOOD: u8 = 1;

/// A small generator, so that a run follows from its seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Want,
    Asked,
    Got(u8),
    Lost,
}

struct Run {
    range: BlockRange,
    slots: Vec<Slot>,
}

/// One side of a link.
struct End {
    node: usize,
    key: PeerKey,
    // As downloader.
    runs: Vec<Run>,
    asked: u32,
    choked: bool,
    raised: bool,
    // As uploader.
    choking: bool,
    queue: VecDeque<(PieceIndex, u32)>,
}

struct Link {
    ends: [End; 2],
    latency: Duration,
    open: bool,
}

#[derive(Clone)]
enum Message {
    Pieces(Bitfield),
    Have(PieceIndex),
    Interest(bool),
    Choke(bool),
    Request(PieceIndex, u32),
    Cancel(PieceIndex, u32),
    Block(PieceIndex, u32, u8),
    Reject(PieceIndex, u32),
    Port(u16),
}

enum Event {
    Timer(usize),
    Connect(usize, SocketAddr),
    /// To this side of this link.
    Deliver(usize, usize, Message),
    Sent(usize, usize, usize, PieceIndex, u32),
    Checked(usize, PieceIndex, u32, Vec<u8>),
    Leave(usize, Duration),
    Return(usize),
}

struct Queued(Instant, u64, Event);
impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// One client.
pub(crate) struct Node {
    pub(crate) swarm: Swarm,
    pub(crate) addr: SocketAddr,
    id: PeerId,
    up_rate: u64,
    /// Sends a bad block in place of every n-th.
    lies: Option<u64>,
    blocks_sent: u64,
    busy: bool,
    links: BTreeMap<PeerKey, (usize, usize)>,
    /// The link that sent last.
    turn: Option<PeerKey>,
    /// Versions of the stored blocks.
    store: BTreeMap<(PieceIndex, u32), u8>,
    timer: Option<Instant>,
    online: bool,
    life: u32,
    pub(crate) completed: Option<Duration>,
    pub(crate) banned: BTreeSet<SocketAddr>,
    pub(crate) bad_blocks: u64,
    pub(crate) downloaded: u64,
    pub(crate) wasted: u64,
}

/// All nodes, links and events.
pub(crate) struct World {
    pub(crate) geometry: Geometry,
    pub(crate) nodes: Vec<Node>,
    pub(crate) dice: Dice,
    links: Vec<Link>,
    events: BinaryHeap<Reverse<Queued>>,
    count: u64,
    start: Instant,
    now: Instant,
}

impl World {
    pub(crate) fn new(geometry: Geometry, seed: u64) -> Self {
        let start = Instant::now();
        Self {
            geometry,
            nodes: Vec::new(),
            dice: Dice(seed.wrapping_mul(2).wrapping_add(1)),
            links: Vec::new(),
            events: BinaryHeap::new(),
            count: 0,
            start,
            now: start,
        }
    }

    /// Adds a node that uploads at `up_rate` bytes per second and, as a liar, spoils every `lies`-th block.
    pub(crate) fn add(&mut self, complete: bool, up_rate: u64, lies: Option<u64>) -> usize {
        let n = self.nodes.len();
        let addr = SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 6881));
        let start = match complete {
            true => Start::complete(&self.geometry),
            false => Start::empty(&self.geometry),
        };
        let mut id = [b'p'; 20];
        id[..8].copy_from_slice(&self.dice.below(u64::MAX).to_be_bytes());
        let id = PeerId(id);
        let swarm = self.swarm(addr, id, start);
        self.nodes.push(Node {
            swarm,
            addr,
            id,
            up_rate,
            lies,
            blocks_sent: 0,
            busy: false,
            links: BTreeMap::new(),
            turn: None,
            store: BTreeMap::new(),
            timer: None,
            online: true,
            life: 0,
            completed: None,
            banned: BTreeSet::new(),
            bad_blocks: 0,
            downloaded: 0,
            wasted: 0,
        });
        n
    }

    fn swarm(&mut self, addr: SocketAddr, id: PeerId, start: Start) -> Swarm {
        let config = Config {
            geometry: self.geometry,
            seed: self.dice.below(u64::MAX),
            id,
            max_peers: 25,
            upload_slots: 8,
            own: vec![addr],
        };
        Swarm::new(self.now, config, start)
    }

    /// A tracker's answer: some addresses of others.
    pub(crate) fn announce(&mut self, n: usize) {
        let count = self.nodes.len() as u64;
        let addrs: Vec<_> = (0..15)
            .map(|_| self.nodes[self.dice.below(count) as usize].addr)
            .collect();
        let now = self.now;
        self.nodes[n]
            .swarm
            .on_addresses(now, Source::Tracker, &addrs);
        self.drain(n);
    }

    /// The node leaves at a time and comes back later with what it had.
    pub(crate) fn plan_absence(&mut self, n: usize, at: Duration, away: Duration) {
        self.push(self.start + at, Event::Leave(n, away));
    }

    /// Runs until `done` or nothing happens any more or the time is up; says how much time passed.
    pub(crate) fn run(&mut self, limit: Duration, done: impl Fn(&[Node]) -> bool) -> Duration {
        while let Some(Reverse(Queued(at, _, event))) = self.events.pop() {
            self.now = self.now.max(at);
            if self.now - self.start > limit {
                break;
            }
            self.handle(event);
            if done(&self.nodes) {
                break;
            }
        }
        for node in &mut self.nodes {
            node.settle_totals(self.now);
        }
        self.now - self.start
    }

    fn push(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.events.push(Reverse(Queued(at, self.count, event)));
    }

    fn send(&mut self, link: usize, from: usize, message: Message) {
        let at = self.now + self.links[link].latency;
        self.push(at, Event::Deliver(link, 1 - from, message));
    }

    fn handle(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Timer(n) => {
                if self.nodes[n].timer.is_some_and(|timer| timer <= now) {
                    self.nodes[n].timer = None;
                    if self.nodes[n].online {
                        self.nodes[n].swarm.handle_timeout(now);
                        self.drain(n);
                    }
                }
            }
            Event::Connect(n, addr) => self.connect(n, addr),
            Event::Deliver(link, end, message) => {
                if self.links[link].open {
                    self.deliver(link, end, message);
                }
            }
            Event::Sent(n, link, end, piece, block) => self.sent(n, link, end, piece, block),
            Event::Checked(n, piece, life, versions) => {
                if self.nodes[n].life == life {
                    self.checked(n, piece, &versions);
                }
            }
            Event::Leave(n, _) if !self.nodes[n].online => {}
            Event::Leave(n, away) => {
                let links: Vec<_> = self.nodes[n].links.values().copied().collect();
                for (link, _) in links {
                    self.close(link, true);
                }
                self.nodes[n].settle_totals(now);
                self.nodes[n].online = false;
                self.nodes[n].life += 1;
                self.push(now + away, Event::Return(n));
            }
            Event::Return(n) => {
                let old = &self.nodes[n].swarm;
                let start = Start {
                    verified: old.verified().clone(),
                    durable: old.verified().clone(),
                    partial: old.stored_blocks().collect(),
                };
                let (addr, id) = (self.nodes[n].addr, self.nodes[n].id);
                self.nodes[n].swarm = self.swarm(addr, id, start);
                self.nodes[n].online = true;
                self.nodes[n].timer = None;
                self.announce(n);
            }
        }
    }

    fn connect(&mut self, n: usize, addr: SocketAddr) {
        let now = self.now;
        let target = self.nodes.iter().position(|node| node.addr == addr);
        let target = target.filter(|&t| t != n && self.nodes[t].online);
        let Some(target) = target.filter(|_| self.nodes[n].online) else {
            if self.nodes[n].online {
                self.nodes[n].swarm.on_dial_failed(now, addr);
                self.drain(n);
            }
            return;
        };
        let here = SocketAddr::new(
            self.nodes[n].addr.ip(),
            40_000 + self.dice.below(9_999) as u16,
        );
        let info = |addr, id, incoming| PeerInfo {
            addr,
            listen: None,
            id,
            incoming,
            fast: true,
        };
        let (ours, theirs) = (self.nodes[n].id, self.nodes[target].id);
        let there = self.nodes[target]
            .swarm
            .on_connected(now, info(here, ours, true));
        let here = self.nodes[n]
            .swarm
            .on_connected(now, info(addr, theirs, false));
        match (here, there) {
            (Ok(key), Ok(other)) => self.link([(n, key), (target, other)]),
            (Ok(key), Err(_)) => self.nodes[n].swarm.on_disconnected(now, key, true),
            (Err(_), Ok(key)) => self.nodes[target].swarm.on_disconnected(now, key, true),
            (Err(_), Err(_)) => {}
        }
        self.drain(n);
        self.drain(target);
    }

    fn checked(&mut self, n: usize, piece: PieceIndex, versions: &[u8]) {
        let digests: Vec<_> = versions.iter().map(|&version| [version; 32]).collect();
        let outcome = match versions.iter().all(|&version| version == GOOD) {
            true => Checked::Good {
                digests: Some(digests),
            },
            false => Checked::Bad { digests },
        };
        self.nodes[n].swarm.on_checked(self.now, piece, outcome);
        self.drain(n);
    }

    fn drain(&mut self, n: usize) {
        while let Some(action) = self.nodes[n].swarm.poll() {
            self.perform(n, &action);
        }
        let node = &mut self.nodes[n];
        if let Some(at) = node.swarm.next_deadline().filter(|_| node.online) {
            let at = at.max(self.now);
            if node.timer.is_none_or(|timer| at < timer) {
                node.timer = Some(at);
                self.push(at, Event::Timer(n));
            }
        }
    }

    fn perform(&mut self, n: usize, action: &Action) {
        let side = |key: &PeerKey| self.nodes[n].links.get(key).copied();
        match *action {
            Action::Dial(addr) => {
                self.push(
                    self.now + Duration::from_millis(50),
                    Event::Connect(n, addr),
                );
            }
            Action::Disconnect { key, .. } => {
                if let Some((link, _)) = side(&key) {
                    self.close(link, true);
                }
            }
            Action::Interest { key, on } => {
                if let Some((link, end)) = side(&key) {
                    self.send(link, end, Message::Interest(on));
                }
            }
            Action::Choke { key, on } => {
                if let Some((link, end)) = side(&key) {
                    self.links[link].ends[end].choking = on;
                    self.send(link, end, Message::Choke(on));
                    if on {
                        for (piece, block) in std::mem::take(&mut self.links[link].ends[end].queue)
                        {
                            self.send(link, end, Message::Reject(piece, block));
                        }
                    }
                }
            }
            Action::Grant { key, range } => {
                let slots = vec![Slot::Want; range.blocks().len()];
                if let Some((link, end)) = side(&key) {
                    let state = &mut self.links[link].ends[end];
                    state.raised = false;
                    state.runs.push(Run { range, slots });
                    self.pump(link, end);
                } else {
                    panic!("a grant to a peer that is gone");
                }
            }
            Action::Revoke { key, range } => {
                if let Some((link, end)) = side(&key) {
                    self.revoke(link, end, range);
                }
            }
            Action::Check { piece, .. } => {
                let blocks = 0..self.geometry.blocks_in(piece);
                let store = &self.nodes[n].store;
                let versions = blocks.map(|block| store[&(piece, block)]).collect();
                let life = self.nodes[n].life;
                self.push(
                    self.now + Duration::from_millis(2),
                    Event::Checked(n, piece, life, versions),
                );
            }
            Action::Verified { piece, .. } => {
                let links: Vec<_> = self.nodes[n].links.values().copied().collect();
                for (link, end) in links {
                    self.send(link, end, Message::Have(piece));
                }
            }
            Action::HashFailed { .. } => {}
            Action::Banned { addr, .. } => {
                self.nodes[n].banned.insert(addr);
            }
            Action::Complete => self.nodes[n].completed = Some(self.now - self.start),
        }
    }
}

impl Node {
    /// Moves the totals of the swarm that is about to end into those of the node.
    fn settle_totals(&mut self, now: Instant) {
        if self.online {
            let totals = self.swarm.tally(now);
            self.downloaded += totals.downloaded;
            self.wasted += totals.wasted;
        }
    }
}
