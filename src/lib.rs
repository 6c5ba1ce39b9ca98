//! seedbank: a BitTorrent client that remembers.

pub mod base;
pub mod disk;
pub mod engine;
pub mod format;
pub mod net;
pub mod proto;
pub mod store;
pub mod swarm;
