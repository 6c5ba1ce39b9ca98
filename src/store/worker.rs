//! The one thread that the database lives on, and what it does for each request.
//!
//! Changes are staged as they come and made durable together: whatever waits in the queue by the time one of them is taken up
//! shares its barrier. Nobody hears that a change was made before the barrier has passed, and if it fails all of them hear so.

use std::collections::{BTreeSet, HashMap};
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use tokio::sync::{mpsc, oneshot};

use super::catalog::{self, Choices};
use super::database::{Database, Epoch};
use super::error::StoreError;
use super::notes::{Note, Notebook};
use super::open::{Folder, History, panic_text};
use super::progress::{self, Commit, Record};
use super::schema::Row;
use super::torrents::Shape;
use crate::base::InfoHash;

/// A request to the thread.
pub(super) enum Job {
    /// Something to do.
    Do(Box<dyn FnOnce(&mut Worker) + Send>),
    /// A change of the database, to be answered once it is durable.
    Change(Box<Change>),
    /// Close everything, then answer.
    Stop(Answer),
}

/// Where the outcome of a request goes.
pub(super) type Answer = oneshot::Sender<Result<(), StoreError>>;

/// Stages a change.
pub(super) type Stage = Box<dyn FnOnce(&mut Worker) -> Result<Covered, StoreError> + Send>;

/// A change of one torrent's rows.
pub(super) struct Change {
    pub(super) info_hash: InfoHash,
    /// Stages it.
    pub(super) stage: Stage,
    pub(super) answer: Answer,
}

/// Notes that a change makes pointless once it is durable.
pub(super) enum Covered {
    None,
    /// Those on these pieces, and with `blocks` those on blocks of any piece.
    Pieces {
        pieces: BTreeSet<u32>,
        blocks: bool,
    },
    All,
}

/// A change that waits for the barrier.
struct Staged {
    info_hash: InfoHash,
    covered: Covered,
    answer: Answer,
}

