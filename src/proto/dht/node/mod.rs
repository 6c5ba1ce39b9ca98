//! One node of the DHT: everything that was heard and is to be said, in both dialects and both address families.
//!
//! Driven in virtual time like every machine of this crate: datagrams in by [`Node::on_datagram`], orders by
//! [`Node::search`] and its kin, time by [`Node::handle_timeout`], and everything out by [`Node::poll`].
//!
//! What holds whatever arrives: nothing enters a table but by an answer that was asked for; a source that has not proven its
//! address gets replies of at most [`AMPLIFICATION`] times what it sent; every list is bounded (`base::limits`), and what one
//! datagram can cause is bounded by the few questions that it can lead to.

mod answer;
mod ask;
mod family;
mod maintain;
mod newcomers;
mod recall;
mod receive;
mod round;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub use answer::AMPLIFICATION;
pub use walk::LookupId;

use super::announced::Announced;
use super::compact::plain;
use super::external::Identities;
use super::lookup::Goal;
use super::message::{Contact, Dialect, Dialects, Message};
use super::quota::Quota;
use super::round_trip::RoundTrip;
use super::search::{Announce, SearchId, Searches, Wanted};
use super::table::Table;
use super::tokens::Tokens;
use super::transactions::Transactions;
use crate::base::limits::STORED_NODES_MAX;
use crate::base::{InfoHash, NodeId, Random};
use ask::Purpose;
use family::{Families, Family};
use newcomers::Newcomers;
use round::Round;
use walk::{Kind, Running};

/// What a node is started with.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// What all its dice follow from; a secret.
    pub seed: u64,
    /// Its ids of earlier runs, newest first, each with the external address that it was for, if that was known.
    pub identities: Vec<(Option<IpAddr>, NodeId)>,
    /// Whether it can send to IPv4 addresses.
    pub v4: bool,
    /// Whether it can send to IPv6 addresses.
    pub v6: bool,
    /// Whether it only asks: it answers nobody, and asks others not to remember it (BEP 43).
    pub read_only: bool,
    /// Whether every message is to be told of ([`Output::Traffic`]).
    pub trace: bool,
}

/// A contact as it is remembered between runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Its id and address.
    pub contact: Contact,
    /// What it was heard to speak.
    pub dialects: Dialects,
    /// Time since its last answer.
    pub age: Duration,
    /// How long that took.
    pub round_trip: Duration,
    /// Questions since then that it did not answer.
    pub failures: u8,
}

/// Which way a message went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To us.
    In,
    /// From us.
    Out,
}

/// What comes out of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A datagram is to be sent.
    Send {
        /// Where to.
        to: SocketAddr,
        /// Its bytes.
        datagram: Vec<u8>,
    },
    /// A message came or goes; told only if the node was started to trace.
    Traffic {
        /// Which way.
        dir: Direction,
        /// The other's address.
        addr: SocketAddr,
        /// How it is written.
        dialect: Dialect,
        /// What it says.
        message: Message,
    },
    /// Peers of a torrent. Each is told once a round.
    Found {
        /// By which search.
        search: SearchId,
        /// Where they are.
        peers: Vec<SocketAddr>,
    },
    /// A search that was to run once has ended.
    Finished {
        /// The search.
        search: SearchId,
    },
    /// The node has found its place among the others. Told once.
    Ready {
        /// Nodes in its tables.
        nodes: usize,
        /// Contacts of an earlier run that have answered.
        warm: usize,
        /// Time since it was made.
        after: Duration,
    },
    /// What [`Node::locate`] asked for.
    Located {
        /// By which lookup.
        lookup: LookupId,
        /// The closest nodes that answered, closest first.
        closest: Vec<Contact>,
        /// Questions that led to the first of them one after the other, its own included.
        hops: u32,
        /// Questions asked in all.
        asked: usize,
    },
}

/// A DHT node. See the head of the module.
#[derive(Debug)]
pub struct Node {
    started: Instant,
    read_only: bool,
    trace: bool,
    families: Families,
    identities: Identities,
    transactions: Transactions<Purpose>,
    round_trip: RoundTrip,
    lookups: BTreeMap<LookupId, Running>,
    last_lookup: u64,
    searches: Searches,
    rounds: BTreeMap<SearchId, Round>,
    newcomers: Newcomers,
    tokens: Tokens,
    announced: Announced,
    quota: Quota,
    /// There are nodes that speak nothing but JSON: then it is worth knowing who else does.
    json_needed: bool,
    ready: bool,
    warm: usize,
    random: Random,
    outputs: VecDeque<Output>,
}

