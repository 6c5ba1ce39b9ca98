//! The disk layer as its users see it: opening, writing, checking and syncing whole payloads on a real filesystem.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "../common/hooked.rs"]
#[allow(unreachable_pub, reason = "it serves several test programs")]
mod hooked;

#[path = "../common/skip.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a part of what it offers is used here"
)]
mod skip;

#[path = "../common/small_disk.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "a part of what it offers is used here"
)]
mod small_disk;

mod errors;
mod hashing;
mod judged;
mod locks;
mod many;
mod order;
mod payload;
mod relocate;
mod rig;
mod scrub;
mod serving;
mod syncs;