/// Everything that the thread owns.
pub(super) struct Worker {
    /// `None` after an error, until it is needed again: errors of the database stick to the open handle.
    database: Option<Database>,
    epoch: Epoch,
    staged: Vec<Staged>,
    shapes: HashMap<InfoHash, Shape>,
    notes: HashMap<InfoHash, Notebook>,
    /// Whether every name in the folder of the catalog is durable, so that what is there already need not be written again.
    catalog_is_durable: bool,
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
            staged: Vec::new(),
            shapes: HashMap::new(),
            notes: HashMap::new(),
            // Opening the folder saw to it.
            catalog_is_durable: true,
            folder,
        };
        Ok((worker, history))
    }

    /// Does what is asked until nobody can ask any more. What waits together shares one barrier.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let waiting = jobs.len();
            let rest = std::iter::from_fn(|| jobs.try_recv().ok()).take(waiting);
            let stop = std::iter::once(first)
                .chain(rest)
                .find_map(|job| self.take(job));
            self.settle();
            if let Some(answer) = stop {
                drop_guarded(self.database.take());
                drop(self);
                // Whoever asked may have gone; it is closed all the same.
                let _ = answer.send(Ok(()));
                return;
            }
        }
        drop_guarded(self.database.take());
    }

    /// Does one thing, or says that it is to end.
    fn take(&mut self, job: Job) -> Option<Answer> {
        match job {
            Job::Do(job) => job(self),
            Job::Change(change) => self.change(*change),
            Job::Stop(answer) => return Some(answer),
        }
        None
    }

    fn change(&mut self, change: Change) {
        let Change {
            info_hash,
            stage,
            answer,
        } = change;
        match self.attempt(stage) {
            Ok(covered) => self.staged.push(Staged {
                info_hash,
                covered,
                answer,
            }),
            // A caller that is gone does not want the answer; here and below.
            Err(error) => drop(answer.send(Err(error))),
        }
    }

    /// The barrier: what is staged becomes durable, and whoever asked for it hears so. It fails for all or for none.
    fn settle(&mut self) {
        if self.staged.is_empty() {
            return;
        }
        if let Err(error) = self.attempt(|worker| worker.on_database(Database::settle)) {
            self.let_go(&error);
            return;
        }
        for staged in std::mem::take(&mut self.staged) {
            let tidied = self.tidy(&staged);
            drop(staged.answer.send(tidied));
        }
    }

    fn tidy(&mut self, staged: &Staged) -> Result<(), StoreError> {
        let notebook = self.notes_of(&staged.info_hash);
        let mut notes = notebook.log();
        match &staged.covered {
            Covered::None => Ok(()),
            Covered::Pieces { pieces, blocks } => notes.drop_covered(pieces, *blocks),
            Covered::All => notes.remove(),
        }
    }

    /// Does one thing. A panic on the way becomes an error, and the database is opened anew for the next.
    pub(super) fn attempt<T>(
        &mut self,
        job: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let done = panic::catch_unwind(AssertUnwindSafe(|| job(self)));
        done.unwrap_or_else(|panic| {
            let error = StoreError::Damaged {
                path: self.folder.database(),
                what: panic_text(panic.as_ref()),
            };
            self.let_go(&error);
            Err(error)
        })
    }

    /// Works on the database, which is opened anew if it failed before, and let go of if it fails now.
    pub(super) fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let done = self.on_database(work);
        if let Err(error) = &done
            && error.wants_reopen()
        {
            if matches!(error, StoreError::Damaged { .. }) {
                // What cannot be read says nothing of what others staged; if the barrier fails too, they hear so.
                self.settle();
            }
            self.let_go(error);
        }
        done
    }

    fn on_database<T>(
        &mut self,
        work: impl FnOnce(&mut Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = match &mut self.database {
            Some(database) => database,
            none => none.insert(self.folder.reopen(&self.epoch)?),
        };
        work(database)
    }

    /// Lets go of a database that failed with `why`. What was staged may have been lost with it.
    fn let_go(&mut self, why: &StoreError) {
        drop_guarded(self.database.take());
        for staged in self.staged.drain(..) {
            drop(staged.answer.send(Err(why.again())));
        }
    }

    /// The state folder.
    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(super) fn remove_torrent(&mut self, info_hash: &InfoHash) -> Result<(), StoreError> {
        // The catalog comes last: it is what brings a torrent back, and then all is hashed.
        self.remove_rows(info_hash, &Row::ALL)?;
        self.notes_of(info_hash).log().remove()?;
        self.notes.remove(info_hash);
        self.shapes.remove(info_hash);
        self.catalogue(|state, _| catalog::remove(state, info_hash))
    }

    pub(super) fn put_torrent(
        &mut self,
        info_hash: &InfoHash,
        metainfo: &[u8],
        choices: &Choices,
    ) -> Result<(), StoreError> {
        self.catalogue(|state, durable| catalog::put(state, info_hash, metainfo, choices, durable))
    }

    pub(super) fn put_choices(
        &mut self,
        info_hash: &InfoHash,
        choices: &Choices,
    ) -> Result<(), StoreError> {
        self.catalogue(|state, durable| catalog::put_choices(state, info_hash, choices, durable))
    }

    /// Changes the catalog in the given state folder, told whether what is there is durable.
    fn catalogue(
        &mut self,
        change: impl FnOnce(&Path, bool) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let durable = std::mem::replace(&mut self.catalog_is_durable, false);
        change(&self.folder.path, durable)?;
        self.catalog_is_durable = true;
        Ok(())
    }

    pub(super) fn load(
        &mut self,
        info_hash: &InfoHash,
        shape: Shape,
    ) -> Result<Option<Record>, StoreError> {
        if self.staged.iter().any(|it| it.info_hash == *info_hash) {
            // What is told from here on is durable.
            self.settle();
        }
        self.shapes.insert(*info_hash, shape);
        let stored = match self.with(|database| progress::load(database, info_hash, shape)) {
            Err(StoreError::Damaged { what, .. }) => {
                tracing::warn!(%info_hash, what, "the record of a torrent is damaged; it is checked anew");
                self.remove_rows(info_hash, &Row::PROGRESS)?;
                self.notes_of(info_hash).log().remove()?;
                return Ok(None);
            }
            stored => stored?,
        };
        let notebook = self.notes_of(info_hash);
        let mut notes = notebook.log().notes();
        let Some(mut record) = stored else {
            // Rows without the one that ties them belong to nothing.
            self.remove_rows(info_hash, &Row::PROGRESS)?;
            return Ok((!notes.is_empty()).then(|| Record::noted(notes, shape)));
        };
        notes.retain(|note| is_news(note, &record, shape));
        record.notes = notes;
        record.noted_ns = notebook.log().written_ns();
        Ok(Some(record))
    }

    /// Durably removes rows of a torrent.
    fn remove_rows(&mut self, info_hash: &InfoHash, rows: &[Row]) -> Result<(), StoreError> {
        self.with(|database| {
            if progress::remove(database, info_hash, rows)? {
                database.settle()?;
            }
            Ok(())
        })
    }

    pub(super) fn commit(
        &mut self,
        info_hash: &InfoHash,
        commit: &Commit,
    ) -> Result<Covered, StoreError> {
        let shape = self.shape_of(info_hash)?;
        let finished =
            self.with(|database| progress::commit(database, info_hash, shape, commit))?;
        Ok(match finished {
            true => Covered::All,
            false => Covered::Pieces {
                pieces: commit.durable.iter().copied().collect(),
                blocks: commit.partial.is_some(),
            },
        })
    }

    pub(super) fn clear(
        &mut self,
        info_hash: &InfoHash,
        pieces: BTreeSet<u32>,
    ) -> Result<Covered, StoreError> {
        let shape = self.shape_of(info_hash)?;
        self.with(|database| progress::clear(database, info_hash, shape, &pieces))?;
        let blocks = false;
        Ok(Covered::Pieces { pieces, blocks })
    }

    pub(super) fn clear_all(&mut self, info_hash: &InfoHash) -> Result<Covered, StoreError> {
        self.with(|database| progress::remove(database, info_hash, &Row::PROGRESS))?;
        Ok(Covered::All)
    }

    pub(super) fn forget_identities(
        &mut self,
        info_hash: &InfoHash,
        files: &[usize],
    ) -> Result<Covered, StoreError> {
        let shape = self.shape_of(info_hash)?;
        self.with(|database| progress::forget_identities(database, info_hash, shape, files))?;
        Ok(Covered::None)
    }

    pub(super) fn note(&mut self, info_hash: &InfoHash, notes: &[Note]) -> Result<(), StoreError> {
        self.notes_of(info_hash).write(notes)
    }

    fn shape_of(&self, info_hash: &InfoHash) -> Result<Shape, StoreError> {
        let shape = self.shapes.get(info_hash).copied();
        shape.ok_or(StoreError::NotLoaded {
            info_hash: *info_hash,
        })
    }

    pub(super) fn notes_of(&mut self, info_hash: &InfoHash) -> Notebook {
        let open = || Notebook::open(&self.folder.notes(), info_hash, &self.epoch);
        self.notes.entry(*info_hash).or_insert_with(open).clone()
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
