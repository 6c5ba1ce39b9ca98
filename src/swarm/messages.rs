//! What peers say of themselves: choke, interest, what they have, hints.

use std::time::Instant;

use super::Swarm;
use super::action::PeerKey;
use super::peers::{Have, Peer};
use crate::base::{Bitfield, PieceIndex};

impl Swarm {
    /// The peer lets us request no longer. What it still serves comes as runs, the rest comes back.
    pub fn on_choked(&mut self, _now: Instant, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.choking = true;
            peer.hungry = 0;
            self.starved.remove(&key);
        }
    }

    /// The peer lets us request.
    pub fn on_unchoked(&mut self, now: Instant, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.choking = false;
            self.feed(now, key);
            self.settle(now);
        }
    }

    /// The peer wants something of us. It is served at once if a slot is free.
    pub fn on_interested(&mut self, now: Instant, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.interested = true;
            self.unchoke_if_free(now, key);
        }
    }

    /// The peer wants nothing of us.
    pub fn on_not_interested(&mut self, _now: Instant, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.interested = false;
        }
    }

    /// The peer told of all that it has (bitfield, have-all, have-none). A bitfield of another length is passed over.
    pub fn on_pieces(&mut self, now: Instant, key: PeerKey, pieces: Bitfield) {
        if pieces.len() != self.config.geometry.pieces() || self.peers.get(key).is_none() {
            return;
        }
        self.set_have(key, Have::from(pieces));
        self.after_have(now, key);
    }

    /// The peer has one more piece.
    pub fn on_have(&mut self, now: Instant, key: PeerKey, piece: PieceIndex) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let full = match &mut peer.have {
            Have::All => return,
            Have::None => {
                let mut bits = Bitfield::new(self.config.geometry.pieces());
                bits.insert(piece);
                peer.have = Have::Some(bits);
                self.config.geometry.pieces() == 1 && !peer.loses
            }
            Have::Some(bits) => {
                if !bits.insert(piece) {
                    return;
                }
                bits.is_full() && !peer.loses
            }
        };
        self.availability.add(piece);
        self.gained(key, piece);
        if full {
            self.forget_bits(key);
            self.availability.add_seed();
        }
        self.after_have(now, key);
    }

    /// The peer has a piece no longer (`lt_donthave`).
    ///
    /// Takes time in the number of pieces only when a seed first says so: from then on its bitfield is kept as it is, so that
    /// a peer which gains and loses a piece in turns costs no more than any other.
    pub fn on_dont_have(&mut self, now: Instant, key: PeerKey, piece: PieceIndex) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        peer.loses = true;
        if matches!(peer.have, Have::All) {
            let bits = Bitfield::full(self.config.geometry.pieces());
            self.availability.add_all(&bits);
            self.availability.remove_seed();
            peer.have = Have::Some(bits);
        }
        if let Have::Some(bits) = &mut peer.have
            && bits.remove(piece)
        {
            self.availability.remove(piece);
            self.lost(key, piece);
            self.settle(now);
        }
    }

    /// The peer would like to be asked for this piece (BEP 6).
    pub fn on_suggested(&mut self, _now: Instant, key: PeerKey, piece: PieceIndex) {
        if let Some(peer) = self.peers.get_mut(key) {
            Peer::hint(&mut peer.suggested, piece);
        }
    }

    /// The peer serves this piece even while it chokes us (BEP 6).
    pub fn on_allowed_fast(&mut self, now: Instant, key: PeerKey, piece: PieceIndex) {
        if let Some(peer) = self.peers.get_mut(key) {
            Peer::hint(&mut peer.allowed, piece);
            self.feed(now, key);
            self.settle(now);
        }
    }

    /// The peer said whether it uploads only (BEP 21).
    pub fn on_upload_only(&mut self, _now: Instant, key: PeerKey, on: bool) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.upload_only = on;
            self.part_if_both_seed(key);
        }
    }

    /// A peer that had these pieces is gone or has others now.
    pub(super) fn forget_have(&mut self, have: &Have) {
        match have {
            Have::None => {}
            Have::Some(bits) => self.availability.remove_all(bits),
            Have::All => self.availability.remove_seed(),
        }
    }

    fn set_have(&mut self, key: PeerKey, have: Have) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        match &have {
            Have::None => {}
            Have::Some(bits) => self.availability.add_all(bits),
            Have::All => self.availability.add_seed(),
        }
        let old = std::mem::replace(&mut peer.have, have);
        self.forget_have(&old);
        self.have_changed(key);
    }

    /// The peer's bitfield became full: it counts as a seed from here on.
    fn forget_bits(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(key) {
            let old = std::mem::replace(&mut peer.have, Have::All);
            self.forget_have(&old);
        }
    }

    fn after_have(&mut self, now: Instant, key: PeerKey) {
        self.refresh_interest(key);
        self.part_if_both_seed(key);
        if self.starved.contains(&key) {
            self.feed(now, key);
        }
        self.settle(now);
    }
}
