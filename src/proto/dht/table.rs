//! The routing table of a DHT node (BEP 5): whom to ask about which part of the space. One table for each address family.
//!
//! A node enters only by a verified answer, and an old good node is never pushed out by a newcomer, unless its id may not be at
//! its address and the newcomer's may (BEP 42). Of each network of the internet a bucket has one node at most, so that many ids
//! at few addresses gain nothing. When nobody answers at all, it is our network that is down: nobody is blamed and all are kept.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::bucket::{self, Bucket};
use super::entry::{Entry, Standing};
use super::message::{Contact, Dialect};
use super::scope::scope;
use super::shunned::Shunned;
use crate::base::NodeId;
use crate::base::random::Random;

/// Least time between two checks of nodes: their times bunch up after a start.
const CHECK_SPACING: Duration = Duration::from_millis(250);
/// The same while our network seems down.
const CHECK_SPACING_DARK: Duration = Duration::from_secs(5);
/// Least time between two refreshes, for the same reason.
const REFRESH_SPACING: Duration = Duration::from_secs(5);
/// Distances within the last bucket at which nodes are looked for: 2^12 times its places are more nodes than it can have left.
const NEIGHBOURHOOD: usize = 12;
/// Queries to nodes of the table that went unanswered one after the other, until it is taken to be our own network that fails.
const DARK_FAILURES: u32 = 16;

/// The routing table.
#[derive(Clone, Debug)]
pub struct Table {
    own: NodeId,
    /// By leading bits shared with `own`; the last one is also for all that share more, and is split when it is full. A bucket
    /// for each number of bits from the start would be a place for each, far down where nobody honest is, for one who makes up
    /// ids close to ours.
    buckets: Vec<Bucket>,
    /// The ids of all entries and spares.
    ids: BTreeMap<SocketAddr, NodeId>,
    shunned: Shunned,
    /// Failures of entries since the last answer of any.
    silence: u32,
    next_check: Instant,
    next_refresh: Instant,
    random: Random,
}

impl Table {
    /// An empty table around `own`. Which points are looked up to refresh it follows from `seed`.
    pub fn new(now: Instant, own: NodeId, seed: u64) -> Self {
        Self {
            own,
            buckets: vec![Bucket::new(now, bucket::places(0))],
            ids: BTreeMap::new(),
            shunned: Shunned::new(),
            silence: 0,
            next_check: now,
            next_refresh: now,
            random: Random::new(seed),
        }
    }

    /// Our own id.
    pub fn own(&self) -> NodeId {
        self.own
    }

    /// Gives ourselves another id, and every node the place that follows from it. Those that do not fit are dropped, the latest
    /// acquaintances first.
    pub fn set_own(&mut self, now: Instant, own: NodeId) {
        let old = std::mem::replace(&mut self.buckets, vec![Bucket::new(now, bucket::places(0))]);
        self.own = own;
        self.ids.clear();
        let mut entries: Vec<_> = old.into_iter().flat_map(Bucket::into_entries).collect();
        entries.sort_by_key(|entry| entry.since);
        for entry in entries {
            self.offer(now, entry);
        }
    }

    /// A node answered a query of ours: `contact` has its id and the address that query and answer agree on. The only way into
    /// the table. Says whether the node has a place now.
    ///
    /// A node that answers with another id than before loses its place, and gets none for some minutes.
    pub fn on_answer(
        &mut self,
        now: Instant,
        contact: Contact,
        dialect: Dialect,
        round_trip: Duration,
    ) -> bool {
        let Contact { id, addr } = contact;
        self.silence = 0;
        match self.ids.get(&addr) {
            Some(&known) if known == id => {
                self.bucket_mut(id)
                    .update(id, |entry| entry.on_answer(now, dialect, round_trip));
            }
            Some(&known) => {
                self.remove(now, known);
                self.shunned.insert(now, contact);
            }
            None => {
                if self.could_be_ours(contact) && self.shunned.allows(now, contact) {
                    self.offer(now, Entry::new(now, contact, dialect, round_trip));
                }
            }
        }
        self.has_place(contact)
    }

    /// A node queried us. That speaks for it if it is in the table, and is nothing to anybody else: queries can be forged.
    pub fn on_query(&mut self, now: Instant, contact: &Contact, dialect: Dialect) {
        if self.ids.get(&contact.addr) == Some(&contact.id) {
            self.bucket_mut(contact.id)
                .update(contact.id, |entry| entry.on_query(now, dialect));
        }
    }

