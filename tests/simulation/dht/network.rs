//! A network of real nodes that exchange real datagrams in virtual time.
//!
//! Every pair of hosts has its own round trip, lognormal around a median; each datagram is up to a tenth slower. Hosts can be
//! taken down without a word, and datagrams can be lost.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use seedbank::base::{NodeId, Random};
use seedbank::proto::dht::{Config, Node, Output, Saved, identity, scope};

/// How datagrams travel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// The median of round trips.
    pub(crate) median: Duration,
    /// The standard deviation of their logarithm.
    pub(crate) sigma: f64,
    /// Of 1,000 datagrams, how many are lost.
    pub(crate) loss: usize,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            median: Duration::from_millis(100),
            sigma: 0.5,
            loss: 0,
        }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Wake(usize),
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
}

pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) addr: SocketAddr,
    pub(crate) up: bool,
    wake: Option<Instant>,
}

/// What a node said, and when.
pub(crate) struct Heard {
    pub(crate) at: Instant,
    pub(crate) host: usize,
    pub(crate) output: Output,
}

pub(crate) struct Network {
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    pub(crate) heard: Vec<Heard>,
    pub(crate) link: Link,
    pub(crate) datagrams: u64,
    pub(crate) random: Random,
    by_addr: HashMap<SocketAddr, usize>,
    queue: BinaryHeap<Reverse<(Instant, u64, What)>>,
    queued: u64,
}

impl Network {
    pub(crate) fn new(seed: u64, link: Link) -> Self {
        println!("seed {seed}");
        let start = Instant::now();
        Self {
            start,
            now: start,
            hosts: Vec::new(),
            heard: Vec::new(),
            link,
            datagrams: 0,
            random: Random::new(seed),
            by_addr: HashMap::new(),
            queue: BinaryHeap::new(),
            queued: 0,
        }
    }

    /// An address of the internet that nobody has.
    pub(crate) fn address(&mut self) -> SocketAddr {
        loop {
            let ip = IpAddr::V4(Ipv4Addr::from_bits(self.random.next() as u32));
            let addr = SocketAddr::new(ip, 6881);
            let global = scope::scope(ip).is_some_and(scope::Scope::is_global);
            if global && !self.by_addr.contains_key(&addr) {
                return addr;
            }
        }
    }

    /// A host with an id that fits its address, as it has from its second run on.
    pub(crate) fn add(&mut self, routers: &[SocketAddr]) -> usize {
        let addr = self.address();
        let id = identity::generate(Some(addr.ip()), self.random.id());
        self.add_at(addr, vec![(Some(addr.ip()), id)], routers, Vec::new())
    }

    pub(crate) fn add_at(
        &mut self,
        addr: SocketAddr,
        identities: Vec<(Option<IpAddr>, NodeId)>,
        routers: &[SocketAddr],
        saved: Vec<Saved>,
    ) -> usize {
        let config = Config {
            seed: self.random.bytes(),
            identities,
            v4: true,
            ..Config::default()
        };
        let host = self.hosts.len();
        self.hosts.push(Host {
            node: Node::new(self.now, config, saved),
            addr,
            up: true,
            wake: None,
        });
        self.by_addr.insert(addr, host);
        let now = self.now;
        self.with(host, |node| node.add_routers(now, routers));
        host
    }

    /// Takes a host down, and forgets where it was.
    pub(crate) fn kill(&mut self, host: usize) {
        self.hosts[host].up = false;
        self.by_addr.remove(&self.hosts[host].addr);
    }

    pub(crate) fn id(&self, host: usize) -> NodeId {
        self.hosts[host].node.table(true).unwrap().own()
    }

    pub(crate) fn up(&self) -> Vec<usize> {
        (0..self.hosts.len())
            .filter(|host| self.hosts[*host].up)
            .collect()
    }

    /// Those that are up, the closest to a point first.
    pub(crate) fn closest(&self, target: NodeId, count: usize) -> Vec<NodeId> {
        let mut ids: Vec<NodeId> = self.up().into_iter().map(|host| self.id(host)).collect();
        ids.sort_by_key(|id| id.distance(&target));
        ids.truncate(count);
        ids
    }

