//! libtorrent, by way of its Python binding and the scripts `libtorrent_….py`.

use std::path::Path;
use std::process::Command;

use crate::client::{Client, Job, Role, pairs};
use crate::common::process::Process;
use crate::common::skip;

/// Runs `script`, which lies beside this file.
pub(crate) fn command(script: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let mut command = Command::new("python3");
    // Compiled modules would be left in the source tree.
    command.arg("-B").arg(folder.join(script));
    command
}

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
            command("libtorrent_peer.py")
                .arg(mode)
                .arg(job.torrent)
                .arg(job.folder)
                .arg(job.ip.to_string()),
        )
    }
}

pairs!(Libtorrent);
