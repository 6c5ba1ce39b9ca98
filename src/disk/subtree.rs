//! BLAKE3 of a whole from its pieces: its tree has a node for every piece whose length is a power of two, so pieces can be
//! hashed in any order, on any thread, in any run, and still give the digest of the whole.

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use super::Layout;
use crate::base::{Geometry, PieceIndex};

/// The chaining value of one piece's node in the BLAKE3 tree of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subtree(pub [u8; 32]);

impl Subtree {
    /// Whether pieces of this layout are nodes of the tree over its files' bytes: they are as long as a power of two, at least
    /// a chunk, and no pad shifts them.
    pub fn fits(layout: &Layout) -> bool {
        let geometry = layout.geometry();
        let piece_len = geometry.piece_len();
        let files: u64 = layout.payload_files().map(|(_, file)| file.length).sum();
        piece_len.is_power_of_two()
            && piece_len as usize >= blake3::CHUNK_LEN
            && geometry.pieces() > 1
            && files == geometry.total()
    }

    /// A hasher for the bytes of `piece`.
    pub(super) fn begin(geometry: &Geometry, piece: PieceIndex) -> Hasher {
        let mut hasher = Hasher::new();
        hasher.set_input_offset(geometry.offset_of(piece));
        hasher
    }

    /// The node, once the hasher has seen the piece.
    pub(super) fn of(hasher: &Hasher) -> Self {
        Self(hasher.finalize_non_root())
    }

    /// The digest of the whole from the nodes of all its pieces, in order; `None` of fewer than two.
    pub fn merge(pieces: &[Self]) -> Option<[u8; 32]> {
        let (left, right) = halves(pieces)?;
        let root = merge_subtrees_root(&node(left), &node(right), Mode::Hash);
        Some(*root.as_bytes())
    }
}

/// Left of a node is the largest power of two that leaves something for the right.
fn halves(pieces: &[Subtree]) -> Option<(&[Subtree], &[Subtree])> {
    let left = pieces.len().checked_sub(1)?.checked_ilog2()?;
    Some(pieces.split_at(1 << left))
}

/// Recursion goes as deep as the tree: at most 21 levels over `PIECES_MAX` pieces.
fn node(pieces: &[Subtree]) -> [u8; 32] {
    match halves(pieces) {
        Some((left, right)) => merge_subtrees_non_root(&node(left), &node(right), Mode::Hash),
        None => pieces[0].0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_pieces_of_any_payload_give_the_digest_of_the_whole(
            len in 1_025usize..100_000,
            exponent in 10u32..15,
            salt: u8,
        ) {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 31 / 7) as u8 ^ salt).collect();
            let geometry = Geometry::new(len as u64, 1 << exponent).unwrap();
            let of = |piece| {
                let start = geometry.offset_of(piece) as usize;
                let mut hasher = Subtree::begin(&geometry, piece);
                hasher.update(&bytes[start..start + geometry.len_of(piece) as usize]);
                Subtree::of(&hasher)
            };
            let pieces: Vec<_> = geometry.all_pieces().map(of).collect();
            let whole = (pieces.len() > 1).then(|| *blake3::hash(&bytes).as_bytes());
            prop_assert_eq!(Subtree::merge(&pieces), whole);
        }
    }
}
