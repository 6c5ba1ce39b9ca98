//! Formats against real inputs and against hostile ones.
//!
//! The real inputs are not part of this repository: `SEEDBANK_CORPUS` names the folder that holds them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "these are tests throughout"
)]

mod agreement;
mod corpus;
mod hostile;
