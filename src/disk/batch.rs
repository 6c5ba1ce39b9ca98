//! Pieces that are read and hashed together: for whoever goes through a payload, on all cores, or looks at a few pieces of one.
//!
//! SHA-1 of several pieces at once is faster than of one after the other ([`Streams`]), so each thread takes a few pieces at a time,
//! reads them in order and hashes them abreast while they are hot in its cache. What a thread holds is bounded ([`Plan`]). Where
//! the disk spins one thread reads from it at a time, so that the disk sees one stream; the others hash meanwhile. What is in the
//! page cache already is nobody's turn.

use std::array::from_fn;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::device::{self, Turn};
use super::place::Place;
use super::sha1x2::Streams;
use super::{DiskError, Layout, Span, Subtree};
use crate::base::{Geometry, PieceIndex};

/// Pieces that are hashed at once: more are hardly faster.
pub(super) const LANES: usize = 4;
/// Bytes of each piece that are hashed before the next of each: those of all pieces fit into a core's own cache, and they are
/// many chunks and blocks of BLAKE3.
const STEP: usize = 64 << 10;
/// Bytes of a batch that are read in one go; of longer pieces, one reads a step of each in turn.
const WHOLE: usize = 4 << 20;
/// The same where the disk spins, and going from piece to piece takes as long as reading a megabyte. Longer pieces are read and
/// hashed one after the other, by one thread: such a disk is no faster.
const WHOLE_IF_SPINNING: usize = 64 << 20;
/// Bytes that all threads hold together.
const HELD: usize = 512 << 20;
/// Bytes that a thread takes in a row, so that even small pieces are read in order.
const STRETCH: usize = 4 << 20;

/// How pieces are read.
#[derive(Debug)]
pub(super) struct Plan {
    piece_len: usize,
    /// Bytes of each piece that are read before the next of each.
    slice: usize,
    /// Who holds it may read from the disk.
    turn: Option<Turn>,
}

impl Plan {
    /// What suits the layout and the device that it lies on, for a whole payload.
    pub(super) fn new(layout: &Layout, place: &Place) -> Self {
        let turn = device::turn(place);
        let most = if turn.is_some() {
            WHOLE_IF_SPINNING
        } else {
            WHOLE
        };
        Self::by(layout.geometry(), most, turn)
    }

    /// For some pieces beside other work: no thread holds more than a step of each.
    pub(super) fn modest(layout: &Layout, place: &Place) -> Self {
        Self::by(layout.geometry(), LANES * STEP, device::turn(place))
    }

    /// Batches of at most so many bytes are read in one go.
    fn by(geometry: &Geometry, most: usize, turn: Option<Turn>) -> Self {
        let piece_len = geometry.piece_len() as usize;
        let whole = LANES * piece_len <= most;
        Self {
            piece_len,
            slice: if whole { piece_len } else { STEP },
            turn,
        }
    }

    /// How many of `wanted` threads there may be, at least one.
    pub(super) fn threads(&self, wanted: usize) -> usize {
        wanted.clamp(1, (HELD / self.held()).max(1))
    }

    /// Bytes that a batch takes.
    fn held(&self) -> usize {
        LANES * self.slice
    }

    /// Whether a batch is read in one go.
    fn is_whole(&self) -> bool {
        self.slice == self.piece_len
    }
}

/// Pieces that threads share out among themselves, in order.
#[derive(Debug)]
pub(super) struct Queue<'a> {
    pieces: &'a [PieceIndex],
    next: AtomicUsize,
    stretch: usize,
}

impl<'a> Queue<'a> {
    /// Of `pieces`, for `threads` threads.
    pub(super) fn new(plan: &Plan, pieces: &'a [PieceIndex], threads: usize) -> Self {
        let stretch = (STRETCH / plan.piece_len).max(1);
        let share = pieces.len().div_ceil(threads);
        Self {
            pieces,
            next: AtomicUsize::new(0),
            stretch: stretch.next_multiple_of(LANES).min(share).max(1),
        }
    }

    /// The next few; `None` if there are no more.
    pub(super) fn take(&self) -> Option<&'a [PieceIndex]> {
        let start = self.next.fetch_add(self.stretch, Ordering::Relaxed);
        let left = self.pieces.get(start..)?;
        let some = &left[..self.stretch.min(left.len())];
        (!some.is_empty()).then_some(some)
    }

    /// Nobody gets any more.
    pub(super) fn close(&self) {
        self.next.store(self.pieces.len(), Ordering::Relaxed);
    }
}

/// What a piece hashes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) sha1: [u8; 20],
    /// If that was asked for.
    pub(super) subtree: Option<Subtree>,
}

