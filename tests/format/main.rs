//! Formats against real inputs and against hostile ones.
//!
//! The real inputs are not part of this repository: `SEEDBANK_CORPUS` names the folder that holds them.

mod corpus;
mod hostile;
