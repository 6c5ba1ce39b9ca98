//! Seedbank as a whole, from outside: real processes, real sockets on the loopback address, real files.
//!
//! `SEEDBANK_CRASH_FULL=1` makes the crash test long, `SEEDBANK_KILLS=n` as long as is wanted, and `SEEDBANK_MEMORY_FULL=1`
//! takes a file of 4 GiB in the one of memory; `SEEDBANK_TEST_SEED=n` repeats a run of those that draw numbers.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic and speak"
)]

#[path = "../common/mod.rs"]
mod common;

mod adoption;
mod bad_input;
mod full_state;
mod hostile;
mod legacy;
mod liar;
mod library;
mod locks;
mod many_files;
mod memory;
mod moving;
mod restart;
mod tracker;
mod transfer;
mod uploads;
