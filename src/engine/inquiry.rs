//! Fetching the metadata of a torrent that is known by name only (BEP 9).

use std::net::SocketAddr;

use super::config::Wanted;
use super::error::EngineError;
use super::resources::Resources;
use crate::format::metainfo::Metainfo;

/// Metadata that was fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The torrent, with the trackers, nodes and web seeds that were known before.
    pub metainfo: Metainfo,
    /// Peers that were found on the way, those that served it first.
    pub peers: Vec<SocketAddr>,
}

pub(super) async fn fetch(_resources: &Resources, _wanted: Wanted) -> Result<Fetched, EngineError> {
    Err(EngineError::Stopped)
}
