//! One open payload file: positioned reads and writes, and syncs that are believed once.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::DiskError;
use super::map::{Map, Refused, start_write_back};
use super::medium::{self, Medium};
use super::place::{free, identity};
use super::volume::Volume;
use crate::base::{FileIdentity, limits};

/// An open file of a payload.
#[derive(Debug)]
pub(super) struct OpenFile {
    path: PathBuf,
    file: File,
    medium: Arc<dyn Medium>,
    /// The length that the torrent gives it, in bytes.
    length: u64,
    map: RwLock<Option<Map>>,
    /// There are no reads of what is in the page cache only.
    uncacheable: AtomicBool,
    /// Set before and again after bytes are written, cleared before a sync: so a sync in the midst of a write leaves it set.
    dirty: AtomicBool,
    /// Bytes written so far.
    written: AtomicU64,
    /// How many of them were written before the last sync.
    synced: AtomicU64,
    /// Held while bytes are written by a call.
    writing: Mutex<()>,
    /// Held while it is synced. The kernel tells a failed write-back once only, to whoever syncs first.
    syncing: Mutex<()>,
    /// Shared by all that open this file for one payload, and set for good by a sync that fails.
    poisoned: Arc<AtomicBool>,
    /// By which it can be synced with others.
    volume: Option<Arc<Volume>>,
}

impl OpenFile {
    /// Wraps `file`, to be mapped if `mapped`; a mapping that cannot be had is done without.
    pub(super) fn new(
        path: PathBuf,
        file: File,
        length: u64,
        mapped: bool,
        poisoned: Arc<AtomicBool>,
        medium: Arc<dyn Medium>,
    ) -> Self {
        let map = if mapped {
            Map::new(&file, length)
        } else {
            None
        };
        Self {
            path,
            file,
            medium,
            length,
            map: RwLock::new(map),
            uncacheable: AtomicBool::new(false),
            dirty: AtomicBool::new(false),
            written: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            writing: Mutex::new(()),
            syncing: Mutex::new(()),
            poisoned,
            volume: None,
        }
    }

    /// The same, to be synced with all that lies on `volume`.
    pub(super) fn on(mut self, volume: Option<Arc<Volume>>) -> Self {
        self.volume = volume;
        self
    }

    /// By which it can be synced with others.
    pub(super) fn volume(&self) -> Option<&Arc<Volume>> {
        self.volume.as_ref()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Whether bytes may have been written that were not synced.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }

    /// Does without the mapping from now on.
    pub(super) fn unmap(&self) {
        *self.map.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Reads exactly `buffer` at `offset`.
    ///
    /// # Errors
    /// [`DiskError::Vanished`] if the file ends before that.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let read = medium::read_exact(&*self.medium, &self.file, offset, buffer);
        read.map_err(|error| DiskError::reading(&self.path, error))
    }

    /// Fills `buffers` with what lies at `offset` if it is in the page cache; false if it is not, if that cannot be told, or if the
    /// file ends before.
    pub(super) fn read_cached(&self, offset: u64, buffers: &mut [IoSliceMut<'_>]) -> bool {
        if self.uncacheable.load(Ordering::Relaxed) {
            return false;
        }
        let len: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        match self.medium.read_cached(&self.file, offset, buffers) {
            Ok(read) => read == len,
            Err(error) => {
                let never = error.kind() == io::ErrorKind::Unsupported;
                self.uncacheable.store(never, Ordering::Relaxed);
                false
            }
        }
    }

    /// Writes all of `data` at `offset`, within the file's length.
    pub(super) fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        self.check_poison()?;
        self.dirty.store(true, Ordering::Release);
        let result = self.put(offset, data);
        self.dirty.store(true, Ordering::Release);
        result?;
        let len = data.len() as u64;
        let before = self.written.fetch_add(len, Ordering::Relaxed);
        if before / limits::WRITE_BACK_BYTES != (before + len) / limits::WRITE_BACK_BYTES {
            start_write_back(&self.file);
        }
        Ok(())
    }

    fn put(&self, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(map) = &*map {
            match map.write_at(offset, data) {
                Ok(()) => return Ok(()),
                Err(Refused::Unsupported) => {}
                Err(Refused::Poisoned) => {
                    self.poison();
                    return Err(self.lost_page());
                }
                Err(Refused::Pages(error)) => {
                    // The kernel says no more than "bad address". pwrite is told the true reason, or succeeds.
                    tracing::debug!(path = %self.path.display(), %error, "mapping refused");
                }
            }
        }
        // pwrite would grow a file that was cut short, with zeros in between, and nobody would know.
        self.identity()?;
        // The kernel lets one write at a time into a file, and those who wait for that burn the processor meanwhile.
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let written = medium::write_all(&*self.medium, &self.file, offset, data);
        written.map_err(|error| self.refused("write", data.len() as u64, error))
    }

