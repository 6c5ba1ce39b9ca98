//! The filesystem below a payload, synced as a whole: one call where many files wait, instead of one or two for each.
//!
//! The kernel tells of a failed write-back once to every descriptor that was open before, and a sync of the whole filesystem says only
//! that there was one, not whose. So each payload has a descriptor of its own, opened before it writes anything; and once
//! that has told of a failure, its files are synced one by one for good, which tells whose it was (R6).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};

use super::Medium;
use super::file::OpenFile;
use super::place::Place;
use crate::base::limits::{FOREIGN_DIRTY_MAX, SYNC_TOGETHER};

/// A payload's own descriptor of the filesystem that holds its folder.
#[derive(Debug)]
pub(super) struct Volume {
    folder: File,
    device: u64,
    medium: Arc<dyn Medium>,
    /// Held while it is synced: a failure is told once only, to whoever syncs first.
    syncing: Mutex<()>,
    /// It has failed once. What that struck is not known, so its later success says nothing.
    failed: AtomicBool,
}

impl Volume {
    /// That of `place`; `None` if it cannot be opened once more.
    pub(super) fn of(place: &Place) -> Option<Arc<Self>> {
        let folder = place.open_below("".as_ref(), OFlags::DIRECTORY, Mode::empty());
        let folder = File::from(folder.ok()?);
        let device = folder.metadata().ok()?.dev();
        let medium = Arc::clone(place.medium());
        Some(Arc::new(Self {
            folder,
            device,
            medium,
            syncing: Mutex::default(),
            failed: AtomicBool::new(false),
        }))
    }

    /// Whether so many syncs are worth one of the whole filesystem.
    pub(super) fn is_worth(syncs: usize) -> bool {
        syncs >= SYNC_TOGETHER
    }

    /// Whether what is on `device` is on this filesystem.
    pub(super) fn holds(&self, device: u64) -> bool {
        device == self.device
    }

    /// Puts everything on the medium, but perhaps leaves it in the disk's own cache: XFS empties that only if there was something to put into
    /// its log, but always for the sync of a file, which is to follow. False if that cannot be done, or not be relied on.
    pub(super) fn sync_whole(&self) -> bool {
        if self.failed.load(Ordering::Acquire) {
            return false;
        }
        match self.medium.sync_filesystem(self.folder.as_fd()) {
            Ok(()) => true,
            Err(error) => {
                let tried = error.raw_os_error().is_some();
                self.failed.fetch_or(tried, Ordering::AcqRel);
                false
            }
        }
    }

    /// Puts every byte written so far on the medium, and with it all else on the filesystem, the files' times among it. `files` are those
    /// of the payload that count as not synced, and `some` is any of its files here. False if that cannot be done: then they are to be synced one
    /// by one. What became of a file that lost something tells [`OpenFile::sync`].
    pub(super) fn sync(&self, files: &[Arc<OpenFile>], some: &OpenFile) -> bool {
        let _alone = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let begun: Vec<_> = files.iter().map(|file| (file, file.begin_sync())).collect();
        let done = self.sync_whole() && some.sync().is_ok();
        for (file, unsynced) in begun {
            if done {
                // A page of a mapping that was lost poisons the file.
                let _ = file.end_sync();
            } else {
                file.take_back(unsynced);
            }
        }
        done
    }
}

/// `syncfs`, on filesystems where that does all that syncs of each file do, and tells of each failure; and unless there is so
/// much to be written, by others that is, that it would take long.
pub(super) fn sync_filesystem(at: BorrowedFd<'_>) -> io::Result<()> {
    if !tells_failures() || !is_whole(at) || dirty() > FOREIGN_DIRTY_MAX {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(rustix::fs::syncfs(at)?)
}

/// Filesystems of which it was read and tried out that nothing is left in the disk's own cache: others write the content back and leave it
/// at that.
fn is_whole(at: BorrowedFd<'_>) -> bool {
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683e;
    let magic = rustix::fs::fstatfs(at).map(|found| found.f_type as u64 & 0xffff_ffff);
    matches!(magic, Ok(EXT4 | XFS | BTRFS))
}

/// Linux before 5.8 loses errors of single files, and before 5.17 those of the filesystem's journal.
fn tells_failures() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    release_of(&release).is_some_and(|release| release >= (5, 17))
}

/// The first two numbers of a kernel's release.
fn release_of(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Bytes that wait to be written, of all programs: ours are within [`CHECKPOINT_BYTES`](crate::base::limits::CHECKPOINT_BYTES) a torrent.
fn dirty() -> u64 {
    std::fs::read_to_string("/proc/meminfo").map_or(u64::MAX, |text| dirty_of(&text))
}

/// What `/proc/meminfo` says of unwritten bytes; as many as one likes if it does not.
fn dirty_of(text: &str) -> u64 {
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    match (kib("Dirty:"), kib("Writeback:")) {
        (Some(dirty), Some(under_way)) => dirty.saturating_add(under_way).saturating_mul(1024),
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests;
