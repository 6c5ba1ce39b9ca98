//! Seedbank's side of a network: nodes, a seeder and look-ups, all on the loopback address and each with a state of its own.

use std::net::SocketAddr;
use std::process::Command;

use data_encoding::HEXLOWER;

use super::InfoHash;
use crate::common::metainfo::Torrent;
use crate::common::seedbank::{self, Seedbank};
use crate::common::{World, wait, wire};

/// Where seedbank's nodes of one test live.
pub(crate) struct Network {
    pub(crate) world: World,
}

impl Network {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self {
            world: World::new(),
        }
    }

    /// A payload of 2 MiB and its torrent.
    pub(crate) fn torrent(&self) -> Torrent {
        let folder = self.world.dir("payload");
        wire::one_file(&folder, "shared.bin", 2 << 20, 77)
    }

    /// `seedbank dht` with the state folder `name`.
    pub(crate) fn node(&self, name: &str, bootstrap: &[SocketAddr]) -> Seedbank {
        let mut command = self.command(&["dht", "--tcp-listen", ""], name, bootstrap);
        Seedbank::spawn(&mut command)
    }

    /// `seedbank seed` of a torrent, once it takes connections.
    pub(crate) fn seeder(&self, torrent: &Torrent, bootstrap: &[SocketAddr]) -> Seedbank {
        let mut command = self.command(&["seed"], "seeder", bootstrap);
        command
            .arg(&torrent.path)
            .args(["--tcp-listen", "127.0.0.1:0", "--dest"])
            .arg(torrent.payload.parent().unwrap());
        let seeder = Seedbank::spawn(&mut command);
        seeder.ready(1);
        seeder
    }

    /// `seedbank dht lookup`, which is to end by itself and successfully; the peers it printed.
    pub(crate) fn look_up(&self, info_hash: InfoHash, bootstrap: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut lookup = self.lookup("lookup", info_hash, bootstrap);
        lookup.process.succeed(wait::SOON);
        let found = lookup.all("peer");
        found.iter().map(peer).collect()
    }

    /// `seedbank dht lookup` with the state folder `name`.
    pub(crate) fn lookup(
        &self,
        name: &str,
        info_hash: InfoHash,
        bootstrap: &[SocketAddr],
    ) -> Seedbank {
        let hex = HEXLOWER.encode(&info_hash);
        let mut command = self.command(&["dht", "lookup", &hex], name, bootstrap);
        Seedbank::spawn(&mut command)
    }

    /// A command with a DHT node at a free port.
    pub(crate) fn command(&self, words: &[&str], name: &str, bootstrap: &[SocketAddr]) -> Command {
        let list: Vec<String> = bootstrap.iter().map(ToString::to_string).collect();
        let mut command = seedbank::command(self.world.root());
        command
            .args(words)
            .args(["--log", "json", "--dht-listen", "127.0.0.1:0"])
            .args(["--bootstrap", &list.join(",")])
            .arg("--state")
            .arg(self.world.path(name));
        command
    }
}

/// The peer that a line of `seedbank dht lookup` names.
pub(crate) fn peer(line: &serde_json::Value) -> SocketAddr {
    let text = line["peer"].as_str().unwrap_or_default();
    text.parse().unwrap_or_else(|_| panic!("no peer in {line}"))
}

/// Where a node takes datagrams.
pub(crate) fn udp(seedbank: &Seedbank) -> SocketAddr {
    let event = seedbank.wait_for("listening", wait::SOON, |_| true);
    let addr = event["udp"].as_str().unwrap_or_default();
    addr.parse()
        .unwrap_or_else(|_| panic!("no address for datagrams in {event}"))
}

/// Waits until somebody announces a torrent to a node.
pub(crate) fn hears_announce(seedbank: &Seedbank, info_hash: InfoHash) {
    let hex = HEXLOWER.encode(&info_hash);
    seedbank.wait_for("dht_announce", wait::SOON, |event| {
        event["dir"] == "in" && event["info_hash"] == hex.as_str()
    });
}
