//! The state of every piece, and of every block of the pieces that are under way.
//!
//! A piece is missing, under way, being hashed, or verified. A block of a piece under way is *missing* (and then asked of nobody
//! or of one to three peers), *in hand* (received, not stored yet) or *stored*. Only pieces under way take memory per block.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::action::{PeerKey, Start};
use super::blame::{Senders, Suspect};
use crate::base::{BLOCK_LEN, Bitfield, Geometry, PieceIndex};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    Missing,
    InHand,
    Stored,
}

/// A piece under way or being hashed.
#[derive(Debug)]
pub(super) struct Partial {
    blocks: Vec<Block>,
    /// How many peers are asked for each block.
    copies: Vec<u8>,
    senders: Senders,
    /// Blocks that are missing and asked of nobody.
    free: u32,
    stored: u32,
    /// Blocks that are in hand or stored.
    received: u32,
    /// No block before this one is free.
    cursor: u32,
    checking: bool,
}

impl Partial {
    fn new(blocks: u32) -> Self {
        Self {
            blocks: vec![Block::Missing; blocks as usize],
            copies: vec![0; blocks as usize],
            senders: Senders::new(blocks as usize),
            free: blocks,
            stored: 0,
            received: 0,
            cursor: 0,
            checking: false,
        }
    }

    /// Blocks that are missing and asked of nobody.
    pub(super) fn free(&self) -> u32 {
        self.free
    }

    /// Whether `block` is missing and fewer than `most` peers are asked for it.
    pub(super) fn wants(&self, block: u32, most: u8) -> bool {
        self.blocks[block as usize] == Block::Missing && self.copies[block as usize] < most
    }

    fn is_free(&self, block: u32) -> bool {
        self.wants(block, 1)
    }

    fn is_untouched(&self) -> bool {
        self.free as usize == self.blocks.len()
    }

    fn set_missing(&mut self, block: u32) {
        let at = block as usize;
        self.stored -= u32::from(self.blocks[at] == Block::Stored);
        self.received -= u32::from(self.blocks[at] != Block::Missing);
        self.blocks[at] = Block::Missing;
        self.senders.clear(block);
        if self.copies[at] == 0 {
            self.free += 1;
            self.cursor = self.cursor.min(block);
        }
    }

    fn set_stored(&mut self, block: u32) {
        self.received += u32::from(self.blocks[block as usize] == Block::Missing);
        self.blocks[block as usize] = Block::Stored;
        self.stored += 1;
    }

    /// What this piece, of `len` bytes, adds to [`PieceMap::promised`] once `more` of its free blocks are asked for.
    fn promised(&self, len: u32, more: u32) -> u64 {
        let free = self.free - more;
        if free == 0 {
            return u64::from(len);
        }
        let asked = self.blocks.len() as u32 - free - self.received;
        u64::from(asked) * u64::from(BLOCK_LEN)
    }
}

/// The state of all pieces.
#[derive(Debug)]
pub(super) struct PieceMap {
    geometry: Geometry,
    verified: Bitfield,
    durable: Bitfield,
    partial: BTreeMap<PieceIndex, Partial>,
    /// Pieces under way that have free blocks.
    open: BTreeSet<PieceIndex>,
    promised: u64,
}

impl PieceMap {
    /// The state at the start. Ranges of verified pieces and ranges that are not whole blocks are passed over.
    pub(super) fn new(geometry: Geometry, start: Start) -> Self {
        let mut map = Self {
            geometry,
            verified: start.verified,
            durable: start.durable,
            partial: BTreeMap::new(),
            open: BTreeSet::new(),
            promised: 0,
        };
        for range in start.partial {
            let piece = range.piece();
            if !map.verified.contains(piece) && geometry.is_aligned(range) {
                map.begin(piece);
                map.change(piece, |partial| {
                    for block in range.blocks() {
                        if partial.is_free(block) {
                            partial.free -= 1;
                            partial.set_stored(block);
                        }
                    }
                });
            }
        }
        map
    }

    pub(super) fn verified(&self) -> &Bitfield {
        &self.verified
    }

    pub(super) fn durable(&self) -> &Bitfield {
        &self.durable
    }

    /// Whether nothing of `piece` was received or asked for.
    pub(super) fn is_missing(&self, piece: PieceIndex) -> bool {
        !self.verified.contains(piece) && !self.partial.contains_key(&piece)
    }

    /// Pieces under way that have free blocks.
    pub(super) fn open(&self) -> &BTreeSet<PieceIndex> {
        &self.open
    }

    /// The piece, if it is under way or being hashed.
    pub(super) fn partial(&self, piece: PieceIndex) -> Option<&Partial> {
        self.partial.get(&piece)
    }

    /// Pieces under way or being hashed.
    pub(super) fn under_way(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.partial.keys().copied()
    }

    /// Puts a missing piece under way; true if it was missing.
    pub(super) fn begin(&mut self, piece: PieceIndex) -> bool {
        if !self.is_missing(piece) {
            return false;
        }
        let blocks = self.geometry.blocks_in(piece);
        self.partial.insert(piece, Partial::new(blocks));
        self.open.insert(piece);
        true
    }

