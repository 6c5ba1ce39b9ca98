//! What the routing table knows of one node.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::identity;
use super::message::{Contact, Dialect, Dialects};
use super::scope::{Network, Scope, scope};

/// How long a node counts as good after it answered, or queried us (BEP 5).
pub const FRESH: Duration = Duration::from_secs(15 * 60);
/// How long after its last answer queries still speak for a node: anyone can forge them.
const QUERIES_COUNT: Duration = Duration::from_secs(60 * 60);
/// Failures in a row that make a node bad. One happens to good nodes too, on any link that loses datagrams; of two in a row at
/// 5 % loss each way one node in a hundred is judged wrongly, and comes back with its next answer.
pub const BAD_FAILURES: u8 = 2;
/// Failures in a row after which a node is forgotten even if nobody waits for its place: with the pauses between them,
/// three quarters of an hour.
pub const GONE_FAILURES: u8 = 9;
/// Pause after a failure before the node is asked again; doubled with each.
pub const RECHECK: Duration = Duration::from_secs(15);

/// How much a node is trusted to answer (BEP 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It answered or queried us within 15 minutes.
    Good,
    /// It has been silent, or has failed to answer once.
    Questionable,
    /// It has failed to answer several times in a row.
    Bad,
}

/// A node that has answered us.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its id and address.
    pub contact: Contact,
    /// The dialects that it has answered in.
    pub dialects: Dialects,
    /// Those that it asked us in, if it was it that asked.
    asked_in: Dialects,
    /// When it answered for the first time.
    pub since: Instant,
    /// When it answered last.
    pub last_answer: Instant,
    /// Time from query to answer, averaged over about the last four.
    pub round_trip: Duration,
    /// Queries since its last answer that it did not answer.
    pub failures: u8,
    /// When it queried us last, or the last answer if it never did.
    last_query: Instant,
    /// When it was last picked to be asked, or failed to answer.
    last_try: Instant,
    /// When a failure was last counted.
    last_failure: Option<Instant>,
    /// Whether its id may be at its address (BEP 42).
    valid: bool,
    /// The network it takes the place of: one node of each is enough, except in local ones.
    network: Option<Network>,
}

impl Entry {
    pub(super) fn new(
        now: Instant,
        contact: Contact,
        dialect: Dialect,
        round_trip: Duration,
    ) -> Self {
        let ip = contact.addr.ip();
        let network = (scope(ip) == Some(Scope::Global)).then(|| Network::of(ip));
        Self {
            contact,
            dialects: dialect.into(),
            asked_in: Dialects::default(),
            since: now,
            last_answer: now,
            round_trip,
            failures: 0,
            last_query: now,
            last_try: now,
            last_failure: None,
            valid: identity::is_valid(contact.id, ip),
            network,
        }
    }

    /// What it is worth now.
    pub fn standing(&self, now: Instant) -> Standing {
        if self.is_bad() {
            Standing::Bad
        } else if self.failures == 0 && now < self.last_heard() + FRESH {
            Standing::Good
        } else {
            Standing::Questionable
        }
    }

    /// Whether it failed too often in a row to be told of or asked.
    pub fn is_bad(&self) -> bool {
        self.failures >= BAD_FAILURES
    }

    /// Whether its id may be at its address (BEP 42).
    pub fn is_valid(&self) -> bool {
        self.valid
    }

    /// Whether only one of the two may be in a bucket: they share the id, or a network of the internet.
    pub(super) fn rivals(&self, other: &Self) -> bool {
        self.contact.id == other.contact.id
            || self.network.is_some() && self.network == other.network
    }

    /// Whether it takes the place of a rival: the rival is bad, or only this one's id may be at its address.
    pub(super) fn beats(&self, rival: &Self) -> bool {
        rival.is_bad() || self.valid && !rival.valid
    }

    /// What makes one candidate for a place better than another: a valid id, a recent sign of life, a clearly shorter round
    /// trip, a longer acquaintance. The greater, the better.
    pub(super) fn merit(&self, now: Instant) -> impl Ord + use<> {
        let doublings = u128::BITS - self.round_trip.as_millis().leading_zeros();
        let good = self.standing(now) == Standing::Good;
        (self.valid, good, Reverse(doublings), Reverse(self.since))
    }

    pub(super) fn on_answer(&mut self, now: Instant, dialect: Dialect, round_trip: Duration) {
        self.last_answer = now;
        self.failures = 0;
        self.dialects.insert(dialect);
        self.round_trip = self.round_trip.saturating_mul(3).saturating_add(round_trip) / 4;
    }

    pub(super) fn on_query(&mut self, now: Instant, dialect: Dialect) {
        self.last_query = now;
        self.asked_in.insert(dialect);
    }

    /// Whether it has answered in a dialect or at least asked in it. That much may be told to others; for asking it ourselves it
    /// is not enough, as queries can be forged.
    pub fn is_heard_in(&self, dialect: Dialect) -> bool {
        self.dialects.contains(dialect) || self.asked_in.contains(dialect)
    }

    /// Whether it has answered since a query that was `sent` then.
    pub(super) fn has_answered_since(&self, sent: Instant) -> bool {
        sent < self.last_answer
    }

    /// Counts a query that it did not answer. Of several that were out at once only one counts: one short outage swallows all.
    pub(super) fn on_failure(&mut self, now: Instant, sent: Instant) {
        self.last_try = now;
        if self.last_failure.is_none_or(|last| sent >= last) {
            self.failures = self.failures.saturating_add(1);
            self.last_failure = Some(now);
        }
    }

    pub(super) fn on_try(&mut self, now: Instant) {
        self.last_try = now;
    }

    /// When to ask whether it is still there.
    pub(super) fn check_at(&self) -> Instant {
        match self.failures.checked_sub(1) {
            Some(repeated) => self.last_try + (RECHECK * (1 << repeated.min(6))).min(FRESH),
            None => (self.last_heard() + FRESH).max(self.last_try + RECHECK),
        }
    }

    fn last_heard(&self) -> Instant {
        let queried = self.last_query.min(self.last_answer + QUERIES_COUNT);
        queried.max(self.last_answer)
    }
}
