//! Seedbank and the clients that people have: each seeds for the other, and makers of metainfo agree on the info-hash.
//!
//! A client that is not installed is skipped in one printed line. Every client also has a test without seedbank in it
//! (`the_rig_works_without_seedbank`): if that fails too, look at the rig first. `SEEDBANK_INTEROP_FULL=1` makes the file 1 GiB.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic and speak"
)]

#[path = "../common/mod.rs"]
mod common;

mod aria2;
mod client;
mod creators;
mod dht;
mod libtorrent;
mod magnet;
mod node_js;
mod pair;
mod rqbit;
mod transmission;