    /// Gives an order to a node and carries out what follows.
    pub(crate) fn with<T>(&mut self, host: usize, order: impl FnOnce(&mut Node) -> T) -> T {
        let result = order(&mut self.hosts[host].node);
        self.drain(host);
        result
    }

    /// Runs until `end`.
    pub(crate) fn run(&mut self, end: Instant) {
        while self.step(end) {}
        self.now = end;
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run(self.now + time);
    }

    /// Carries out what is due first, if it is before `end`.
    pub(crate) fn step(&mut self, end: Instant) -> bool {
        if self.queue.peek().is_none_or(|Reverse((at, ..))| *at > end) {
            return false;
        }
        let Some(Reverse((at, _, what))) = self.queue.pop() else {
            return false;
        };
        self.now = at;
        match what {
            What::Wake(host) => self.wake(host),
            What::Datagram { from, to, bytes } => self.deliver(from, to, &bytes),
        }
        true
    }

    /// Puts a datagram on its way.
    pub(crate) fn post(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        self.datagrams += 1;
        if self.random.below(1_000) < self.link.loss {
            return;
        }
        let travel = self.travel(from, to);
        let at = self.now + travel;
        self.enqueue(at, What::Datagram { from, to, bytes });
    }

    fn wake(&mut self, host: usize) {
        let now = self.now;
        let sleeper = &mut self.hosts[host];
        if !sleeper.up || sleeper.wake != Some(now) {
            return;
        }
        sleeper.wake = None;
        sleeper.node.handle_timeout(now);
        let next = sleeper.node.next_deadline();
        assert!(
            next.is_none_or(|next| next > now),
            "what was due was not done"
        );
        self.drain(host);
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let Some(&host) = self.by_addr.get(&to) else {
            return;
        };
        let now = self.now;
        self.with(host, |node| node.on_datagram(now, from, bytes));
    }

    fn drain(&mut self, host: usize) {
        let from = self.hosts[host].addr;
        while let Some(output) = self.hosts[host].node.poll() {
            match output {
                Output::Send { to, datagram } => self.post(from, to, datagram),
                output => self.heard.push(Heard {
                    at: self.now,
                    host,
                    output,
                }),
            }
        }
        let sleeper = &mut self.hosts[host];
        if let Some(next) = sleeper.node.next_deadline() {
            let next = next.max(self.now + Duration::from_micros(1));
            if sleeper.wake.is_none_or(|wake| next < wake) {
                sleeper.wake = Some(next);
                self.enqueue(next, What::Wake(host));
            }
        }
    }

    fn enqueue(&mut self, at: Instant, what: What) {
        self.queued += 1;
        self.queue.push(Reverse((at, self.queued, what)));
    }

    /// Half a round trip between two addresses.
    fn travel(&mut self, from: SocketAddr, to: SocketAddr) -> Duration {
        let bits = |addr: SocketAddr| match addr.ip() {
            IpAddr::V4(v4) => u64::from(v4.to_bits()) ^ u64::from(addr.port()) << 40,
            IpAddr::V6(v6) => v6.to_bits() as u64,
        };
        let pair = bits(from).wrapping_mul(0x9e37) ^ bits(to).wrapping_mul(0x9e37);
        let mut pair = Random::new(pair);
        let mut unit = || (pair.next() >> 11) as f64 / (1u64 << 53) as f64;
        let (a, b) = (unit().max(1e-12), unit());
        let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        let base = self.link.median.as_secs_f64() / 2.0 * (self.link.sigma * normal).exp();
        let jitter = 1.0 + self.random.below(1_000) as f64 / 10_000.0;
        Duration::from_secs_f64(base * jitter)
    }
}

/// The value that `share` percent of all do not exceed.
pub(crate) fn percentile<T: Copy + PartialOrd>(values: &mut [T], share: usize) -> T {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap());
    let at = (values.len() * share).div_ceil(100).saturating_sub(1);
    values[at]
}
