//! aria2, which finds peers through the tracker only.

use std::process::Command;

use crate::client::{Client, Job, Role, free_port, pairs};
use crate::common::process::Process;
use crate::common::skip;

struct Aria2;

impl Client for Aria2 {
    fn available(&self) -> bool {
        skip::unless_installed("aria2c").is_some()
    }

    fn start(&self, job: &Job<'_>) -> Process {
        let port = free_port(job.ip);
        let mut command = Command::new("aria2c");
        command
            .env("HOME", job.home)
            .args(["--no-conf", "--enable-dht=false", "--enable-dht6=false"])
            .args(["--bt-enable-lpd=false", "--enable-peer-exchange=false"])
            .args(["--allow-overwrite=true", "--check-integrity=true"])
            .args(["--file-allocation=none", "--summary-interval=1"])
            .arg(format!("--listen-port={port}"))
            .arg(format!("--dir={}", job.folder.display()));
        match job.role {
            // A ratio of 0 shares for ever.
            Role::Seed => command.arg("--seed-ratio=0.0"),
            Role::Get => command.arg("--seed-time=0"),
        };
        Process::spawn("aria2c", command.arg(job.torrent))
    }
}

pairs!(Aria2);
