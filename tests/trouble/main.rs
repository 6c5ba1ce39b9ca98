//! Disk trouble while seedbank runs: real processes on real filesystems that fill up, fail, vanish, and have their files taken
//! away. That torrent stops and says why, others go on, and when the cause is gone it is completed without fetching again what was
//! durable.
//!
//! Most of it takes root on Linux, for mounts in a namespace of its own. `SEEDBANK_TROUBLE=50` makes 50 runs each of the two tests
//! with random moments; `SEEDBANK_TEST_SEED=n` repeats one.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic and speak"
)]

#[path = "../common/mod.rs"]
mod common;

mod altered;
mod bench;
mod failing;
mod full;
mod gone;
mod random;
