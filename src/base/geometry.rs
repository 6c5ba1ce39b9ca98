//! How a torrent's bytes are cut: pieces (BEP 3) and, within a piece, blocks of 16 KiB.
//!
//! A [`PieceIndex`] or [`BlockRange`] can only be had from the [`Geometry`] it lies in, so one that
//! exists is in bounds. The payload is treated as one run of bytes; files are a concern of `disk`.

use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;

/// The unit of requests: 16 KiB, as every client uses it.
pub const BLOCK_LEN: u32 = 16 * 1024;

/// The length of a torrent's payload and of its pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    piece_len: NonZeroU32,
    total: u64,
    pieces: u32,
}

/// The number of a piece that exists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(u32);

impl PieceIndex {
    /// The index as the wire carries it.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The index as a place in an array.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A run of bytes within one piece: never empty, never past the piece's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRange {
    piece: PieceIndex,
    begin: u32,
    len: NonZeroU32,
}

#[allow(clippy::len_without_is_empty, reason = "a range is never empty")]
impl BlockRange {
    /// The piece that the range lies in.
    pub fn piece(self) -> PieceIndex {
        self.piece
    }

    /// Offset of the first byte within the piece.
    pub fn begin(self) -> u32 {
        self.begin
    }

    /// Number of bytes.
    pub fn len(self) -> u32 {
        self.len.get()
    }

    /// Offset within the piece of the first byte after the range.
    pub fn end(self) -> u32 {
        self.begin + self.len.get()
    }

    /// Indices, within the piece, of the blocks that the range touches.
    pub fn blocks(self) -> Range<u32> {
        self.begin / BLOCK_LEN..self.end().div_ceil(BLOCK_LEN)
    }
}

impl Geometry {
    /// A payload of `total` bytes in pieces of `piece_len`; the last piece may be shorter.
    ///
    /// `None` if `piece_len` is 0 or there would be more than `u32::MAX` pieces.
    pub fn new(total: u64, piece_len: u32) -> Option<Self> {
        let piece_len = NonZeroU32::new(piece_len)?;
        let pieces = u32::try_from(total.div_ceil(u64::from(piece_len.get()))).ok()?;
        Some(Self {
            piece_len,
            total,
            pieces,
        })
    }

    /// Bytes of the whole payload.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Bytes of every piece but the last.
    pub fn piece_len(&self) -> u32 {
        self.piece_len.get()
    }

    /// Number of pieces; 0 for an empty payload.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// The piece with this number, if there is one.
    pub fn piece(&self, index: u32) -> Option<PieceIndex> {
        (index < self.pieces).then_some(PieceIndex(index))
    }

    /// All pieces in order.
    pub fn all_pieces(
        &self,
    ) -> impl ExactSizeIterator<Item = PieceIndex> + DoubleEndedIterator + use<> {
        (0..self.pieces).map(PieceIndex)
    }

    /// Bytes of `piece`, which is shorter than the others if it is the last.
    pub fn len_of(&self, piece: PieceIndex) -> u32 {
        let rest = self.total - self.offset_of(piece);
        rest.min(u64::from(self.piece_len())) as u32
    }

