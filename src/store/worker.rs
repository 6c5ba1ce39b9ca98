//! The one thread that the database lives on, and what it does for each request.

use std::collections::{BTreeSet, HashMap};
use std::panic::{self, AssertUnwindSafe};

use tokio::sync::{mpsc, oneshot};

use super::catalog::{self, Choices};
use super::database::{Database, Epoch};
use super::error::StoreError;
use super::notes::{Note, NoteLog};
use super::open::{Folder, History, panic_text};
use super::progress::{self, Commit, Record};
use super::schema::Row;
use super::torrents::Shape;
use crate::base::InfoHash;

/// A request to the thread.
pub(super) enum Job {
    /// Something to do.
    Do(Box<dyn FnOnce(&mut Worker) + Send>),
    /// Close everything, then answer.
    Stop(oneshot::Sender<Result<(), StoreError>>),
}

/// Everything that the thread owns.
pub(super) struct Worker {
    /// `None` after an error, until it is needed again: errors of the database stick to the open handle.
    database: Option<Database>,
    epoch: Epoch,
    shapes: HashMap<InfoHash, Shape>,
    notes: HashMap<InfoHash, NoteLog>,
    /// Last, so that the lock is let go after the database.
    folder: Folder,
}

impl Worker {
    /// Opens the state folder.
    pub(super) fn open(folder: Folder) -> Result<(Self, History), StoreError> {
        let (database, history) = folder.open()?;
        let worker = Self {
            epoch: *database.epoch(),
            database: Some(database),
            shapes: HashMap::new(),
            notes: HashMap::new(),
            folder,
        };
        Ok((worker, history))
    }

