//! The public API of the library, against real files and sockets of this machine.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

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

mod dht;
mod judged;
mod lifecycle;
mod metadata;
mod moving;
mod scrub;
mod trouble;
mod world;
