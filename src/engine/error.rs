//! What the engine could not do, in words for a person and a kind for a program.

use std::mem::discriminant;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::InfoHash;
use crate::disk::DiskError;
use crate::format::metainfo::MetainfoError;
use crate::store::StoreError;

/// Why the engine cannot do what was asked. `Display` is one clear line that says what to do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// A file of the payload is in the way, cannot be had, or failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The state folder is in use, damaged or failed.
    #[error("{0}")]
    Store(Arc<StoreError>),
    /// The address for incoming connections cannot be bound.
    #[error(
        "cannot listen at {addr} ({transport}): {reason}; choose another with {}, or port 0 for any", transport.flag()
    )]
    Listen {
        /// What should have listened.
        transport: Transport,
        /// The address.
        addr: SocketAddr,
        /// The system's reason.
        reason: String,
    },
    /// The torrent runs already.
    #[error("{0} was added already")]
    AlreadyAdded(InfoHash),
    /// No such torrent runs.
    #[error("{0} is not among the torrents of this engine")]
    NotAdded(InfoHash),
    /// A file that earlier runs filled is gone; it is not made anew unasked.
    #[error(
        "{path} is missing: mount its disk or bring it back, or let go of it with `seedbank state forget {info_hash}`"
    )]
    Missing {
        /// The file.
        path: PathBuf,
        /// Its torrent.
        info_hash: InfoHash,
    },
    /// The payload is on its way from one place to another, and a third is named.
    #[error(
        "the payload of {info_hash} is being moved from {from} to {to}: finish that first with `seedbank state move {info_hash} {to}`"
    )]
    Moving {
        /// The torrent.
        info_hash: InfoHash,
        /// Where it was.
        from: PathBuf,
        /// Where it goes.
        to: PathBuf,
    },
    /// A file has the right length and none of the right content.
    #[error(
        "{path} exists and is not this torrent's: move it away, choose another --dest, or take it over with --overwrite"
    )]
    NotThisTorrent {
        /// The file.
        path: PathBuf,
    },
    /// A payload to share is not whole.
    #[error("{path}: {bad} of {total} pieces are missing or damaged; `seedbank get` fetches them")]
    Incomplete {
        /// The payload.
        path: PathBuf,
        /// Pieces that are not good.
        bad: u32,
        /// Pieces of the torrent.
        total: u32,
    },
    /// The whole does not match the BLAKE3 digest of the metainfo.
    #[error(
        "{path} is not what the BLAKE3 digest of its metainfo says: it was changed while it was fetched, or the digest is \
         wrong; run the same command again to hash every piece"
    )]
    Digest {
        /// The payload.
        path: PathBuf,
    },
    /// The info-hash names a dictionary that is not a torrent, or not one that is supported. Nobody lied: its maker made it so.
    #[error("{info_hash} cannot be downloaded: {reason}")]
    InvalidTorrent {
        /// The torrent.
        info_hash: InfoHash,
        /// What is wrong with it.
        reason: MetainfoError,
    },
    /// The torrent was removed, or the engine shut down, before what was waited for came about.
    #[error("stopped before the download was complete; the same command goes on with it")]
    Stopped,
    /// A defect of ours: a task of the engine died. What is on disk stays true.
    #[error("internal error: {0}; the same command goes on where it was")]
    Defect(String),
}

/// What carries bytes between peers or nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Connections of peers.
    Tcp,
    /// Datagrams of the DHT.
    Udp,
}

impl Transport {
    fn flag(self) -> &'static str {
        match self {
            Self::Tcp => "--tcp-listen",
            Self::Udp => "--dht-listen",
        }
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// Kinds of trouble, as far as a caller has to tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Another process uses the state folder or the output.
    InUse,
    /// The address cannot be bound.
    Listen,
    /// Something named does not exist: a payload to seed, a folder.
    NotFound,
    /// The disk is full.
    DiskFull,
    /// A file is in the way that is not this torrent's.
    FileExists,
    /// A file cannot be opened.
    CannotOpen,
    /// A file or folder cannot be created.
    CannotCreate,
    /// Reading, writing or syncing failed.
    Io,
    /// The payload to seed is incomplete or damaged.
    HashCheck,
    /// The torrent was added already or is not there.
    Usage,
    /// The state folder is damaged or of a newer version.
    State,
    /// What was asked for is not a valid torrent.
    InvalidTorrent,
    /// It ended before it was done, and can go on.
    Unfinished,
    /// A defect of ours.
    Defect,
}

