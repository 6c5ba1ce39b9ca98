//! Looking at pieces on disk: which are good, bad or missing.
//!
//! [`Verification::run`] and [`digest`] block the calling thread: they are for the command line.

use std::array::from_fn;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::batch::{Batch, LANES, Plan, Queue, Sum};
use super::hash::{self, join, sha1_of_zeros};
use super::look;
use super::place::Place;
use super::reader::Reader;
use super::{DiskError, Layout, Subtree};
use crate::base::{FileIdentity, PieceIndex};

/// What is on disk of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceState {
    /// Its hash is the expected one.
    Good,
    /// It is not, or it cannot be read.
    Bad,
    /// A file that it lies in is absent or too short, or nothing was ever written there: it lies in a hole, as the rest of a
    /// download does whose files were made in full.
    Missing,
}

/// What a look at a piece found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which piece.
    pub piece: PieceIndex,
    /// What is there.
    pub state: PieceState,
    /// Its node in the BLAKE3 tree of the payload, if that was asked for and the piece is good.
    pub subtree: Option<Subtree>,
    /// Why it could not be read, if that is why it is bad.
    pub trouble: Option<DiskError>,
}

/// Which pieces to look at, and how.
pub struct Verification<'a> {
    /// Where they lie.
    pub layout: &'a Layout,
    /// Which ones; in order, so that the disk reads in order.
    pub pieces: &'a [PieceIndex],
    /// The SHA-1 that each should have.
    pub expected: &'a (dyn Fn(PieceIndex) -> [u8; 20] + Sync),
    /// How many threads look, at least one.
    pub threads: usize,
    /// Whether [`Finding::subtree`] is wanted. The layout must fit ([`Subtree::fits`]).
    pub subtrees: bool,
}

/// What each file of a layout is now; `None` for those that are not there, pads and links.
///
/// # Errors
/// If that cannot be told, or something other than a file has a file's name.
pub fn identities(layout: &Layout) -> Result<Vec<Option<FileIdentity>>, DiskError> {
    Ok(look::look(layout)?.files)
}

/// BLAKE3 of the payload files, one after the other; pads are no files. Leaves the page cache as it is.
///
/// # Errors
/// [`DiskError::NotFound`], [`DiskError::Vanished`] if a file is too short, [`DiskError::CannotOpen`] or [`DiskError::Io`].
pub fn digest(layout: &Layout) -> Result<[u8; 32], DiskError> {
    let place = Place::open(layout.root())?;
    hash::digest(layout, Reader::uncached(layout, &place))
}

impl Verification<'_> {
    /// Looks at the pieces, and tells `found` of each as soon as it is known, on the threads that look, in no particular
    /// order; a break ends it early. Changes nothing, not even what is in the page cache.
    ///
    /// # Errors
    /// [`DiskError::CannotOpen`] if a file is there and cannot be opened, [`DiskError::Outside`], [`DiskError::NotOurs`], or
    /// [`DiskError::Io`] if a file cannot be looked at. What cannot be read is a finding.
    pub fn run(
        &self,
        found: &(dyn Fn(Finding) -> ControlFlow<()> + Sync),
    ) -> Result<(), DiskError> {
        let there = identities(self.layout)?;
        let Ok(place) = Place::open(self.layout.root()) else {
            self.all_missing(found);
            return Ok(());
        };
        let plan = Plan::new(self.layout, &place);
        let threads = plan.threads(self.threads);
        let survey = Survey {
            task: self,
            place: &place,
            there: &there,
            zeros: Zeros::default(),
            queue: Queue::new(&plan, self.pieces, threads),
            plan: &plan,
            stop: AtomicBool::new(false),
            found,
        };
        let ended: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads)
                .map(|_| scope.spawn(|| survey.work().inspect_err(|_| survey.stop())))
                .collect();
            threads.into_iter().map(join).collect()
        });
        ended.into_iter().collect()
    }

    fn all_missing(&self, found: &(dyn Fn(Finding) -> ControlFlow<()> + Sync)) {
        let mut pieces = self.pieces.iter();
        // Whether it ended early makes no difference here.
        let _ = pieces.try_for_each(|&piece| found(Finding::plain(piece, PieceState::Missing)));
    }
}

impl Finding {
    fn plain(piece: PieceIndex, state: PieceState) -> Self {
        let (subtree, trouble) = (None, None);
        Self {
            piece,
            state,
            subtree,
            trouble,
        }
    }