    /// The node at `addr` did not answer in time a query that was `sent` then. Nothing, if it has answered a later one; and of
    /// several queries that were out at once, one failure.
    pub fn on_timeout(&mut self, now: Instant, sent: Instant, addr: SocketAddr) {
        let Some(&id) = self.ids.get(&addr) else {
            return;
        };
        let known = self.bucket(id).get(id);
        if known.is_some_and(|entry| entry.has_answered_since(sent)) {
            return;
        }
        self.silence = self.silence.saturating_add(1);
        if self.is_dark() {
            self.bucket_mut(id).update(id, |entry| entry.on_try(now));
            return;
        }
        let mut gone = Vec::new();
        self.bucket_mut(id).on_failure(now, id, sent, &mut gone);
        self.forget(&gone);
    }

    /// Whether so many nodes failed in a row that our own network must be down. Failures do not count meanwhile.
    pub fn is_dark(&self) -> bool {
        self.silence > DARK_FAILURES
    }

    /// The nodes closest to `target` that are not bad, at most `count`, in order of distance.
    pub fn closest(&self, target: NodeId, count: usize) -> Vec<&Entry> {
        let (farther, rest) = self.buckets.split_at(self.index_of(target));
        let (home, deeper) = rest.split_at(1);
        // Whoever shares more bits with the target than we do is in our bucket of it; then come those that share as many as we
        // do, which is all of the deeper ones, and then bucket by bucket those that share fewer.
        let groups = [home, deeper].into_iter().chain(farther.rchunks(1));
        let mut found = Vec::new();
        for group in groups {
            let room = count - found.len();
            if room == 0 {
                break;
            }
            let mut group: Vec<_> = group
                .iter()
                .flat_map(Bucket::entries)
                .filter(|entry| !entry.is_bad())
                .collect();
            let distance = |entry: &&Entry| entry.contact.id.distance(&target);
            if group.len() > room {
                group.select_nth_unstable_by_key(room, distance);
                group.truncate(room);
            }
            group.sort_unstable_by_key(distance);
            found.append(&mut group);
        }
        found
    }

    /// Whether a node that others told of is worth a ping: there is room for it, or somebody who would have to give way, or may
    /// have gone.
    pub fn wants(&self, now: Instant, contact: &Contact) -> bool {
        if !self.could_be_ours(*contact)
            || self.ids.contains_key(&contact.addr)
            || !self.shunned.would_allow(now, contact.addr)
        {
            return false;
        }
        // How fast it answers and what it speaks make no difference here.
        let newcomer = Entry::new(now, *contact, Dialect::Krpc, Duration::ZERO);
        let bucket = self.bucket(contact.id);
        bucket.wants(now, &newcomer) || self.splits(&newcomer)
    }

    /// What is known of the node at `addr`, if it has a place or waits for one.
    pub fn get(&self, addr: SocketAddr) -> Option<&Entry> {
        let &id = self.ids.get(&addr)?;
        self.bucket(id).get(id)
    }

    /// Nodes that have a place, bad ones included.
    pub fn len(&self) -> usize {
        self.buckets
            .iter()
            .map(|bucket| bucket.entries().len())
            .sum()
    }

    /// Whether no node has a place.
    pub fn is_empty(&self) -> bool {
        self.buckets
            .iter()
            .all(|bucket| bucket.entries().is_empty())
    }

    /// Nodes that are good now.
    pub fn good(&self, now: Instant) -> usize {
        self.entries()
            .filter(|entry| entry.standing(now) == Standing::Good)
            .count()
    }

