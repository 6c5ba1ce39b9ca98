//! What can go wrong with payload files, told in one line that says what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What was tried when bytes could not be read.
const READ: &str = "read";

/// Why files cannot be used as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DiskError {
    /// A file or folder that must be there is not.
    #[error("{} does not exist: put it there or choose another folder", .path.display())]
    NotFound {
        /// What is missing.
        path: PathBuf,
    },
    /// A file that is there cannot be opened.
    #[error("cannot open {}: {source}; check its permissions", .path.display())]
    CannotOpen {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// A file, folder or link cannot be made.
    #[error("cannot create {}: {source}; check the permissions of its folder", .path.display())]
    CannotCreate {
        /// What was to be made.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// There is not enough room.
    #[error("the disk of {} is full: {need} bytes needed, {}; make room or choose another folder", .path.display(), room(*.need, *.free))]
    Full {
        /// What was to be written.
        path: PathBuf,
        /// Bytes that it takes.
        need: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// What one may use of the disk is used up.
    #[error("the quota on the disk of {} is used up: {need} bytes needed; make room, have it raised, or choose another folder", .path.display())]
    Quota {
        /// What was to be written.
        path: PathBuf,
        /// Bytes that it takes.
        need: u64,
    },
    /// Something else is there under the name of a payload file.
    #[error("{} exists and is not this torrent's: move it away, choose another --dest, or take it over with --overwrite", .path.display())]
    NotOurs {
        /// Which file.
        path: PathBuf,
    },
    /// A file is where a folder must be.
    #[error("{} is a file where a folder is needed: choose another --dest", .path.display())]
    NotAFolder {
        /// Which file.
        path: PathBuf,
    },
    /// Someone holds the lock of a payload file.
    #[error("{} is in use by {}: stop that first or choose another folder", .path.display(), owner(*.pid))]
    InUse {
        /// Which file.
        path: PathBuf,
        /// The process that holds it, if that can be told.
        pid: Option<u32>,
    },
    /// A link on the way to a payload file leads out of the destination folder.
    #[error("{} is reached through a link that leads out of its folder: replace the link by what it stands for", .path.display())]
    Outside {
        /// Which file.
        path: PathBuf,
    },
    /// A list of files that no honest torrent has.
    #[error("{}: {fault}; the torrent is not valid", .path.display())]
    Layout {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A name that a torrent cannot carry.
    #[error("{} has a name that is not UTF-8: rename it", .path.display())]
    NotUtf8 {
        /// The file or folder.
        path: PathBuf,
    },
    /// Writing to a payload that was opened for reading or was completed.
    #[error("{} is open for reading only: open it again to write", .path.display())]
    ReadOnly {
        /// Which file.
        path: PathBuf,
    },
    /// A file was cut short, deleted, replaced or changed while it was in use.
    #[error("{} was cut short, deleted, replaced or changed by another program: restore it and check again", .path.display())]
    Vanished {
        /// Which file.
        path: PathBuf,
    },
    /// A sync of this file failed before, so that nothing written to it since the last good one can be trusted.
    #[error("an earlier sync of {} failed: check the disk; the file is hashed again at the next start", .path.display())]
    Poisoned {
        /// Which file.
        path: PathBuf,
    },
    /// Reading, writing or syncing failed.
    #[error("cannot {op} {}: {source}; check the disk", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        op: &'static str,
        /// Why it failed.
        source: Arc<io::Error>,
    },
    /// A move of files was stopped on request.
    #[error("stopped before all files were moved: the same command goes on with it")]
    Interrupted,
    /// The worker that should have answered panicked or was shut down.
    #[error("the disk worker stopped: this is a fault in seedbank; run the same command again")]
    Stopped,
}

fn room(need: u64, free: u64) -> String {
    if free < need {
        return format!("{free} free");
    }
    // Out of inodes, or what the disk itself lies on is full.
    format!("and though {free} are free the system refuses")
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    )
}

impl DiskError {
    pub(super) fn io(path: &Path, op: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Io {
            path: path.to_owned(),
            op,
            source: Arc::new(source.into()),
        }
    }

    /// What a failure to read `path` means.
    pub(super) fn reading(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => Self::vanished(path),
            _ => Self::io(path, READ, source),
        }
    }

    /// Whether the disk could not read bytes that it was given to keep.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Io { op: READ, .. })
    }

    /// Whether a file is not there, or not what it was.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Vanished { .. } | Self::NotFound { .. })
    }

    /// Whether a sync that ended so found all bytes on the disk, and only the file is not where, or what, it was.
    pub fn spares_pages(&self) -> bool {
        self.is_missing()
    }

    /// What the parts of one sync gave: all of it, or of the failures the one that costs most, the first of those. All are gone through.
    pub(super) fn gravest<T>(
        parts: impl IntoIterator<Item = Result<T, Self>>,
    ) -> Result<Vec<T>, Self> {
        let (mut all, mut gravest): (_, Option<Self>) = (Vec::new(), None);
        for part in parts {
            match part {
                Ok(part) => all.push(part),
                Err(error) => {
                    let worse = |known: &Self| known.spares_pages() && !error.spares_pages();
                    if gravest.as_ref().is_none_or(worse) {
                        gravest = Some(error);
                    }
                }
            }
        }
        gravest.map_or(Ok(all), Err)
    }

    pub(super) fn vanished(path: &Path) -> Self {
        Self::Vanished {
            path: path.to_owned(),
        }
    }

    /// What a failure to open `path`, which should be there, means.
    pub(super) fn opening(path: &Path, source: impl Into<io::Error>) -> Self {
        let (path, source) = (path.to_owned(), source.into());
        match source.raw_os_error() {
            Some(libc::ENOENT) => Self::NotFound { path },
            Some(libc::ENOTDIR) => Self::NotAFolder { path },
            Some(libc::EXDEV | libc::ELOOP) => Self::Outside { path },
            _ => {
                let source = Arc::new(source);
                Self::CannotOpen { path, source }
            }
        }
    }

    /// What a failure to make `path` means, given what it `need`s and what is `free`.
    pub(super) fn creating(
        path: &Path,
        source: impl Into<io::Error>,
        need: u64,
        free: u64,
    ) -> Self {
        let (path, source) = (path.to_owned(), source.into());
        match source.raw_os_error() {
            Some(libc::ENOSPC) => Self::Full { path, need, free },
            Some(libc::EDQUOT) => Self::Quota { path, need },
            Some(libc::EXDEV | libc::ELOOP) => Self::Outside { path },
            Some(libc::EEXIST | libc::ENOTDIR | libc::EISDIR) => Self::NotOurs { path },
            _ => {
                let source = Arc::new(source);
                Self::CannotCreate { path, source }
            }
        }
    }
}
