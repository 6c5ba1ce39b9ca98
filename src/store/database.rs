//! The open database: sealed rows in one tree, batches, and the barrier that makes them survive a power cut.
//!
//! Batches are staged in order, each atomic by itself, and one barrier makes all of them durable: it costs the same for one as
//! for hundreds.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::codec;
use super::durable;
use super::error::StoreError;
use super::schema;
use super::watermark::Watermark;
use crate::base::limits::STORE_CACHE;

/// Random bytes that name one database among all that ever stood in its place.
pub(super) type Epoch = [u8; 16];

/// An open database.
pub(super) struct Database {
    tree: sled::Db,
    /// Opened before the first write: a sync through it reports every failure since.
    barrier: File,
    watermark: Watermark,
    path: PathBuf,
    sequence: u64,
    epoch: Epoch,
}

/// Changes that happen together or not at all.
#[derive(Default)]
pub(super) struct Batch(sled::Batch);

impl Batch {
    /// Stores `body` under `key`.
    pub(super) fn put(&mut self, key: &[u8], body: &[u8]) {
        self.0.insert(key, codec::seal(key, body));
    }

    /// Stores `value` as it is.
    pub(super) fn put_sealed(&mut self, key: &[u8], value: &[u8]) {
        self.0.insert(key, value);
    }

    /// Removes what is under `key`.
    pub(super) fn remove(&mut self, key: &[u8]) {
        self.0.remove(key);
    }
}

impl Database {
    /// Opens the folder `path` or makes it. Nothing is known of its content yet; what it is and what opening it changed
    /// survives a power cut.
    pub(super) fn open(path: &Path) -> Result<Self, sled::Error> {
        let tree = sled::Config::new()
            .path(path)
            .cache_capacity(STORE_CACHE)
            .flush_every_ms(None)
            .open()?;
        let barrier = File::open(path.join("db"))?;
        // The library leaves the file of its settings to the kernel, and the name of the snapshot that it has just put in place
        // of the last one: an old snapshot does not go with a log that went on.
        durable::sync_content(path)?;
        let watermark = Watermark::open(path)?;
        Ok(Self {
            tree,
            barrier,
            watermark,
            path: path.to_owned(),
            sequence: 0,
            epoch: Epoch::default(),
        })
    }

    /// Reads the rows that the database keeps at hand, and names it if it has no name yet.
    pub(super) fn acquaint(&mut self) -> Result<(), StoreError> {
        self.count_on()?;
        match self.fixed(schema::EPOCH)? {
            Some(epoch) => self.epoch = epoch,
            None => {
                self.epoch = rand::random();
                let mut batch = Batch::default();
                batch.put(schema::EPOCH, &self.epoch);
                self.commit(batch)?;
            }
        }
        Ok(())
    }

    /// Goes on with the number of the last commit.
    pub(super) fn count_on(&mut self) -> Result<(), StoreError> {
        self.sequence = self.fixed(schema::SEQUENCE)?.map_or(0, u64::from_be_bytes);
        Ok(())
    }

    /// The schema version; 0 for a database without any row.
    pub(super) fn version(&self) -> Result<u32, StoreError> {
        match self.fixed(schema::VERSION)? {
            Some(version) => Ok(u32::from_be_bytes(version)),
            None if self.tree.is_empty() => Ok(0),
            None => Err(self.damaged("it has rows but no version")),
        }
    }

    /// Its name among all that ever stood in its place.
    pub(super) fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// The number that the next commit has.
    pub(super) fn next_sequence(&self) -> u64 {
        self.sequence + 1
    }

