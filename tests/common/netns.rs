//! A network of one's own, for clients that ignore peers on the loopback address.
#![allow(unsafe_code, reason = "unshare(2) of the calling thread")]

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

use super::skip;

/// The address of the test and of seedbank in the namespace.
pub const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));

/// A second address, for the foreign client.
pub const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));

/// Runs `test` on a thread in a network namespace of its own, with both addresses up, and so run the threads and processes
/// that it starts. The namespace has no name and goes with the last of them, so there is nothing to clean up.
///
/// False, and `skipped: …` is said, where that takes rights that we do not have.
pub fn run(test: impl FnOnce() + Send) -> bool {
    if !skip::unless_root("a network namespace") || skip::unless_installed("ip").is_none() {
        return false;
    }
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            // SAFETY: no memory is touched; CLONE_NEWNET moves only the calling thread to a new, empty network.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                let error = std::io::Error::last_os_error();
                skip::say(&format!("a network namespace is refused: {error}"));
                return false;
            }
            if !set_up() {
                skip::say("a network namespace cannot be set up");
                return false;
            }
            test();
            true
        });
        match inside.join() {
            Ok(ran) => ran,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn set_up() -> bool {
    [
        "link set lo up",
        "addr add 10.77.0.1/24 dev lo",
        "addr add 10.77.0.2/24 dev lo",
        "route add default dev lo",
    ]
    .iter()
    .all(|line| {
        let status = Command::new("ip").args(line.split(' ')).status();
        status.is_ok_and(|status| status.success())
    })
}
