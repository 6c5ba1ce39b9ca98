//! Memory for what peers claim and send: bounded over all claims, small ones first.

use std::collections::BTreeSet;
use std::time::Instant;

use super::MetadataFetch;
use crate::base::limits::METADATA_BYTES_MAX;
use crate::swarm::PeerKey;

/// Claims and senders kept in memory of peers that are gone; more are forgotten.
const GONE_MAX: usize = 256;

impl MetadataFetch {
    /// Sets memory aside for as many claims as it lasts for, small ones first.
    pub(super) fn admit_claims(&mut self, now: Instant) {
        while let Some((key, size)) = self.first_waiting() {
            if self.set_aside() + size > METADATA_BYTES_MAX {
                return;
            }
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.admitted = true;
                peer.since = now;
            }
        }
    }

    /// The smallest claim that waits for memory.
    pub(super) fn first_waiting(&self) -> Option<(PeerKey, usize)> {
        let waiting = self.peers.iter().filter(|(_, peer)| peer.waits());
        let waiting = waiting.filter_map(|(&key, peer)| Some((key, to_usize(peer.claim?))));
        waiting.min_by_key(|&(_, size)| size)
    }

    /// Bytes of memory that are set aside.
    pub(super) fn set_aside(&self) -> usize {
        let admitted = self.peers.values().filter(|peer| peer.admitted);
        admitted.filter_map(|peer| peer.claim).map(to_usize).sum()
    }

    /// Forgets what peers sent that are gone, if there is too much of it or `more` bytes would be too many.
    pub(super) fn bound_memory(&mut self, more: usize) {
        let senders: usize = self.claims.values().map(|c| c.senders().count()).sum();
        let many = senders.max(self.claims.len()) > GONE_MAX;
        let mut held = self.held() + more;
        if many || held > METADATA_BYTES_MAX {
            let here = self.peers.values().filter(|peer| peer.closing.is_none());
            let here: BTreeSet<_> = here.map(|peer| peer.info.addr).collect();
            // The largest claims cost the most and are the least likely.
            for claim in self.claims.values_mut().rev() {
                if !many && held <= METADATA_BYTES_MAX {
                    break;
                }
                held -= claim.held();
                let senders = claim.senders().map(|sender| sender.addr);
                let gone = senders.filter(|addr| !here.contains(addr));
                gone.collect::<Vec<_>>()
                    .iter()
                    .for_each(|addr| claim.forget(addr));
                held += claim.held();
            }
        }
        let claimed: BTreeSet<_> = self.peers.values().filter_map(|p| p.claim).collect();
        self.claims
            .retain(|size, claim| claimed.contains(size) || claim.held() > 0);
    }
}

pub(super) fn to_usize(size: u32) -> usize {
    size as usize
}
