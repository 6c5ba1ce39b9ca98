//! What a node keeps once for IPv4 and once for IPv6.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::super::bootstrap::Bootstrap;
use super::super::entry::Entry;
use super::super::external::Votes;
use super::super::message::{Contact, Dialect};
use super::super::scope;
use super::super::table::Table;
use super::recall::Recall;
use super::{Node, Saved};
use crate::base::NodeId;

/// Failures in a row after which a contact is not worth remembering for the next run.
const FAILURES_SAVED: u8 = 4;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

impl Version {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn of(addr: SocketAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// One address family of a node.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) table: Table,
    pub(super) bootstrap: Bootstrap,
    pub(super) votes: Votes,
    pub(super) recall: Recall,
    /// The external address that the own id is for.
    pub(super) external: Option<IpAddr>,
    /// When the own id may be changed again.
    pub(super) settled: Instant,
    /// Points to look up so that every part of the table has contacts.
    pub(super) gaps: Vec<NodeId>,
    /// The others were asked whether they speak JSON, for the sake of somebody who speaks nothing else.
    pub(super) json_sought: bool,
}

impl Family {
    pub(super) fn new(
        now: Instant,
        table: Table,
        external: Option<IpAddr>,
        saved: Vec<Saved>,
    ) -> Self {
        Self {
            table,
            bootstrap: Bootstrap::new(),
            votes: Votes::default(),
            recall: Recall::new(now, saved),
            external,
            settled: now,
            gaps: Vec::new(),
            json_sought: false,
        }
    }

    /// Whether a contact is ourselves.
    pub(super) fn is_own(&self, contact: &Contact) -> bool {
        contact.id == self.table.own() || self.votes.seen() == Some(contact.addr)
    }

    /// Whether somebody in the table can be asked.
    pub(super) fn is_connected(&self) -> bool {
        !self.table.is_dark() && !self.table.closest(self.table.own(), 1).is_empty()
    }

    /// Whether there are nodes that speak nothing but JSON: then it is worth knowing who else does.
    pub(super) fn needs_json(&self) -> bool {
        let lonely = |entry: &Entry| !entry.is_bad() && !entry.is_heard_in(Dialect::Krpc);
        self.json_sought && self.table.entries().any(lonely)
    }

    /// Those worth remembering.
    pub(super) fn saved(&self, now: Instant) -> impl Iterator<Item = Saved> {
        let entries = self.table.entries().chain(self.table.spares());
        let known = entries.filter(|entry| entry.failures < FAILURES_SAVED);
        let known = known.map(move |entry| Saved {
            contact: entry.contact,
            dialects: entry.dialects,
            age: now.saturating_duration_since(entry.last_answer),
            round_trip: entry.round_trip,
            failures: entry.failures,
        });
        let recalled = self.recall.unproven(now);
        known.chain(recalled.filter(|saved| saved.failures < FAILURES_SAVED))
    }
}

/// Both families, as far as the node can send there.
#[derive(Debug)]
pub(super) struct Families {
    pub(super) v4: Option<Family>,
    pub(super) v6: Option<Family>,
}

impl Families {
    pub(super) fn get(&self, version: Version) -> Option<&Family> {
        match version {
            Version::V4 => self.v4.as_ref(),
            Version::V6 => self.v6.as_ref(),
        }
    }

    pub(super) fn get_mut(&mut self, version: Version) -> Option<&mut Family> {
        match version {
            Version::V4 => self.v4.as_mut(),
            Version::V6 => self.v6.as_mut(),
        }
    }

    /// The family in which a node may be at `addr`; `None` if no node can be there, or none that we could send to.
    pub(super) fn reach(&mut self, addr: SocketAddr) -> Option<&mut Family> {
        if addr.port() == 0 || scope::scope(addr.ip()).is_none() {
            return None;
        }
        self.get_mut(Version::of(addr))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Family> {
        self.v4.iter().chain(&self.v6)
    }

    /// The family that has more contacts.
    pub(super) fn larger(&self) -> Version {
        let contacts = |family: &Option<Family>| family.as_ref().map(|f| f.table.len());
        if contacts(&self.v6) > contacts(&self.v4) {
            Version::V6
        } else {
            Version::V4
        }
    }
}

impl Node {
    /// Takes note of where others see us, and changes the own id when it does not fit there (BEP 42).
    ///
    /// The first answer of all decides at once if we have no address yet: nobody else knows our id then. Later it takes a
    /// majority, as whoever knows us has to learn of us anew.
    pub(super) fn on_observed(&mut self, now: Instant, voter: SocketAddr, observed: SocketAddr) {
        let version = Version::of(voter);
        let Some(family) = self.families.get_mut(version) else {
            return;
        };
        family.votes.add(voter.ip(), observed);
        let seen = family.votes.seen().map(|seen| seen.ip());
        let first = seen.filter(|ip| {
            family.external.is_none()
                && family.table.is_empty()
                && super::super::external::is_global(*ip)
        });
        let Some(ip) = first.or_else(|| family.votes.majority()) else {
            return;
        };
        if family.external == Some(ip) || now < family.settled {
            return;
        }
        let own = family.table.own();
        let id = self.identities.at(ip, own, &mut self.random);
        family.external = Some(ip);
        if first.is_none() {
            family.settled = now + super::maintain::IDENTITY_KEPT;
        }
        if id != own {
            family.table.set_own(now, id);
            family.bootstrap.restart(now);
        }
    }
}
