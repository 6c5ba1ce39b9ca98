//! Which piece to begin next with a peer: the rarest that it has, ties at random, or by [neighbourhood](super::extent) where it does no harm.
//!
//! Rarest first keeps the copies of all pieces about equal and brings rare pieces out of a lone seed before it leaves. The very
//! first pieces are taken at random instead: rare ones come slowly, and without any piece there is nothing to trade.

use super::availability::{Availability, SECTION};
use super::extent::Extents;
use super::peers::Have;
use crate::base::{Geometry, PieceIndex, Random};

/// Sections of pieces that are looked at for one pick, those with the lowest floors first.
const LOOKS: usize = 4;
/// Pieces of the sample that is taken where these looks find none.
const SAMPLE: usize = 64;

/// The rarest piece that may be begun and that the peer has; of equally rare ones the next of the extent at hand, or of another;
/// without `extents`, any.
///
/// Exact in torrents of a few sections ([`SECTION`](super::availability::SECTION) pieces each). In larger ones exact as long as the
/// sections with the lowest floors hold it; beyond, the rarest of those, and for a peer that has next to nothing of them, of a sample.
pub(super) fn rarest(
    random: &mut Random,
    availability: &mut Availability,
    extents: Option<&Extents>,
    geometry: &Geometry,
    have: &Have,
) -> Option<PieceIndex> {
    let (bits, least) = match have {
        Have::None => return None,
        // What it has itself, it is a copy of.
        Have::Some(bits) => (Some(bits), 1),
        Have::All => (None, 0),
    };
    let start = match extents.and_then(Extents::next) {
        Some(next) => next as usize / SECTION,
        None => random.below(availability.sections().max(1)),
    };
    let mut seen = [(0, 0); LOOKS];
    let mut looks = 0;
    let mut best: Option<(PieceIndex, u32)> = None;
    while looks < LOOKS
        && let Some((section, floor)) = availability.lowest(start)
        && best.is_none_or(|(_, copies)| copies > floor.max(least))
    {
        let found = availability.rarest_in(random, extents, section, bits);
        let rarer = found.filter(|(_, copies)| best.is_none_or(|(_, best)| *copies < best));
        best = rarer.or(best);
        seen[looks] = (section, availability.pass_over(section));
        looks += 1;
    }
    for &(section, floor) in &seen[..looks] {
        availability.put_back(section, floor);
    }
    if let Some((piece, _)) = best {
        return Some(piece);
    }
    candidates(random, availability, geometry, have)
        .take(SAMPLE)
        .min_by_key(|&piece| availability.count(piece))
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
    let pickable = availability.pickable();
    let start = random.below(pickable.words().max(1));
    let turn = (random.next() % 64) as u32;
    (start..pickable.words())
        .chain(0..start)
        .flat_map(move |at| {
            let mut rest = (pickable.word(at) & have.word(at)).rotate_left(turn);
            std::iter::from_fn(move || {
                let bit = rest.leading_zeros();
                (bit < 64).then(|| {
                    rest &= !(1 << (63 - bit));
                    at as u32 * 64 + (bit + turn) % 64
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
            pieces in prop_oneof![1u32..120, 4_000u32..12_000],
            peers in prop::collection::vec(prop::collection::vec(any::<u32>(), 0..60), 0..8),
            begun in prop::collection::vec(any::<u32>(), 0..100),
        ) {
            let geometry = Geometry::new(u64::from(pieces), 1).unwrap();
            let mut availability = Availability::new(geometry, Bitfield::full(geometry.pieces()));
            let peers: Vec<Bitfield> = peers.into_iter().map(|p| bits(&geometry, p)).collect();
            for peer in &peers {
                availability.add_all(peer);
            }
            for number in begun {
                availability.set_pickable(geometry.piece(number % pieces).unwrap(), false);
            }
            let mut random = Random::new(seed);
            let mut extents = Extents::new(&geometry);
            for peer in peers {
                let naive = geometry
                    .all_pieces()
                    .filter(|&p| availability.pickable().contains(p) && peer.contains(p))
                    .map(|p| availability.count(p))
                    .min();
                let have = Have::from(peer);
                let found = rarest(&mut random, &mut availability, Some(&extents), &geometry, &have);
                prop_assert_eq!(found.map(|p| availability.count(p)), naive);
                let other = at_random(&mut random, &availability, &geometry, &have);
                prop_assert_eq!(other.is_some(), naive.is_some());
                for piece in found.into_iter().chain(other) {
                    extents.begun(piece);
                    prop_assert!(have.contains(piece) && availability.pickable().contains(piece));
                }
            }
        }
    }

    /// Pieces of 256 KiB, sixteen to an extent.
    fn all_open(pieces: u32) -> (Geometry, Availability, Extents) {
        let geometry = Geometry::new(u64::from(pieces) << 18, 256 << 10).unwrap();
        let availability = Availability::new(geometry, Bitfield::full(pieces));
        (geometry, availability, Extents::new(&geometry))
    }

    #[test]
    fn extents_are_begun_at_random_places() {
        let (geometry, mut availability, extents) = all_open(20_000);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let random = &mut Random::new(seed);
            let piece = rarest(
                random,
                &mut availability,
                Some(&extents),
                &geometry,
                &Have::All,
            );
            let piece = piece.unwrap().get();
            assert!(piece.is_multiple_of(16), "{piece}");
            seen.insert(piece);
        }
        assert!(seen.len() > 40, "{}", seen.len());
    }

    #[test]
    fn equally_rare_pieces_are_taken_extent_by_extent() {
        // The last extent is short.
        let (geometry, mut availability, mut extents) = all_open(10_003);
        let mut random = Random::new(7);
        let mut last: Option<PieceIndex> = None;
        for _ in geometry.all_pieces() {
            let piece = rarest(
                &mut random,
                &mut availability,
                Some(&extents),
                &geometry,
                &Have::All,
            );
            let piece = piece.unwrap();
            let ended = last.is_none_or(|last| last.get() % 16 == 15 || last.get() == 10_002);
            let follows = last.is_some_and(|last| last.get() + 1 == piece.get());
            assert!(
                follows || ended && piece.get().is_multiple_of(16),
                "{last:?} {piece}"
            );
            availability.set_pickable(piece, false);
            extents.begun(piece);
            last = Some(piece);
        }
        assert_eq!(availability.pickable().count(), 0);
    }

    #[test]
    fn a_rarer_piece_comes_before_the_rest_of_an_extent_and_its_neighbours_after_it() {
        let (geometry, mut availability, mut extents) = all_open(4_000);
        let rare = geometry.piece(3_765).unwrap();
        availability.add_all(&Bitfield::full(4_000));
        availability.remove(rare);
        extents.begun(geometry.piece(32).unwrap());
        let mut take = || {
            let random = &mut Random::new(1);
            let near = Some(&extents);
            let piece = rarest(random, &mut availability, near, &geometry, &Have::All).unwrap();
            availability.set_pickable(piece, false);
            extents.begun(piece);
            piece
        };
        assert_eq!(take(), rare);
        assert_eq!(take().get(), 3_766);
    }

    #[test]
    fn an_extent_with_gaps_is_seen_through_to_its_end() {
        let (geometry, mut availability, mut extents) = all_open(4_000);
        let gone = [34, 35, 40, 46, 47];
        for number in gone {
            availability.set_pickable(geometry.piece(number).unwrap(), false);
        }
        extents.begun(geometry.piece(32).unwrap());
        let mut taken = Vec::new();
        for _ in 0..11 {
            let random = &mut Random::new(1);
            let near = Some(&extents);
            let piece = rarest(random, &mut availability, near, &geometry, &Have::All).unwrap();
            availability.set_pickable(piece, false);
            extents.begun(piece);
            taken.push(piece.get());
        }
        let rest: Vec<u32> = (33..48).filter(|number| !gone.contains(number)).collect();
        assert_eq!(taken[..10], rest);
        assert_ne!(taken[10] / 16, 2);
    }

    #[test]
    fn ties_are_broken_at_random_without_extents() {
        let (geometry, mut availability, _) = all_open(4_000);
        let pick = |seed| {
            rarest(
                &mut Random::new(seed),
                &mut availability,
                None,
                &geometry,
                &Have::All,
            )
        };
        let seen: std::collections::BTreeSet<_> = (0..50).filter_map(pick).collect();
        assert!(seen.len() > 40, "{}", seen.len());
        let begins = seen.iter().filter(|piece| piece.get().is_multiple_of(16));
        assert!(begins.count() < 20, "{seen:?}");
    }

    #[test]
    fn a_peer_without_anything_rare_is_served_from_a_sample() {
        let geometry = Geometry::new(50_000, 1).unwrap();
        let mut availability = Availability::new(geometry, Bitfield::full(geometry.pieces()));
        availability.add_all(&bits(&geometry, 0..50_000));
        let common = bits(&geometry, [49_999]);
        availability.add_all(&common);
        let have = Have::from(common);
        let extents = Extents::new(&geometry);
        let random = &mut Random::new(1);
        let found = rarest(random, &mut availability, Some(&extents), &geometry, &have);
        assert_eq!(found, geometry.piece(49_999));
    }
}
