//! What can go wrong with the state folder.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::InfoHash;

/// Why the store cannot do what was asked. `Display` is one clear line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another handle of this one, holds the lock.
    #[error("the state folder {} is in use{}; stop that process or choose another folder with --state", .folder.display(), by(*.pid))]
    InUse {
        /// The state folder.
        folder: PathBuf,
        /// Who holds it, as far as the lock file tells.
        pid: Option<u32>,
    },
    /// A newer seedbank wrote the database. Nothing in it was changed.
    #[error("the state folder {} is of version {found} and this seedbank knows up to {known}; use the newer seedbank", .folder.display())]
    Newer {
        /// The state folder.
        folder: PathBuf,
        /// The version it says.
        found: u32,
        /// The newest version this program knows.
        known: u32,
    },
    /// There is no state folder where one was expected.
    #[error("there is no state folder {}; check the path", .folder.display())]
    Missing {
        /// The path.
        folder: PathBuf,
    },
    /// A file or folder cannot be made.
    #[error("cannot create {}: {source}; check the permissions of the folder", .path.display())]
    CannotCreate {
        /// What was to be made.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Reading, writing or syncing failed.
    #[error("{}: {source}; check the disk that holds the state folder", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The disk that holds the state folder is full.
    #[error("no space left for {}; free some and try again", .path.display())]
    Full {
        /// The file or folder.
        path: PathBuf,
    },
    /// The database says something that cannot be.
    #[error("the database {} is damaged ({what}); start again, or run `seedbank state rebuild`", .path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A torrent was written to that was not loaded in this run, so that its size is not known.
    #[error("torrent {info_hash} was not loaded from the store; add it first")]
    NotLoaded {
        /// The torrent.
        info_hash: InfoHash,
    },
    /// A piece or file that the torrent does not have.
    #[error(
        "{what} {index} is not one of the {count} of torrent {info_hash}; the metainfo is of another torrent"
    )]
    OutOfBounds {
        /// The torrent.
        info_hash: InfoHash,
        /// `piece` or `file`.
        what: &'static str,
        /// The number that was given.
        index: u64,
        /// How many there are.
        count: u64,
    },
    /// A value larger than what would be read again.
    #[error("{} would take {size} bytes and at most {max} are kept; use a smaller one", .path.display())]
    TooLarge {
        /// The file it was meant for.
        path: PathBuf,
        /// Its size in bytes.
        size: usize,
        /// The bound in bytes.
        max: usize,
    },
    /// The store was closed.
    #[error("the state folder was closed; start again")]
    Closed,
}

impl StoreError {
    /// An error of the file system about `path`; a full disk is told apart.
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_full(&source) {
            Self::Full { path }
        } else {
            Self::Io { path, source }
        }
    }

    /// Like [`StoreError::io`], for something that was to be made.
    pub(super) fn create(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        if is_full(&source) {
            Self::Full { path }
        } else {
            Self::CannotCreate { path, source }
        }
    }

    /// The same for one more of those that it struck.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Full { path } => Self::Full { path: path.clone() },
            Self::Io { path, source } => Self::Io {
                path: path.clone(),
                source: io::Error::new(source.kind(), source.to_string()),
            },
            Self::Damaged { path, what } => Self::Damaged {
                path: path.clone(),
                what: what.clone(),
            },
            // Only what wants the database opened anew strikes several at once.
            _ => Self::Closed,
        }
    }

    /// Whether the open database can no longer be trusted to work and has to be opened anew.
    pub(super) fn wants_reopen(&self) -> bool {
        matches!(
            self,
            Self::Io { .. } | Self::Full { .. } | Self::Damaged { .. }
        )
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn by(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" by process {pid}"))
        .unwrap_or_default()
}
