//! Blocks of unfinished pieces that a clean stop left on the medium (`b/`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::codec::Reader;
use super::database::{Batch, Database};
use super::error::StoreError;
use super::schema::{self, Row};
use crate::base::InfoHash;
use crate::base::limits::STORED_PARTIALS_MAX;

/// A run of received blocks of an unfinished piece: the piece, and numbers of blocks within it.
pub type Partial = (u32, Range<u32>);

/// Runs in one row: 800 bytes.
const RUNS_PER_ROW: usize = 100;

/// Replaces all rows of the torrent by `partial`, less the pieces in `durable`.
pub(super) fn replace(
    database: &Database,
    batch: &mut Batch,
    info_hash: &InfoHash,
    partial: &[Partial],
    durable: &BTreeSet<u32>,
) -> Result<(), StoreError> {
    database.remove_all(&Row::Partial.of(info_hash), batch)?;
    let mut by_piece = BTreeMap::<u32, Vec<&Range<u32>>>::new();
    let kept = partial
        .iter()
        .filter(|(piece, blocks)| !blocks.is_empty() && !durable.contains(piece));
    for (piece, blocks) in kept.take(STORED_PARTIALS_MAX) {
        by_piece.entry(*piece).or_default().push(blocks);
    }
    for (piece, runs) in by_piece {
        for (chunk, runs) in (0u16..).zip(runs.chunks(RUNS_PER_ROW)) {
            let mut key = Row::Partial.numbered(info_hash, piece);
            key.extend_from_slice(&chunk.to_be_bytes());
            let mut body = Vec::with_capacity(runs.len() * 8);
            for run in runs {
                body.extend_from_slice(&run.start.to_be_bytes());
                body.extend_from_slice(&run.end.to_be_bytes());
            }
            batch.put(&key, &body);
        }
    }
    Ok(())
}

/// Removes the rows of `pieces`; true if there is any.
pub(super) fn forget(
    database: &Database,
    batch: &mut Batch,
    info_hash: &InfoHash,
    pieces: &BTreeSet<u32>,
) -> Result<bool, StoreError> {
    let mut any = false;
    for row in database.sealed_rows(&Row::Partial.of(info_hash)) {
        let (key, _) = row?;
        if schema::number_of(&key).is_some_and(|piece| pieces.contains(&piece)) {
            batch.remove(&key);
            any = true;
        }
    }
    Ok(any)
}

/// All runs of a torrent of `pieces` pieces.
pub(super) fn load(
    database: &Database,
    info_hash: &InfoHash,
    pieces: u32,
) -> Result<Vec<Partial>, StoreError> {
    let mut partial = Vec::new();
    for row in database.scan(&Row::Partial.of(info_hash)) {
        let (key, body) = row?;
        let found = schema::number_of(&key)
            .filter(|piece| *piece < pieces)
            .zip(decode(&body));
        let Some((piece, runs)) = found else {
            return Err(database.damaged_row(&key));
        };
        partial.extend(runs.into_iter().map(|run| (piece, run)));
    }
    Ok(partial)
}

pub(super) fn decode(body: &[u8]) -> Option<Vec<Range<u32>>> {
    let mut reader = Reader(body);
    let mut runs = Vec::new();
    while !reader.is_empty() {
        let run = reader.u32()?..reader.u32()?;
        if run.is_empty() {
            return None;
        }
        runs.push(run);
    }
    (runs.len() <= RUNS_PER_ROW).then_some(runs)
}
