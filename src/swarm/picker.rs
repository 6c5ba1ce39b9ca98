//! Which piece to begin next with a peer: the rarest that it has, ties at random.
//!
//! Rarest first keeps the copies of all pieces about equal and brings rare pieces out of a lone seed before it leaves. The very
//! first pieces are taken at random instead: rare ones come slowly, and without any piece there is nothing to trade.

use super::availability::Availability;
use super::peers::Have;
use crate::base::{Geometry, PieceIndex, Random};

/// Pieces looked at in order of rarity before a sample is taken instead: bounds the work at a peer that has little of what is rare.
const SCAN_MAX: usize = 4_096;
/// Pieces of that sample.
const SAMPLE: usize = 64;

/// The rarest piece that may be begun and that the peer has; of equally rare ones, any.
///
/// Exact for as long as the first [`SCAN_MAX`] pieces in order of rarity hold one; beyond, the rarest of a random sample.
pub(super) fn rarest(
    random: &mut Random,
    availability: &Availability,
    geometry: &Geometry,
    have: &Have,
) -> Option<PieceIndex> {
    if have.is_none() {
        return None;
    }
    // Copies of seeds are counted apart, so what nobody else has lies in the first bucket.
    let hopeless = usize::from(!have.is_all());
    let mut budget = SCAN_MAX;
    for bucket in availability.buckets().iter().skip(hopeless) {
        if bucket.is_empty() {
            continue;
        }
        let (before, after) = bucket.split_at(random.below(bucket.len()));
        for &piece in after.iter().chain(before).take(budget) {
            if have.contains(piece) {
                return Some(piece);
            }
        }
        budget = budget.saturating_sub(bucket.len());
        if budget == 0 {
            return candidates(random, availability, geometry, have)
                .take(SAMPLE)
                .min_by_key(|&piece| availability.count(piece));
        }
    }
    None
}

/// Any piece that may be begun and that the peer has.
pub(super) fn at_random(
    random: &mut Random,
    availability: &Availability,
    geometry: &Geometry,
    have: &Have,
) -> Option<PieceIndex> {
    candidates(random, availability, geometry, have).next()
}

/// Pieces that may be begun and that the peer has, in order from a random place, once around.
fn candidates<'a>(
    random: &mut Random,
    availability: &'a Availability,
    geometry: &'a Geometry,
    have: &'a Have,
) -> impl Iterator<Item = PieceIndex> + 'a {
    let pickable = availability.pickable().as_bytes();
    let start = random.below(pickable.len().max(1));
    let turn = (random.next() % 8) as u32;
    (start..pickable.len())
        .chain(0..start)
        .flat_map(move |at| {
            let mut rest = (pickable[at] & have.byte(at)).rotate_left(turn);
            std::iter::from_fn(move || {
                let bit = rest.leading_zeros();
                (bit < 8).then(|| {
                    rest &= !(0x80 >> bit);
                    at as u32 * 8 + (bit + turn) % 8
                })
            })
        })
        .filter_map(|number| geometry.piece(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Bitfield;
    use proptest::prelude::*;

    fn bits(geometry: &Geometry, pieces: impl IntoIterator<Item = u32>) -> Bitfield {
        let mut bits = Bitfield::new(geometry.pieces());
        for number in pieces {
            bits.insert(geometry.piece(number % geometry.pieces()).unwrap());
        }
        bits
    }

    proptest! {
        #[test]
        fn picks_what_a_naive_search_calls_rarest(
            seed: u64,
            pieces in 1u32..120,
            peers in prop::collection::vec(prop::collection::vec(any::<u32>(), 0..60), 0..8),
            begun in prop::collection::vec(any::<u32>(), 0..100),
        ) {
            let geometry = Geometry::new(u64::from(pieces), 1).unwrap();
            let mut availability = Availability::new(geometry);
            let peers: Vec<Bitfield> = peers.into_iter().map(|p| bits(&geometry, p)).collect();
            for peer in &peers {
                availability.add_all(peer);
            }
            for number in begun {
                availability.set_pickable(geometry.piece(number % pieces).unwrap(), false);
            }
            let mut random = Random::new(seed);
            for peer in peers {
                let naive = geometry
                    .all_pieces()
                    .filter(|&p| availability.pickable().contains(p) && peer.contains(p))
                    .map(|p| availability.count(p))
                    .min();
                let have = Have::from(peer);
                let found = rarest(&mut random, &availability, &geometry, &have);
                prop_assert_eq!(found.map(|p| availability.count(p)), naive);
                let other = at_random(&mut random, &availability, &geometry, &have);
                prop_assert_eq!(other.is_some(), naive.is_some());
                for piece in found.into_iter().chain(other) {
                    prop_assert!(have.contains(piece) && availability.pickable().contains(piece));
                }
            }
        }
    }

    #[test]
    fn ties_are_broken_at_random() {
        let geometry = Geometry::new(1_000, 1).unwrap();
        let availability = Availability::new(geometry);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let piece = rarest(&mut random, &availability, &geometry, &Have::All).unwrap();
            seen.insert(piece);
        }
        assert!(seen.len() > 40, "{}", seen.len());
    }

    #[test]
    fn a_peer_without_anything_rare_is_served_from_a_sample() {
        let geometry = Geometry::new(50_000, 1).unwrap();
        let mut availability = Availability::new(geometry);
        availability.add_all(&bits(&geometry, 0..50_000));
        let common = bits(&geometry, [49_999]);
        availability.add_all(&common);
        let have = Have::from(common);
        let found = rarest(&mut Random::new(1), &availability, &geometry, &have);
        assert_eq!(found, geometry.piece(49_999));
    }
}
