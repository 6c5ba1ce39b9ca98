//! How far a torrent has come: [`load`], [`commit`] and [`clear`] over the rows `t/`, `h/`, `f/`, `b/` and `s/`.
//!
//! A bit that [`load`] returns was given to [`commit`] after its bytes were synced, and to no [`clear`] since. Changes are
//! staged here; the barrier that makes them durable is for the caller ([`Database::settle`]).

use std::collections::BTreeSet;

use super::database::{Batch, Database};
use super::digests;
use super::error::StoreError;
use super::identities;
use super::notes::Note;
use super::pages::Pages;
use super::partial::{self, Partial};
use super::schema::Row;
use super::torrents::{Shape, TorrentRow, Totals};
use crate::base::{Bitfield, FileIdentity, InfoHash};

/// What the store knows of a torrent.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Pieces whose bytes are on the medium.
    pub durable: Bitfield,
    /// Whether the torrent was committed as finished; then `durable` is full.
    pub finished: bool,
    /// Whether nothing was written to the files since the last commit, so that they are as `identities` says.
    pub clean: bool,
    /// What each file was at the last commit that touched it, in torrent order.
    pub identities: Vec<Option<FileIdentity>>,
    /// Blocks of unfinished pieces that were on the medium at the last clean stop.
    pub partial: Vec<Partial>,
    /// What was noted since the last commit. It claims nothing.
    pub notes: Vec<Note>,
    /// When the last note was written, in nanoseconds since 1970; `None` if there is none.
    pub noted_ns: Option<i64>,
    /// Bytes transferred, as of the last commit.
    pub totals: Totals,
}

/// What becomes durable at once. The bytes that it speaks of are synced already.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// Pieces that are newly durable.
    pub durable: Vec<u32>,
    /// What files are now, after the sync: place in the torrent and identity.
    pub identities: Vec<(usize, FileIdentity)>,
    /// Whether every piece is durable now. The store believes it only if the bits say so too.
    pub finished: bool,
    /// R9: whether nothing is written to the files after this, so that they stay as `identities` says. A commit that is not clean
    /// comes before the first write.
    pub clean: bool,
    /// At a clean stop: every synced block of unfinished pieces, in place of those of the last one.
    pub partial: Option<Vec<Partial>>,
    /// Bytes transferred over all runs.
    pub totals: Totals,
}

impl Shape {
    fn check_piece(self, info_hash: InfoHash, piece: u32) -> Result<(), StoreError> {
        if piece < self.pieces {
            return Ok(());
        }
        Err(StoreError::OutOfBounds {
            info_hash,
            what: "piece",
            index: piece.into(),
            count: self.pieces.into(),
        })
    }

    fn check_file(self, info_hash: InfoHash, file: usize) -> Result<u32, StoreError> {
        u32::try_from(file)
            .ok()
            .filter(|file| *file < self.files)
            .ok_or(StoreError::OutOfBounds {
                info_hash,
                what: "file",
                index: file as u64,
                count: self.files.into(),
            })
    }
}

/// What is stored of a torrent, bar its notes; `None` if nothing is.
pub(super) fn load(
    database: &Database,
    info_hash: &InfoHash,
    shape: Shape,
) -> Result<Option<Record>, StoreError> {
    let Some(row) = TorrentRow::get(database, info_hash)? else {
        return Ok(None);
    };
    if row.shape != shape {
        return Err(database.damaged_row(&Row::Torrent.of(info_hash)));
    }
    let durable = if row.finished {
        Some(Bitfield::full(shape.pieces))
    } else {
        Pages::stored(database, info_hash, shape.pieces)?.bits()
    };
    Ok(Some(Record {
        durable: durable.ok_or_else(|| database.damaged_row(&Row::Page.of(info_hash)))?,
        finished: row.finished,
        clean: row.clean,
        identities: identities::load(database, info_hash, shape.files)?,
        partial: partial::load(database, info_hash, shape.pieces)?,
        notes: Vec::new(),
        noted_ns: None,
        totals: Totals::get(database, info_hash)?.unwrap_or_default(),
    }))
}

