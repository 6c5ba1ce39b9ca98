//! Who sent bad bytes.
//!
//! A piece that one peer sent whole and whose hash does not match convicts that peer. A piece that several sent convicts nobody
//! yet: the digests and senders of its blocks are kept until a good copy is verified, and then whoever sent a block that
//! differs lied. Nobody is convicted for blocks whose sender is unknown, and nobody on suspicion.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::action::PeerKey;
use crate::base::limits::{BLAME_BLOCKS_MAX, BLAME_RECORDS_MAX};
use crate::base::{PeerId, PieceIndex};

/// Who a peer was when it sent something; it may be gone since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    pub(super) key: PeerKey,
    pub(super) addr: SocketAddr,
    pub(super) listen: Option<SocketAddr>,
    pub(super) id: PeerId,
}

const UNKNOWN: u16 = u16::MAX;

/// Who sent each block of a piece.
#[derive(Clone, Debug)]
pub(super) struct Senders {
    peers: Vec<Suspect>,
    /// Index into `peers`, or [`UNKNOWN`].
    of_block: Vec<u16>,
}

impl Senders {
    pub(super) fn new(blocks: usize) -> Self {
        Self {
            peers: Vec::new(),
            of_block: vec![UNKNOWN; blocks],
        }
    }

    pub(super) fn set(&mut self, block: u32, sender: &Suspect) {
        let known = self.peers.iter().position(|p| p.key == sender.key);
        let at = known.unwrap_or_else(|| {
            self.peers.push(*sender);
            self.peers.len() - 1
        });
        // A piece has at most 16,384 blocks, hence senders; were there more, the rest would go unblamed.
        self.of_block[block as usize] = u16::try_from(at).unwrap_or(UNKNOWN);
    }

    pub(super) fn clear(&mut self, block: u32) {
        self.of_block[block as usize] = UNKNOWN;
    }

    pub(super) fn of(&self, block: usize) -> Option<&Suspect> {
        self.peers.get(usize::from(*self.of_block.get(block)?))
    }

    /// The first known sender, by block.
    pub(super) fn first(&self) -> Option<&Suspect> {
        (0..self.of_block.len()).find_map(|block| self.of(block))
    }

    /// Those who sent a block that counts, each once.
    pub(super) fn peers(&self) -> Vec<Suspect> {
        let mut used = vec![false; self.peers.len()];
        for &at in &self.of_block {
            if let Some(used) = used.get_mut(usize::from(at)) {
                *used = true;
            }
        }
        let used = self.peers.iter().zip(used).filter(|(_, used)| *used);
        used.map(|(peer, _)| *peer).collect()
    }

    /// The peer that sent every block, if one did.
    pub(super) fn sole(&self) -> Option<&Suspect> {
        let first = *self.of_block.first()?;
        let same = self.of_block.iter().all(|&at| at == first);
        same.then(|| self.peers.get(usize::from(first))).flatten()
    }
}

#[derive(Debug)]
struct Record {
    piece: PieceIndex,
    senders: Senders,
    digests: Vec<[u8; 32]>,
}

/// The failed copies that wait for a good one. Bounded in number and bytes; the oldest go first.
#[derive(Debug, Default)]
pub(super) struct Blame {
    records: VecDeque<Record>,
    blocks: usize,
}

impl Blame {
    /// A copy of `piece` failed; says whom that convicts at once.
    pub(super) fn failed(
        &mut self,
        piece: PieceIndex,
        senders: Senders,
        digests: Vec<[u8; 32]>,
    ) -> Option<Suspect> {
        if let Some(liar) = senders.sole() {
            return Some(*liar);
        }
        if senders.first().is_some() && digests.len() == senders.of_block.len() {
            self.blocks += digests.len();
            self.records.push_back(Record {
                piece,
                senders,
                digests,
            });
            self.trim();
        }
        None
    }

    /// A copy of `piece` with these digests is good; says whom that convicts.
    pub(super) fn verified(
        &mut self,
        piece: PieceIndex,
        good: Option<&[[u8; 32]]>,
    ) -> Vec<Suspect> {
        let mut liars: Vec<Suspect> = Vec::new();
        for record in self.take(piece) {
            let Some(good) = good.filter(|good| good.len() == record.digests.len()) else {
                continue;
            };
            for (block, (bad, good)) in record.digests.iter().zip(good).enumerate() {
                if bad != good
                    && let Some(sender) = record.senders.of(block)
                    && !liars.iter().any(|liar| liar.key == sender.key)
                {
                    liars.push(*sender);
                }
            }
        }
        liars
    }

