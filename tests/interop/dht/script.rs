//! Nodes that a script runs: it says on standard output where it listens and what it finds.

use std::net::SocketAddr;
use std::process::Command;

use data_encoding::HEXLOWER;

use super::{Errands, Node};
use crate::common::process::Process;
use crate::common::wait;

/// A node in a process of its own.
pub(super) struct Script {
    process: Process,
}

impl Script {
    /// Starts it with its errands as arguments.
    pub(super) fn start(name: &str, command: &mut Command, errands: &Errands) -> Box<dyn Node> {
        for addr in &errands.bootstrap {
            command.arg(format!("bootstrap={addr}"));
        }
        if let Some((info_hash, port)) = &errands.announce {
            command.arg(format!("announce={}:{port}", HEXLOWER.encode(info_hash)));
        }
        if let Some(info_hash) = &errands.find {
            command.arg(format!("find={}", HEXLOWER.encode(info_hash)));
        }
        let process = Process::spawn(name, command);
        Box::new(Self { process })
    }

    fn says<T>(&self, pick: impl Fn(&str) -> Option<T>) -> T {
        let found = self.process.stdout().find(wait::SOON, |line| pick(line));
        found.unwrap_or_else(|| panic!("not said: {}", self.process.transcript()))
    }
}

impl Node for Script {
    fn addr(&self) -> SocketAddr {
        self.says(|line| line.strip_prefix("listening ")?.parse().ok())
    }

    fn finds(&self, peer: SocketAddr) {
        let peer = format!(" {peer}");
        self.says(|line| (line.starts_with("peer ") && line.ends_with(&peer)).then_some(()));
    }
}
