//! Effects on the network: sockets and the tasks that read and write them. They fail and they wait; what to do about it is
//! decided elsewhere.

pub mod dial;
pub mod greet;
pub mod listener;
pub mod peer;
pub mod throttle;
pub mod tracker;
