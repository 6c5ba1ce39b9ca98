//! The DHT: thousands of real nodes, each with a table that came out of the protocol.

mod churn;
mod cold_start;
mod eclipse;
mod lookups;
mod network;
mod restart;
