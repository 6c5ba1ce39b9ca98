//! Protocols as state machines: bytes and time in, bytes and decisions out. No socket, no clock, no task.

pub mod dht;
pub mod tracker;
pub mod wire;
