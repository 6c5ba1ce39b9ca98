//! Sets of pieces: [`Bitfield`] as BEP 3 puts it on the wire, and [`SharedBitfield`], which one task
//! writes and many read.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::geometry::PieceIndex;

/// A set of pieces of a torrent, one bit each, the first piece in the high bit of the first byte (BEP 3).
#[derive(Clone, PartialEq, Eq)]
pub struct Bitfield {
    bytes: Vec<u8>,
    len: u32,
    ones: u32,
}

/// The bytes are not a bitfield of the expected number of pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBitfield {
    /// The number of bytes does not fit the number of pieces.
    #[error("a bitfield of {found} bytes where {expected} are due")]
    Length {
        /// Bytes that the number of pieces takes.
        expected: usize,
        /// Bytes that came.
        found: usize,
    },
    /// A bit after the last piece is set.
    #[error("a bitfield with spare bits set")]
    SpareBits,
}

impl Bitfield {
    /// The empty set, for a torrent of `len` pieces.
    pub fn new(len: u32) -> Self {
        Self {
            bytes: vec![0; bytes_for(len)],
            len,
            ones: 0,
        }
    }

    /// The full set, for a torrent of `len` pieces.
    pub fn full(len: u32) -> Self {
        let mut bytes = vec![0xff; bytes_for(len)];
        clear_spare(&mut bytes, len);
        Self {
            bytes,
            len,
            ones: len,
        }
    }

    /// Reads the wire form.
    ///
    /// # Errors
    /// If the length does not fit `len` pieces or a spare bit is set, both of which BEP 3 calls a reason to drop the peer.
    pub fn from_bytes(bytes: &[u8], len: u32) -> Result<Self, InvalidBitfield> {
        let expected = bytes_for(len);
        if bytes.len() != expected {
            let found = bytes.len();
            return Err(InvalidBitfield::Length { expected, found });
        }
        if let (Some(last), 1..) = (bytes.last(), len % 8)
            && last & (0xff >> (len % 8)) != 0
        {
            return Err(InvalidBitfield::SpareBits);
        }
        Ok(Self {
            bytes: bytes.to_vec(),
            len,
            ones: bytes.iter().map(|byte| byte.count_ones()).sum(),
        })
    }

    /// The wire form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Words of 64 pieces that [`word`](Self::word) gives.
    pub fn words(&self) -> usize {
        self.bytes.len().div_ceil(8)
    }

    /// The 64 pieces from `64 * at` on, the first in the highest bit; zeros for pieces past the end.
    pub fn word(&self, at: usize) -> u64 {
        let rest = self.bytes.get(at * 8..).unwrap_or(&[]);
        match rest.first_chunk() {
            Some(word) => u64::from_be_bytes(*word),
            None => {
                let mut word = [0; 8];
                word[..rest.len()].copy_from_slice(rest);
                u64::from_be_bytes(word)
            }
        }
    }

    /// The pieces that are not in the set.
    pub fn complement(&self) -> Self {
        let mut bytes: Vec<u8> = self.bytes.iter().map(|byte| !byte).collect();
        clear_spare(&mut bytes, self.len);
        Self {
            bytes,
            len: self.len,
            ones: self.len - self.ones,
        }
    }

    /// Number of pieces of the torrent, set or not.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether the torrent has no piece at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of pieces in the set.
    pub fn count(&self) -> u32 {
        self.ones
    }

    /// Whether every piece is in the set.
    pub fn is_full(&self) -> bool {
        self.ones == self.len
    }

    /// Whether `piece` is in the set; false for a piece of another, longer torrent.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        self.bytes
            .get(piece.index() / 8)
            .is_some_and(|byte| byte & mask(piece) != 0)
    }

    /// Adds `piece`; true if it was not there.
    ///
    /// # Panics
    /// If the piece lies past the end: it belongs to another torrent.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        assert!(piece.get() < self.len, "piece {piece} of {}", self.len);
        let byte = &mut self.bytes[piece.index() / 8];
        let new = *byte & mask(piece) == 0;
        *byte |= mask(piece);
        self.ones += u32::from(new);
        new
    }

    /// Removes `piece`; true if it was there.
    ///
    /// # Panics
    /// If the piece lies past the end: it belongs to another torrent.
    pub fn remove(&mut self, piece: PieceIndex) -> bool {
        assert!(piece.get() < self.len, "piece {piece} of {}", self.len);
        let byte = &mut self.bytes[piece.index() / 8];
        let there = *byte & mask(piece) != 0;
        *byte &= !mask(piece);
        self.ones -= u32::from(there);
        there
    }

    /// Numbers of the pieces in the set, in order. `Geometry::piece` turns each into a [`PieceIndex`].
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(&self.bytes).flat_map(|(at, &byte)| {
            let mut rest = byte;
            std::iter::from_fn(move || {
                let bit = rest.leading_zeros();
                (bit < 8).then(|| {
                    rest &= !(0x80 >> bit);
                    at * 8 + bit
                })
            })
        })
    }
}

impl Extend<PieceIndex> for Bitfield {
    fn extend<T: IntoIterator<Item = PieceIndex>>(&mut self, pieces: T) {
        for piece in pieces {
            self.insert(piece);
        }
    }
}

