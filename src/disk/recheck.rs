//! Which pieces of an open payload are good, several at a time.

use std::array::from_fn;
use std::cell::RefCell;

use super::DiskError;
use super::batch::LANES;
use super::files::Files;
use super::hash::CHUNK;
use super::sha1x2::Streams;
use crate::base::PieceIndex;

/// Bytes of each piece that are read and hashed before the next of each.
const STEP: usize = CHUNK / LANES;

/// Whether each of `pieces`, at most [`LANES`], has the hash that it should have. One of which something is missing has not.
///
/// # Errors
/// As [`Files::is_good`].
pub(super) fn are_good(
    files: &Files,
    pieces: &[PieceIndex],
    hashes: &dyn Fn(PieceIndex) -> [u8; 20],
) -> Result<Vec<bool>, DiskError> {
    let is_written = |piece: &PieceIndex| matches!(files.is_unwritten(*piece), Ok(false));
    if pieces.iter().all(is_written)
        && let Ok(found) = sha1_of(files, pieces)
    {
        let good = pieces.iter().zip(found);
        return Ok(good.map(|(&piece, sha1)| sha1 == hashes(piece)).collect());
    }
    // By itself each knows what its trouble means.
    let good = pieces.iter();
    good.map(|&piece| files.is_good(piece, hashes(piece)))
        .collect()
}

fn sha1_of(files: &Files, pieces: &[PieceIndex]) -> Result<[[u8; 20]; LANES], DiskError> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    let geometry = files.layout.geometry();
    let mut streams = Streams::<LANES>::new();
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(CHUNK, 0);
        for at in (0..geometry.piece_len()).step_by(STEP) {
            let mut lens = [0; LANES];
            let lanes = pieces.iter().zip(&mut lens);
            for ((piece, len), bytes) in lanes.zip(buffer.chunks_mut(STEP)) {
                *len = (geometry.len_of(*piece).saturating_sub(at) as usize).min(STEP);
                let offset = geometry.offset_of(*piece) + u64::from(at);
                files.read(offset, &mut bytes[..*len])?;
            }
            streams.update(from_fn(|lane| &buffer[lane * STEP..][..lens[lane]]));
        }
        Ok(streams.finish())
    })
}
