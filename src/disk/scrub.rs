//! Re-reading a piece that is shared, to see whether its bytes still are what they were.

use super::DiskError;
use super::files::Files;
use super::hash::{CHUNK, PieceHasher};
use super::reader::Reader;
use crate::base::{PieceDigest, PieceIndex};

/// What re-reading a piece that is shared brought to light.
#[derive(Clone, Debug)]
pub enum Scrubbed {
    /// It is what it was.
    Good(PieceDigest),
    /// Its bytes are others, though nobody wrote to its files: they rotted on the disk, or on their way from it.
    Rotten,
    /// The disk cannot read it any more.
    Unreadable(DiskError),
    /// A file that it lies in is not what it was: somebody wrote to it, or it is gone. That is no rot.
    Changed(DiskError),
}

/// Re-reads `piece`, past the page cache.
///
/// # Errors
/// [`DiskError::CannotOpen`] and its kin, or [`DiskError::Io`] if a file cannot be looked at.
pub(super) fn scrub(
    files: &Files,
    piece: PieceIndex,
    expected: [u8; 20],
    digest: Option<PieceDigest>,
) -> Result<Scrubbed, DiskError> {
    let mut reader = Reader::uncached_here_and_there(&files.layout, &files.place);
    match read_unchanged(files, &mut reader, piece, expected, digest) {
        Err(error @ (DiskError::NotFound { .. } | DiskError::Vanished { .. })) => {
            Ok(Scrubbed::Changed(error))
        }
        Err(error) if error.is_unreadable() => Ok(Scrubbed::Unreadable(error)),
        looked => looked,
    }
}

/// # Errors
/// [`DiskError::Vanished`] besides, if a file is not what it was judged by, or changes meanwhile.
fn read_unchanged(
    files: &Files,
    reader: &mut Reader<'_>,
    piece: PieceIndex,
    expected: [u8; 20],
    digest: Option<PieceDigest>,
) -> Result<Scrubbed, DiskError> {
    let spans = files.layout.piece_spans(piece);
    let touched = spans.filter(|span| !span.pad).map(|span| span.file);
    let mut known = Vec::new();
    for file in touched {
        known.push(match files.judged(file) {
            Some(judged) => (file, judged),
            None => (file, reader.identity(file)?),
        });
    }
    let looked = read_again(reader, piece, expected, digest);
    // Looked at afterwards, so that a write under way is not taken for rot.
    for (file, known) in known {
        if !known.is_unchanged(&reader.identity(file)?) {
            return Err(DiskError::vanished(&files.layout.files()[file].path));
        }
    }
    looked
}

fn read_again(
    reader: &mut Reader<'_>,
    piece: PieceIndex,
    expected: [u8; 20],
    digest: Option<PieceDigest>,
) -> Result<Scrubbed, DiskError> {
    let mut buffer = vec![0; CHUNK];
    let mut blake3 = blake3::Hasher::new();
    let mut sha1 = PieceHasher::new(false);
    reader.chunks(piece, &mut buffer, |chunk| {
        blake3.update(chunk);
        if digest.is_none() {
            sha1.update(chunk);
        }
    })?;
    let found = PieceDigest::of(blake3.finalize().as_bytes());
    match digest {
        Some(digest) if digest == found => Ok(Scrubbed::Good(found)),
        // The metainfo has the last word: it may be the digest that is wrong.
        Some(_) => read_again(reader, piece, expected, None),
        None if sha1.finish().0 == expected => Ok(Scrubbed::Good(found)),
        None => Ok(Scrubbed::Rotten),
    }
}