impl fmt::Debug for Bitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bitfield({} of {})", self.ones, self.len)
    }
}

fn bytes_for(len: u32) -> usize {
    len.div_ceil(8) as usize
}

/// Clears the bits of the last byte that stand for no piece.
fn clear_spare(bytes: &mut [u8], len: u32) {
    if let (Some(last), 1..) = (bytes.last_mut(), len % 8) {
        *last &= !(0xff >> (len % 8));
    }
}

fn mask(piece: PieceIndex) -> u8 {
    0x80 >> (piece.get() % 8)
}

/// A set of pieces that one task writes and any number read without a lock.
///
/// It says which pieces may be served: the torrent's task inserts a piece when it is verified and removes it before
/// its bytes are touched; connections look at every request they get.
pub struct SharedBitfield {
    words: Box<[AtomicU64]>,
}

impl SharedBitfield {
    /// A shared copy of `bits`.
    pub fn new(bits: &Bitfield) -> Self {
        let words = (0..bits.words())
            .map(|at| AtomicU64::new(bits.word(at).reverse_bits()))
            .collect();
        Self { words }
    }

    /// Whether `piece` is in the set now.
    pub fn contains(&self, piece: PieceIndex) -> bool {
        self.words
            .get(piece.index() / 64)
            .is_some_and(|word| word.load(Ordering::Acquire) & (1 << (piece.get() % 64)) != 0)
    }

    /// Adds `piece`. Readers that see it also see what was written before.
    pub fn insert(&self, piece: PieceIndex) {
        self.words[piece.index() / 64].fetch_or(1 << (piece.get() % 64), Ordering::Release);
    }

    /// Removes `piece`.
    pub fn remove(&self, piece: PieceIndex) {
        self.words[piece.index() / 64].fetch_and(!(1 << (piece.get() % 64)), Ordering::Release);
    }

    /// The set as it is now, as a [`Bitfield`] of `len` pieces.
    pub fn snapshot(&self, geometry: &super::Geometry) -> Bitfield {
        let len = geometry.pieces();
        let words = self.words.iter();
        let words = words.map(|word| word.load(Ordering::Acquire).reverse_bits());
        let mut bytes: Vec<u8> = words.flat_map(u64::to_be_bytes).collect();
        bytes.resize(bytes_for(len), 0);
        clear_spare(&mut bytes, len);
        let ones = bytes.iter().map(|byte| byte.count_ones()).sum();
        Bitfield { bytes, len, ones }
    }
}

impl fmt::Debug for SharedBitfield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ones: u32 = self
            .words
            .iter()
            .map(|word| word.load(Ordering::Relaxed).count_ones())
            .sum();
        write!(f, "SharedBitfield({ones})")
    }
}

#[cfg(test)]
mod tests {
    use super::super::Geometry;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn spare_bits_and_wrong_lengths_are_refused() {
        assert_eq!(
            Bitfield::from_bytes(&[0xff, 0xff], 9),
            Err(InvalidBitfield::SpareBits)
        );
        assert!(Bitfield::from_bytes(&[0xff, 0x80], 9).unwrap().is_full());
        assert_eq!(
            Bitfield::from_bytes(&[0xff], 9),
            Err(InvalidBitfield::Length {
                expected: 2,
                found: 1
            })
        );
    }

    #[test]
    fn full_sets_no_spare_bit() {
        for len in 0..40 {
            let full = Bitfield::full(len);
            assert_eq!(Bitfield::from_bytes(full.as_bytes(), len), Ok(full));
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(len in 1u32..300, steps in prop::collection::vec((any::<bool>(), any::<u32>()), 0..200)) {
            let geometry = Geometry::new(u64::from(len), 1).unwrap();
            let mut bits = Bitfield::new(len);
            let shared = SharedBitfield::new(&bits);
            let mut model = BTreeSet::new();
            for (add, number) in steps {
                let piece = geometry.piece(number % len).unwrap();
                if add {
                    shared.insert(piece);
                    prop_assert_eq!(bits.insert(piece), model.insert(piece.get()));
                } else {
                    shared.remove(piece);
                    prop_assert_eq!(bits.remove(piece), model.remove(&piece.get()));
                }
                prop_assert_eq!(bits.contains(piece), add);
                prop_assert_eq!(shared.contains(piece), add);
            }
            prop_assert_eq!(bits.count() as usize, model.len());
            prop_assert_eq!(bits.iter().collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(Bitfield::from_bytes(bits.as_bytes(), len), Ok(bits.clone()));
            prop_assert_eq!(&shared.snapshot(&geometry), &bits);
            prop_assert_eq!(&SharedBitfield::new(&bits).snapshot(&geometry), &bits);
            let complement = bits.complement();
            prop_assert_eq!(Bitfield::from_bytes(complement.as_bytes(), len), Ok(complement.clone()));
            for piece in geometry.all_pieces() {
                prop_assert_eq!(complement.contains(piece), !bits.contains(piece));
                let word = bits.word(piece.index() / 64).rotate_left(piece.get() % 64);
                prop_assert_eq!(word >> 63 == 1, bits.contains(piece));
            }
        }
    }
}