    /// What it means that the system refused to `op` so many bytes.
    fn refused(&self, op: &'static str, bytes: u64, error: io::Error) -> DiskError {
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => {
                DiskError::creating(&self.path, error, bytes, free(&self.file))
            }
            _ => DiskError::io(&self.path, op, error),
        }
    }

    /// What it means that a page of the mapping could not be had.
    fn lost_page(&self) -> DiskError {
        let error = io::Error::from_raw_os_error(libc::EIO);
        match self.identity() {
            Ok(_) => DiskError::io(&self.path, "write", error),
            Err(vanished) => vanished,
        }
    }

    /// Puts every byte written so far on the medium (R3). After one failure it fails for good (R6).
    pub(super) fn sync(&self) -> Result<(), DiskError> {
        self.sync_by(|| self.medium.sync_data(&self.file))
    }

    /// As [`OpenFile::sync`], and the file's times with them.
    pub(super) fn sync_with_times(&self) -> Result<(), DiskError> {
        self.sync_by(|| self.medium.sync_all(&self.file))
    }

    fn sync_by(&self, barrier: impl FnOnce() -> io::Result<()>) -> Result<(), DiskError> {
        let _alone = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_poison()?;
        let unsynced = self.begin_sync();
        let result = self.sync_pages().and_then(|()| barrier());
        if let Err(error) = result {
            self.poison();
            self.take_back(unsynced);
            // On a filesystem that cannot reserve, a full disk may show only now.
            return Err(self.refused("sync", unsynced, error));
        }
        self.end_sync()
    }

    /// A sync begins that will put everything written so far on the medium. Gives the bytes of it that are not there yet.
    pub(super) fn begin_sync(&self) -> u64 {
        self.dirty.store(false, Ordering::Release);
        let written = self.written.load(Ordering::Relaxed);
        let before = self.synced.swap(written, Ordering::Relaxed);
        written.saturating_sub(before)
    }

    /// It did not come to that: so many bytes are still unsynced.
    pub(super) fn take_back(&self, unsynced: u64) {
        self.dirty.store(true, Ordering::Release);
        self.synced.fetch_sub(unsynced, Ordering::Relaxed);
    }

    /// It went well.
    ///
    /// # Errors
    /// If a page of the mapping was lost before it, or an earlier sync failed.
    pub(super) fn end_sync(&self) -> Result<(), DiskError> {
        self.check_poison()?;
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(map) = &*map {
            if map.is_poisoned() {
                self.poison();
                return Err(self.lost_page());
            }
            map.release();
        }
        Ok(())
    }

    fn sync_pages(&self) -> io::Result<()> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(map) = &*map {
            map.sync()?;
        }
        Ok(())
    }

    fn check_poison(&self) -> Result<(), DiskError> {
        if self.poisoned.load(Ordering::Acquire) {
            let path = self.path.clone();
            return Err(DiskError::Poisoned { path });
        }
        Ok(())
    }

    fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    fn metadata(&self) -> Result<std::fs::Metadata, DiskError> {
        let found = self.file.metadata();
        found.map_err(|error| DiskError::io(&self.path, "look at", error))
    }

    /// What the file is now.
    ///
    /// # Errors
    /// [`DiskError::Vanished`] if it has another length than it should or was deleted.
    pub(super) fn identity(&self) -> Result<FileIdentity, DiskError> {
        let found = self.metadata()?;
        if found.nlink() == 0 || found.len() != self.length {
            return Err(DiskError::vanished(&self.path));
        }
        Ok(identity(&found))
    }

    /// Whether `len` bytes from `offset` on were never written. False if that cannot be told.
    pub(super) fn is_hole(&self, offset: u64, len: u64) -> bool {
        is_hole(&self.file, offset, len)
    }

    /// After a failed sync the kernel calls pages clean that never reached the disk. They are dropped, so that whoever checks
    /// this file next reads what is there (R6). Mapped pages cannot be dropped, so the mapping goes first.
    pub(super) fn forget_if_poisoned(&self) {
        if self.poisoned.load(Ordering::Acquire) {
            self.unmap();
            self.drop_cache();
        }
    }

    /// Lets go of cached pages that are not waiting to be written.
    pub(super) fn drop_cache(&self) {
        self.medium.drop_cache(&self.file);
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.forget_if_poisoned();
    }
}

