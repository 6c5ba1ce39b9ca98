//! libtorrent, by way of its Python binding and `libtorrent_peer.py`.

use std::process::Command;

use crate::client::{Client, Job, Role, pairs};
use crate::common::process::Process;
use crate::common::skip;

/// Where our script is.
pub(crate) const SCRIPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/interop/libtorrent_peer.py"
);

/// See the module.
pub(crate) struct Libtorrent;

impl Client for Libtorrent {
    fn available(&self) -> bool {
        if skip::unless_installed("python3").is_none() {
            return false;
        }
        let found = Command::new("python3")
            .args(["-c", "import libtorrent"])
            .output();
        let there = found.is_ok_and(|output| output.status.success());
        if !there {
            skip::say("libtorrent not found: pip install libtorrent");
        }
        there
    }

    fn start(&self, job: &Job<'_>) -> Process {
        let mode = match job.role {
            Role::Seed => "seed",
            Role::Get => "get",
        };
        Process::spawn(
            "libtorrent",
            Command::new("python3")
                .args([SCRIPT, mode])
                .arg(job.torrent)
                .arg(job.folder)
                .arg(job.ip.to_string()),
        )
    }
}

pairs!(Libtorrent);
