//! Contacts of an earlier run: asked many at once, the most promising first, until all have answered or failed to.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use super::Saved;
use crate::base::NodeId;
use crate::base::limits::STORED_NODES_MAX;

/// How many are asked at once.
const AT_ONCE: usize = 32;

/// Orders contacts, the most promising first: those that did not fail, then those that answered last.
pub(super) fn promise(saved: &Saved) -> impl Ord + use<> {
    // Within some minutes it tells more who is quick than who answered last.
    (
        saved.failures,
        saved.age.as_secs() / 600,
        saved.round_trip,
        Reverse(saved.contact.id),
    )
}

/// The contacts that have not answered in this run.
#[derive(Debug)]
pub(super) struct Recall {
    /// Not asked yet, the most promising first.
    waiting: VecDeque<Saved>,
    asked: Vec<Asked>,
    /// Did not answer: perhaps it was our network.
    lost: Vec<(Instant, Saved)>,
}

#[derive(Debug)]
struct Asked {
    since: Instant,
    saved: Saved,
    /// It has been silent for so long that another may be asked.
    stalled: bool,
}

impl Recall {
    pub(super) fn new(mut saved: Vec<Saved>) -> Self {
        saved.sort_by_key(promise);
        saved.truncate(STORED_NODES_MAX);
        Self {
            waiting: saved.into(),
            asked: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// Whether somebody is to be asked now.
    pub(super) fn is_due(&self) -> bool {
        let out = self.asked.iter().filter(|asked| !asked.stalled);
        !self.waiting.is_empty() && out.count() < AT_ONCE
    }

    /// The next one to ask, for whom `wanted` holds; the others are left out.
    pub(super) fn poll(&mut self, now: Instant, wanted: impl Fn(&Saved) -> bool) -> Option<Saved> {
        while self.is_due() {
            let saved = self.waiting.pop_front()?;
            if wanted(&saved) {
                self.asked.push(Asked {
                    since: now,
                    saved,
                    stalled: false,
                });
                return Some(saved);
            }
            self.lost.push((now, saved));
        }
        None
    }

    /// The one that was to be asked last could not be: it is the next again.
    pub(super) fn put_back(&mut self) {
        if let Some(asked) = self.asked.pop() {
            self.waiting.push_front(asked.saved);
        }
    }

    /// It is silent for now: the next may be asked.
    pub(super) fn on_stall(&mut self, addr: SocketAddr) {
        let mut asked = self.asked.iter_mut();
        if let Some(asked) = asked.find(|asked| asked.saved.contact.addr == addr) {
            asked.stalled = true;
        }
    }

    /// It has answered, before or after it stalled; whether it was one of these.
    pub(super) fn on_answer(&mut self, addr: SocketAddr) -> bool {
        let before = self.len();
        self.asked
            .retain(|asked| asked.saved.contact.addr != addr);
        self.waiting.retain(|saved| saved.contact.addr != addr);
        self.lost.retain(|(_, saved)| saved.contact.addr != addr);
        self.len() < before
    }

    /// It did not answer.
    pub(super) fn on_failure(&mut self, addr: SocketAddr) {
        let at = self
            .asked
            .iter()
            .position(|asked| asked.saved.contact.addr == addr);
        if let Some(at) = at {
            let Asked {
                since, mut saved, ..
            } = self.asked.swap_remove(at);
            saved.failures = saved.failures.saturating_add(1);
            self.lost.push((since, saved));
        }
    }

    /// Of those that may still answer, the `count` closest to a point.
    pub(super) fn closest(&self, target: NodeId, count: usize) -> Vec<Saved> {
        let asked = self.asked.iter().map(|asked| &asked.saved);
        let mut hopeful: Vec<Saved> = asked.chain(&self.waiting).copied().collect();
        hopeful.sort_by_key(|saved| saved.contact.id.distance(&target));
        hopeful.truncate(count);
        hopeful
    }

    /// All that have not answered, as they were saved but older by the time that has passed.
    pub(super) fn unproven(&self, now: Instant) -> impl Iterator<Item = Saved> {
        let asked = self.asked.iter().map(|asked| (asked.since, asked.saved));
        let tried = asked.chain(self.lost.iter().copied());
        let tried = tried.map(move |(since, saved)| Saved {
            age: saved.age + now.saturating_duration_since(since),
            ..saved
        });
        tried.chain(self.waiting.iter().copied())
    }

    fn len(&self) -> usize {
        self.waiting.len() + self.asked.len() + self.lost.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::dht::{Contact, Dialect};

    fn saved(port: u16, failures: u8) -> Saved {
        Saved {
            contact: Contact {
                id: NodeId([port as u8; 20]),
                addr: ([10, 0, 0, 1], port).into(),
            },
            dialects: Dialect::Krpc.into(),
            age: Duration::from_secs(u64::from(port) * 600),
            round_trip: Duration::from_millis(100),
            failures,
        }
    }

    #[test]
    fn the_most_promising_are_asked_first_and_a_bounded_number_at_once() {
        let now = Instant::now();
        let mut recall = Recall::new((1..=100).map(|p| saved(p, u8::from(p == 1))).collect());
        let mut asked = Vec::new();
        while let Some(saved) = recall.poll(now, |_| true) {
            asked.push(saved.contact.addr.port());
        }
        assert_eq!(asked, (2..=33).collect::<Vec<_>>());
        for _ in 0..3 {
            recall.on_stall(saved(2, 0).contact.addr);
        }
        assert!(
            recall
                .poll(now, |saved| saved.contact.addr.port() > 40)
                .is_some()
        );
        assert!(recall.poll(now, |_| true).is_none());
        assert_eq!(recall.unproven(now).count(), 100, "nobody is forgotten");
    }

    #[test]
    fn a_late_answer_makes_room_for_one_only() {
        let now = Instant::now();
        let mut recall = Recall::new((1..=100).map(|p| saved(p, 0)).collect());
        while recall.poll(now, |_| true).is_some() {}
        let late = saved(1, 0).contact.addr;
        recall.on_stall(late);
        assert!(recall.poll(now, |_| true).is_some());
        recall.on_answer(late);
        recall.on_stall(late);
        assert!(recall.poll(now, |_| true).is_none());
    }

    #[test]
    fn whoever_could_not_be_asked_is_asked_next() {
        let now = Instant::now();
        let mut recall = Recall::new((1..=3).map(|p| saved(p, 0)).collect());
        let first = recall.poll(now, |_| true);
        recall.put_back();
        assert_eq!(recall.unproven(now).count(), 3);
        assert_eq!(recall.poll(now, |_| true), first);
    }

    #[test]
    fn whoever_does_not_answer_is_remembered_with_one_more_failure() {
        let now = Instant::now();
        let mut recall = Recall::new(vec![saved(1, 0), saved(2, 0)]);
        while recall.poll(now, |_| true).is_some() {}
        recall.on_failure(saved(1, 0).contact.addr);
        assert!(recall.on_answer(saved(2, 0).contact.addr));
        assert!(!recall.on_answer(saved(2, 0).contact.addr));
        let left: Vec<Saved> = recall.unproven(now).collect();
        assert_eq!(left, [saved(1, 1)]);
    }
}
