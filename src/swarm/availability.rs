//! How many peers have each piece, and which pieces are still to be begun.
//!
//! The numbers of copies are kept in binary, digit by digit: word `w` of a [`Plane`] holds that digit for the 64 pieces from
//! `64 * w` on. So a whole bitfield is added or taken away 64 pieces at a time, and one piece at a carry or two. Peers that have
//! everything shift all pieces alike and are only counted.
//!
//! The rarest of many pieces is found the same way, from the highest digit down. A section of [`SECTION`] pieces is looked at as
//! one, and has a floor, below which no piece of it that may be begun lies: most sections need no look.

use super::extent::Extents;
use crate::base::{Bitfield, Geometry, PieceIndex, Random};

/// Pieces of a word.
const LANES: usize = u64::BITS as usize;
/// Words of a section: 4,096 pieces, so that most torrents have only one.
const WORDS: usize = 64;
/// Pieces of a section.
pub(super) const SECTION: usize = LANES * WORDS;
/// The floor of a section in which nothing may be begun.
const NOTHING: u32 = u32::MAX;

/// One digit of every number of copies.
type Plane = Vec<u64>;
/// A set of pieces of a section.
type Set = [u64; WORDS];

/// Copies of each piece among the connected peers.
#[derive(Debug)]
pub(super) struct Availability {
    geometry: Geometry,
    seeds: u32,
    /// Copies of each piece, less those of seeds; the lowest digit first.
    digits: Vec<Plane>,
    pickable: Bitfield,
    /// Of each section: no piece that may be begun has fewer copies, seeds' aside. The next look makes it exact.
    floors: Vec<u32>,
}

impl Availability {
    /// Nobody is there, and the pieces of `pickable` may be begun.
    pub(super) fn new(geometry: Geometry, pickable: Bitfield) -> Self {
        let sections = (geometry.pieces() as usize).div_ceil(SECTION);
        Self {
            geometry,
            seeds: 0,
            digits: Vec::new(),
            pickable,
            floors: vec![0; sections],
        }
    }

    /// Pieces that may be begun.
    pub(super) fn pickable(&self) -> &Bitfield {
        &self.pickable
    }

    /// Sections of the torrent.
    pub(super) fn sections(&self) -> usize {
        self.floors.len()
    }

    /// Connected peers that have `piece`.
    pub(super) fn count(&self, piece: PieceIndex) -> u32 {
        self.copies(piece) + self.seeds
    }

    /// Connected peers that have everything.
    pub(super) fn seeds(&self) -> u32 {
        self.seeds
    }

    pub(super) fn add_seed(&mut self) {
        self.seeds += 1;
    }

    pub(super) fn remove_seed(&mut self) {
        self.seeds -= 1;
    }

    /// A peer that is no seed has `piece`.
    pub(super) fn add(&mut self, piece: PieceIndex) {
        let (at, mut carry) = place(piece);
        for plane in &mut self.digits {
            let word = &mut plane[at];
            (*word, carry) = (*word ^ carry, *word & carry);
            if carry == 0 {
                return;
            }
        }
        self.digit()[at] = carry;
    }

    /// A peer that is no seed has `piece` no longer.
    pub(super) fn remove(&mut self, piece: PieceIndex) {
        let (at, mut borrow) = place(piece);
        for plane in &mut self.digits {
            let word = &mut plane[at];
            (*word, borrow) = (*word ^ borrow, !*word & borrow);
            if borrow == 0 {
                break;
            }
        }
        assert!(borrow == 0, "nobody has piece {piece}");
        let floor = &mut self.floors[piece.index() / SECTION];
        *floor = if *floor == NOTHING {
            NOTHING
        } else {
            floor.saturating_sub(1)
        };
    }