impl Node {
    /// A node that remembers `saved` contacts; they are pinged, many at once and the most promising first, as soon as time is
    /// handled ([`next_deadline`](Self::next_deadline) is `now` then).
    pub fn new(now: Instant, config: Config, saved: Vec<Saved>) -> Self {
        let mut random = Random::new(config.seed);
        let mut identities = Identities::new(config.identities);
        let (four, six) = saved
            .into_iter()
            .partition(|saved| saved.contact.addr.is_ipv4());
        let mut family = |v4: bool, saved: Vec<Saved>| {
            let (external, own) = identities.first(v4, &mut random);
            let table = Table::new(now, own, random.next());
            Family::new(now, table, external, saved)
        };
        let (four, six) = (family(true, four), family(false, six));
        let families = Families {
            v4: config.v4.then_some(four),
            v6: config.v6.then_some(six),
        };
        Self {
            started: now,
            read_only: config.read_only,
            trace: config.trace,
            families,
            identities,
            transactions: Transactions::new(random.next()),
            round_trip: RoundTrip::unknown(),
            lookups: BTreeMap::new(),
            last_lookup: 0,
            searches: Searches::new(random.next()),
            rounds: BTreeMap::new(),
            newcomers: Newcomers::new(now),
            tokens: Tokens::new(now, random.next()),
            announced: Announced::new(random.next()),
            quota: Quota::new(now, random.next()),
            json_needed: false,
            ready: false,
            warm: 0,
            random,
            outputs: VecDeque::new(),
        }
    }

    /// Names bootstrap addresses. They are asked in both dialects, now and whenever no node that answers is left.
    pub fn add_routers(&mut self, now: Instant, routers: &[SocketAddr]) {
        for router in routers.iter().map(|addr| plain(*addr)) {
            if let Some(family) = self.families.reach(router) {
                family.bootstrap.add_router(now, router);
            }
        }
        self.handle_timeout(now);
    }

    /// Names a node that may be worth knowing. It is pinged if there is room for it.
    pub fn add_node(&mut self, now: Instant, addr: SocketAddr) {
        let addr = plain(addr);
        if self
            .families
            .reach(addr)
            .is_some_and(|family| family.table.get(addr).is_none())
        {
            self.newcomers.add_named(addr);
            self.handle_timeout(now);
        }
    }

    /// Looks for peers of a torrent, and tells the nodes that keep them of us, if there is something to announce; again and
    /// again until it is [stopped](Self::stop), or `once`.
    pub fn search(
        &mut self,
        now: Instant,
        info_hash: InfoHash,
        announce: Option<Announce>,
        once: bool,
    ) -> SearchId {
        let wanted = Wanted {
            info_hash,
            announce,
            once,
        };
        let id = self.searches.add(now, wanted);
        self.handle_timeout(now);
        id
    }

    /// Ends a search. Nothing is told of it any more.
    pub fn stop(&mut self, search: SearchId) {
        if self.searches.remove(search) {
            self.rounds.remove(&search);
            self.lookups
                .retain(|_, running| running.kind != Kind::Search(search));
        }
        self.outputs.retain(|output| match output {
            Output::Found { search: id, .. } | Output::Finished { search: id } => *id != search,
            _ => true,
        });
    }

    /// Looks for the node closest to a point, or its neighbours as well, in one address family: the one that has more contacts.
    /// [`Output::Located`] tells how it ended.
    pub fn locate(&mut self, now: Instant, target: NodeId, goal: Goal) -> LookupId {
        let version = self.families.larger();
        let id = self.begin(version, target, goal, Kind::Locate);
        self.advance(now, id);
        id
    }

    /// What is to be done or known; call until there is nothing.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The contacts to remember for the next run: those of both tables, the most promising first.
    pub fn saved(&self, now: Instant) -> Vec<Saved> {
        let mut saved: Vec<Saved> = self.families.iter().flat_map(|f| f.saved(now)).collect();
        saved.sort_by_key(recall::promise);
        saved.truncate(STORED_NODES_MAX);
        saved
    }

    /// The own ids to remember for the next run, newest first, each with the external address that it is for.
    pub fn identities(&self) -> Vec<(Option<IpAddr>, NodeId)> {
        self.identities.all().to_vec()
    }

    /// Nodes in the tables.
    pub fn len(&self) -> usize {
        self.families.iter().map(|family| family.table.len()).sum()
    }

    /// Whether no node is in any table.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The routing table of IPv4 or IPv6, if the node can send there.
    pub fn table(&self, v4: bool) -> Option<&Table> {
        let family = if v4 {
            &self.families.v4
        } else {
            &self.families.v6
        };
        family.as_ref().map(|family| &family.table)
    }

    /// The closest nodes that the last lookup of the own id found, closest first.
    pub fn neighbours(&self, v4: bool) -> &[NodeId] {
        let family = if v4 {
            &self.families.v4
        } else {
            &self.families.v6
        };
        family
            .as_ref()
            .map_or(&[], |family| family.bootstrap.neighbours())
    }

    /// Announcements of others that are kept.
    pub fn announced(&self) -> usize {
        self.announced.len()
    }

    /// Questions that wait for an answer.
    pub fn waiting(&self) -> usize {
        self.transactions.len()
    }

    /// Searches that have not ended.
    pub fn searches(&self) -> usize {
        self.searches.len()
    }

    /// Tells of contacts: whether the node has found its place.
    pub fn is_ready(&self) -> bool {
        self.ready
    }
}
