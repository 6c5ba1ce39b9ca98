//! Whom to let request: tit for tat while we download, turns while we seed (BEP 3).
//!
//! While downloading, those who gave most in the last 20 seconds get the slots, and one slot goes to somebody at random so that
//! newcomers can show what they give; a peer that stopped delivering what it was asked for competes for that slot only. While
//! seeding nobody gives anything, so those who waited longest come next and those who were served for 30 seconds make room.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::action::PeerKey;
use crate::base::Random;

/// A peer that wants a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) key: PeerKey,
    /// Bytes that it gave us lately.
    pub(super) received: u64,
    /// Bytes that we gave it lately.
    pub(super) sent: u64,
    /// It has a slot.
    pub(super) unchoked: bool,
    /// How long it has had the slot, or has been without.
    pub(super) held: Duration,
    /// It connected not long ago.
    pub(super) new: bool,
    pub(super) snubbed: bool,
}

/// Decides every [`Choker::ROUND`] who has the slots.
#[derive(Debug)]
pub(super) struct Choker {
    slots: usize,
    next: Instant,
    round: u32,
    optimistic: Option<PeerKey>,
}

impl Choker {
    /// Time between decisions.
    pub(super) const ROUND: Duration = Duration::from_secs(10);
    /// Decisions for which the slot for newcomers stays with one peer.
    const OPTIMISTIC_ROUNDS: u32 = 3;
    /// A turn while seeding.
    const TURN: Duration = Duration::from_secs(30);
    /// For how long a peer counts as new.
    pub(super) const NEW: Duration = Duration::from_secs(60);
    /// How much likelier a new peer gets the slot for newcomers.
    const NEW_WEIGHT: usize = 3;

    pub(super) fn new(now: Instant, slots: usize) -> Self {
        Self {
            slots: slots.max(2),
            next: now + Self::ROUND,
            round: 0,
            optimistic: None,
        }
    }

    /// When the next decision is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Peers that may have a slot at once.
    pub(super) fn slots(&self, seeding: bool) -> usize {
        if seeding { 2 * self.slots } else { self.slots }
    }

    /// Who has the slots from `now` on.
    pub(super) fn decide(
        &mut self,
        now: Instant,
        random: &mut Random,
        seeding: bool,
        mut candidates: Vec<Candidate>,
    ) -> BTreeSet<PeerKey> {
        self.next = now + Self::ROUND;
        self.round += 1;
        if self.round.is_multiple_of(Self::OPTIMISTIC_ROUNDS) {
            self.optimistic = None;
        }
        random.shuffle(&mut candidates);
        if candidates.len() <= self.slots(seeding) {
            return candidates.iter().map(|c| c.key).collect();
        }
        if seeding {
            self.by_turns(candidates)
        } else {
            self.tit_for_tat(random, candidates)
        }
    }

    fn tit_for_tat(
        &mut self,
        random: &mut Random,
        mut candidates: Vec<Candidate>,
    ) -> BTreeSet<PeerKey> {
        let kept = |c: &Candidate| c.unchoked && c.held < Self::TURN;
        candidates.sort_by_key(|c| (c.snubbed, Reverse(c.received), !kept(c)));
        let regular = candidates.iter().filter(|c| !c.snubbed);
        let mut chosen: BTreeSet<_> = regular.take(self.slots - 1).map(|c| c.key).collect();
        candidates.retain(|c| !chosen.contains(&c.key));
        if let Some(key) = self.optimistic {
            if candidates.iter().any(|c| c.key == key) {
                chosen.insert(key);
                candidates.retain(|c| c.key != key);
            } else {
                self.optimistic = None;
            }
        }
        // More than one only when snubbed peers left regular slots empty.
        while chosen.len() < self.slots && !candidates.is_empty() {
            let lucky = candidates.swap_remove(Self::draw(random, &candidates)).key;
            self.optimistic.get_or_insert(lucky);
            chosen.insert(lucky);
        }
        chosen
    }

    fn draw(random: &mut Random, candidates: &[Candidate]) -> usize {
        let weight = |c: &Candidate| if c.new { Self::NEW_WEIGHT } else { 1 };
        let mut ticket = random.below(candidates.iter().map(weight).sum());
        let drawn = candidates.iter().position(|c| {
            let hit = ticket < weight(c);
            ticket = ticket.saturating_sub(weight(c));
            hit
        });
        drawn.unwrap_or(0)
    }