/// R4: stages one batch with all of `commit`. True if the torrent is finished with it.
pub(super) fn commit(
    database: &mut Database,
    info_hash: &InfoHash,
    shape: Shape,
    commit: &Commit,
) -> Result<bool, StoreError> {
    for piece in &commit.durable {
        shape.check_piece(*info_hash, *piece)?;
    }
    for (piece, _) in commit.partial.iter().flatten() {
        shape.check_piece(*info_hash, *piece)?;
    }
    let mut batch = Batch::default();
    let finished = put_bits(database, &mut batch, info_hash, shape, commit)?;
    let clean = commit.clean;
    TorrentRow {
        shape,
        finished,
        clean,
    }
    .put(&mut batch, info_hash);
    let mut files = Vec::with_capacity(commit.identities.len());
    for (file, identity) in &commit.identities {
        files.push((shape.check_file(*info_hash, *file)?, Some(*identity)));
    }
    identities::put(database, &mut batch, info_hash, &files)?;
    let durable = commit.durable.iter().copied().collect();
    if finished {
        database.remove_all(&Row::Partial.of(info_hash), &mut batch)?;
    } else if let Some(left) = &commit.partial {
        partial::replace(database, &mut batch, info_hash, left, &durable)?;
    } else {
        partial::forget(database, &mut batch, info_hash, &durable)?;
    }
    commit.totals.put(&mut batch, info_hash);
    database.stage(batch)?;
    Ok(finished)
}

/// Adds the new bits to `batch`; true if the torrent is finished with them.
fn put_bits(
    database: &Database,
    batch: &mut Batch,
    info_hash: &InfoHash,
    shape: Shape,
    commit: &Commit,
) -> Result<bool, StoreError> {
    if TorrentRow::get(database, info_hash)?.is_some_and(|row| row.finished) {
        return Ok(true);
    }
    let mut pages = Pages::new(shape.pieces);
    for piece in &commit.durable {
        pages.fetch(database, info_hash, *piece)?;
        pages.set(*piece, true);
    }
    if commit.finished {
        let mut all = Pages::stored(database, info_hash, shape.pieces)?;
        all.extend(pages);
        if all.bits().is_some_and(|bits| bits.is_full()) {
            database.remove_all(&Row::Page.of(info_hash), batch)?;
            return Ok(true);
        }
        tracing::error!(%info_hash, "told to be finished with pieces that are not durable");
        pages = all;
    }
    pages.put(batch, info_hash, database.next_sequence());
    Ok(false)
}

/// R5: stages that the bits of `pieces` and what is known of their blocks are gone. False if there is nothing to take back.
pub(super) fn clear(
    database: &mut Database,
    info_hash: &InfoHash,
    shape: Shape,
    pieces: &BTreeSet<u32>,
) -> Result<bool, StoreError> {
    for piece in pieces {
        shape.check_piece(*info_hash, *piece)?;
    }
    let Some(row) = TorrentRow::get(database, info_hash)? else {
        return Ok(false);
    };
    let mut batch = Batch::default();
    let mut pages = Pages::new(shape.pieces);
    if row.finished {
        pages = Pages::full(shape.pieces);
    }
    let mut changed = false;
    for piece in pieces {
        pages.fetch(database, info_hash, *piece)?;
        changed |= pages.set(*piece, false);
    }
    changed |= partial::forget(database, &mut batch, info_hash, pieces)?;
    changed |= digests::forget(database, &mut batch, info_hash, pieces)?;
    if !changed {
        return Ok(false);
    }
    pages.put(&mut batch, info_hash, database.next_sequence());
    let finished = false;
    TorrentRow { finished, ..row }.put(&mut batch, info_hash);
    database.stage(batch)?;
    Ok(true)
}

/// Stages that what files were is forgotten, so that they are looked at anew.
pub(super) fn forget_identities(
    database: &mut Database,
    info_hash: &InfoHash,
    shape: Shape,
    files: &[usize],
) -> Result<(), StoreError> {
    let mut changes = Vec::with_capacity(files.len());
    for file in files {
        changes.push((shape.check_file(*info_hash, *file)?, None));
    }
    let mut batch = Batch::default();
    identities::put(database, &mut batch, info_hash, &changes)?;
    database.stage(batch)
}

/// Stages the removal of the given kinds of rows of a torrent. False if it has none.
pub(super) fn remove(
    database: &mut Database,
    info_hash: &InfoHash,
    rows: &[Row],
) -> Result<bool, StoreError> {
    let mut batch = Batch::default();
    let mut any = false;
    for row in rows {
        any |= database.remove_all(&row.of(info_hash), &mut batch)?;
    }
    if any {
        database.stage(batch)?;
    }
    Ok(any)
}
