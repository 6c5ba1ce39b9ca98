//! Effects on the network: sockets and the tasks that read and write them. They fail and they wait; what to do about it is
//! decided elsewhere.

pub mod dial;
pub mod greet;
mod inbox;
pub mod inquiry;
pub mod listener;
mod outbox;
pub mod peer;
mod reporter;
pub mod spare;
pub mod throttle;
pub mod tracker;
pub mod udp;
