//! What a node does by itself as time passes.

use std::time::{Duration, Instant};

use super::super::bootstrap::Step;
use super::super::lookup::{Goal, K};
use super::super::message::{Dialect, Query};
use super::ask::Purpose;
use super::family::Version;
use super::newcomers::Newcomer;
use super::walk::Kind;
use super::{Node, Output};
use crate::base::NodeId;
use crate::base::limits::DHT_TRANSACTIONS_MAX;

/// Time for which an id is kept that a majority has found for us: changing it costs all the places we have with others.
pub(super) const IDENTITY_KEPT: Duration = Duration::from_secs(10 * 60);
/// Lookups for the sake of the table that run at once in one family.
const REFRESHES_AT_ONCE: usize = 2;

impl Node {
    /// When to call [`handle_timeout`](Self::handle_timeout); `None`: not before something else happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        // Nobody can be asked then before a question has ended.
        let full = self.transactions.len() >= DHT_TRANSACTIONS_MAX;
        let families = self.families.iter().flat_map(|family| {
            let recall = family.recall.next_deadline().filter(|_| !full);
            let table = family.table.next_deadline();
            [recall, table, family.bootstrap.next_deadline()]
        });
        let others = [
            self.transactions.next_deadline(),
            self.searches.next_deadline(),
            self.newcomers.next_deadline(),
            self.announced.next_deadline(),
        ];
        families.chain(others).flatten().min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(overdue) = self.transactions.poll_overdue(now) {
            self.on_overdue(now, overdue);
        }
        for version in Version::BOTH {
            self.recall(now, version);
            self.place(now, version);
            self.tend(now, version);
        }
        while let Some(newcomer) = self.newcomers.poll(now) {
            self.ping(now, newcomer);
        }
        self.search_on(now);
        self.announced.handle_timeout(now);
    }

    /// Asks contacts of an earlier run.
    fn recall(&mut self, now: Instant, version: Version) {
        while let Some(family) = self.families.get_mut(version) {
            let table = &family.table;
            let Some(saved) = family
                .recall
                .poll(now, |saved| table.wants(now, &saved.contact))
            else {
                return;
            };
            let contact = saved.contact;
            let dialect = saved.dialects.preferred();
            if !self.greet(now, contact.addr, Some(contact.id), dialect, true)
                && let Some(family) = self.families.get_mut(version)
            {
                family.recall.put_back();
                return;
            }
        }
    }

    /// Finds our place, or finds it again.
    pub(super) fn place(&mut self, now: Instant, version: Version) {
        while let Some(step) = self
            .families
            .get_mut(version)
            .and_then(|f| f.bootstrap.poll(now))
        {
            match step {
                Step::AskRouters => self.ask_routers(now, version),
                Step::LookUpSelf => self.look_up_self(now, version),
            }
        }
    }

    fn ask_routers(&mut self, now: Instant, version: Version) {
        let family = self.families.get(version);
        let routers = family
            .map_or(&[][..], |family| family.bootstrap.routers())
            .to_vec();
        for router in routers {
            for dialect in [Dialect::Krpc, Dialect::Json] {
                self.greet(now, router, None, dialect, false);
            }
        }
    }

    fn look_up_self(&mut self, now: Instant, version: Version) {
        let Some(own) = self.families.get(version).map(|family| family.table.own()) else {
            return;
        };
        let lookup = self.begin(version, own, Goal::Neighbours, Kind::Own);
        self.advance(now, lookup);
    }

    /// A lookup of the own id has ended.
    pub(super) fn on_neighbours(
        &mut self,
        now: Instant,
        version: Version,
        neighbours: Vec<NodeId>,
    ) {
        let Some(family) = self.families.get_mut(version) else {
            return;
        };
        let first = family.bootstrap.on_neighbours(now, neighbours);
        if first && !self.ready {
            self.ready = true;
            self.outputs.push_back(Output::Ready {
                nodes: self.len(),
                warm: self.warm,
                after: now.saturating_duration_since(self.started),
            });
        }
        if first {
            self.searches.hurry(now);
            self.search_on(now);
        }
        self.find_gaps(version);
        self.fill_gaps(now, version);
    }

    /// Notes which parts of the table that are farther away than our neighbours have few contacts.
    fn find_gaps(&mut self, version: Version) {
        let Some(family) = self.families.get_mut(version) else {
            return;
        };
        let own = family.table.own();
        let mut counts: Vec<usize> = Vec::new();
        for entry in family.table.entries() {
            let shared = own.distance(&entry.contact.id).shared_bits() as usize;
            if counts.len() <= shared {
                counts.resize(shared + 1, 0);
            }
            counts[shared] += 1;
        }
        let neighbours = family.bootstrap.neighbours();
        let Some(last) = neighbours.get(K - 1) else {
            return;
        };
        let near = own.distance(last).shared_bits() as usize;
        family.gaps.clear();
        for (depth, count) in counts.into_iter().enumerate().take(near) {
            if count < K {
                family.gaps.push(point(own, depth, self.random.id()));
            }
        }
    }

    /// Looks up points in the parts of the table that have few contacts.
    pub(super) fn fill_gaps(&mut self, now: Instant, version: Version) {
        while self.has_room(version)
            && let Some(target) = self.families.get_mut(version).and_then(|f| f.gaps.pop())
        {
            self.refresh(now, version, target);
        }
    }

    /// Checks contacts that were silent for long, and looks for others where nobody came for long.
    fn tend(&mut self, now: Instant, version: Version) {
        while let Some(addr) = self
            .families
            .get_mut(version)
            .and_then(|f| f.table.poll_ping(now))
        {
            let entry = self.families.get(version).and_then(|f| f.table.get(addr));
            if let Some((contact, dialects)) = entry.map(|entry| (entry.contact, entry.dialects)) {
                self.check(now, contact, dialects);
            }
        }
        while let Some(target) = self
            .families
            .get_mut(version)
            .and_then(|f| f.table.poll_refresh(now))
        {
            self.refresh(now, version, target);
        }
    }

    fn refresh(&mut self, now: Instant, version: Version, target: NodeId) {
        let lookup = self.begin(version, target, Goal::Closest, Kind::Refresh);
        self.advance(now, lookup);
    }

    fn has_room(&self, version: Version) -> bool {
        let refreshes = self
            .lookups
            .values()
            .filter(|running| running.kind == Kind::Refresh && running.version == version);
        refreshes.count() < REFRESHES_AT_ONCE
    }

    /// Pings a node that may be worth knowing, if it still is.
    fn ping(&mut self, now: Instant, newcomer: Newcomer) {
        let addr = newcomer.addr;
        let Some(family) = self.families.reach(addr) else {
            return;
        };
        let wanted = match newcomer.contact {
            _ if newcomer.known => family.table.get(addr).is_some(),
            Some(contact) => family.table.wants(now, &contact),
            None => family.table.get(addr).is_none(),
        };
        if !wanted || !newcomer.known && self.transactions.asking(addr) {
            return;
        }
        let expect = newcomer.contact.map(|contact| contact.id);
        match newcomer.dialect {
            Some(dialect) if newcomer.known => {
                self.ask(now, addr, expect, dialect, Query::Ping, Purpose::Dialect);
            }
            Some(dialect) => {
                self.ask(now, addr, expect, dialect, Query::Ping, Purpose::Check);
            }
            None => {
                for dialect in [Dialect::Krpc, Dialect::Json] {
                    self.greet(now, addr, None, dialect, false);
                }
            }
        }
    }
}

/// The point that shares `depth` leading bits with `own`, differs in the next and is like `random` in the others.
fn point(own: NodeId, depth: usize, random: [u8; 20]) -> NodeId {
    let mut point = random;
    let (whole, bits) = (depth / 8, depth % 8);
    point[..whole].copy_from_slice(&own.0[..whole]);
    if let (Some(byte), Some(own)) = (point.get_mut(whole), own.0.get(whole)) {
        let kept = !(0xff_u8 >> bits);
        let differs = 0x80_u8 >> bits;
        *byte = (own & kept) | (!own & differs) | (*byte & !kept & !differs);
    }
    NodeId(point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;

    #[test]
    fn a_point_shares_exactly_as_many_bits_as_asked_for() {
        let mut random = Random::new(4);
        for depth in 0..160 {
            let own = NodeId(random.id());
            let point = point(own, depth, random.id());
            assert_eq!(own.distance(&point).shared_bits() as usize, depth);
        }
    }
}
