//! Re-reading a piece that is shared, to see whether its bytes still are what they were.

use super::hash::PieceHasher;
use super::place::Place;
use super::reader::Reader;
use super::{DiskError, Layout};
use crate::base::{FileIdentity, PieceDigest, PieceIndex};

/// Bytes read and hashed at once.
const CHUNK: usize = 256 << 10;

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

/// Re-reads `piece`, whose files were `known` when they were last found good, past the page cache.
///
/// With the `digest` that it had, BLAKE3 decides; without one, and where the digest says no, SHA-1.
///
/// # Errors
/// [`DiskError::CannotOpen`] and its kin, or [`DiskError::Io`] if a file cannot be looked at.
pub(super) fn scrub(
    layout: &Layout,
    place: &Place,
    piece: PieceIndex,
    known: &[Option<FileIdentity>],
    expected: [u8; 20],
    digest: Option<PieceDigest>,
) -> Result<Scrubbed, DiskError> {
    let mut reader = Reader::uncached(layout, place);
    let looked = read_again(&mut reader, piece, expected, digest);
    // Looked at afterwards, so that a write under way is not taken for rot.
    let changed = layout.piece_spans(piece).filter(|span| !span.pad);
    for span in changed {
        match reader.identity(span.file) {
            Ok(now) if known[span.file].is_some_and(|known| known.is_unchanged(&now)) => {}
            Ok(_) => {
                let path = &layout.files()[span.file].path;
                return Ok(Scrubbed::Changed(DiskError::vanished(path)));
            }
            Err(error @ DiskError::NotFound { .. }) => return Ok(Scrubbed::Changed(error)),
            Err(error) => return Err(error),
        }
    }
    match looked {
        Err(error @ (DiskError::NotFound { .. } | DiskError::Vanished { .. })) => {
            Ok(Scrubbed::Changed(error))
        }
        Err(error) if error.is_unreadable() => Ok(Scrubbed::Unreadable(error)),
        looked => looked,
    }
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
