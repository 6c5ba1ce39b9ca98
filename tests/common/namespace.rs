//! A network or a small disk of one's own. Each is a namespace of one thread and of what it starts: it has no name and goes
//! with the last of them, so there is nothing to clean up.
#![allow(unsafe_code, reason = "unshare(2) of the calling thread")]

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use super::skip;

/// The address of the test and of seedbank in a network of [`with_network`].
pub const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));

/// A second address there, for the foreign client: some clients ignore peers on the loopback address.
pub const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));

/// Runs `test` in a new network with both addresses up. False, and `skipped: …` is said, where that takes rights that we lack.
pub fn with_network(test: impl FnOnce() + Send) -> bool {
    let set_up = [
        "ip link set lo up",
        "ip addr add 10.77.0.1/24 dev lo",
        "ip addr add 10.77.0.2/24 dev lo",
        "ip route add default dev lo",
    ];
    inside(
        "a network namespace",
        libc::CLONE_NEWNET,
        &set_up.map(str::to_owned),
        test,
    )
}

/// Runs `test` with a file system of `size` bytes in memory on the folder `at`. False, and `skipped: …` is said, where that takes
/// rights that we lack.
pub fn with_small_disk(at: &Path, size: u64, test: impl FnOnce() + Send) -> bool {
    let at = at.to_str().unwrap();
    assert!(!at.contains(' '));
    let set_up = [
        "mount --make-rprivate /".to_owned(),
        format!("mount -t tmpfs -o size={size} small {at}"),
    ];
    inside("a mount namespace", libc::CLONE_NEWNS, &set_up, test)
}

/// Runs `test` where only it sees what is mounted: first by the lines of `set_up`, then by itself. False, and `skipped: …` is said,
/// where that takes rights that we lack.
pub fn with_mounts(set_up: &[String], test: impl FnOnce() + Send) -> bool {
    let mut lines = vec!["mount --make-rprivate /".to_owned()];
    lines.extend_from_slice(set_up);
    inside("a mount namespace", libc::CLONE_NEWNS, &lines, test)
}

fn inside(what: &str, kind: libc::c_int, set_up: &[String], test: impl FnOnce() + Send) -> bool {
    if !skip::unless_root(what) {
        return false;
    }
    let run = || {
        // SAFETY: no memory is passed or shared; CLONE_NEWNET and CLONE_NEWNS move only the calling thread.
        if unsafe { libc::unshare(kind) } != 0 {
            let error = std::io::Error::last_os_error();
            skip::say(&format!("{what} is refused: {error}"));
            return false;
        }
        for line in set_up {
            let mut words = line.split(' ');
            let status = Command::new(words.next().unwrap()).args(words).status();
            if !status.is_ok_and(|status| status.success()) {
                skip::say(&format!("{what} cannot be set up: {line}"));
                return false;
            }
        }
        test();
        true
    };
    std::thread::scope(|scope| match scope.spawn(run).join() {
        Ok(ran) => ran,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