    /// What it means that `piece` cannot be read.
    ///
    /// # Errors
    /// The trouble itself, if it is not one of this piece.
    fn of_trouble(piece: PieceIndex, trouble: DiskError) -> Result<Self, DiskError> {
        match trouble {
            // Cut short or deleted since we looked.
            DiskError::NotFound { .. } | DiskError::Vanished { .. } => {
                Ok(Self::plain(piece, PieceState::Missing))
            }
            trouble if trouble.is_unreadable() => Ok(Self {
                trouble: Some(trouble),
                ..Self::plain(piece, PieceState::Bad)
            }),
            trouble => Err(trouble),
        }
    }
}

/// What the threads of one verification share.
struct Survey<'a> {
    task: &'a Verification<'a>,
    place: &'a Place,
    there: &'a [Option<FileIdentity>],
    zeros: Zeros,
    plan: &'a Plan,
    queue: Queue<'a>,
    stop: AtomicBool,
    found: &'a (dyn Fn(Finding) -> ControlFlow<()> + Sync),
}

impl Survey<'_> {
    /// One thread's share.
    fn work(&self) -> Result<(), DiskError> {
        let (layout, subtrees) = (self.task.layout, self.task.subtrees);
        let readers: [_; LANES] = from_fn(|_| Reader::uncached(layout, self.place));
        let mut buffer = Vec::new();
        let mut batch = Batch::new(layout, self.plan, subtrees, readers, &mut buffer);
        while let Some(stretch) = self.queue.take() {
            let mut present = Vec::new();
            for &piece in stretch {
                match self.without_hashing(&mut batch.source()[0], piece)? {
                    Some(finding) => self.tell(finding),
                    None => present.push(piece),
                }
                if self.is_stopped() {
                    return Ok(());
                }
            }
            let mut present = &present[..];
            while let Some(some) = batch.split(&mut present) {
                let is_own = |error: &DiskError| error.is_missing() || error.is_unreadable();
                let sums = batch.hash_each(some, is_own)?;
                for (&piece, sum) in some.iter().zip(sums) {
                    self.tell(match sum {
                        Ok(sum) => self.judge(piece, sum),
                        Err(error) => Finding::of_trouble(piece, error)?,
                    });
                }
                if self.is_stopped() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn tell(&self, finding: Finding) {
        if (self.found)(finding).is_break() {
            self.stop();
        }
    }

    /// What is known of a piece without reading it, if that is enough.
    fn without_hashing(
        &self,
        reader: &mut Reader<'_>,
        piece: PieceIndex,
    ) -> Result<Option<Finding>, DiskError> {
        if !self.is_there(piece) {
            return Ok(Some(Finding::plain(piece, PieceState::Missing)));
        }
        match reader.is_unwritten(piece) {
            Ok(false) => Ok(None),
            Ok(true) => {
                let zeros = self.zeros.hash(self.task.layout.geometry().len_of(piece));
                let is_right = zeros == (self.task.expected)(piece);
                Ok(match (is_right, self.task.subtrees) {
                    (false, _) => Some(Finding::plain(piece, PieceState::Missing)),
                    (true, false) => Some(Finding::plain(piece, PieceState::Good)),
                    (true, true) => None,
                })
            }
            Err(error) => Finding::of_trouble(piece, error).map(Some),
        }
    }

    fn judge(&self, piece: PieceIndex, sum: Sum) -> Finding {
        if sum.sha1 != (self.task.expected)(piece) {
            return Finding::plain(piece, PieceState::Bad);
        }
        Finding {
            subtree: sum.subtree,
            ..Finding::plain(piece, PieceState::Good)
        }
    }

    fn is_there(&self, piece: PieceIndex) -> bool {
        let size = |file: usize| self.there[file].map_or(0, |found| found.size);
        let mut spans = self.task.layout.piece_spans(piece);
        spans.all(|span| span.pad || span.offset + span.len <= size(span.file))
    }
}

/// SHA-1 of runs of zeros by their length, of which a torrent has two: that of its pieces and that of the last.
#[derive(Default)]
struct Zeros(Mutex<HashMap<u32, [u8; 20]>>);

impl Zeros {
    fn hash(&self, len: u32) -> [u8; 20] {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry(len).or_insert_with(|| sha1_of_zeros(len))
    }
}