    /// A peer that is no seed has these pieces.
    pub(super) fn add_all(&mut self, bits: &Bitfield) {
        for section in 0..self.sections() {
            let mut carry = section_of(bits, section);
            let words = self.words(section);
            for at in 0.. {
                if carry.iter().all(|&word| word == 0) {
                    break;
                }
                if at == self.digits.len() {
                    self.digit();
                }
                for (word, carry) in self.digits[at][words.clone()].iter_mut().zip(&mut carry) {
                    (*word, *carry) = (*word ^ *carry, *word & *carry);
                }
            }
        }
    }

    /// A peer that is no seed has these pieces no longer.
    pub(super) fn remove_all(&mut self, bits: &Bitfield) {
        for section in 0..self.sections() {
            let mut borrow = section_of(bits, section);
            let words = self.words(section);
            for plane in &mut self.digits {
                if borrow.iter().all(|&word| word == 0) {
                    break;
                }
                for (word, borrow) in plane[words.clone()].iter_mut().zip(&mut borrow) {
                    (*word, *borrow) = (*word ^ *borrow, !*word & *borrow);
                }
            }
            assert!(borrow.iter().all(|&word| word == 0), "nobody has a piece");
            let floor = &mut self.floors[section];
            if *floor != NOTHING {
                *floor = floor.saturating_sub(1);
            }
        }
    }

    /// Says whether `piece` may be begun.
    pub(super) fn set_pickable(&mut self, piece: PieceIndex, yes: bool) {
        if !yes {
            self.pickable.remove(piece);
        } else if self.pickable.insert(piece) {
            let copies = self.copies(piece);
            let floor = &mut self.floors[piece.index() / SECTION];
            *floor = copies.min(*floor);
        }
    }

    /// The section with the lowest floor, and the floor; of several the one that is the first from `start` on, once around. `None` if
    /// nothing may be begun in any.
    pub(super) fn lowest(&self, start: usize) -> Option<(usize, u32)> {
        let lowest = self.floors.iter().copied().min()?;
        (lowest != NOTHING).then_some(())?;
        let is_lowest = |&floor: &u32| floor == lowest;
        let (before, after) = self.floors.split_at(start);
        let after = after.iter().position(is_lowest).map(|at| start + at);
        let at = after.or_else(|| before.iter().position(is_lowest))?;
        Some((at, lowest))
    }

    /// Has a section passed over until its floor, which this gives, is [put back](Self::put_back).
    pub(super) fn pass_over(&mut self, section: usize) -> u32 {
        std::mem::replace(&mut self.floors[section], NOTHING)
    }

    /// The section is not passed over any more.
    pub(super) fn put_back(&mut self, section: usize, floor: u32) {
        self.floors[section] = floor;
    }

    /// The rarest piece of a section that may be begun and is in `have`, and its copies, seeds' aside; of equally rare ones the next of the
    /// extent at hand, else the first of some extent; without `extents`, any. Everything is in a `have` of `None`.
    pub(super) fn rarest_in(
        &mut self,
        random: &mut Random,
        extents: Option<&Extents>,
        section: usize,
        have: Option<&Bitfield>,
    ) -> Option<(PieceIndex, u32)> {
        let pickable = section_of(&self.pickable, section);
        let Some((rarest, copies)) = self.rarest_of(section, pickable) else {
            self.floors[section] = NOTHING;
            return None;
        };
        self.floors[section] = copies;
        let (found, copies) = match have {
            None => (rarest, copies),
            Some(have) => {
                let have = section_of(have, section);
                match and(&rarest, &have) {
                    Some(both) => (both, copies),
                    None => self.rarest_of(section, and(&pickable, &have)?)?,
                }
            }
        };
        let next = extents.and_then(|extents| next_of(extents, section, &found));
        let piece = section * SECTION + next.or_else(|| any_of(random, extents, &found))?;
        Some((self.geometry.piece(piece as u32)?, copies))
    }

