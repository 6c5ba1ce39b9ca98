//! What a torrent is: one [`Metainfo`], two encodings of it, `.torrent` (BEP 3) and `.bit` (JSON).
//!
//! [`Info`] is the part that the info-hash names. One that exists has been checked: its sizes, piece hashes and [`Geometry`] agree, its
//! files lie end to end over the payload, and their paths are safe and distinct. The bytes it was read from are kept, since they and no
//! re-encoding of them make the info-hash. Around it stand hints (trackers, nodes, web seeds, a comment), of which what is malformed is
//! passed over in a `.torrent`, as the whole world writes those, and refused in a `.bit`.
//!
//! Hybrid torrents (BEP 52) are read as v1 torrents after their v2 half was found to say the same; v2-only ones are refused.
//!
//! [`Geometry`]: crate::base::Geometry

mod basics;
mod bit;
pub mod create;
mod error;
mod file;
mod hints;
mod info;
mod torrent;
mod v2;

use std::sync::Arc;

pub use basics::PlainFile;
pub use error::MetainfoError;
pub use file::{FileEntry, FileKind};
pub use info::Info;

use super::host::HostPort;

/// A torrent and where to find it.
#[derive(Clone, Debug, PartialEq)]
pub struct Metainfo {
    /// What the info-hash names.
    pub info: Arc<Info>,
    /// Trackers in tiers (BEP 12); `announce` is the only tier if there is no `announce-list`.
    pub announce: Vec<Vec<String>>,
    /// DHT nodes to start from (BEP 5).
    pub nodes: Vec<HostPort>,
    /// Addresses that serve the payload by HTTP (BEP 19).
    pub web_seeds: Vec<String>,
    /// Free text.
    pub comment: Option<String>,
    /// The program that made it.
    pub created_by: Option<String>,
    /// When it was made, in seconds since 1970.
    pub creation_date: Option<i64>,
    /// BLAKE3 of the payload; of the concatenated files in order, when several.
    pub blake3: Option<[u8; 32]>,
}

impl Metainfo {
    /// A torrent with no hint where to find it.
    pub fn new(info: Info) -> Self {
        Self {
            info: Arc::new(info),
            announce: Vec::new(),
            nodes: Vec::new(),
            web_seeds: Vec::new(),
            comment: None,
            created_by: None,
            creation_date: None,
            blake3: None,
        }
    }

    /// Reads either encoding: what begins with `{` (after white space) as `.bit`, the rest as `.torrent`.
    ///
    /// # Errors
    /// If it is not a valid torrent, or one that is not supported.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetainfoError> {
        if bytes.trim_ascii_start().starts_with(b"{") {
            Self::from_bit(bytes)
        } else {
            Self::from_torrent(bytes)
        }
    }
}

#[cfg(test)]
mod tests;
