//! Pieces that are read and hashed together, on all cores: for whoever goes through a whole payload.
//!
//! SHA-1 of several pieces at once is faster than of one after the other ([`Streams`]), so each thread takes a few pieces at a time,
//! reads them in order and hashes them abreast while they are hot in its cache. What a thread holds is bounded ([`Plan`]). Where
//! the disk spins one thread reads at a time, and whole batches, so that the disk sees one stream; the others hash meanwhile.

use std::array::from_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::device::spins;
use super::place::Place;
use super::reader::Reader;
use super::sha1x2::Streams;
use super::{DiskError, Layout, Subtree};
use crate::base::{Geometry, PieceIndex};

/// Pieces that are hashed at once: more are hardly faster.
pub(super) const LANES: usize = 4;
/// Bytes of each piece that are hashed before the next of each: those of all pieces fit into a core's own cache, and they are
/// many chunks and blocks of BLAKE3.
const STEP: usize = 64 << 10;
/// Bytes of a batch that are read in one go; of longer pieces, one reads a step of each in turn.
const WHOLE: usize = 4 << 20;
/// The same where the disk spins, and going from piece to piece takes as long as reading a megabyte. Of longer pieces, one is
/// read and hashed at a time, by one thread: such a disk is no faster.
const WHOLE_IF_SPINNING: usize = 64 << 20;
/// Bytes that all threads hold together.
const HELD: usize = 512 << 20;
/// Bytes that a thread takes in a row, so that even small pieces are read in order.
const STRETCH: usize = 4 << 20;

/// How a payload is gone through.
#[derive(Debug)]
pub(super) struct Plan {
    /// Pieces in a batch.
    lanes: usize,
    /// Whether a batch is read in one go.
    whole: bool,
    /// Who holds it may read.
    turn: Option<Mutex<()>>,
    piece_len: usize,
}

impl Plan {
    /// What suits the layout and the device that it lies on.
    pub(super) fn new(layout: &Layout, place: &Place) -> Self {
        Self::by(layout.geometry(), spins(place))
    }

    fn by(geometry: &Geometry, spins: bool) -> Self {
        let piece_len = geometry.piece_len() as usize;
        let most = if spins { WHOLE_IF_SPINNING } else { WHOLE };
        let whole = LANES * piece_len <= most;
        Self {
            lanes: if spins && !whole { 1 } else { LANES },
            whole,
            turn: spins.then(Mutex::default),
            piece_len,
        }
    }

    /// How many of `wanted` threads there may be, at least one.
    pub(super) fn threads(&self, wanted: usize) -> usize {
        wanted.clamp(1, (HELD / self.held()).max(1))
    }

    /// Bytes that a batch takes.
    fn held(&self) -> usize {
        let each = if self.whole { self.piece_len } else { STEP };
        self.lanes * each
    }

    /// Waits until this thread may read.
    fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        let turn = self.turn.as_ref();
        turn.map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner))
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
            stretch: stretch.next_multiple_of(plan.lanes).min(share).max(1),
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

/// Reads and hashes pieces for one thread.
pub(super) struct Batch<'a> {
    layout: &'a Layout,
    plan: &'a Plan,
    /// Of pieces that are read in turns, each has its own, which the kernel sees read in order.
    readers: Vec<Reader<'a>>,
    buffer: Vec<u8>,
    subtrees: bool,
}

impl<'a> Batch<'a> {
    /// Reads with what `reader` makes. `subtrees` asks for [`Sum::subtree`].
    pub(super) fn new(
        layout: &'a Layout,
        plan: &'a Plan,
        subtrees: bool,
        reader: impl Fn() -> Reader<'a>,
    ) -> Self {
        let readers = if plan.whole { 1 } else { plan.lanes };
        Self {
            layout,
            plan,
            readers: (0..readers).map(|_| reader()).collect(),
            buffer: Vec::new(),
            subtrees,
        }
    }

    /// Most pieces for [`hash`](Self::hash).
    pub(super) fn most(&self) -> usize {
        self.plan.lanes
    }

    /// Whether nothing was ever written where `piece` lies, as far as the filesystem tells.
    ///
    /// # Errors
    /// As [`Reader::is_unwritten`].
    pub(super) fn is_unwritten(&mut self, piece: PieceIndex) -> Result<bool, DiskError> {
        self.readers[0].is_unwritten(piece)
    }

    /// Hashes `pieces`, at most [`most`](Self::most), in this order.
    ///
    /// # Errors
    /// As [`Reader::read`], for whichever piece it was.
    pub(super) fn hash(&mut self, pieces: &[PieceIndex]) -> Result<Vec<Sum>, DiskError> {
        let mut sums = Sums::new(self.layout.geometry(), pieces, self.subtrees);
        if self.plan.whole {
            self.hash_whole(pieces, &mut sums)?;
        } else {
            self.hash_in_turns(pieces, &mut sums)?;
        }
        Ok(sums.finish(pieces.len()))
    }

    fn hash_whole(&mut self, pieces: &[PieceIndex], sums: &mut Sums) -> Result<(), DiskError> {
        let geometry = self.layout.geometry();
        let len = |piece: &PieceIndex| geometry.len_of(*piece) as usize;
        let total: usize = pieces.iter().map(len).sum();
        self.buffer.resize(total.max(self.buffer.len()), 0);
        let follows = |one: &PieceIndex, two: &PieceIndex| one.get() + 1 == two.get();
        let turn = self.plan.turn();
        let mut rest = &mut self.buffer[..total];
        for run in pieces.chunk_by(follows) {
            let (now, later) = rest.split_at_mut(run.iter().map(len).sum());
            rest = later;
            self.readers[0].read(geometry.offset_of(run[0]), now)?;
        }
        drop(turn);
        let mut rest = &self.buffer[..total];
        let bytes: [&[u8]; LANES] = from_fn(|lane| {
            let now;
            (now, rest) = rest.split_at(pieces.get(lane).map_or(0, len));
            now
        });
        for at in (0..geometry.piece_len() as usize).step_by(STEP) {
            sums.update(
                bytes.map(|bytes| &bytes[at.min(bytes.len())..(at + STEP).min(bytes.len())]),
            );
        }
        Ok(())
    }

    fn hash_in_turns(&mut self, pieces: &[PieceIndex], sums: &mut Sums) -> Result<(), DiskError> {
        let geometry = self.layout.geometry();
        let _turn = self.plan.turn();
        self.buffer.resize(self.plan.held(), 0);
        for at in (0..geometry.piece_len()).step_by(STEP) {
            let mut lens = [0; LANES];
            let lanes = pieces.iter().zip(&mut self.readers).zip(&mut lens);
            for (((piece, reader), len), bytes) in lanes.zip(self.buffer.chunks_mut(STEP)) {
                *len = (geometry.len_of(*piece).saturating_sub(at) as usize).min(STEP);
                let offset = geometry.offset_of(*piece) + u64::from(at);
                reader.read(offset, &mut bytes[..*len])?;
            }
            let mut bytes = self.buffer.chunks(STEP);
            sums.update(lens.map(|len| bytes.next().map_or(&[][..], |bytes| &bytes[..len])));
        }
        Ok(())
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