    /// Bytes that may be verified without another block being asked for, and bytes that are on their way besides: whole pieces
    /// of which every block is asked for or received, and what is asked for of the others. Copies count once.
    ///
    /// Stored blocks of a piece that has free ones do not count: they cannot be verified before more is asked for, and were
    /// they to count, many unfinished pieces could use up an allowance that only their ends would give back.
    pub(super) fn promised(&self) -> u64 {
        self.promised
    }

    /// What would be promised besides `piece`, and of `piece`, were these many free blocks of it asked for.
    pub(super) fn promised_with(&self, piece: PieceIndex, more: u32) -> (u64, u64) {
        let len = self.geometry.len_of(piece);
        let Some(partial) = self.partial.get(&piece) else {
            return (self.promised, 0);
        };
        let others = self.promised - partial.promised(len, 0);
        (others, partial.promised(len, more))
    }

    /// Forgets that a piece was begun if nothing came of it.
    pub(super) fn abandon(&mut self, piece: PieceIndex) {
        self.change(piece, |_| {});
    }

    /// The first run of at most `most` free blocks of a piece under way.
    pub(super) fn free_run(&self, piece: PieceIndex, most: u32) -> Option<Range<u32>> {
        let partial = self.partial.get(&piece)?;
        let count = partial.blocks.len() as u32;
        let start = (partial.cursor..count).find(|&block| partial.is_free(block))?;
        let limit = count.min(start.saturating_add(most));
        let end = (start..limit).find(|&block| !partial.is_free(block));
        let run = start..end.unwrap_or(limit);
        (!run.is_empty()).then_some(run)
    }

    /// One more peer is asked for these blocks of a piece under way.
    pub(super) fn ask(&mut self, piece: PieceIndex, blocks: Range<u32>) {
        self.change(piece, |partial| {
            if partial.cursor == blocks.start {
                partial.cursor = blocks.end;
            }
            for block in blocks {
                partial.free -= u32::from(partial.is_free(block));
                partial.copies[block as usize] += 1;
            }
        });
    }

    /// One peer less is asked for these blocks; true if a block became free.
    pub(super) fn give_back(&mut self, piece: PieceIndex, blocks: Range<u32>) -> bool {
        let before = self.partial.get(&piece).map_or(0, |partial| partial.free);
        let mut after = before;
        self.change(piece, |partial| {
            for block in blocks {
                partial.copies[block as usize] -= 1;
                if partial.is_free(block) {
                    partial.free += 1;
                    partial.cursor = partial.cursor.min(block);
                }
            }
            after = partial.free;
        });
        after > before
    }

    /// Blocks came from a peer that was asked for them: says which of them are new, in runs.
    pub(super) fn receive(
        &mut self,
        piece: PieceIndex,
        blocks: Range<u32>,
        sender: &Suspect,
    ) -> Vec<Range<u32>> {
        let mut fresh: Vec<Range<u32>> = Vec::new();
        self.change(piece, |partial| {
            for block in blocks {
                let at = block as usize;
                partial.copies[at] -= 1;
                if partial.checking || partial.blocks[at] != Block::Missing {
                    continue;
                }
                partial.blocks[at] = Block::InHand;
                partial.received += 1;
                partial.senders.set(block, sender);
                match fresh.last_mut() {
                    Some(run) if run.end == block => run.end += 1,
                    _ => fresh.push(block..block + 1),
                }
            }
        });
        fresh
    }

    /// The piece is being hashed from now on.
    pub(super) fn check(&mut self, piece: PieceIndex) {
        self.change(piece, |partial| partial.checking = true);
    }

    /// Blocks in hand are stored.
    pub(super) fn store(&mut self, piece: PieceIndex, blocks: Range<u32>) {
        self.change(piece, |partial| {
            for block in blocks {
                if !partial.checking && partial.blocks[block as usize] == Block::InHand {
                    partial.set_stored(block);
                }
            }
        });
    }

    /// Whether every block of a piece under way is stored, and nobody hashes it yet.
    pub(super) fn is_stored(&self, piece: PieceIndex) -> bool {
        self.partial
            .get(&piece)
            .is_some_and(|p| !p.checking && p.stored as usize == p.blocks.len())
    }

    /// Whether the piece is being hashed.
    pub(super) fn is_checking(&self, piece: PieceIndex) -> bool {
        self.partial.get(&piece).is_some_and(|p| p.checking)
    }

    /// The piece is verified; true if it was not before. Says who sent it.
    pub(super) fn verify(&mut self, piece: PieceIndex) -> (bool, Option<Senders>) {
        let partial = self.partial.remove(&piece);
        self.open.remove(&piece);
        let len = self.geometry.len_of(piece);
        self.promised -= partial.as_ref().map_or(0, |p| p.promised(len, 0));
        let new = self.verified.insert(piece);
        (new, partial.map(|partial| partial.senders))
    }