    fn by_turns(&self, mut candidates: Vec<Candidate>) -> BTreeSet<PeerKey> {
        candidates.sort_by_key(|c| match c.unchoked {
            true if c.held < Self::TURN => (0, Reverse(Duration::ZERO), Reverse(0)),
            false => (1, Reverse(c.held), Reverse(0)),
            true => (2, Reverse(Duration::ZERO), Reverse(c.sent)),
        });
        let served = candidates.iter().take(self.slots(true));
        served.map(|c| c.key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(n: u64) -> Candidate {
        Candidate {
            key: PeerKey(n),
            received: 0,
            sent: 0,
            unchoked: false,
            held: Duration::ZERO,
            new: false,
            snubbed: false,
        }
    }

    fn keys(range: std::ops::Range<u64>) -> BTreeSet<PeerKey> {
        range.map(PeerKey).collect()
    }

    #[test]
    fn those_who_give_most_get_the_slots() {
        let now = Instant::now();
        let mut choker = Choker::new(now, 4);
        let peers = (0..20).map(|n| Candidate {
            received: 1_000 - n,
            ..candidate(n)
        });
        let chosen = choker.decide(now, &mut Random::new(1), false, peers.collect());
        assert_eq!(chosen.len(), 4);
        assert!(chosen.is_superset(&keys(0..3)), "{chosen:?}");
    }

    #[test]
    fn everyone_gets_a_slot_while_there_are_enough() {
        let now = Instant::now();
        let mut choker = Choker::new(now, 4);
        let peers = (0..4).map(|n| Candidate {
            snubbed: true,
            ..candidate(n)
        });
        let chosen = choker.decide(now, &mut Random::new(1), false, peers.collect());
        assert_eq!(chosen, keys(0..4));
    }

    #[test]
    fn a_peer_that_snubs_us_keeps_no_regular_slot() {
        let now = Instant::now();
        let (mut lucky, rounds) = (0, 60);
        for seed in 0..rounds {
            let mut choker = Choker::new(now, 4);
            let peers = (0..10).map(|n| Candidate {
                received: if n == 0 { 1_000_000 } else { 10 },
                snubbed: n == 0,
                ..candidate(n)
            });
            let chosen = choker.decide(now, &mut Random::new(seed), false, peers.collect());
            lucky += u64::from(chosen.contains(&PeerKey(0)));
        }
        assert!(lucky < rounds / 3, "{lucky} of {rounds}");
    }

    #[test]
    fn the_slot_for_newcomers_stays_three_rounds_and_then_moves() {
        let now = Instant::now();
        let mut random = Random::new(5);
        let mut choker = Choker::new(now, 2);
        let mut holders = Vec::new();
        for _ in 0..60 {
            let peers = (0..30).map(|n| Candidate {
                received: u64::from(n == 0),
                ..candidate(n)
            });
            let mut chosen = choker.decide(now, &mut random, false, peers.collect());
            assert!(chosen.remove(&PeerKey(0)));
            holders.extend(chosen);
        }
        let turns: Vec<_> = holders.chunk_by(|a, b| a == b).map(<[_]>::len).collect();
        assert!(
            turns[1..turns.len() - 1].iter().all(|n| n % 3 == 0),
            "{turns:?}"
        );
        assert!(turns.len() > 10);
    }

    #[test]
    fn new_peers_are_thrice_as_likely_to_be_drawn() {
        let peers: Vec<_> = (0..4)
            .map(|n| Candidate {
                new: n == 0,
                ..candidate(n)
            })
            .collect();
        let mut random = Random::new(9);
        let drawn = (0..6_000).filter(|_| Choker::draw(&mut random, &peers) == 0);
        let drawn = drawn.count();
        assert!((2_800..3_200).contains(&drawn), "{drawn}");
    }

    #[test]
    fn while_seeding_everyone_gets_a_turn() {
        let mut now = Instant::now();
        let mut random = Random::new(2);
        let mut choker = Choker::new(now, 2);
        let mut since = [now; 20];
        let mut unchoked = BTreeSet::new();
        let mut rounds = [0u32; 20];
        for _ in 0..60 {
            now += Choker::ROUND;
            let peers = (0..20).map(|n| Candidate {
                unchoked: unchoked.contains(&PeerKey(n)),
                held: now - since[n as usize],
                sent: n,
                ..candidate(n)
            });
            let chosen = choker.decide(now, &mut random, true, peers.collect());
            assert_eq!(chosen.len(), 4);
            for n in 0..20 {
                let key = PeerKey(n);
                if chosen.contains(&key) != unchoked.contains(&key) {
                    since[n as usize] = now;
                }
                rounds[n as usize] += u32::from(chosen.contains(&key));
            }
            unchoked = chosen;
        }
        assert!(rounds.iter().all(|&n| (6..=18).contains(&n)), "{rounds:?}");
    }
}
