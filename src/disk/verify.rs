//! Looking at pieces on disk: which are good, bad or missing.
//!
//! [`Verification::run`] and [`digest`] block the calling thread: they are for the command line.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::create;
use super::hash::{CHUNK, PieceHasher, join, sha1_of_zeros};
use super::place::Place;
use super::reader::Reader;
use super::{DiskError, Layout, SpecKind, Subtree};
use crate::base::{FileIdentity, PieceIndex};

/// Bytes of pieces that one thread takes in a row, so that even small pieces are read sequentially.
const STRETCH: usize = 4 << 20;

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
    Ok(create::look(layout)?.files)
}

/// BLAKE3 of the payload files, one after the other; pads are no files. Leaves the page cache as it is.
///
/// # Errors
/// [`DiskError::NotFound`], [`DiskError::Vanished`] if a file is too short, [`DiskError::CannotOpen`] or [`DiskError::Io`].
pub fn digest(layout: &Layout) -> Result<[u8; 32], DiskError> {
    let place = Place::open(layout.root())?;
    let mut reader = Reader::uncached(layout, &place);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    for file in layout.files() {
        let end = offset + file.length;
        while file.kind == SpecKind::Payload && offset < end {
            let chunk = &mut buffer[..(end - offset).min(CHUNK as u64) as usize];
            reader.read(offset, chunk)?;
            hasher.update(chunk);
            offset += chunk.len() as u64;
        }
        offset = end;
    }
    Ok(*hasher.finalize().as_bytes())
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
        let survey = Survey {
            task: self,
            place: &place,
            there: &there,
            zeros: Zeros::default(),
            next: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            found,
        };
        let ended: Vec<_> = thread::scope(|scope| {
            let threads = (0..self.threads.max(1)).map(|_| scope.spawn(|| survey.work()));
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(join).collect()
        });
        ended.into_iter().collect()
    }

    fn all_missing(&self, found: &(dyn Fn(Finding) -> ControlFlow<()> + Sync)) {
        let mut pieces = self.pieces.iter();
        // Whether it ended early makes no difference here.
        let _ = pieces.try_for_each(|&piece| found(Finding::plain(piece, PieceState::Missing)));
    }

    /// Pieces that a thread takes at once: a stretch for the disk, but no more than leaves work for all until the end.
    fn stretch(&self) -> usize {
        let stretch = STRETCH / self.layout.geometry().piece_len() as usize;
        let share = self.pieces.len() / (8 * self.threads.max(1));
        stretch.min(share).max(1)
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
}

/// What the threads of one verification share.
struct Survey<'a> {
    task: &'a Verification<'a>,
    place: &'a Place,
    there: &'a [Option<FileIdentity>],
    zeros: Zeros,
    next: AtomicUsize,
    stop: AtomicBool,
    found: &'a (dyn Fn(Finding) -> ControlFlow<()> + Sync),
}

impl Survey<'_> {
    /// One thread's share.
    fn work(&self) -> Result<(), DiskError> {
        let mut reader = Reader::uncached(self.task.layout, self.place);
        let mut buffer = vec![0; CHUNK];
        let stretch = self.task.stretch();
        loop {
            let start = self.next.fetch_add(stretch, Ordering::Relaxed);
            let pieces = self.task.pieces.iter().skip(start).take(stretch);
            if pieces.len() == 0 {
                return Ok(());
            }
            for &piece in pieces {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let looked = self.look(&mut reader, piece, &mut buffer);
                let goes_on = looked.as_ref().is_ok_and(|finding| {
                    let told = (self.found)(finding.clone());
                    told.is_continue()
                });
                self.stop.fetch_or(!goes_on, Ordering::Relaxed);
                looked?;
            }
        }
    }

    fn look(
        &self,
        reader: &mut Reader<'_>,
        piece: PieceIndex,
        buffer: &mut [u8],
    ) -> Result<Finding, DiskError> {
        if !self.is_there(piece) {
            return Ok(Finding::plain(piece, PieceState::Missing));
        }
        match self.hash(reader, piece, buffer) {
            // Cut short or deleted since we looked.
            Err(DiskError::NotFound { .. } | DiskError::Vanished { .. }) => {
                Ok(Finding::plain(piece, PieceState::Missing))
            }
            Err(error) if error.is_unreadable() => Ok(Finding {
                trouble: Some(error),
                ..Finding::plain(piece, PieceState::Bad)
            }),
            looked => looked,
        }
    }

    fn hash(
        &self,
        reader: &mut Reader<'_>,
        piece: PieceIndex,
        buffer: &mut [u8],
    ) -> Result<Finding, DiskError> {
        let geometry = self.task.layout.geometry();
        let expected = (self.task.expected)(piece);
        let hole = reader.is_unwritten(piece)?;
        if hole && self.zeros.hash(geometry.len_of(piece)) != expected {
            return Ok(Finding::plain(piece, PieceState::Missing));
        }
        let mut subtree = self.task.subtrees.then(|| Subtree::begin(geometry, piece));
        if hole && subtree.is_none() {
            return Ok(Finding::plain(piece, PieceState::Good));
        }
        let mut sha1 = PieceHasher::new(false);
        reader.chunks(piece, buffer, |chunk| {
            sha1.update(chunk);
            if let Some(subtree) = &mut subtree {
                subtree.update(chunk);
            }
        })?;
        let good = sha1.finish().0 == expected;
        let state = if good {
            PieceState::Good
        } else {
            PieceState::Bad
        };
        Ok(Finding {
            subtree: subtree.filter(|_| good).map(|node| Subtree::of(&node)),
            ..Finding::plain(piece, state)
        })
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
