//! Bytes ↔ values: bencode, `.torrent`, `.bit`, magnet links and safe paths.
//!
//! Pure: no file, socket, clock or random number. Every byte that comes in is hostile: lengths are checked against
//! [`limits`](crate::base::limits) before anything is allocated for them, nothing recurses on input, and nothing panics.

pub mod bencode;
pub mod host;
pub mod magnet;
pub mod metainfo;
pub mod path;
mod url;
