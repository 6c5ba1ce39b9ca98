//! The upload: applies what the choker decides.

use std::time::Instant;

use super::Swarm;
use super::action::{Action, PeerKey};
use super::choker::{Candidate, Choker};

impl Swarm {
    /// Payload bytes went out to the peer.
    pub fn on_uploaded(&mut self, now: Instant, key: PeerKey, bytes: u64) {
        self.tally.up(now, bytes);
        if let Some(peer) = self.peers.get_mut(key) {
            peer.tally.up(now, bytes);
            peer.last_payload = now;
        }
    }

    /// Decides anew who may request.
    pub(super) fn rechoke(&mut self, now: Instant) {
        let seeding = self.is_complete();
        let candidates = self.candidates(now);
        let chosen = self
            .choker
            .decide(now, &mut self.random, seeding, candidates);
        for key in self.peers.keys() {
            self.set_choke(now, key, !chosen.contains(&key));
        }
        for (_, peer) in self.peers.iter_mut() {
            peer.mark();
        }
    }

    /// Lets a peer request at once if there is room.
    pub(super) fn unchoke_if_free(&mut self, now: Instant, key: PeerKey) {
        let served = self
            .peers
            .iter()
            .filter(|(_, p)| p.unchoked && p.needs_slot());
        let slots = self.choker.slots(self.is_complete());
        let wants = |key| {
            self.peers
                .get(key)
                .is_some_and(|p| !p.unchoked && p.needs_slot())
        };
        if !self.paused && wants(key) && served.count() < slots {
            self.set_choke(now, key, false);
        }
    }

    /// Tells the peer whether it may request, if that changed.
    pub(super) fn set_choke(&mut self, now: Instant, key: PeerKey, on: bool) {
        if let Some(peer) = self.peers.get_mut(key)
            && peer.unchoked == on
            && !peer.closing
        {
            peer.unchoked = !on;
            peer.choke_changed = now;
            self.actions.push_back(Action::Choke { key, on });
        }
    }

    fn candidates(&self, now: Instant) -> Vec<Candidate> {
        let wanting = self.peers.iter().filter(|(_, peer)| peer.needs_slot());
        let candidates = wanting.map(|(key, peer)| {
            let (received, sent) = peer.recent();
            Candidate {
                key,
                received,
                sent,
                unchoked: peer.unchoked,
                held: now.saturating_duration_since(peer.choke_changed),
                new: now.saturating_duration_since(peer.since) < Choker::NEW,
                snubbed: peer.snubbed,
            }
        });
        candidates.collect()
    }
}
