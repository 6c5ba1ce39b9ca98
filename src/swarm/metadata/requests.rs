//! Whom to ask for which piece.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::peer::Peer;
use super::{MetadataAction, MetadataFetch};
use crate::base::limits::METADATA_PIPELINE;
use crate::swarm::PeerKey;

/// A piece that one peer owes for this long is asked of another.
pub(super) const LATE: Duration = Duration::from_secs(1);

impl MetadataFetch {
    pub(super) fn ask_all(&mut self, now: Instant) {
        for key in self.peers.keys().copied().collect::<Vec<_>>() {
            self.ask(now, key);
        }
    }

    /// Keeps a peer's pipeline full.
    pub(super) fn ask(&mut self, now: Instant, key: PeerKey) {
        let Some((peer, size)) = self.askable(now, key) else {
            return;
        };
        let (addr, mut next) = (peer.info.addr, peer.next);
        let mut owed: BTreeSet<u32> = peer.asked.iter().map(|&(piece, _)| piece).collect();
        let Some(claim) = self.claims.get(&size) else {
            return;
        };
        // A mix takes each piece from one peer; when it is disproved, all are needed of each.
        if !claim.is_disproved() {
            let same = self.peers.values().filter(|peer| peer.claim == Some(size));
            let asked = same.flat_map(|peer| &peer.asked);
            let fresh = asked.filter(|(_, at)| now < *at + LATE);
            owed.extend(fresh.map(|&(piece, _)| piece));
        }
        let mut pieces = Vec::new();
        for _ in peer.asked.len()..METADATA_PIPELINE {
            let Some(piece) = claim.next(&addr, next, |piece| !owed.contains(&piece)) else {
                break;
            };
            owed.insert(piece);
            next = piece + 1;
            pieces.push(piece);
        }
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.next = next;
        for piece in pieces {
            if peer.asked.is_empty() {
                peer.progress = now;
            }
            peer.asked.push((piece, now));
            self.actions
                .push_back(MetadataAction::Request { key, piece });
        }
    }

    fn askable(&self, now: Instant, key: PeerKey) -> Option<(&Peer, u32)> {
        let peer = self.peers.get(&key)?;
        let ready = peer.admitted && peer.closing.is_none() && !self.done;
        let paused = peer.paused_until.is_some_and(|until| now < until);
        Some((peer, peer.claim?)).filter(|_| ready && !paused)
    }
}