    /// The body of the row `key`.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(value) = self.tree.get(key).map_err(|error| self.failed(error))? else {
            return Ok(None);
        };
        match codec::unseal(key, &value) {
            Some(body) => Ok(Some(body.to_vec())),
            None => Err(self.damaged_row(key)),
        }
    }

    /// The body of the row `key`, which belongs to a cache: one that is damaged is as good as none.
    pub(super) fn get_cached(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.tree.get(key).map_err(|error| self.failed(error))?;
        let body = value.as_ref().and_then(|value| codec::unseal(key, value));
        Ok(body.map(<[u8]>::to_vec))
    }

    /// Keys and bodies of the rows whose keys start with `prefix`, in order.
    pub(super) fn scan(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + '_ {
        self.sealed_rows(prefix).map(|row| {
            let (key, value) = row?;
            match codec::unseal(&key, &value) {
                Some(body) => Ok((key, body.to_vec())),
                None => Err(self.damaged_row(&key)),
            }
        })
    }

    /// Keys and values, still sealed and whatever their state, of the rows whose keys start with `prefix`.
    pub(super) fn sealed_rows(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + '_ {
        self.tree.scan_prefix(prefix).map(|row| {
            let (key, value) = row.map_err(|error| self.failed(error))?;
            Ok((key.to_vec(), value.to_vec()))
        })
    }

    /// Adds the removal of every row whose key starts with `prefix` to `batch`; true if there is any.
    pub(super) fn remove_all(&self, prefix: &[u8], batch: &mut Batch) -> Result<bool, StoreError> {
        let mut any = false;
        for row in self.sealed_rows(prefix) {
            batch.remove(&row?.0);
            any = true;
        }
        Ok(any)
    }

    /// Applies `batch` so that it survives a crash of the process, and as a rule of the machine.
    pub(super) fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.tree
            .apply_batch(batch.0)
            .and_then(|()| self.tree.flush())
            .map_err(|error| self.failed(error))?;
        Ok(())
    }

    /// Applies `batch` so that it survives a power cut once this returns, with all that was staged before.
    pub(super) fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.stage(batch)?;
        self.settle()
    }

    /// Applies `batch`, which is seen from now on, as the next commit. It survives nothing before [`settle`](Self::settle).
    pub(super) fn stage(&mut self, mut batch: Batch) -> Result<(), StoreError> {
        let sequence = self.next_sequence();
        batch.put(schema::SEQUENCE, &sequence.to_be_bytes());
        self.tree
            .apply_batch(batch.0)
            .map_err(|error| self.failed(error))?;
        self.sequence = sequence;
        Ok(())
    }

    /// The barrier: all that was staged survives a power cut once this returns. After an error it is not known what does, and
    /// the database has to be opened anew.
    pub(super) fn settle(&mut self) -> Result<(), StoreError> {
        self.tree.flush().map_err(|error| self.failed(error))?;
        // The flush above ends in `sync_file_range`, which neither syncs metadata nor empties the cache of the disk.
        durable::sync(&self.barrier, &self.path.join("db"))
            .map_err(|error| StoreError::io(&self.path, error))?;
        if let Err(error) = self.watermark.raise(self.sequence) {
            // The commit holds; only a later loss of it would go unnoticed.
            tracing::debug!(%error, "the number of the last commit could not be written");
        }
        Ok(())
    }

    /// Whether it lacks commits that were durable, as far as is known from `watermark`, their last number.
    pub(super) fn went_back(&self, watermark: u64) -> Option<String> {
        let sequence = self.sequence;
        (sequence < watermark)
            .then(|| format!("it went back from commit {watermark} to {sequence}"))
    }

    /// The error for a row that cannot be.
    pub(super) fn damaged_row(&self, key: &[u8]) -> StoreError {
        self.damaged(&format!("row {} is not readable", key.escape_ascii()))
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            what: what.to_owned(),
        }
    }

    /// The body of the row `key`, which has `N` bytes.
    fn fixed<const N: usize>(&self, key: &[u8]) -> Result<Option<[u8; N]>, StoreError> {
        let Some(body) = self.get(key)? else {
            return Ok(None);
        };
        let body = body.try_into().map_err(|_| self.damaged_row(key))?;
        Ok(Some(body))
    }

    fn failed(&self, error: sled::Error) -> StoreError {
        failure(&self.path, error)
    }
}

/// What an error of sled about the database at `path` means: the disk failed, or the content is wrong.
pub(super) fn failure(path: &Path, error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) if !tells_of_content(&error) => StoreError::io(path, error),
        other => StoreError::Damaged {
            path: path.to_owned(),
            what: other.to_string(),
        },
    }
}

/// Whether an I/O error comes from what a file says or lacks rather than from the disk or the system.
fn tells_of_content(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotFound
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::Other
    ) && !is_lock(error)
}

/// Whether sled found its file locked, by a handle that is just going away.
pub(super) fn is_lock(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Other && error.to_string().contains("acquire lock")
}