    /// Where `piece` begins in the payload.
    pub fn offset_of(&self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_len())
    }

    /// Number of blocks in `piece`.
    pub fn blocks_in(&self, piece: PieceIndex) -> u32 {
        self.len_of(piece).div_ceil(BLOCK_LEN)
    }

    /// The range as a message names it, if it lies within one piece and is not empty.
    pub fn range(&self, piece: u32, begin: u32, len: u32) -> Option<BlockRange> {
        let piece = self.piece(piece)?;
        let len = NonZeroU32::new(len)?;
        let end = begin.checked_add(len.get())?;
        (end <= self.len_of(piece)).then_some(BlockRange { piece, begin, len })
    }

    /// The bytes of a run of whole blocks of `piece`; `None` if empty or out of bounds.
    pub fn run(&self, piece: PieceIndex, blocks: Range<u32>) -> Option<BlockRange> {
        if blocks.start >= blocks.end || blocks.end > self.blocks_in(piece) {
            return None;
        }
        let begin = blocks.start * BLOCK_LEN;
        let end = (u64::from(blocks.end) * u64::from(BLOCK_LEN)).min(u64::from(self.len_of(piece)));
        self.range(piece.0, begin, end as u32 - begin)
    }

    /// The whole of `piece`.
    pub fn whole(&self, piece: PieceIndex) -> BlockRange {
        let len = NonZeroU32::new(self.len_of(piece));
        let len = len.expect("a piece that exists has at least one byte");
        BlockRange {
            piece,
            begin: 0,
            len,
        }
    }

    /// Whether `range` is all of its piece.
    pub fn is_whole(&self, range: BlockRange) -> bool {
        range == self.whole(range.piece)
    }

    /// Whether `range` begins and ends on block boundaries (or at the piece's end).
    pub fn is_aligned(&self, range: BlockRange) -> bool {
        self.run(range.piece, range.blocks()) == Some(range)
    }

    /// Where `range` begins in the payload.
    pub fn offset(&self, range: BlockRange) -> u64 {
        self.offset_of(range.piece) + u64::from(range.begin)
    }

    /// Numbers of the pieces that the payload bytes `bytes` touch; empty for an empty range.
    pub fn pieces_touching(&self, bytes: Range<u64>) -> impl Iterator<Item = PieceIndex> + use<> {
        let end = bytes.end.min(self.total);
        let piece_len = u64::from(self.piece_len());
        let range = if bytes.start >= end {
            0..0
        } else {
            (bytes.start / piece_len) as u32..end.div_ceil(piece_len) as u32
        };
        range.map(PieceIndex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_piece_length_of_zero_is_refused() {
        assert_eq!(Geometry::new(10, 0), None);
    }

    #[test]
    fn more_pieces_than_the_wire_can_name_are_refused() {
        assert_eq!(Geometry::new(u64::MAX, 16384), None);
    }

    #[test]
    fn an_empty_payload_has_no_piece() {
        let geometry = Geometry::new(0, 16384).unwrap();
        assert_eq!(geometry.pieces(), 0);
        assert_eq!(geometry.piece(0), None);
    }

    #[test]
    fn a_range_past_the_end_does_not_exist() {
        let geometry = Geometry::new(40_000, 32_768).unwrap();
        assert!(geometry.range(1, 0, 7_232).is_some());
        assert_eq!(geometry.range(1, 0, 7_233), None);
        assert_eq!(geometry.range(0, u32::MAX, 1), None);
        assert_eq!(geometry.range(0, 1, u32::MAX), None);
        assert_eq!(geometry.range(0, 1, 0), None);
        assert_eq!(geometry.range(2, 0, 1), None);
    }

    proptest! {
        #[test]
        fn pieces_and_blocks_tile_the_payload(total in 1u64..5_000_000, piece_len in 1u32..200_000) {
            let geometry = Geometry::new(total, piece_len).unwrap();
            let mut next = 0;
            for piece in geometry.all_pieces() {
                prop_assert_eq!(geometry.offset_of(piece), next);
                let mut within = 0;
                for block in 0..geometry.blocks_in(piece) {
                    let range = geometry.run(piece, block..block + 1).unwrap();
                    prop_assert_eq!(range.begin(), within);
                    prop_assert_eq!(range.blocks(), block..block + 1);
                    prop_assert!(geometry.is_aligned(range));
                    within = range.end();
                }
                prop_assert_eq!(within, geometry.len_of(piece));
                prop_assert!(geometry.is_whole(geometry.whole(piece)));
                next += u64::from(within);
            }
            prop_assert_eq!(next, total);
        }

        #[test]
        fn pieces_touching_agrees_with_a_scan(total in 1u64..100_000, piece_len in 1u32..9_000, a in 0u64..110_000, b in 0u64..110_000) {
            let geometry = Geometry::new(total, piece_len).unwrap();
            let found: Vec<_> = geometry.pieces_touching(a..b).collect();
            let scanned: Vec<_> = geometry
                .all_pieces()
                .filter(|&piece| {
                    let begin = geometry.offset_of(piece);
                    let end = begin + u64::from(geometry.len_of(piece));
                    a < b && begin < b && a < end
                })
                .collect();
            prop_assert_eq!(found, scanned);
        }
    }
}
