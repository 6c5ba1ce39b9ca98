//! The DHT: thousands of real nodes, each with a table that came out of the protocol.

mod cold_start;
mod lookups;
pub(crate) mod network;