/// Where a batch gets its bytes.
pub(super) trait Source {
    /// Reads exactly `buffer` at `offset` of the payload. What has one `stream`, of fewer than [`LANES`], is read in order.
    ///
    /// # Errors
    /// If that cannot be had.
    fn read(&mut self, stream: usize, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Whether what `span`, which is no pad, has of its file is in the page cache. False if that cannot be told.
    fn is_cached(&mut self, span: Span) -> bool;
}

/// Reads and hashes pieces for one thread.
pub(super) struct Batch<'a, S> {
    layout: &'a Layout,
    plan: &'a Plan,
    source: S,
    buffer: &'a mut Vec<u8>,
    subtrees: bool,
}

impl<'a, S: Source> Batch<'a, S> {
    /// Reads from `source` into `buffer`, whatever that holds. `subtrees` asks for [`Sum::subtree`].
    pub(super) fn new(
        layout: &'a Layout,
        plan: &'a Plan,
        subtrees: bool,
        source: S,
        buffer: &'a mut Vec<u8>,
    ) -> Self {
        Self {
            layout,
            plan,
            source,
            buffer,
            subtrees,
        }
    }

    /// Where it gets its bytes.
    pub(super) fn source(&mut self) -> &mut S {
        &mut self.source
    }

    /// Splits off from the beginning what is best hashed together, at most [`LANES`] pieces; `None` of none.
    pub(super) fn split<'p>(&mut self, pieces: &mut &'p [PieceIndex]) -> Option<&'p [PieceIndex]> {
        let few = pieces.len().min(LANES);
        // A disk that spins would go to and fro between long pieces.
        let alone =
            self.plan.turn.is_some() && !self.plan.is_whole() && !self.are_cached(&pieces[..few]);
        let (some, rest) = pieces.split_at(if alone { few.min(1) } else { few });
        *pieces = rest;
        (!some.is_empty()).then_some(some)
    }

    /// Hashes `pieces`, as [`split`](Self::split) gave them, in this order.
    ///
    /// # Errors
    /// As [`Source::read`], for whichever piece it was.
    pub(super) fn hash(&mut self, pieces: &[PieceIndex]) -> Result<Vec<Sum>, DiskError> {
        let geometry = self.layout.geometry();
        let mut sums = Sums::new(geometry, pieces, self.subtrees);
        let Plan {
            piece_len, slice, ..
        } = *self.plan;
        self.buffer
            .resize(self.plan.held().max(self.buffer.len()), 0);
        let turn = self.plan.turn.as_ref();
        let turn = turn.filter(|_| !self.are_cached(pieces));
        // Who panicked when it was his turn left nothing half done.
        let mut turn = turn.map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
        for at in (0..piece_len).step_by(slice) {
            let mut lens = [0; LANES];
            for (lane, piece) in pieces.iter().enumerate() {
                let len = geometry.len_of(*piece) as usize;
                lens[lane] = len.saturating_sub(at).min(slice);
                // It ended before the others.
                if lens[lane] == 0 {
                    continue;
                }
                // Read in one go, pieces are one stream.
                let stream = if self.plan.is_whole() { 0 } else { lane };
                let offset = geometry.offset_of(*piece) + at as u64;
                let buffer = &mut self.buffer[lane * slice..][..lens[lane]];
                self.source.read(stream, offset, buffer)?;
            }
            if at + slice >= piece_len {
                drop(turn.take());
            }
            for step in (0..slice).step_by(STEP) {
                sums.update(from_fn(|lane| {
                    let end = lens[lane].min(step + STEP);
                    &self.buffer[lane * slice..][step.min(end)..end]
                }));
            }
        }
        Ok(sums.finish(pieces.len()))
    }

    /// As [`hash`](Self::hash); each piece by itself if what keeps one from being read is its own trouble, as `is_own` tells.
    ///
    /// # Errors
    /// The first trouble that is not.
    pub(super) fn hash_each(
        &mut self,
        pieces: &[PieceIndex],
        is_own: fn(&DiskError) -> bool,
    ) -> Result<Vec<Result<Sum, DiskError>>, DiskError> {
        match self.hash(pieces) {
            Ok(sums) => Ok(sums.into_iter().map(Ok).collect()),
            Err(error) if !is_own(&error) => Err(error),
            Err(error) if pieces.len() == 1 => Ok(vec![Err(error)]),
            Err(_) => {
                let mut sums = Vec::with_capacity(pieces.len());
                for piece in pieces.chunks(1) {
                    sums.extend(self.hash_each(piece, is_own)?);
                }
                Ok(sums)
            }
        }
    }

    /// Whether all are in the page cache, as far as the first file of each run of pieces tells: to open every file twice would
    /// cost more than a turn now and then.
    fn are_cached(&mut self, pieces: &[PieceIndex]) -> bool {
        let geometry = self.layout.geometry();
        let follows = |one: &PieceIndex, two: &PieceIndex| one.get() + 1 == two.get();
        let mut runs = pieces.chunk_by(follows);
        runs.all(|run| {
            let len = run.iter().map(|piece| u64::from(geometry.len_of(*piece)));
            let mut spans = self.layout.spans(geometry.offset_of(run[0]), len.sum());
            let first = spans.find(|span| !span.pad);
            first.is_none_or(|span| self.source.is_cached(span))
        })
    }
}

