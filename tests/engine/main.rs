//! The public API of the library, against real files and sockets of this machine.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

mod dht;
mod lifecycle;
mod metadata;
mod scrub;
mod trouble;
mod world;
