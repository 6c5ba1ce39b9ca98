//! Which pieces of an open payload are good, several at a time.

use std::cell::RefCell;

use super::batch::{Batch, Plan, Source, Sum};
use super::files::Files;
use super::uncached::is_cached;
use super::{DiskError, Span};
use crate::base::PieceIndex;

/// Whether each of `pieces`, at most [`LANES`](super::batch::LANES), has the hash that it should have. One of which something is
/// missing has not; one that was never written is known without reading.
///
/// # Errors
/// [`DiskError::CannotOpen`], [`DiskError::Outside`] or [`DiskError::Io`].
pub(super) fn are_good(
    files: &Files,
    pieces: &[PieceIndex],
    hashes: &dyn Fn(PieceIndex) -> [u8; 20],
) -> Result<Vec<bool>, DiskError> {
    let mut written = Vec::with_capacity(pieces.len());
    for &piece in pieces {
        if !files.is_unwritten(piece)? {
            written.push(piece);
        }
    }
    let sums = hash(files, &written)?;
    let mut sums = written.iter().zip(sums).peekable();
    let is_good = |&piece| match sums.next_if(|(written, _)| **written == piece) {
        None => files.hash_of_zeros(piece) == hashes(piece),
        Some((_, sum)) => sum.is_ok_and(|sum| sum.sha1 == hashes(piece)),
    };
    Ok(pieces.iter().map(is_good).collect())
}

/// Of what is missing, that it is.
fn hash(files: &Files, pieces: &[PieceIndex]) -> Result<Vec<Result<Sum, DiskError>>, DiskError> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let plan = Plan::modest(&files.layout, &files.place);
    BUFFER.with_borrow_mut(|buffer| {
        let mut batch = Batch::new(&files.layout, &plan, false, files, buffer);
        let (mut rest, mut sums) = (pieces, Vec::with_capacity(pieces.len()));
        while let Some(some) = batch.split(&mut rest) {
            sums.extend(batch.hash_each(some, DiskError::is_missing)?);
        }
        Ok(sums)
    })
}

impl Source for &Files {
    fn read(&mut self, _: usize, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        Files::read(self, offset, buffer)
    }

    fn is_cached(&mut self, span: Span) -> bool {
        let file = self.file(span.file);
        file.is_ok_and(|file| is_cached(file.file(), span.offset, span.len))
    }
}
