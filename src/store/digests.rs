//! What re-reading shared data needs to remember (`g/`): how far a pass came, and the digest that each piece had when it was
//! found good.
//!
//! A digest never goes stale, since a piece has only one right content. All of it is a cache: what is damaged is passed over, and
//! the metainfo tells again.

use std::collections::BTreeSet;

use super::codec::{self, Reader};
use super::database::{Batch, Database};
use super::error::StoreError;
use super::schema::Row;
use crate::base::{InfoHash, PieceDigest};

/// Digests of one row: 960 bytes.
const PER_ROW: u32 = 60;
/// A piece of which nothing is known. That a piece has this digest is as likely as that damage goes unseen.
const NONE: [u8; PieceDigest::LEN] = [0; PieceDigest::LEN];

/// How far a torrent has been re-read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubMark {
    /// The piece that comes next.
    pub next: u32,
    /// Pieces that turned out bad in this pass.
    pub bad: u32,
    /// When this pass began or is to begin, in seconds since 1970.
    pub began: i64,
    /// When the last pass was over, in seconds since 1970; 0 if none was yet.
    pub finished: i64,
}

impl ScrubMark {
    fn encode(self) -> Vec<u8> {
        let mut body = Vec::with_capacity(24);
        body.extend_from_slice(&self.next.to_be_bytes());
        body.extend_from_slice(&self.bad.to_be_bytes());
        body.extend_from_slice(&self.began.to_be_bytes());
        body.extend_from_slice(&self.finished.to_be_bytes());
        body
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let mark = Self {
            next: reader.u32()?,
            bad: reader.u32()?,
            began: reader.i64()?,
            finished: reader.i64()?,
        };
        reader.end(mark)
    }
}

/// How far the torrent was re-read; `None` if it never was, or nobody can tell.
pub(super) fn mark(
    database: &Database,
    info_hash: &InfoHash,
) -> Result<Option<ScrubMark>, StoreError> {
    let body = database.get_cached(&Row::Digests.of(info_hash))?;
    Ok(body.and_then(|body| ScrubMark::decode(&body)))
}

/// The known digests of the row that `piece` is in.
pub(super) fn load(
    database: &Database,
    info_hash: &InfoHash,
    piece: u32,
) -> Result<Vec<(u32, PieceDigest)>, StoreError> {
    let number = piece / PER_ROW;
    let row = row(database, info_hash, number)?;
    let (digests, _) = row.as_chunks();
    let numbered = (number.saturating_mul(PER_ROW)..).zip(digests);
    let known = numbered.filter(|(_, digest)| **digest != NONE);
    Ok(known
        .map(|(piece, digest)| (piece, PieceDigest(*digest)))
        .collect())
}

/// Puts a mark, and digests of some pieces. It survives the process once this returns, maybe not the machine.
pub(super) fn put(
    database: &mut Database,
    info_hash: &InfoHash,
    mark: ScrubMark,
    digests: &[(u32, PieceDigest)],
) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    batch.put(&Row::Digests.of(info_hash), &mark.encode());
    for some in digests.chunk_by(|(one, _), (other, _)| one / PER_ROW == other / PER_ROW) {
        let number = some[0].0 / PER_ROW;
        let mut row = row(database, info_hash, number)?;
        for (piece, digest) in some {
            set(&mut row, *piece, &digest.0);
        }
        batch.put(&Row::Digests.numbered(info_hash, number), &row);
    }
    database.apply(batch)
}

/// Adds to `batch` that nothing is known of `pieces`; true if anything was.
pub(super) fn forget(
    database: &Database,
    batch: &mut Batch,
    info_hash: &InfoHash,
    pieces: &BTreeSet<u32>,
) -> Result<bool, StoreError> {
    let mut any = false;
    let pieces: Vec<u32> = pieces.iter().copied().collect();
    for some in pieces.chunk_by(|one, other| one / PER_ROW == other / PER_ROW) {
        let number = some[0] / PER_ROW;
        let before = row(database, info_hash, number)?;
        let mut after = before.clone();
        for piece in some {
            set(&mut after, *piece, &NONE);
        }
        if after != before {
            batch.put(&Row::Digests.numbered(info_hash, number), &after);
            any = true;
        }
    }
    Ok(any)
}

/// A row of digests; one of which nothing is known if there is none that can be read.
fn row(database: &Database, info_hash: &InfoHash, number: u32) -> Result<Vec<u8>, StoreError> {
    let body = database.get_cached(&Row::Digests.numbered(info_hash, number))?;
    let sound = body.filter(|body| body.len() == ROW_LEN);
    Ok(sound.unwrap_or_else(|| vec![0; ROW_LEN]))
}

const ROW_LEN: usize = PER_ROW as usize * PieceDigest::LEN;
const _: () = assert!(ROW_LEN + codec::SEAL_LEN <= crate::base::limits::STORE_VALUE_MAX);

fn set(row: &mut [u8], piece: u32, digest: &[u8; PieceDigest::LEN]) {
    let at = (piece % PER_ROW) as usize * PieceDigest::LEN;
    row[at..at + PieceDigest::LEN].copy_from_slice(digest);
}

/// Whether such a row may be in a database of this version; `rest` is what its key has besides kind and info-hash.
pub(super) fn is_sound(rest: Option<usize>, body: &[u8]) -> bool {
    match rest {
        Some(0) => ScrubMark::decode(body).is_some(),
        Some(4) => body.len() == ROW_LEN,
        _ => false,
    }
}
