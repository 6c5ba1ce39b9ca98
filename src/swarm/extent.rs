//! Neighbours: pieces that lie together are begun together where rarity leaves the choice.
//!
//! What is written next to each other within moments is written, synced and read back in long runs, and a small file is whole after one
//! sync or two. Measured on a download of 5,000 files of 420 KB: an eighth less time and CPU than with every piece from a random place. Only
//! where seeds abound: leechers that depend on each other must not all fetch the same.

use crate::base::{Geometry, PieceIndex};

/// Bytes of an extent at most.
const BYTES: u32 = 4 << 20;
/// Pieces of an extent at most: as many as fit into a word of a bitfield.
const PIECES: u32 = u64::BITS;

/// The extents of a torrent, each of as many pieces from a multiple of that number on, and how far the one at hand is begun.
#[derive(Debug)]
pub(super) struct Extents {
    /// Pieces of each: a power of two that is at most [`PIECES`], so that none begins in one word and ends in the next.
    pieces: u32,
    last: Option<PieceIndex>,
}

impl Extents {
    /// Nothing is begun.
    pub(super) fn new(geometry: &Geometry) -> Self {
        let pieces = (BYTES / geometry.piece_len()).clamp(1, PIECES);
        Self {
            pieces: 1 << pieces.ilog2(),
            last: None,
        }
    }

    /// `piece` was begun.
    pub(super) fn begun(&mut self, piece: PieceIndex) {
        self.last = Some(piece);
    }

    /// The number of the piece after the one that was begun last, unless that was the end of an extent.
    pub(super) fn next(&self) -> Option<u32> {
        let next = self.last?.get() + 1;
        (!next.is_multiple_of(self.pieces)).then_some(next)
    }

    /// The place of the first bit of `word` from `place` on that is set, unless the extent ends before; the highest bit is the first, as in a
    /// [`Bitfield`](crate::base::Bitfield).
    pub(super) fn rest(&self, word: u64, place: u32) -> Option<u32> {
        let first = place + (word << place).leading_zeros();
        (first < self.start(place) + self.pieces).then_some(first)
    }

    /// The place of the first bit of `word` that is set and belongs to the extent of the one at `place`, which is set.
    pub(super) fn first(&self, word: u64, place: u32) -> u32 {
        let start = self.start(place);
        start + (word << start).leading_zeros()
    }

    fn start(&self, place: u32) -> u32 {
        place - place % self.pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extents(piece_len: u32) -> (Geometry, Extents) {
        let geometry = Geometry::new(u64::from(piece_len) * 1_000, piece_len).unwrap();
        (geometry, Extents::new(&geometry))
    }

    #[test]
    fn an_extent_is_of_four_mebibytes_and_within_a_word() {
        let pieces = |piece_len| extents(piece_len).1.pieces;
        assert_eq!(pieces(256 << 10), 16);
        assert_eq!(pieces(2 << 20), 2);
        // Not of a length that divides it.
        assert_eq!(pieces(1_000_000), 4);
        assert_eq!(pieces(16 << 10), 64);
        assert_eq!(pieces(1), 64);
        assert_eq!(pieces(4 << 20), 1);
        assert_eq!(pieces(64 << 20), 1);
    }

    #[test]
    fn one_piece_follows_another_until_the_extent_ends() {
        let (geometry, mut extents) = extents(1 << 20);
        assert_eq!(extents.next(), None);
        let mut after = |number| {
            extents.begun(geometry.piece(number).unwrap());
            extents.next()
        };
        assert_eq!(after(4), Some(5));
        assert_eq!(after(6), Some(7));
        assert_eq!(after(7), None);
    }

    proptest! {
        #[test]
        fn the_first_of_an_extent_and_of_its_rest_are_what_a_search_finds(
            one: u64,
            other: u64,
            place in 0u32..64,
            shift in 0u32..=22,
        ) {
            let (_, extents) = extents(1 << shift);
            // One bit in four, so that there are gaps.
            let word = one & other;
            let is_set = |&place: &u32| word & (1 << (63 - place)) != 0;
            let start = place / extents.pieces * extents.pieces;
            let end = start + extents.pieces;
            prop_assert_eq!(extents.rest(word, place), (place..end).find(is_set));
            if is_set(&place) {
                prop_assert_eq!(Some(extents.first(word, place)), (start..end).find(is_set));
            }
        }
    }
}
