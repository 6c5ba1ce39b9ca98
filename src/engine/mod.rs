//! Ownership: tasks, lifetimes and the public API.
#![allow(clippy::todo, clippy::needless_pass_by_value, clippy::unused_async)]

pub mod config;
pub mod events;
pub mod status;

use std::net::SocketAddr;

use tokio::sync::{broadcast, watch};

pub use config::{AddTorrent, Config, Goal, IoMode};
pub use events::Event;
pub use status::{PeerStatus, State, Status};

use crate::base::InfoHash;

/// The engine: any number of torrents in one process.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// Locks and opens the state folder and starts listening.
    ///
    /// # Errors
    /// If the folder is in use or cannot be used, or the address cannot be bound.
    pub async fn start(_config: Config) -> Result<Self, EngineError> {
        todo!()
    }

    /// The address where peers connect.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        todo!()
    }

    /// Everything that happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        todo!()
    }

    /// Adds a torrent; it is checked, then downloads and seeds until removed or paused. Adding one that the catalog
    /// knows from an earlier run resumes it.
    ///
    /// # Errors
    /// If its files cannot be opened or created, belong to something else, or (to seed) are not complete.
    pub async fn add(&self, _torrent: AddTorrent) -> Result<Torrent, EngineError> {
        todo!()
    }

    /// The torrents that were added and not removed.
    pub fn torrents(&self) -> Vec<Torrent> {
        todo!()
    }

    /// Stops a torrent and forgets it. Its payload stays.
    ///
    /// # Errors
    /// If the catalog cannot be written.
    pub async fn remove(&self, _info_hash: InfoHash) -> Result<(), EngineError> {
        todo!()
    }

    /// Makes everything that is verified durable and stops, in under two seconds on a disk that answers.
    pub async fn shutdown(self) {
        todo!()
    }
}

/// A torrent that the engine runs.
#[derive(Clone, Debug)]
pub struct Torrent {}

impl Torrent {
    /// Its name on the wire.
    pub fn info_hash(&self) -> InfoHash {
        todo!()
    }

    /// How it stands now.
    pub fn status(&self) -> Status {
        todo!()
    }

    /// How it stands, as it changes.
    pub fn watch(&self) -> watch::Receiver<Status> {
        todo!()
    }

    /// Stops transfers; what is verified becomes durable.
    pub async fn pause(&self) {
        todo!()
    }

    /// Goes on after `pause` or an error.
    pub async fn resume(&self) {
        todo!()
    }

    /// Waits until every piece is durable.
    ///
    /// # Errors
    /// If the torrent fails or is removed first.
    pub async fn completed(&self) -> Result<(), EngineError> {
        todo!()
    }
}

/// Why the engine cannot do what was asked. `Display` is one clear line that says what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// What kind of trouble.
    pub kind: ErrorKind,
    /// One clear line that says what to do.
    pub message: String,
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
}
