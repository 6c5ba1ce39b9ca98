//! How many peers have each piece, and which pieces are still to be begun, in order of rarity.
//!
//! Pieces that may be begun lie in one bucket per number of copies; a piece changes buckets by a swap, so hearing of a
//! copy, beginning a piece and giving one back are all O(1). Peers that have everything shift all pieces alike and are
//! only counted.

use crate::base::{Bitfield, Geometry, PieceIndex};

const ABSENT: u32 = u32::MAX;

/// Copies of each piece among the connected peers.
#[derive(Debug)]
pub(super) struct Availability {
    geometry: Geometry,
    /// Copies of each piece, less those of seeds.
    copies: Vec<u32>,
    seeds: u32,
    /// Pieces that may be begun, by copies.
    buckets: Vec<Vec<PieceIndex>>,
    /// Where in its bucket each piece lies, or [`ABSENT`].
    slots: Vec<u32>,
    pickable: Bitfield,
}

impl Availability {
    /// Nobody is there, and every piece may be begun.
    pub(super) fn new(geometry: Geometry) -> Self {
        let pieces = geometry.pieces();
        Self {
            geometry,
            copies: vec![0; pieces as usize],
            seeds: 0,
            buckets: vec![geometry.all_pieces().collect()],
            slots: (0..pieces).collect(),
            pickable: Bitfield::full(pieces),
        }
    }

    /// Pieces that may be begun.
    pub(super) fn pickable(&self) -> &Bitfield {
        &self.pickable
    }

    /// Pieces that may be begun, rarest bucket first.
    pub(super) fn buckets(&self) -> &[Vec<PieceIndex>] {
        &self.buckets
    }

    /// Connected peers that have `piece`.
    pub(super) fn count(&self, piece: PieceIndex) -> u32 {
        self.copies[piece.index()] + self.seeds
    }

    pub(super) fn add_seed(&mut self) {
        self.seeds += 1;
    }

    pub(super) fn remove_seed(&mut self) {
        self.seeds -= 1;
    }

    /// A peer that is no seed has `piece`.
    pub(super) fn add(&mut self, piece: PieceIndex) {
        self.change(piece, self.copies[piece.index()] + 1);
    }

    /// A peer that is no seed has `piece` no longer.
    pub(super) fn remove(&mut self, piece: PieceIndex) {
        self.change(piece, self.copies[piece.index()] - 1);
    }

    /// A peer that is no seed has these pieces.
    pub(super) fn add_all(&mut self, bits: &Bitfield) {
        let geometry = self.geometry;
        for piece in bits.iter().filter_map(|n| geometry.piece(n)) {
            self.add(piece);
        }
    }

    /// A peer that is no seed has these pieces no longer.
    pub(super) fn remove_all(&mut self, bits: &Bitfield) {
        let geometry = self.geometry;
        for piece in bits.iter().filter_map(|n| geometry.piece(n)) {
            self.remove(piece);
        }
    }

    /// Says whether `piece` may be begun.
    pub(super) fn set_pickable(&mut self, piece: PieceIndex, yes: bool) {
        if yes == self.pickable.contains(piece) {
            return;
        }
        if yes {
            self.pickable.insert(piece);
            self.enter(piece);
        } else {
            self.pickable.remove(piece);
            self.leave(piece);
        }
    }

    fn change(&mut self, piece: PieceIndex, copies: u32) {
        let listed = self.slots[piece.index()] != ABSENT;
        if listed {
            self.leave(piece);
        }
        self.copies[piece.index()] = copies;
        if listed {
            self.enter(piece);
        }
    }

    fn enter(&mut self, piece: PieceIndex) {
        let copies = self.copies[piece.index()] as usize;
        if self.buckets.len() <= copies {
            self.buckets.resize_with(copies + 1, Vec::new);
        }
        self.slots[piece.index()] = self.buckets[copies].len() as u32;
        self.buckets[copies].push(piece);
    }

    fn leave(&mut self, piece: PieceIndex) {
        let slot = std::mem::replace(&mut self.slots[piece.index()], ABSENT) as usize;
        let bucket = &mut self.buckets[self.copies[piece.index()] as usize];
        bucket.swap_remove(slot);
        if let Some(moved) = bucket.get(slot) {
            self.slots[moved.index()] = slot as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn buckets_agree_with_counting_anew(steps in prop::collection::vec((0u8..4, 0u32..40), 0..400)) {
            let geometry = Geometry::new(40, 1).unwrap();
            let mut availability = Availability::new(geometry);
            let mut copies = [0u32; 40];
            let mut pickable = [true; 40];
            for (step, number) in steps {
                let piece = geometry.piece(number).unwrap();
                match step {
                    0 => { availability.add(piece); copies[piece.index()] += 1; }
                    1 if copies[piece.index()] > 0 => { availability.remove(piece); copies[piece.index()] -= 1; }
                    1 => {}
                    2 => { availability.set_pickable(piece, true); pickable[piece.index()] = true; }
                    _ => { availability.set_pickable(piece, false); pickable[piece.index()] = false; }
                }
            }
            let mut expected: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            for piece in geometry.all_pieces() {
                prop_assert_eq!(availability.count(piece), copies[piece.index()]);
                prop_assert_eq!(availability.pickable().contains(piece), pickable[piece.index()]);
                if pickable[piece.index()] {
                    expected.entry(copies[piece.index()]).or_default().push(piece.get());
                }
            }
            for (count, bucket) in availability.buckets().iter().enumerate() {
                let mut found: Vec<u32> = bucket.iter().map(|piece| piece.get()).collect();
                found.sort_unstable();
                prop_assert_eq!(found, expected.remove(&(count as u32)).unwrap_or_default());
            }
            prop_assert!(expected.is_empty());
        }
    }
}
