//! How a torrent stands: a small value that its task publishes and anyone may read.

use std::net::SocketAddr;

use super::error::EngineError;
use crate::base::InfoHash;
use crate::format::metainfo::Info;

/// What a torrent is doing.
#[derive(Clone, Debug)]
pub enum State {
    /// Looking at what is on disk.
    Checking {
        /// Pieces looked at.
        done: u32,
        /// Pieces to look at.
        total: u32,
    },
    /// Fetching.
    Downloading,
    /// Whole and durable; sharing.
    Seeding,
    /// Stopped on request.
    Paused,
    /// Stopped by an error. If that is one that [may pass](EngineError::is_passing), it is tried again from time to time, and
    /// stays in this state until its files are open; `resume` tries at once.
    Failed(EngineError),
    /// Gone from the engine.
    Removed,
}

/// A snapshot of a torrent.
#[derive(Clone, Debug)]
pub struct Status {
    /// Which torrent.
    pub info_hash: InfoHash,
    /// Its name.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// Pieces verified.
    pub verified: u32,
    /// Pieces durable.
    pub durable: u32,
    /// Pieces of the torrent.
    pub total: u32,
    /// Bytes of the payload.
    pub bytes: u64,
    /// Bytes of the payload that are verified.
    pub bytes_verified: u64,
    /// Payload bytes received in this run.
    pub downloaded: u64,
    /// Payload bytes sent in this run.
    pub uploaded: u64,
    /// Payload bytes received in this run and thrown away.
    pub wasted: u64,
    /// Payload bytes per second that come in.
    pub down_rate: u64,
    /// Payload bytes per second that go out.
    pub up_rate: u64,
    /// The connections.
    pub peers: Vec<PeerStatus>,
}

impl Status {
    /// A torrent of which nothing is known yet.
    pub(super) fn new(info: &Info) -> Self {
        let total = info.geometry().pieces();
        Self {
            info_hash: info.info_hash(),
            name: info.name().to_owned(),
            state: State::Checking { done: 0, total },
            verified: 0,
            durable: 0,
            total,
            bytes: info.geometry().total(),
            bytes_verified: 0,
            downloaded: 0,
            uploaded: 0,
            wasted: 0,
            down_rate: 0,
            up_rate: 0,
            peers: Vec::new(),
        }
    }
}

/// A snapshot of one connection.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// The other end.
    pub addr: SocketAddr,
    /// The name of its software.
    pub client: String,
    /// Whether it dialled us.
    pub incoming: bool,
    /// Share of the pieces that it has, 0 to 1.
    pub share: f32,
    /// Payload bytes that came from it.
    pub downloaded: u64,
    /// Payload bytes that went to it.
    pub uploaded: u64,
    /// Payload bytes per second that come in.
    pub down_rate: u64,
    /// Payload bytes per second that go out.
    pub up_rate: u64,
    /// It lets us request.
    pub unchoked_us: bool,
    /// We let it request.
    pub unchoked: bool,
}