    /// Whether a good copy of `piece` is needed to convict somebody.
    pub(super) fn is_pending(&self, piece: PieceIndex) -> bool {
        self.records.iter().any(|record| record.piece == piece)
    }

    /// Pieces of which a good copy is needed to convict somebody.
    pub(super) fn pending(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.records.iter().map(|record| record.piece)
    }

    /// Whether this peer sent parts of a failed copy of `piece`.
    pub(super) fn suspects(&self, piece: PieceIndex, key: PeerKey) -> bool {
        self.records
            .iter()
            .filter(|record| record.piece == piece)
            .any(|record| record.senders.peers.iter().any(|peer| peer.key == key))
    }

    fn take(&mut self, piece: PieceIndex) -> Vec<Record> {
        let all = std::mem::take(&mut self.records);
        let (taken, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|r| r.piece == piece);
        self.records = kept.into();
        self.blocks -= taken.iter().map(|r| r.digests.len()).sum::<usize>();
        taken
    }

    fn trim(&mut self) {
        while self.records.len() > BLAME_RECORDS_MAX || self.blocks > BLAME_BLOCKS_MAX {
            let Some(oldest) = self.records.pop_front() else {
                return;
            };
            self.blocks -= oldest.digests.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Geometry;

    fn peer(n: u8) -> Suspect {
        Suspect {
            key: PeerKey(u64::from(n)),
            addr: ([10, 0, 0, n], 6881).into(),
            listen: None,
            id: PeerId([n; 20]),
        }
    }

    fn piece() -> PieceIndex {
        Geometry::new(10, 1).unwrap().piece(3).unwrap()
    }

    fn senders(of_block: &[Option<u8>]) -> Senders {
        let mut senders = Senders::new(of_block.len());
        for (block, sender) in (0..).zip(of_block) {
            if let Some(sender) = sender {
                senders.set(block, &peer(*sender));
            }
        }
        senders
    }

    #[test]
    fn the_sole_sender_of_a_bad_piece_is_convicted_at_once() {
        let mut blame = Blame::default();
        let liar = blame.failed(piece(), senders(&[Some(1), Some(1)]), vec![[0; 32]; 2]);
        assert_eq!(liar, Some(peer(1)));
        assert!(!blame.is_pending(piece()));
    }

    #[test]
    fn of_several_senders_only_those_whose_blocks_differ_are_convicted() {
        let mut blame = Blame::default();
        let failed = senders(&[Some(1), Some(2), Some(3), Some(2)]);
        let bad = vec![[1; 32], [2; 32], [9; 32], [4; 32]];
        assert_eq!(blame.failed(piece(), failed, bad), None);
        assert!(blame.is_pending(piece()));
        assert!(blame.suspects(piece(), PeerKey(1)) && !blame.suspects(piece(), PeerKey(4)));
        let good = [[1; 32], [2; 32], [3; 32], [4; 32]];
        assert_eq!(blame.verified(piece(), Some(&good)), vec![peer(3)]);
        assert!(!blame.is_pending(piece()));
    }

    #[test]
    fn a_block_of_unknown_sender_convicts_nobody() {
        let mut blame = Blame::default();
        let failed = senders(&[None, Some(2)]);
        assert_eq!(blame.failed(piece(), failed, vec![[9; 32], [2; 32]]), None);
        let good = [[1; 32], [2; 32]];
        assert_eq!(blame.verified(piece(), Some(&good)), vec![]);
    }

    #[test]
    fn records_are_bounded() {
        let mut blame = Blame::default();
        for _ in 0..3 * BLAME_RECORDS_MAX {
            blame.failed(piece(), senders(&[Some(1), Some(2)]), vec![[0; 32]; 2]);
        }
        assert_eq!(blame.records.len(), BLAME_RECORDS_MAX);
        assert_eq!(blame.blocks, 2 * BLAME_RECORDS_MAX);
    }
}
