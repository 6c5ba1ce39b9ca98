//! The nodes at one distance from our own, and those that wait for a place among them.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::time::Instant;

use super::entry::{Entry, FRESH, GONE_FAILURES, Standing};
use super::lookup::K;
use crate::base::NodeId;
use crate::base::limits::SPARES_PER_BUCKET;

/// Places in the buckets of nodes that share no bit, one bit, two bits… with us; the others have [`K`].
///
/// Half of all lookups begin in the first bucket and a quarter in the second. With more nodes there than Kademlia's k, in networks
/// of 1,000 and 4,000 nodes 95 % of lookups took at most 2 and 3 hops instead of 3 and 4, and one message less of ten. It costs
/// a ping every few seconds; and when half of the nodes have gone, many are left.
const WIDE: [usize; 4] = [128, 64, 32, 16];
/// Places in the bucket of the nodes that share `bits` leading bits with us.
pub(super) fn places(bits: usize) -> usize {
    WIDE.get(bits).copied().unwrap_or(K)
}

/// One bucket. Of all entries, spares included, no two have one id or one address, or are in one network of the internet.
/// Spares are there only while all places are taken by nodes that are not bad.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    places: usize,
    entries: Vec<Entry>,
    spares: Vec<Entry>,
    /// When a node got a place last, or a lookup was made to find some.
    changed: Instant,
    /// When the next entry is to be checked.
    check_at: Option<Instant>,
}

