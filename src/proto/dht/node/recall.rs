//! Contacts of an earlier run: asked many at once, the most promising first, until all have answered or failed to.
//!
//! While nobody at all answers it is our network that is down: nobody is blamed, and all are asked again and again, with growing
//! pauses. So any number of starts without a network costs no contact, and none has to be named by others once there is one.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use super::super::bootstrap;
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
    /// Somebody has answered, recalled or not, since nobody did.
    heard: bool,
    /// Some were lost while nobody answered, so that all who are lost are worth another question.
    doubtful: bool,
    /// Times that all were asked.
    again: u32,
    /// When they may be asked again.
    again_at: Instant,
    started: Instant,
}

#[derive(Debug)]
struct Asked {
    since: Instant,
    saved: Saved,
    /// It has been silent for so long that another may be asked.
    stalled: bool,
}

impl Recall {
    pub(super) fn new(now: Instant, mut saved: Vec<Saved>) -> Self {
        saved.sort_by_key(promise);
        saved.truncate(STORED_NODES_MAX);
        Self {
            waiting: saved.into(),
            asked: Vec::new(),
            lost: Vec::new(),
            heard: false,
            doubtful: false,
            again: 1,
            again_at: now + bootstrap::pause(0),
            started: now,
        }
    }

    /// When somebody is to be asked.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let again = self.is_over_in_doubt().then_some(self.again_at);
        if self.has_room() {
            Some(self.started)
        } else {
            again
        }
    }

    /// The next one to ask, for whom `wanted` holds; the others are left out.
    pub(super) fn poll(&mut self, now: Instant, wanted: impl Fn(&Saved) -> bool) -> Option<Saved> {
        if self.is_over_in_doubt() && now >= self.again_at {
            self.ask_again(now);
        }
        while self.has_room() {
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

    /// Somebody has answered, before or after it stalled; whether it was one of these.
    pub(super) fn on_answer(&mut self, addr: SocketAddr) -> bool {
        self.heard = true;
        let before = self.len();
        self.asked.retain(|asked| asked.saved.contact.addr != addr);
        self.waiting.retain(|saved| saved.contact.addr != addr);
        self.lost.retain(|(_, saved)| saved.contact.addr != addr);
        self.len() < before
    }

    /// Nobody answers any more.
    pub(super) fn on_dark(&mut self) {
        self.heard = false;
        self.doubtful = true;
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
            if self.heard {
                saved.failures = saved.failures.saturating_add(1);
            } else {
                self.doubtful = true;
            }
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

    fn has_room(&self) -> bool {
        let out = self.asked.iter().filter(|asked| !asked.stalled);
        !self.waiting.is_empty() && out.count() < AT_ONCE
    }

    /// Whether all were asked, and some of them in vain for a reason that may be ours.
    fn is_over_in_doubt(&self) -> bool {
        let over = self.waiting.is_empty() && self.asked.is_empty();
        over && self.doubtful && !self.lost.is_empty()
    }

    fn ask_again(&mut self, now: Instant) {
        let lost = self.lost.drain(..).map(|(since, saved)| Saved {
            age: saved.age + now.saturating_duration_since(since),
            ..saved
        });
        let mut lost: Vec<Saved> = lost.collect();
        lost.sort_by_key(promise);
        self.waiting = lost.into();
        self.doubtful = false;
        self.again_at = now + bootstrap::pause(self.again);
        self.again += 1;
    }

    fn len(&self) -> usize {
        self.waiting.len() + self.asked.len() + self.lost.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proto::dht::message::{Body, Contact, Dialect, Reply};
    use crate::proto::dht::node::{Config, Node, Output};
    use crate::proto::dht::{decode, encode};

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
        let mut recall = Recall::new(now, (1..=100).map(|p| saved(p, u8::from(p == 1))).collect());
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
        let mut recall = Recall::new(now, (1..=100).map(|p| saved(p, 0)).collect());
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
        let mut recall = Recall::new(now, (1..=3).map(|p| saved(p, 0)).collect());
        let first = recall.poll(now, |_| true);
        recall.put_back();
        assert_eq!(recall.unproven(now).count(), 3);
        assert_eq!(recall.poll(now, |_| true), first);
    }

    #[test]
    fn whoever_does_not_answer_is_remembered_with_one_more_failure() {
        let now = Instant::now();
        let mut recall = Recall::new(now, vec![saved(1, 0), saved(2, 0)]);
        while recall.poll(now, |_| true).is_some() {}
        assert!(recall.on_answer(saved(2, 0).contact.addr));
        recall.on_failure(saved(1, 0).contact.addr);
        assert!(!recall.on_answer(saved(2, 0).contact.addr));
        let left: Vec<Saved> = recall.unproven(now).collect();
        assert_eq!(left, [saved(1, 1)]);
    }

    /// Asks all, and nobody answers.
    fn ask_in_vain(recall: &mut Recall, now: Instant) -> usize {
        let mut count = 0;
        while let Some(saved) = recall.poll(now, |_| true) {
            recall.on_failure(saved.contact.addr);
            count += 1;
            assert!(count <= 100, "each is asked once a time");
        }
        count
    }

    #[test]
    fn while_nobody_answers_all_are_asked_less_and_less_often_and_nobody_is_blamed() {
        let start = Instant::now();
        let mut recall = Recall::new(start, (1..=100).map(|p| saved(p, 0)).collect());
        let mut times = Vec::new();
        while times.len() < 14 {
            let now = recall.next_deadline().unwrap();
            times.push((now - start).as_secs());
            assert_eq!(ask_in_vain(&mut recall, now), 100);
            assert!(recall.unproven(now).all(|saved| saved.failures == 0));
        }
        assert_eq!(times[..6], [0, 1, 3, 7, 15, 31]);
        assert_eq!(times[13] - times[12], 300);
    }

    #[test]
    fn all_are_asked_once_more_when_the_first_answers_at_last() {
        let start = Instant::now();
        let mut recall = Recall::new(start, (1..=100).map(|p| saved(p, 0)).collect());
        ask_in_vain(&mut recall, start);
        assert!(recall.on_answer(saved(1, 0).contact.addr));
        let now = recall.next_deadline().unwrap();
        assert_eq!(ask_in_vain(&mut recall, now), 99);
        assert!(recall.unproven(now).all(|saved| saved.failures == 1));
        assert_eq!(recall.next_deadline(), None, "they had their chance");
    }

    #[test]
    fn a_node_that_starts_before_its_network_finds_the_others_when_that_is_up() {
        let start = Instant::now();
        let config = Config {
            v4: true,
            ..Config::default()
        };
        let mut node = Node::new(start, config, vec![saved(1, 0)]);
        let later = start + Duration::from_secs(100);
        let mut now = start;
        while node.is_empty() {
            now = now.max(node.next_deadline().expect("it does not give up"));
            assert!(now < start + Duration::from_secs(500));
            node.handle_timeout(now);
            assert_eq!(node.saved(now)[0].failures, 0);
            while let Some(output) = node.poll() {
                let Output::Send { to, datagram } = output else {
                    continue;
                };
                let (dialect, mut message) = decode(&datagram).unwrap();
                message.body = Body::Reply {
                    from: saved(1, 0).contact.id,
                    observed: None,
                    reply: Reply::default(),
                };
                if now > later {
                    node.on_datagram(now, to, &encode(dialect, &message));
                }
            }
        }
    }
}
