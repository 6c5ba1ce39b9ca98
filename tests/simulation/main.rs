//! Whole swarms in virtual time: no socket, no file, no clock. Each run follows from the seed that it prints.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod dht;
mod stake;
mod swarm;
mod world;