impl Bucket {
    pub(super) fn new(now: Instant, places: usize) -> Self {
        Self {
            places,
            entries: Vec::new(),
            spares: Vec::new(),
            changed: now,
            check_at: None,
        }
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn spares(&self) -> &[Entry] {
        &self.spares
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Entry> {
        let mut all = self.entries.iter().chain(&self.spares);
        all.find(|entry| entry.contact.id == id)
    }

    /// Changes what is known of a node, if it is here.
    pub(super) fn update(&mut self, id: NodeId, change: impl FnOnce(&mut Entry)) {
        let mut all = self.entries.iter_mut().chain(&mut self.spares);
        if let Some(entry) = all.find(|entry| entry.contact.id == id) {
            change(entry);
            self.reschedule();
        }
    }

    /// Whether somebody is here for whom `newcomer` has to stay out.
    pub(super) fn bars(&self, newcomer: &Entry) -> bool {
        let mut all = self.entries.iter().chain(&self.spares);
        all.any(|rival| newcomer.rivals(rival) && !newcomer.beats(rival))
    }

    /// Whether there is no place for `newcomer` but that of a node which is not bad.
    pub(super) fn is_full_for(&self, newcomer: &Entry) -> bool {
        let taken = |entry: &Entry| !entry.is_bad() && !newcomer.rivals(entry);
        self.entries.len() >= self.places && self.entries.iter().all(taken)
    }

    /// Whether `newcomer` would get a place if it answered, or wait for that of a node which may have gone.
    pub(super) fn wants(&self, now: Instant, newcomer: &Entry) -> bool {
        let silent = |entry: &Entry| entry.standing(now) != Standing::Good;
        !self.bars(newcomer)
            && (!self.is_full_for(newcomer)
                || self.entries.iter().any(|entry| newcomer.beats(entry))
                || self.spares.len() < SPARES_PER_BUCKET && self.entries.iter().any(silent))
    }

    /// Takes in a node that has just answered, if there is room for it or somebody who has to give way. Whoever had to leave is
    /// added to `gone`, be it the newcomer itself.
    pub(super) fn offer(&mut self, now: Instant, newcomer: Entry, gone: &mut Vec<SocketAddr>) {
        if self.bars(&newcomer) {
            gone.push(newcomer.contact.addr);
            return;
        }
        self.remove_where(|entry| newcomer.rivals(entry), gone);
        if self.entries.len() < self.places {
            self.place(now, newcomer);
        } else if let Some(index) = self.weakest(now, |entry| newcomer.beats(entry)) {
            let loser = self.entries.swap_remove(index);
            self.place(now, newcomer);
            self.set_aside(now, loser, gone);
        } else {
            self.set_aside(now, newcomer, gone);
        }
        self.refill(now, gone);
    }

    /// All that were here, those with a place before the others and old acquaintances before new ones.
    pub(super) fn into_entries(self) -> Vec<Entry> {
        let mut all = self.entries;
        all.sort_by_key(|entry| entry.since);
        all.extend(self.spares);
        all
    }

    /// Drops a node.
    pub(super) fn remove(&mut self, now: Instant, id: NodeId, gone: &mut Vec<SocketAddr>) {
        self.remove_where(|entry| entry.contact.id == id, gone);
        self.refill(now, gone);
    }

    /// Counts a query that a node did not answer; one that waits for a place loses its turn at once.
    pub(super) fn on_failure(
        &mut self,
        now: Instant,
        id: NodeId,
        sent: Instant,
        gone: &mut Vec<SocketAddr>,
    ) {
        if let Some(index) = self.spares.iter().position(|spare| spare.contact.id == id) {
            gone.push(self.spares.swap_remove(index).contact.addr);
        }
        self.update(id, |entry| entry.on_failure(now, sent));
        self.remove_where(|entry| entry.failures >= GONE_FAILURES, gone);
        self.refill(now, gone);
    }

    /// When somebody here is to be asked whether it is still there.
    pub(super) fn check_at(&self) -> Option<Instant> {
        self.check_at
    }

    /// Whom to ask, the most overdue first.
    pub(super) fn poll_check(&mut self, now: Instant) -> Option<SocketAddr> {
        let due = self
            .entries
            .iter_mut()
            .min_by_key(|entry| entry.check_at())?;
        if now < due.check_at() {
            return None;
        }
        due.on_try(now);
        let addr = due.contact.addr;
        self.reschedule();
        Some(addr)
    }

    /// When to look for more nodes at this distance.
    pub(super) fn refresh_at(&self) -> Instant {
        self.changed + FRESH
    }

    /// Whether to look for more nodes at this distance, which then counts as done: nobody came for a quarter of an hour, and
    /// there are places that somebody could take.
    pub(super) fn poll_refresh(&mut self, now: Instant) -> bool {
        if now < self.refresh_at() {
            return false;
        }
        self.changed = now;
        let good = |entry: &&Entry| entry.standing(now) == Standing::Good;
        self.entries.iter().filter(good).count() < self.places
    }

    fn place(&mut self, now: Instant, entry: Entry) {
        self.entries.push(entry);
        self.changed = now;
        self.reschedule();
    }

    /// Keeps a node for when a place gets free; if too many wait, the one with the least merit leaves.
    fn set_aside(&mut self, now: Instant, entry: Entry, gone: &mut Vec<SocketAddr>) {
        if entry.failures > 0 {
            gone.push(entry.contact.addr);
            return;
        }
        self.spares.push(entry);
        if self.spares.len() > SPARES_PER_BUCKET {
            let merits = self.spares.iter().map(|spare| spare.merit(now));
            if let Some((index, _)) = merits.enumerate().min_by(|a, b| a.1.cmp(&b.1)) {
                gone.push(self.spares.swap_remove(index).contact.addr);
            }
        }
    }

    /// Gives spares the places that are free or held by bad nodes.
    fn refill(&mut self, now: Instant, gone: &mut Vec<SocketAddr>) {
        while !self.spares.is_empty() {
            if self.entries.len() >= self.places {
                let Some(index) = self.weakest(now, Entry::is_bad) else {
                    return;
                };
                gone.push(self.entries.swap_remove(index).contact.addr);
            }
            let spare = self.spares.swap_remove(self.best_spare(now));
            self.place(now, spare);
        }
    }

    /// The spare with the most merit of those with a valid id; of equals the one that is farthest from all entries, so that every
    /// part of the bucket's range has somebody to ask.
    fn best_spare(&self, now: Instant) -> usize {
        let crowding = |spare: &Entry| {
            let shared = |entry: &Entry| entry.contact.id.distance(&spare.contact.id).shared_bits();
            self.entries.iter().map(shared).max()
        };
        let key = |spare: &Entry| {
            let good = spare.standing(now) == Standing::Good;
            (
                spare.is_valid(),
                good,
                Reverse(crowding(spare)),
                spare.merit(now),
            )
        };
        let keys = self.spares.iter().map(key).enumerate();
        keys.max_by(|a, b| a.1.cmp(&b.1))
            .map_or(0, |(index, _)| index)
    }

    /// Of the entries that may have to leave, the one that is missed least.
    fn weakest(&self, now: Instant, may_leave: impl Fn(&Entry) -> bool) -> Option<usize> {
        let candidates = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| may_leave(entry));
        let weakness = |entry: &Entry| (entry.failures, Reverse(entry.merit(now)));
        candidates
            .max_by(|a, b| weakness(a.1).cmp(&weakness(b.1)))
            .map(|(index, _)| index)
    }

    fn remove_where(&mut self, leaves: impl Fn(&Entry) -> bool, gone: &mut Vec<SocketAddr>) {
        for entries in [&mut self.entries, &mut self.spares] {
            entries.retain(|entry| {
                let leaves = leaves(entry);
                if leaves {
                    gone.push(entry.contact.addr);
                }
                !leaves
            });
        }
        self.reschedule();
    }

    fn reschedule(&mut self) {
        self.check_at = self.entries.iter().map(Entry::check_at).min();
    }
}