    /// Of some pieces of a section, those with the fewest copies, and how many these are; `None` of none.
    fn rarest_of(&self, section: usize, mut some: Set) -> Option<(Set, u32)> {
        some.iter().any(|&word| word != 0).then_some(())?;
        let words = self.words(section);
        let mut copies = 0;
        for (digit, plane) in self.digits.iter().enumerate().rev() {
            let mut without = [0; WORDS];
            let mut any = 0;
            let plane = plane[words.clone()].iter().zip(&some);
            for (rest, (word, some)) in without.iter_mut().zip(plane) {
                *rest = some & !word;
                any |= *rest;
            }
            if any != 0 {
                some = without;
            } else {
                copies |= 1 << digit;
            }
        }
        Some((some, copies))
    }

    /// The words of a section within a plane.
    fn words(&self, section: usize) -> std::ops::Range<usize> {
        let all = (self.geometry.pieces() as usize).div_ceil(LANES);
        let start = section * WORDS;
        start..all.min(start + WORDS)
    }

    /// One more digit, all zero.
    fn digit(&mut self) -> &mut Plane {
        let words = (self.geometry.pieces() as usize).div_ceil(LANES);
        self.digits.push(vec![0; words]);
        let last = self.digits.len() - 1;
        &mut self.digits[last]
    }

    /// Copies of `piece`, less those of seeds.
    fn copies(&self, piece: PieceIndex) -> u32 {
        let (at, bit) = place(piece);
        let digits = self.digits.iter().enumerate();
        digits.fold(0, |copies, (digit, plane)| {
            copies | u32::from(plane[at] & bit != 0) << digit
        })
    }
}

/// The word of a piece, and its bit there: the first piece is in the highest bit, as in a [`Bitfield`].
fn place(piece: PieceIndex) -> (usize, u64) {
    let lane = piece.index() % LANES;
    (piece.index() / LANES, 1 << (LANES - 1 - lane))
}

/// The pieces of a section that are in `bits`.
fn section_of(bits: &Bitfield, section: usize) -> Set {
    let mut set = [0; WORDS];
    let bytes = bits.as_bytes().get(section * SECTION / 8..);
    let (words, rest) = bytes.unwrap_or(&[]).as_chunks();
    for (word, bytes) in set.iter_mut().zip(words) {
        *word = u64::from_be_bytes(*bytes);
    }
    if let Some(last) = set.get_mut(words.len())
        && !rest.is_empty()
    {
        *last = bits.word(section * WORDS + words.len());
    }
    set
}

/// What is in both, if anything is.
fn and(one: &Set, two: &Set) -> Option<Set> {
    let mut both = *one;
    let mut any = 0;
    for (both, two) in both.iter_mut().zip(two) {
        *both &= two;
        any |= *both;
    }
    (any != 0).then_some(both)
}

/// The place within its section of the next piece of the extent at hand that the set has.
fn next_of(extents: &Extents, section: usize, set: &Set) -> Option<usize> {
    let place = (extents.next()? as usize).checked_sub(section * SECTION)?;
    let (word, lane) = (place / LANES, place % LANES);
    let lane = extents.rest(*set.get(word)?, lane as u32)?;
    Some(word * LANES + lane as usize)
}

