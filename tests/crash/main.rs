//! What a crash leaves: the real engine on a simulated disk that loses whatever no barrier covers.
//!
//! Files lie in a temporary folder; the simulation remembers of each what a medium would have, and makes it so when the power is
//! cut ([`medium`], [`ledger`]). A [`machine`] lives a life up to some call to its disk, loses power, and must keep the promise: a
//! piece that the store calls durable is on the medium, the catalog is complete, and the next life hashes no more than a window.
//!
//! `SEEDBANK_CRASH_FULL=1` cuts at every call of many machines instead of one; `SEEDBANK_TEST_SEED=n` repeats a run. A failure tells
//! seed, life, call and what the call was. Threads interleave as they like, so the same seed need not give the same order of calls.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic and speak"
)]

#[path = "../common/mod.rs"]
mod common;

mod crew;
mod cuts;
mod faults;
mod ledger;
mod machine;
mod medium;
mod promise;
mod reads;
mod shares;