impl EngineError {
    /// What kind of trouble it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Disk(error) => disk_kind(error),
            Self::Store(error) => store_kind(error),
            Self::Listen { .. } => ErrorKind::Listen,
            Self::AlreadyAdded(_) | Self::NotAdded(_) => ErrorKind::Usage,
            Self::Missing { .. } => ErrorKind::NotFound,
            Self::NotThisTorrent { .. } => ErrorKind::FileExists,
            Self::Incomplete { .. } | Self::Digest { .. } => ErrorKind::HashCheck,
            Self::InvalidTorrent { .. } => ErrorKind::InvalidTorrent,
            Self::Moving { .. } | Self::Stopped => ErrorKind::Unfinished,
            Self::Defect(_) => ErrorKind::Defect,
        }
    }

    /// Whether it may pass without anybody touching the torrent, as when room is made on a full disk or a mount comes back. A
    /// torrent that stops for such a trouble is tried again for as long as it is in the engine.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Missing { .. } => true,
            Self::Disk(error) => match error {
                DiskError::NotFound { .. }
                | DiskError::CannotOpen { .. }
                | DiskError::CannotCreate { .. }
                | DiskError::Full { .. }
                | DiskError::Quota { .. }
                | DiskError::InUse { .. }
                | DiskError::ReadOnly { .. }
                | DiskError::Vanished { .. }
                | DiskError::Poisoned { .. }
                | DiskError::Io { .. } => true,
                DiskError::NotOurs { .. }
                | DiskError::NotAFolder { .. }
                | DiskError::Outside { .. }
                | DiskError::Layout { .. }
                | DiskError::NotUtf8 { .. }
                | DiskError::Interrupted
                | DiskError::Stopped => false,
            },
            Self::Store(error) => match **error {
                // A disk that fails under the database looks to it like damage.
                StoreError::Io { .. }
                | StoreError::Full { .. }
                | StoreError::CannotCreate { .. }
                | StoreError::Missing { .. }
                | StoreError::Damaged { .. } => true,
                StoreError::InUse { .. }
                | StoreError::Newer { .. }
                | StoreError::NotLoaded { .. }
                | StoreError::OutOfBounds { .. }
                | StoreError::TooLarge { .. }
                | StoreError::Closed => false,
            },
            Self::Listen { .. }
            | Self::AlreadyAdded(_)
            | Self::NotAdded(_)
            | Self::NotThisTorrent { .. }
            | Self::Incomplete { .. }
            | Self::Digest { .. }
            | Self::InvalidTorrent { .. }
            | Self::Moving { .. }
            | Self::Stopped
            | Self::Defect(_) => false,
        }
    }

    /// Whether `other` is the same trouble, though its figures may differ.
    pub(super) fn is_same_trouble(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Disk(one), Self::Disk(two)) => discriminant(one) == discriminant(two),
            (Self::Store(one), Self::Store(two)) => discriminant(&**one) == discriminant(&**two),
            (one, two) => discriminant(one) == discriminant(two),
        }
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

fn disk_kind(error: &DiskError) -> ErrorKind {
    match error {
        DiskError::NotFound { .. } => ErrorKind::NotFound,
        DiskError::CannotOpen { .. } | DiskError::Outside { .. } | DiskError::NotUtf8 { .. } => {
            ErrorKind::CannotOpen
        }
        DiskError::CannotCreate { .. }
        | DiskError::NotAFolder { .. }
        | DiskError::Layout { .. } => ErrorKind::CannotCreate,
        DiskError::Full { .. } | DiskError::Quota { .. } => ErrorKind::DiskFull,
        DiskError::NotOurs { .. } => ErrorKind::FileExists,
        DiskError::InUse { .. } => ErrorKind::InUse,
        DiskError::ReadOnly { .. }
        | DiskError::Vanished { .. }
        | DiskError::Poisoned { .. }
        | DiskError::Io { .. } => ErrorKind::Io,
        DiskError::Interrupted => ErrorKind::Unfinished,
        DiskError::Stopped => ErrorKind::Defect,
    }
}

fn store_kind(error: &StoreError) -> ErrorKind {
    match error {
        StoreError::InUse { .. } => ErrorKind::InUse,
        StoreError::Missing { .. } => ErrorKind::NotFound,
        StoreError::CannotCreate { .. } => ErrorKind::CannotCreate,
        StoreError::Io { .. } => ErrorKind::Io,
        StoreError::Full { .. } => ErrorKind::DiskFull,
        StoreError::Newer { .. } | StoreError::Damaged { .. } => ErrorKind::State,
        StoreError::NotLoaded { .. } | StoreError::OutOfBounds { .. } | StoreError::Closed => {
            ErrorKind::Defect
        }
        StoreError::TooLarge { .. } => ErrorKind::Usage,
    }
}