/// The hashers of a batch.
struct Sums {
    streams: Streams<LANES>,
    subtrees: [Option<blake3::Hasher>; LANES],
}

impl Sums {
    fn new(geometry: &Geometry, pieces: &[PieceIndex], subtrees: bool) -> Self {
        let subtree = |lane| {
            let piece = pieces.get(lane).filter(|_| subtrees);
            piece.map(|piece| Subtree::begin(geometry, *piece))
        };
        Self {
            streams: Streams::new(),
            subtrees: from_fn(subtree),
        }
    }

    fn update(&mut self, bytes: [&[u8]; LANES]) {
        self.streams.update(bytes);
        for (subtree, bytes) in self.subtrees.iter_mut().zip(bytes) {
            if let Some(subtree) = subtree {
                subtree.update(bytes);
            }
        }
    }

    fn finish(self, pieces: usize) -> Vec<Sum> {
        let sha1 = self.streams.finish().into_iter();
        let sums = sha1.zip(&self.subtrees).map(|(sha1, subtree)| Sum {
            sha1,
            subtree: subtree.as_ref().map(Subtree::of),
        });
        sums.take(pieces).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{FileSpec, SpecKind, sha1};
    use proptest::prelude::*;

    /// A payload in memory, which looks whose turn it is.
    struct Memory<'a> {
        bytes: &'a [u8],
        plan: &'a Plan,
        cached: bool,
    }

    impl Source for Memory<'_> {
        fn read(&mut self, _: usize, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
            let is_held = |turn: &Turn| turn.try_lock().is_err();
            let in_turn = self.plan.turn.as_ref().is_some_and(is_held);
            assert_eq!(in_turn, self.plan.turn.is_some() && !self.cached);
            buffer.copy_from_slice(&self.bytes[offset as usize..][..buffer.len()]);
            Ok(())
        }

        fn is_cached(&mut self, _: Span) -> bool {
            self.cached
        }
    }

    fn layout(bytes: &[u8], piece_len: u32) -> Layout {
        let length = bytes.len() as u64;
        let file = FileSpec {
            path: "/a/b".into(),
            length,
            kind: SpecKind::Payload,
        };
        let geometry = Geometry::new(length, piece_len).unwrap();
        Layout::new("/a".into(), geometry, vec![file]).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn all_ways_to_read_give_the_same_sums_and_only_what_is_not_cached_waits_for_its_turn(
            len in 1usize..1_500_000,
            exponent in 14u32..19,
            most in prop::sample::select(vec![0, LANES * STEP, WHOLE]),
            spins: bool,
            cached: bool,
            salt: u8,
        ) {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 31 / 7) as u8 ^ salt).collect();
            let layout = layout(&bytes, 1 << exponent);
            let geometry = layout.geometry();
            let plan = Plan::by(geometry, most, spins.then(Turn::default));
            let (mut buffer, source) = (Vec::new(), Memory { bytes: &bytes, plan: &plan, cached });
            let mut batch = Batch::new(&layout, &plan, true, source, &mut buffer);
            let pieces: Vec<_> = geometry.all_pieces().collect();
            let mut rest = &pieces[..];
            while let Some(some) = batch.split(&mut rest) {
                let most = if spins && !cached && !plan.is_whole() { 1 } else { LANES };
                prop_assert!(some.len() == most || some.len() < most && rest.is_empty());
                for (&piece, sum) in some.iter().zip(batch.hash(some).unwrap()) {
                    let start = geometry.offset_of(piece) as usize;
                    let bytes = &bytes[start..][..geometry.len_of(piece) as usize];
                    let mut subtree = Subtree::begin(geometry, piece);
                    subtree.update(bytes);
                    prop_assert_eq!(sum.sha1, sha1(bytes));
                    prop_assert_eq!(sum.subtree, Some(Subtree::of(&subtree)));
                }
            }
            prop_assert!(buffer.len() <= plan.held());
        }
    }
}
