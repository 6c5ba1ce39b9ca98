//! Magnet links and bare info-hashes: metadata and payload travel between seedbank and other programs.

mod fake;
mod libtorrent;
mod lies;
mod webtorrent;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::common::metainfo::Torrent;
use crate::common::payload::{self, MIB};
use crate::common::process::Process;
use crate::common::seedbank::{LOOPBACK, Seedbank};
use crate::common::wait;
use crate::dht::network::{self, Network};

/// A program that can be told where to bootstrap.
trait Program {
    /// Whether it can run here; says `skipped: …` if not.
    fn available(&self) -> bool;

    /// A command that seeds (`seed`) or gets (`get`) `source`, a `.torrent` or a magnet link, in `folder`. Seeding it prints
    /// `listening PORT`; getting it ends by itself.
    fn command(&self, mode: &str, source: &str, folder: &Path) -> Command;
}

/// How the two find each other.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The link names the peer.
    Link,
    /// Both know one node of the DHT.
    Dht,
}

/// A payload whose metadata takes two pieces of 16 KiB.
fn torrent(network: &Network) -> Torrent {
    let path = network.world.path("payload/by name.bin");
    payload::file(&path, 16 * MIB + 5, 55);
    Torrent::of(&path, 16 * 1024, &network.world.path("meta"))
}

/// A magnet link that names peers.
fn link(torrent: &Torrent, peers: &[SocketAddr]) -> String {
    let mut link = format!("magnet:?xt=urn:btih:{}", torrent.hex());
    for peer in peers {
        link.push_str(&format!("&x.pe={peer}"));
    }
    link
}

/// `program` seeds; seedbank knows nothing but the name.
fn seedbank_gets(program: &dyn Program, way: Way) {
    if !program.available() {
        return;
    }
    let network = Network::new();
    let torrent = torrent(&network);
    let folder = torrent.payload.parent().unwrap();
    let mut command = program.command("seed", torrent.path.to_str().unwrap(), folder);
    let (_running, mut getter) = match way {
        Way::Link => {
            let seeder = Process::spawn("foreign seeder", &mut command);
            let link = link(&torrent, &[listening(&seeder)]);
            (vec![seeder], get(&network, &link, &[]))
        }
        Way::Dht => {
            let root = network.node("root", &[]);
            let bootstrap = network::udp(&root);
            command.arg(format!("bootstrap={bootstrap}"));
            let seeder = Process::spawn("foreign seeder", &mut command);
            network::hears_announce(&root, torrent.info_hash);
            let getter = get(&network, &torrent.hex(), &[bootstrap]);
            (vec![seeder, root.process], getter)
        }
    };
    getter.succeed();
    getter.last("complete");
    let found = network.world.path("dest").join(torrent.name());
    payload::assert_same(&torrent.payload, &found);
}

/// Seedbank seeds; `program` knows nothing but the name.
fn seedbank_seeds(program: &dyn Program, way: Way) {
    if !program.available() {
        return;
    }
    let network = Network::new();
    let torrent = torrent(&network);
    let folder = network.world.dir("dest");
    let (_running, mut command) = match way {
        Way::Link => {
            let seeder = network.seeder(&torrent, &[]);
            let link = link(&torrent, &[seeder.addr()]);
            (vec![seeder], program.command("get", &link, &folder))
        }
        Way::Dht => {
            let root = network.node("root", &[]);
            let bootstrap = network::udp(&root);
            let seeder = network.seeder(&torrent, &[bootstrap]);
            network::hears_announce(&root, torrent.info_hash);
            let mut command = program.command("get", &link(&torrent, &[]), &folder);
            command.arg(format!("bootstrap={bootstrap}"));
            (vec![seeder, root], command)
        }
    };
    Process::spawn("foreign getter", &mut command).succeed(wait::SOON * 2);
    payload::assert_same(&torrent.payload, &folder.join(torrent.name()));
}

/// The program by itself: what the tests above take for granted.
fn rig(program: &dyn Program) {
    if !program.available() {
        return;
    }
    let network = Network::new();
    let torrent = torrent(&network);
    let folder = torrent.payload.parent().unwrap();
    let mut command = program.command("seed", torrent.path.to_str().unwrap(), folder);
    let seeder = Process::spawn("seeder", &mut command);
    let addr = listening(&seeder);
    let folder = network.world.dir("dest");
    let mut command = program.command("get", &link(&torrent, &[addr]), &folder);
    Process::spawn("getter", &mut command).succeed(wait::SOON * 2);
    payload::assert_same(&torrent.payload, &folder.join(torrent.name()));
}

/// `seedbank get` into the folder `dest`.
fn get(network: &Network, source: &str, bootstrap: &[SocketAddr]) -> Seedbank {
    let mut command = network.command(&["get", source], "getter", bootstrap);
    command
        .args(["--tcp-listen", "127.0.0.1:0", "--dest"])
        .arg(network.world.dir("dest"));
    Seedbank::spawn(&mut command)
}

/// Where a foreign seeder listens, once it has its payload.
fn listening(seeder: &Process) -> SocketAddr {
    let port = seeder.stdout().find(wait::SOON * 2, |line| {
        line.strip_prefix("listening ")?.parse().ok()
    });
    let port = port.unwrap_or_else(|| panic!("does not seed: {}", seeder.transcript()));
    SocketAddr::new(LOOPBACK, port)
}

/// Declares the tests of one program.
macro_rules! by_name {
    ($program:expr) => {
        #[test]
        fn seedbank_gets_from_it_by_a_link_that_names_it() {
            crate::magnet::seedbank_gets(&$program, crate::magnet::Way::Link);
        }

        #[test]
        fn seedbank_gets_from_it_by_the_dht_alone() {
            crate::magnet::seedbank_gets(&$program, crate::magnet::Way::Dht);
        }

        #[test]
        fn it_gets_from_seedbank_by_a_link_that_names_it() {
            crate::magnet::seedbank_seeds(&$program, crate::magnet::Way::Link);
        }

        #[test]
        fn it_gets_from_seedbank_by_the_dht_alone() {
            crate::magnet::seedbank_seeds(&$program, crate::magnet::Way::Dht);
        }

        #[test]
        fn the_rig_works_without_seedbank() {
            crate::magnet::rig(&$program);
        }
    };
}
use by_name;
