//! Trackers: what to ask of one over HTTP ([`http`]) and which one to ask when ([`tiers`]).

pub mod http;
pub mod tiers;

pub use http::{AnnounceEvent, AnnounceRequest, Reply, TrackerError};
pub use tiers::{Announce, Tiers};
