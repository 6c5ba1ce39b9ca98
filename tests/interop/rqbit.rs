//! rqbit: `rqbit` on `PATH`, or what `SEEDBANK_RQBIT` names.

use std::path::PathBuf;
use std::process::Command;

use crate::client::{Client, Job, Role, free_port, pairs};
use crate::common::process::Process;
use crate::common::skip;

struct Rqbit;

impl Rqbit {
    fn program() -> Option<PathBuf> {
        let named = std::env::var_os("SEEDBANK_RQBIT").map(PathBuf::from);
        named
            .filter(|path| path.is_file())
            .or_else(|| skip::on_path("rqbit"))
    }
}

impl Client for Rqbit {
    fn available(&self) -> bool {
        let there = Self::program().is_some();
        if !there {
            skip::say("rqbit not found");
        }
        there
    }

    fn start(&self, job: &Job<'_>) -> Process {
        let port = free_port(job.ip).to_string();
        let mut command = Command::new(Self::program().unwrap());
        command
            .env("HOME", job.home)
            .args(["-v", "info", "--disable-dht", "--disable-upnp-port-forward"])
            // Another rqbit of this run may have the same torrent; they must not find each other.
            .arg("--disable-lsd")
            .args(["--listen-ip", &job.ip.to_string(), "--listen-port", &port])
            .args(["--announce-port", &port])
            .args(["--tracker-refresh-interval", "1s"])
            .args(["download", "--disable-http-api", "--overwrite"]);
        command.arg("-o").arg(job.folder);
        if job.role == Role::Get {
            command.arg("--exit-on-finish");
        }
        Process::spawn("rqbit", command.arg(job.torrent))
    }
}

pairs!(Rqbit);
