//! Lookups under way: what they ask goes out, and what they came to is used.

use std::net::SocketAddr;
use std::time::Instant;

use super::super::lookup::{Goal, K, Lookup};
use super::super::message::{Contact, Dialect, Dialects, Query};
use super::super::search::SearchId;
use super::ask::Purpose;
use super::family::Version;
use super::{Node, Output};
use crate::base::NodeId;

/// Contacts of an earlier run that a lookup begins with while hardly anybody has answered yet.
const RECALLED: usize = 24;
/// Nodes that such a lookup asks at once.
const RECALLED_ALPHA: usize = 8;

/// Names one lookup of a node, for as long as the node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub(super) u64);

/// What a lookup is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Our own place.
    Own,
    /// Contacts in a part of the table that lacks them.
    Refresh,
    /// A torrent's peers.
    Search(SearchId),
    /// Whoever asked for it.
    Locate,
}

/// A lookup under way.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) lookup: Lookup,
    pub(super) version: Version,
    pub(super) kind: Kind,
}

impl Node {
    /// Begins a lookup with those that we know; [`advance`](Self::advance) must follow.
    pub(super) fn begin(
        &mut self,
        version: Version,
        target: NodeId,
        goal: Goal,
        kind: Kind,
    ) -> LookupId {
        self.last_lookup += 1;
        let id = LookupId(self.last_lookup);
        let mut lookup = Lookup::new(target, goal);
        if let Some(family) = self.families.get_mut(version) {
            for entry in family.table.closest(target, K) {
                lookup.offer(entry.contact, entry.dialects);
            }
            if family.table.len() < K {
                for saved in family.recall.closest(target, RECALLED) {
                    lookup.offer(saved.contact, saved.dialects);
                    lookup.widen(RECALLED_ALPHA);
                }
            }
        }
        let running = Running {
            lookup,
            version,
            kind,
        };
        self.lookups.insert(id, running);
        id
    }

    /// Asks whom a lookup wants to ask now, and ends it if that is nobody.
    pub(super) fn advance(&mut self, now: Instant, id: LookupId) {
        while let Some(running) = self.lookups.get_mut(&id) {
            let Some(ask) = running.lookup.next_ask() else {
                break;
            };
            let (addr, dialect) = (ask.contact.addr, ask.dialects.preferred());
            let query = self.step(id);
            let sent = query.is_some_and(|query| {
                self.ask(
                    now,
                    addr,
                    Some(ask.contact.id),
                    dialect,
                    query,
                    Purpose::Step(id),
                )
            });
            if !sent && let Some(running) = self.lookups.get_mut(&id) {
                running.lookup.on_failure(addr);
            }
        }
        if self
            .lookups
            .get(&id)
            .is_some_and(|running| running.lookup.is_done())
            && let Some(running) = self.lookups.remove(&id)
        {
            self.end(now, id, running);
        }
    }

    /// A node has answered outside of any lookup: those that look for our own place can go on from there, and those that began
    /// with hardly anybody are told of it.
    pub(super) fn share(
        &mut self,
        now: Instant,
        contact: Contact,
        dialect: Dialect,
        nodes: &[Contact],
    ) {
        if self.ready && nodes.is_empty() {
            return;
        }
        let version = Version::of(contact.addr);
        let mut touched = Vec::new();
        for (id, running) in &mut self.lookups {
            if running.version != version {
                continue;
            }
            match running.kind {
                Kind::Own => running.lookup.offer_answer(contact, dialect, nodes),
                _ if self.ready => continue,
                _ => running.lookup.offer(contact, Dialects::from(dialect)),
            }
            touched.push(*id);
        }
        for id in touched {
            self.advance(now, id);
        }
    }

    /// What a lookup is told of one of its questions.
    pub(super) fn on_step(
        &mut self,
        now: Instant,
        id: LookupId,
        addr: SocketAddr,
        tell: impl FnOnce(&mut Lookup, SocketAddr),
    ) {
        if let Some(running) = self.lookups.get_mut(&id) {
            tell(&mut running.lookup, addr);
            self.advance(now, id);
        }
    }

    fn step(&self, id: LookupId) -> Option<Query> {
        let running = self.lookups.get(&id)?;
        let (target, want) = (running.lookup.target(), self.want(running.version));
        Some(match running.kind {
            Kind::Search(_) => Query::GetPeers {
                info_hash: target.into(),
                want,
                scrape: false,
                no_seeds: false,
            },
            Kind::Own | Kind::Refresh | Kind::Locate => Query::FindNode { target, want },
        })
    }

    fn end(&mut self, now: Instant, id: LookupId, running: Running) {
        let Running {
            lookup,
            version,
            kind,
            ..
        } = running;
        match kind {
            Kind::Own => {
                let neighbours = lookup.closest(K).map(|node| node.contact.id).collect();
                self.on_neighbours(now, version, neighbours);
            }
            Kind::Refresh => self.fill_gaps(now, version),
            Kind::Search(search) => self.on_walked(now, search, version, &lookup),
            Kind::Locate => self.outputs.push_back(Output::Located {
                lookup: id,
                closest: lookup.closest(K).map(|node| node.contact).collect(),
                hops: lookup.closest(1).next().map_or(0, |node| node.hops),
                asked: lookup.asked(),
            }),
        }
    }
}