    /// The hash of the piece did not match: all its blocks are missing again. Says who sent them.
    pub(super) fn fail(&mut self, piece: PieceIndex) -> Option<Senders> {
        let mut senders = None;
        self.change(piece, |partial| {
            let count = partial.blocks.len();
            let fresh = Senders::new(count);
            senders = Some(std::mem::replace(&mut partial.senders, fresh));
            partial.checking = false;
            for block in 0..count as u32 {
                if partial.blocks[block as usize] != Block::Missing {
                    partial.set_missing(block);
                }
            }
        });
        senders
    }

    /// These pieces are durable, if they are verified still.
    pub(super) fn make_durable(&mut self, piece: PieceIndex) {
        if self.verified.contains(piece) {
            self.durable.insert(piece);
        }
    }

    /// What is on disk of the piece can no longer be trusted. A piece that is being hashed is left to the hash.
    pub(super) fn lose(&mut self, piece: PieceIndex) {
        self.verified.remove(piece);
        self.durable.remove(piece);
        self.change(piece, |partial| {
            for block in 0..partial.blocks.len() as u32 {
                if !partial.checking && partial.blocks[block as usize] == Block::Stored {
                    partial.set_missing(block);
                }
            }
        });
    }

    /// What this peer sent of pieces that are not being hashed yet is missing again; says of which pieces, and how many blocks.
    pub(super) fn disown(&mut self, key: PeerKey) -> Vec<(PieceIndex, u32)> {
        let mut disowned = Vec::new();
        for piece in self.under_way().collect::<Vec<_>>() {
            let mut count = 0;
            self.change(piece, |partial| {
                for block in 0..partial.blocks.len() as u32 {
                    let stored = partial.blocks[block as usize] == Block::Stored;
                    let sender = partial.senders.of(block as usize);
                    if stored && !partial.checking && sender.is_some_and(|s| s.key == key) {
                        partial.set_missing(block);
                        count += 1;
                    }
                }
            });
            if count > 0 {
                disowned.push((piece, count));
            }
        }
        disowned
    }

    /// Stored blocks of unfinished pieces, as runs of blocks: what an orderly stop keeps.
    pub(super) fn stored_runs(&self) -> impl Iterator<Item = (PieceIndex, Range<u32>)> + '_ {
        self.partial.iter().flat_map(|(&piece, partial)| {
            let mut at = 0;
            let runs = partial.blocks.chunk_by(|a, b| a == b);
            runs.filter_map(move |run| {
                let blocks = at..at + run.len() as u32;
                at = blocks.end;
                (run[0] == Block::Stored).then_some((piece, blocks))
            })
        })
    }

    /// Changes a piece under way and keeps the set of open pieces and the sum of what is promised true.
    fn change(&mut self, piece: PieceIndex, with: impl FnOnce(&mut Partial)) {
        let Some(partial) = self.partial.get_mut(&piece) else {
            return;
        };
        let len = self.geometry.len_of(piece);
        self.promised -= partial.promised(len, 0);
        with(partial);
        self.promised += partial.promised(len, 0);
        if partial.is_untouched() && !partial.checking {
            self.partial.remove(&piece);
            self.open.remove(&piece);
        } else if partial.free > 0 {
            self.open.insert(piece);
        } else {
            self.open.remove(&piece);
        }
    }

    /// Panics unless all counts agree with the blocks and with `asked`, which says how many peers hold a block.
    #[cfg(test)]
    pub(super) fn assert_consistent(&self, asked: impl Fn(PieceIndex, u32) -> usize) {
        for (&piece, partial) in &self.partial {
            assert!(!self.verified.contains(piece));
            let blocks = 0..partial.blocks.len() as u32;
            for block in blocks.clone() {
                let copies = usize::from(partial.copies[block as usize]);
                assert_eq!(copies, asked(piece, block), "copies of {piece}/{block}");
                assert!(!partial.is_free(block) || block >= partial.cursor);
                let missing = partial.blocks[block as usize] == Block::Missing;
                assert!(!missing || partial.senders.of(block as usize).is_none());
                assert!(!missing || !partial.checking);
            }
            let free = blocks.clone().filter(|&b| partial.is_free(b)).count();
            assert_eq!(free, partial.free as usize);
            let stored = partial.blocks.iter().filter(|&&b| b == Block::Stored);
            assert_eq!(stored.count(), partial.stored as usize);
            let received = partial.blocks.iter().filter(|&&b| b != Block::Missing);
            assert_eq!(received.count(), partial.received as usize);
            assert_eq!(self.open.contains(&piece), free > 0);
            assert!(!partial.is_untouched());
        }
        let each = self.partial.iter();
        let promised = each.map(|(&piece, p)| p.promised(self.geometry.len_of(piece), 0));
        assert_eq!(promised.sum::<u64>(), self.promised);
        assert!(self.open.iter().all(|p| self.partial.contains_key(p)));
        assert!(self.durable.iter().all(|n| {
            let piece = self.geometry.piece(n).unwrap();
            self.verified.contains(piece)
        }));
    }
}
