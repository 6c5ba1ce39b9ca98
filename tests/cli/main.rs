//! The contract of the command line, held against the real program: what it prints, writes and exits with.

#![allow(
    clippy::unwrap_used,
    reason = "clippy takes helpers of an integration test for ordinary code"
)]

mod create;
mod dht;
mod events;
mod legacy;
mod magnets;
mod refusals;
mod scrub;
mod state;
mod support;
mod verify;
