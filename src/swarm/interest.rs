//! Whom we want something of: a peer that has a piece which we have not verified.
//!
//! One such piece is enough to know, and is remembered of each peer as its *lure*. Only when a lure is verified is another looked
//! for, so that a verified piece costs nothing for most peers, however many they are.

use std::collections::BTreeMap;

use super::Swarm;
use super::action::{Action, PeerKey};
use super::peers::Have;
use crate::base::{Bitfield, Geometry, PieceIndex};

/// The peers by their lures.
#[derive(Debug, Default)]
pub(super) struct Lures {
    by_piece: BTreeMap<PieceIndex, Vec<PeerKey>>,
}

impl Lures {
    fn add(&mut self, key: PeerKey, piece: PieceIndex) {
        self.by_piece.entry(piece).or_default().push(key);
    }

    /// `piece` is not the lure of `key` any more.
    pub(super) fn remove(&mut self, key: PeerKey, piece: Option<PieceIndex>) {
        let Some(piece) = piece else {
            return;
        };
        if let Some(keys) = self.by_piece.get_mut(&piece) {
            keys.retain(|&other| other != key);
            if keys.is_empty() {
                self.by_piece.remove(&piece);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn assert_are(&self, expected: impl Iterator<Item = (PieceIndex, PeerKey)>) {
        let found = self.by_piece.iter();
        let found = found.flat_map(|(&piece, keys)| keys.iter().map(move |&key| (piece, key)));
        let found: std::collections::BTreeSet<_> = found.collect();
        assert_eq!(found, expected.collect());
    }

    /// Peers whose lure `piece` is, which forget it.
    fn take(&mut self, piece: PieceIndex) -> Vec<PeerKey> {
        self.by_piece.remove(&piece).unwrap_or_default()
    }
}

impl Swarm {
    /// Tells the peer whether we want something of it, if that changed.
    pub(super) fn refresh_interest(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        let on = peer.lure.is_some() && !self.paused;
        if peer.our_interest != on && !peer.closing {
            peer.our_interest = on;
            self.actions.push_back(Action::Interest { key, on });
        }
    }

    /// The peer has one more piece.
    pub(super) fn gained(&mut self, key: PeerKey, piece: PieceIndex) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        if self.pieces.verified().contains(piece) {
            return;
        }
        peer.wants.gained(piece);
        if peer.lure.is_none() {
            peer.lure = Some(piece);
            self.lures.add(key, piece);
        }
    }

    /// The peer has `piece` no longer.
    pub(super) fn lost(&mut self, key: PeerKey, piece: PieceIndex) {
        let is_lure = |peer: &super::peers::Peer| peer.lure == Some(piece);
        if self.peers.get(key).is_some_and(is_lure) {
            self.find_lure(key);
            self.refresh_interest(key);
        }
    }

    /// `piece` is verified.
    pub(super) fn wanted_no_more(&mut self, piece: PieceIndex) {
        for key in self.lures.take(piece) {
            self.find_lure(key);
            self.refresh_interest(key);
        }
    }

    /// Pieces are verified no longer.
    pub(super) fn wanted_again(&mut self) {
        for key in self.peers.keys() {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.wants.all = false;
                if peer.lure.is_none() {
                    self.find_lure(key);
                }
            }
            self.refresh_interest(key);
        }
    }

    /// What the peer has is another set now.
    pub(super) fn have_changed(&mut self, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(key) {
            // Peers begin far apart, so that few share a lure.
            let mixed = key.get().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            peer.wants = Wants::unknown(mixed as usize % self.pieces.verified().words().max(1));
            self.find_lure(key);
        }
    }

    /// Looks for a piece that the peer has and that is not verified.
    fn find_lure(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        self.lures.remove(key, peer.lure);
        let (geometry, verified) = (&self.config.geometry, self.pieces.verified());
        peer.lure = peer.wants.any(geometry, verified, &peer.have);
        if let Some(piece) = peer.lure {
            self.lures.add(key, piece);
        }
    }
}

/// Some pieces that a peer has and that are not verified, so that not every search for one goes through all words: a peer may gain
/// and lose pieces in turns as often as it likes.
#[derive(Debug)]
pub(super) struct Wants {
    /// Pieces that were wanted when they were found.
    some: Vec<PieceIndex>,
    /// Besides these there is nothing.
    all: bool,
    /// The word where the next search begins.
    next: usize,
}

impl Wants {
    /// Most pieces that one search takes down.
    const MOST: usize = 32;

    /// Nothing is wanted of a peer that has nothing.
    pub(super) fn nothing() -> Self {
        Self {
            some: Vec::new(),
            all: true,
            next: 0,
        }
    }

    fn unknown(start: usize) -> Self {
        Self {
            some: Vec::new(),
            all: false,
            next: start,
        }
    }

    /// The peer has one more piece that is wanted.
    fn gained(&mut self, piece: PieceIndex) {
        if !self.all || self.some.contains(&piece) {
            return;
        }
        if self.some.len() < Self::MOST {
            self.some.push(piece);
        } else {
            self.all = false;
        }
    }

    /// Any piece that is wanted of a peer that has `have`.
    fn any(&mut self, geometry: &Geometry, verified: &Bitfield, have: &Have) -> Option<PieceIndex> {
        let wanted = |piece: &PieceIndex| have.contains(*piece) && !verified.contains(*piece);
        while let Some(piece) = self.some.last() {
            if wanted(piece) {
                return Some(*piece);
            }
            self.some.pop();
        }
        if !self.all {
            self.search(geometry, verified, have);
        }
        self.some.last().copied()
    }

    /// Takes down the next pieces that are wanted, once around at most.
    fn search(&mut self, geometry: &Geometry, verified: &Bitfield, have: &Have) {
        let words = verified.words();
        for at in (self.next..words).chain(0..self.next) {
            let mut rest = have.word(at) & !verified.word(at);
            while rest != 0 {
                let bit = rest.leading_zeros();
                rest &= !(1 << (63 - bit));
                // Spare bits are past the end.
                self.some.extend(geometry.piece(at as u32 * 64 + bit));
            }
            if self.some.len() >= Self::MOST {
                self.next = at;
                return;
            }
        }
        self.all = true;
    }
}
