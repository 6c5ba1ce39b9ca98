//! The disk layer as its users see it: opening, writing, checking and syncing whole payloads on a real filesystem.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod errors;
mod hashing;
mod locks;
mod order;
mod payload;
mod rig;
mod scrub;