    /// Does what is asked until nobody can ask any more.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            match job {
                Job::Do(job) => job(&mut self),
                Job::Stop(answer) => {
                    drop_guarded(self.database.take());
                    drop(self);
                    // Whoever asked may have gone; it is closed all the same.
                    let _ = answer.send(Ok(()));
                    return;
                }
            }
        }
        drop_guarded(self.database.take());
    }

    /// Does one thing. A panic on the way becomes an error, and the database is opened anew for the next.
    pub(super) fn attempt<T>(
        &mut self,
        job: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let done = panic::catch_unwind(AssertUnwindSafe(|| job(self)));
        done.unwrap_or_else(|panic| {
            drop_guarded(self.database.take());
            Err(StoreError::Damaged {
                path: self.folder.database(),
                what: panic_text(panic.as_ref()),
            })
        })
    }

    /// Works on the database, which is opened anew if it failed before.
    pub(super) fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut database = match self.database.take() {
            Some(database) => database,
            None => self.folder.reopen(&self.epoch)?,
        };
        let done = work(&mut database);
        match &done {
            Err(error) if error.wants_reopen() => drop_guarded(Some(database)),
            _ => self.database = Some(database),
        }
        done
    }

    /// The state folder.
    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(super) fn remove_torrent(&mut self, info_hash: &InfoHash) -> Result<(), StoreError> {
        // The catalog comes last: it is what brings a torrent back, and then all is hashed.
        self.with(|database| progress::remove(database, info_hash, &Row::ALL))?;
        self.notes_of(info_hash).remove()?;
        self.notes.remove(info_hash);
        self.shapes.remove(info_hash);
        catalog::remove(&self.folder.path, info_hash)
    }

    pub(super) fn put_torrent(
        &self,
        info_hash: &InfoHash,
        metainfo: &[u8],
        choices: &Choices,
    ) -> Result<(), StoreError> {
        catalog::put(&self.folder.path, info_hash, metainfo, choices)
    }

    pub(super) fn load(
        &mut self,
        info_hash: &InfoHash,
        shape: Shape,
    ) -> Result<Option<Record>, StoreError> {
        self.shapes.insert(*info_hash, shape);
        let stored = match self.with(|database| progress::load(database, info_hash, shape)) {
            Err(StoreError::Damaged { what, .. }) => {
                tracing::warn!(%info_hash, what, "the record of a torrent is damaged; it is checked anew");
                self.clear_all(info_hash)?;
                return Ok(None);
            }
            stored => stored?,
        };
        let mut notes = self.notes_of(info_hash).notes();
        let Some(mut record) = stored else {
            // Rows without the one that ties them belong to nothing.
            self.with(|database| progress::remove(database, info_hash, &Row::PROGRESS))?;
            return Ok((!notes.is_empty()).then(|| Record::noted(notes, shape)));
        };
        notes.retain(|note| is_news(note, &record, shape));
        record.notes = notes;
        record.noted_ns = self.notes_of(info_hash).written_ns();
        Ok(Some(record))
    }

    pub(super) fn commit(
        &mut self,
        info_hash: &InfoHash,
        commit: &Commit,
    ) -> Result<(), StoreError> {
        let shape = self.shape_of(info_hash)?;
        let finished =
            self.with(|database| progress::commit(database, info_hash, shape, commit))?;
        let covered = commit.durable.iter().copied().collect();
        let notes = self.notes_of(info_hash);
        let tidied = if finished {
            notes.remove()
        } else {
            notes.drop_covered(&covered, commit.partial.is_some())
        };
        if let Err(error) = tidied {
            // The commit holds, and notes that say what it says do no harm.
            tracing::warn!(%info_hash, %error, "notes could not be cleared away");
        }
        Ok(())
    }

    pub(super) fn clear(
        &mut self,
        info_hash: &InfoHash,
        pieces: &BTreeSet<u32>,
    ) -> Result<(), StoreError> {
        let shape = self.shape_of(info_hash)?;
        self.with(|database| progress::clear(database, info_hash, shape, pieces))?;
        self.notes_of(info_hash).drop_covered(pieces, false)
    }

    pub(super) fn clear_all(&mut self, info_hash: &InfoHash) -> Result<(), StoreError> {
        self.with(|database| progress::remove(database, info_hash, &Row::PROGRESS))?;
        self.notes_of(info_hash).remove()
    }

    pub(super) fn forget_identities(
        &mut self,
        info_hash: &InfoHash,
        files: &[usize],
    ) -> Result<(), StoreError> {
        let shape = self.shape_of(info_hash)?;
        self.with(|database| progress::forget_identities(database, info_hash, shape, files))
    }

    pub(super) fn note(&mut self, info_hash: &InfoHash, notes: &[Note]) -> Result<(), StoreError> {
        self.notes_of(info_hash).append(notes)
    }

    fn shape_of(&self, info_hash: &InfoHash) -> Result<Shape, StoreError> {
        let shape = self.shapes.get(info_hash).copied();
        shape.ok_or(StoreError::NotLoaded {
            info_hash: *info_hash,
        })
    }

    fn notes_of(&mut self, info_hash: &InfoHash) -> &mut NoteLog {
        self.notes
            .entry(*info_hash)
            .or_insert_with(|| NoteLog::open(&self.folder.notes(), info_hash, &self.epoch))
    }
}

impl Record {
    /// What is known of a torrent that nothing was committed of yet.
    fn noted(mut notes: Vec<Note>, shape: Shape) -> Self {
        let mut record = Self {
            durable: crate::base::Bitfield::new(shape.pieces),
            finished: false,
            clean: false,
            identities: vec![None; shape.files as usize],
            partial: Vec::new(),
            notes: Vec::new(),
            noted_ns: None,
            totals: super::Totals::default(),
        };
        notes.retain(|note| is_news(note, &record, shape));
        record.notes = notes;
        record
    }
}

/// Whether a note is about a piece that the torrent has and that is not durable.
fn is_news(note: &Note, record: &Record, shape: Shape) -> bool {
    let (Note::Verified(piece) | Note::Blocks { piece, .. }) = note;
    let bits = record.durable.as_bytes();
    *piece < shape.pieces && bits[*piece as usize / 8] & (0x80 >> (piece % 8)) == 0
}

/// Drops a database that may be broken: it flushes as it goes, and may panic at that.
fn drop_guarded(database: Option<Database>) {
    if panic::catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
        tracing::warn!("the database panicked as it was closed");
    }
}