    /// All that have a place, the farthest from us first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.iter().flat_map(Bucket::entries)
    }

    /// All that wait for one.
    pub fn spares(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.iter().flat_map(Bucket::spares)
    }

    /// Somebody to ping now, to see whether it is still there: where newcomers wait first, then who is most overdue.
    pub fn poll_ping(&mut self, now: Instant) -> Option<SocketAddr> {
        if now < self.next_check {
            return None;
        }
        let due = self
            .buckets
            .iter_mut()
            .filter(|bucket| bucket.check_at().is_some_and(|at| at <= now));
        let bucket = due.min_by_key(|bucket| (bucket.spares().is_empty(), bucket.check_at()))?;
        let addr = bucket.poll_check(now)?;
        let dark = self.is_dark();
        let spacing = if dark {
            CHECK_SPACING_DARK
        } else {
            CHECK_SPACING
        };
        self.next_check = now + spacing;
        Some(addr)
    }

    /// A point to look up now, because a bucket has had no newcomer for 15 minutes though there is room (BEP 5).
    pub fn poll_refresh(&mut self, now: Instant) -> Option<NodeId> {
        if now < self.next_refresh {
            return None;
        }
        let mut buckets = self.buckets.iter_mut();
        let depth = buckets.position(|bucket| bucket.poll_refresh(now))?;
        self.next_refresh = now + REFRESH_SPACING;
        Some(self.point_in(depth))
    }

    /// When [`poll_ping`](Self::poll_ping) or [`poll_refresh`](Self::poll_refresh) will have something.
    pub fn next_deadline(&self) -> Option<Instant> {
        let check = self.buckets.iter().filter_map(Bucket::check_at).min();
        let refresh = self.buckets.iter().map(Bucket::refresh_at).min();
        [
            check.map(|at| at.max(self.next_check)),
            refresh.map(|at| at.max(self.next_refresh)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// A random point in the range of a bucket. In that of the last every distance is as likely as another, so that we find our
    /// own neighbourhood however many places it has.
    fn point_in(&mut self, index: usize) -> NodeId {
        let last = index + 1 == self.buckets.len();
        let closer = self.random.below(NEIGHBOURHOOD);
        let depth = if last { index + closer } else { index };
        let depth = depth.min(NodeId::BITS as usize - 1);
        let mut point = self.random.id();
        for bit in 0..=depth {
            let (byte, mask) = (bit / 8, 0x80 >> (bit % 8));
            let flipped = if bit < depth { 0 } else { mask };
            point[byte] = point[byte] & !mask | (self.own.0[byte] & mask) ^ flipped;
        }
        NodeId(point)
    }

    fn index_of(&self, id: NodeId) -> usize {
        let shared = self.own.distance(&id).shared_bits() as usize;
        shared.min(self.buckets.len() - 1)
    }

    fn bucket(&self, id: NodeId) -> &Bucket {
        &self.buckets[self.index_of(id)]
    }

    fn bucket_mut(&mut self, id: NodeId) -> &mut Bucket {
        let index = self.index_of(id);
        &mut self.buckets[index]
    }

    fn could_be_ours(&self, contact: Contact) -> bool {
        contact.id != self.own && contact.addr.port() != 0 && scope(contact.addr.ip()).is_some()
    }

    fn has_place(&self, contact: Contact) -> bool {
        let mut entries = self.bucket(contact.id).entries().iter();
        entries.any(|entry| entry.contact == contact)
    }

    fn offer(&mut self, now: Instant, entry: Entry) {
        let Contact { id, addr } = entry.contact;
        if id == self.own {
            return;
        }
        while self.splits(&entry) {
            self.split(now);
        }
        self.ids.insert(addr, id);
        let mut gone = Vec::new();
        self.bucket_mut(id).offer(now, entry, &mut gone);
        self.forget(&gone);
    }

    /// Whether the last bucket has to be split to make room for `newcomer`.
    fn splits(&self, newcomer: &Entry) -> bool {
        let index = self.index_of(newcomer.contact.id);
        let bucket = &self.buckets[index];
        let last = index + 1 == self.buckets.len() && index + 1 < NodeId::BITS as usize;
        last && !bucket.bars(newcomer) && bucket.is_full_for(newcomer)
    }

    fn split(&mut self, now: Instant) {
        let depth = self.buckets.len();
        let two = [depth - 1, depth].map(|depth| Bucket::new(now, bucket::places(depth)));
        let last = self.buckets.pop();
        self.buckets.extend(two);
        for entry in last.into_iter().flat_map(Bucket::into_entries) {
            self.offer(now, entry);
        }
    }

    fn remove(&mut self, now: Instant, id: NodeId) {
        let mut gone = Vec::new();
        self.bucket_mut(id).remove(now, id, &mut gone);
        self.forget(&gone);
    }

    fn forget(&mut self, gone: &[SocketAddr]) {
        for addr in gone {
            self.ids.remove(addr);
        }
    }
}

#[cfg(test)]
mod tests;