/// Whether `len` bytes from `offset` on were never written to `file`. False if that cannot be told.
pub(super) fn is_hole(file: &File, offset: u64, len: u64) -> bool {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(data) => data >= offset + len,
        // No data up to the end of the file: a hole, if the file reaches that far.
        Err(Errno::NXIO) => {
            let reaches = |found: std::fs::Metadata| found.len() >= offset + len;
            file.metadata().is_ok_and(reaches)
        }
        Err(_) => false,
    }
}

/// Whether the first `len` bytes of `file` hold nothing but zeros. False if that cannot be told.
///
/// Holes are skipped, but not relied on: a page that was read, or allocated twice, may count as data.
pub(super) fn is_blank(file: &File, len: u64) -> bool {
    let mut chunk = vec![0; 64 << 10];
    let mut offset = 0;
    while offset < len {
        offset = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(data) => data,
            // No data up to the end of the file.
            Err(Errno::NXIO) => return true,
            Err(_) => offset,
        };
        let left = usize::try_from(len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let within = chunk.len().min(left);
        match file.read_at(&mut chunk[..within], offset) {
            Ok(0) => return true,
            Ok(read) if chunk[..read].iter().all(|&byte| byte == 0) => offset += read as u64,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::Kernel;
    use super::*;

    fn open(length: u64, mapped: bool) -> (tempfile::NamedTempFile, OpenFile) {
        let named = tempfile::NamedTempFile::new().unwrap();
        named.as_file().set_len(length).unwrap();
        let (path, file) = (named.path().to_owned(), named.reopen().unwrap());
        let medium = Arc::new(Kernel);
        let file = OpenFile::new(path, file, length, mapped, Arc::default(), medium);
        (named, file)
    }

    #[test]
    fn a_failed_sync_is_never_followed_by_a_good_one() {
        let (_named, file) = open(100, false);
        file.write_at(0, b"abc").unwrap();
        file.sync().unwrap();
        file.poison();
        assert!(matches!(file.sync(), Err(DiskError::Poisoned { .. })));
        assert!(matches!(
            file.write_at(0, b"x"),
            Err(DiskError::Poisoned { .. })
        ));
    }

    #[test]
    fn a_file_is_dirty_from_its_first_write_to_its_sync() {
        let (_named, file) = open(100, false);
        assert!(!file.is_dirty());
        file.write_at(0, b"abc").unwrap();
        assert!(file.is_dirty());
        file.sync().unwrap();
        assert!(!file.is_dirty());
    }

    #[test]
    fn a_file_cut_short_under_its_mapping_is_told_not_grown() {
        let (named, file) = open(1 << 20, true);
        named.as_file().set_len(10).unwrap();
        assert!(matches!(
            file.write_at(500_000, b"abc"),
            Err(DiskError::Vanished { .. })
        ));
        assert_eq!(named.as_file().metadata().unwrap().len(), 10);
        assert!(matches!(file.identity(), Err(DiskError::Vanished { .. })));
        assert!(matches!(
            file.read_at(5, &mut [0; 10]),
            Err(DiskError::Vanished { .. })
        ));
    }

    #[test]
    fn a_file_of_zeros_is_blank_however_they_came_there() {
        let (_named, file) = open(300_000, false);
        assert!(is_blank(file.file(), 300_000));
        file.write_at(100_000, &[0; 100_000]).unwrap();
        assert!(is_blank(file.file(), 300_000));
        file.write_at(299_999, &[1]).unwrap();
        assert!(!is_blank(file.file(), 300_000));
        assert!(is_blank(file.file(), 299_999));
    }

    #[test]
    fn what_was_never_written_is_a_hole() {
        let (_named, file) = open(8 << 20, false);
        if !file.is_hole(0, 8 << 20) {
            return eprintln!("skipped: this filesystem tells no holes");
        }
        file.write_at(4 << 20, &[1; 4_096]).unwrap();
        assert!(file.is_hole(0, 1 << 20));
        assert!(!file.is_hole(0, 8 << 20));
        assert!(!file.is_hole(4 << 20, 4_096));
        assert!(file.is_hole(6 << 20, 2 << 20));
        assert!(!file.is_hole(6 << 20, (2 << 20) + 1));
    }
}
