//! Nodes that may be worth knowing and wait for a ping: they asked us something, or others named them. Pings go out at a bounded
//! rate, so that nobody can use us to flood somebody else. Who was only named is not pinged but greeted, once in each dialect, so
//! that two questions go there in the time of one.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::message::{Contact, Dialect};
use crate::base::limits::NEWCOMERS_MAX;

/// Pings that may go out at once after a pause.
const BURST: u32 = 64;
/// Time after which one more may.
const SPACING: Duration = Duration::from_millis(20);

/// Whom to ping, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Newcomer {
    pub(super) addr: SocketAddr,
    /// Who it says it is; unknown if it was only named.
    pub(super) contact: Option<Contact>,
    /// What it spoke; unknown: both are tried.
    pub(super) dialect: Option<Dialect>,
    /// It is known already, and asked only to see whether it speaks this dialect too.
    pub(super) known: bool,
}

/// The queue of those.
#[derive(Debug)]
pub(super) struct Newcomers {
    queue: VecDeque<Newcomer>,
    /// When all of the burst may go out again; each ping moves it by [`SPACING`].
    full: Instant,
}

impl Newcomers {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            queue: VecDeque::new(),
            full: now,
        }
    }

    /// A node asked us something.
    pub(super) fn add(&mut self, contact: Contact, dialect: Dialect) {
        self.push(Newcomer {
            addr: contact.addr,
            contact: Some(contact),
            dialect: Some(dialect),
            known: false,
        });
    }

    /// An address was named by somebody we trust.
    pub(super) fn add_named(&mut self, addr: SocketAddr) {
        self.push(Newcomer {
            addr,
            contact: None,
            dialect: None,
            known: false,
        });
    }

    /// A node that we know may speak another dialect too.
    pub(super) fn add_known(&mut self, contact: Contact, dialect: Dialect) {
        self.push(Newcomer {
            addr: contact.addr,
            contact: Some(contact),
            dialect: Some(dialect),
            known: true,
        });
    }

    /// Whom to ping now.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Newcomer> {
        if self.due()? > now {
            return None;
        }
        self.full = self.full.max(now) + SPACING;
        self.queue.pop_front()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due()
    }

    fn due(&self) -> Option<Instant> {
        self.queue.front()?;
        // Written so that no time before the first that was ever given is computed.
        let earliest = self.full.checked_sub(SPACING * (BURST - 1));
        Some(earliest.unwrap_or(self.full))
    }

    fn push(&mut self, newcomer: Newcomer) {
        let waits =
            |other: &Newcomer| other.addr == newcomer.addr && other.dialect == newcomer.dialect;
        if self.queue.len() < NEWCOMERS_MAX && !self.queue.iter().any(waits) {
            self.queue.push_back(newcomer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_go_out_at_a_bounded_rate() {
        let start = Instant::now();
        let mut newcomers = Newcomers::new(start);
        let mut pings = 0;
        for ms in 0..1_000u64 {
            for port in 1..=100u16 {
                newcomers.add_named(([10, 0, (ms % 256) as u8, 1], port).into());
            }
            while newcomers.poll(start + Duration::from_millis(ms)).is_some() {
                pings += 1;
            }
            assert!(newcomers.queue.len() <= NEWCOMERS_MAX);
        }
        assert!((100..=115).contains(&pings), "{pings}");
    }

    #[test]
    fn nobody_waits_twice() {
        let mut newcomers = Newcomers::new(Instant::now());
        for _ in 0..3 {
            newcomers.add_named(([10, 0, 0, 1], 1).into());
        }
        assert_eq!(newcomers.queue.len(), 1);
    }
}
