//! Transmission, in a network namespace: it ignores peers on the loopback address.

use std::process::Command;

use crate::client::{Client, Job, Role, free_port, pairs};
use crate::common::process::Process;
use crate::common::skip;

struct Transmission;

const SETTINGS: &str = r#"{
    "dht-enabled": false,
    "lpd-enabled": false,
    "pex-enabled": false,
    "utp-enabled": false,
    "port-forwarding-enabled": false,
    "rename-partial-files": false,
    "encryption": 0,
    "BIND"
}"#;

impl Client for Transmission {
    fn available(&self) -> bool {
        skip::unless_installed("transmission-cli").is_some()
    }

    fn start(&self, job: &Job<'_>) -> Process {
        let home = job.home.join(format!("transmission-{:?}", job.role));
        std::fs::create_dir_all(&home).unwrap();
        let bind = format!(r#""bind-address-ipv4": "{}""#, job.ip);
        let settings = SETTINGS.replace(r#""BIND""#, &bind);
        std::fs::write(home.join("settings.json"), settings).unwrap();
        let mut command = Command::new("transmission-cli");
        command
            .env("HOME", &home)
            .arg("--no-portmap")
            .arg("--config-dir")
            .arg(&home)
            .arg("--download-dir")
            .arg(job.folder)
            .arg("--port")
            .arg(free_port(job.ip).to_string());
        if job.role == Role::Seed {
            command.arg("--verify");
        }
        Process::spawn("transmission-cli", command.arg(job.torrent))
    }

    fn ends_when_complete(&self) -> bool {
        false
    }

    fn leaves_empty_files_out(&self) -> bool {
        true
    }

    fn needs_network(&self) -> bool {
        true
    }
}

pairs!(Transmission);