/// The place within its section of the first piece that the set has of some extent; without `extents`, of any piece.
fn any_of(random: &mut Random, extents: Option<&Extents>, set: &Set) -> Option<usize> {
    let draw = random.next();
    let (start, turn) = (draw as usize % WORDS, (draw >> 32) as u32 % 64);
    let turned = (start..WORDS).chain(0..start);
    let word = turned.into_iter().find(|&at| set[at] != 0)?;
    let lane = (set[word].rotate_left(turn).leading_zeros() + turn) % u64::BITS;
    let lane = extents.map_or(lane, |extents| extents.first(set[word], lane));
    Some(word * LANES + lane as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all_open(pieces: u32) -> (Geometry, Availability) {
        let geometry = Geometry::new(u64::from(pieces), 1).unwrap();
        (
            geometry,
            Availability::new(geometry, Bitfield::full(pieces)),
        )
    }

    #[derive(Clone, Debug)]
    enum Step {
        Join(Vec<bool>),
        Leave(usize),
        Have(usize, u32),
        DontHave(usize, u32),
        Pickable(u32, bool),
        Look(usize, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            2 => prop::collection::vec(any::<bool>(), 1..9).prop_map(Step::Join),
            1 => any::<usize>().prop_map(Step::Leave),
            3 => (any::<usize>(), any::<u32>()).prop_map(|(p, n)| Step::Have(p, n)),
            2 => (any::<usize>(), any::<u32>()).prop_map(|(p, n)| Step::DontHave(p, n)),
            3 => (any::<u32>(), any::<bool>()).prop_map(|(n, yes)| Step::Pickable(n, yes)),
            2 => (any::<usize>(), any::<bool>()).prop_map(|(n, near)| Step::Look(n, near)),
        ]
    }

    proptest! {
        #[test]
        fn the_digits_agree_with_counting_anew(
            seed: u64,
            pieces in prop_oneof![1u32..200, 4_090u32..4_100, 8_000u32..9_000],
            steps in prop::collection::vec(step(), 0..40),
        ) {
            let (geometry, mut availability) = all_open(pieces);
            let mut random = Random::new(seed);
            let mut extents = Extents::new(&geometry);
            let mut peers: Vec<Bitfield> = Vec::new();
            let mut open = Bitfield::full(pieces);
            let piece = |n: u32| geometry.piece(n % pieces).unwrap();
            for step in steps {
                match step {
                    Step::Join(pattern) => {
                        let mut bits = Bitfield::new(pieces);
                        bits.extend(geometry.all_pieces().filter(|p| pattern[p.index() % pattern.len()]));
                        availability.add_all(&bits);
                        peers.push(bits);
                    }
                    Step::Leave(n) if !peers.is_empty() => {
                        let gone = peers.swap_remove(n % peers.len());
                        availability.remove_all(&gone);
                    }
                    Step::Have(n, number) if !peers.is_empty() => {
                        let at = n % peers.len();
                        if peers[at].insert(piece(number)) {
                            availability.add(piece(number));
                        }
                    }
                    Step::DontHave(n, number) if !peers.is_empty() => {
                        let at = n % peers.len();
                        if peers[at].remove(piece(number)) {
                            availability.remove(piece(number));
                        }
                    }
                    Step::Pickable(number, yes) => {
                        availability.set_pickable(piece(number), yes);
                        if yes { open.insert(piece(number)); } else { open.remove(piece(number)); }
                    }
                    Step::Look(n, near) => {
                        let have = peers.get(n % (peers.len() + 1));
                        let section = n % availability.sections();
                        let inside = |p: &PieceIndex| p.index() / SECTION == section && open.contains(*p);
                        let near = near.then_some(&extents);
                        let has = |p: &PieceIndex| have.is_none_or(|have| have.contains(*p));
                        let naive = geometry.all_pieces().filter(|p| inside(p) && has(p));
                        let naive = naive.map(|p| availability.count(p)).min();
                        let found = availability.rarest_in(&mut random, near, section, have);
                        prop_assert_eq!(found.map(|(_, copies)| copies), naive);
                        if let Some((p, copies)) = found {
                            prop_assert!(inside(&p) && has(&p));
                            prop_assert_eq!(availability.count(p), copies);
                            extents.begun(p);
                        }
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(availability.pickable(), &open);
            for piece in geometry.all_pieces() {
                let copies = peers.iter().filter(|bits| bits.contains(piece)).count() as u32;
                prop_assert_eq!(availability.count(piece), copies);
                let floor = availability.floors[piece.index() / SECTION];
                prop_assert!(!open.contains(piece) || floor <= copies, "{piece}: {copies} under the floor {floor}");
            }
        }
    }
}
