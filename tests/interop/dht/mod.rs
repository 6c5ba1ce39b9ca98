//! One DHT of seedbank and of nodes that other programs run: each finds what the other announced.

mod bittorrent_dht;
mod dialects;
mod json_node;
mod libtorrent;
mod mainline;
pub(crate) mod network;
mod restart;
mod script;

use std::net::SocketAddr;

use crate::common::seedbank::LOOPBACK;
use crate::common::wait;
use network::Network;

/// The name of a torrent.
pub(crate) type InfoHash = [u8; 20];

/// What a foreign node is started for.
#[derive(Clone, Debug, Default)]
struct Errands {
    /// Nodes to start from; a node without any waits for others to come.
    bootstrap: Vec<SocketAddr>,
    /// A torrent to announce again and again, and the port of the peer that has it.
    announce: Option<(InfoHash, u16)>,
    /// A torrent to look for again and again.
    find: Option<InfoHash>,
}

/// A program that has DHT nodes.
trait Program {
    /// Whether it can run here; says `skipped: …` if not.
    fn available(&self) -> bool {
        true
    }

    /// Starts a node on the loopback address; it ends with the value.
    fn start(&self, errands: &Errands) -> Box<dyn Node>;
}

/// A running node of a foreign program.
trait Node {
    /// Where it takes datagrams.
    fn addr(&self) -> SocketAddr;

    /// Waits until it has found `peer` for the torrent that it looks for; panics if it does not.
    fn finds(&self, peer: SocketAddr);
}

const THEIRS: InfoHash = [0x5a; 20];
const PORT: u16 = 4242;

/// A network that a node of seedbank began.
fn around_seedbank(program: &dyn Program) {
    if !program.available() {
        return;
    }
    let network = Network::new();
    let root = network.node("root", &[]);
    let bootstrap = vec![network::udp(&root)];
    let torrent = network.torrent();
    let foreign = program.start(&Errands {
        bootstrap: bootstrap.clone(),
        announce: Some((THEIRS, PORT)),
        find: Some(torrent.info_hash),
    });
    let seeder = network.seeder(&torrent, &bootstrap);
    foreign.finds(seeder.addr());

    network::hears_announce(&root, THEIRS);
    let found = network.look_up(THEIRS, &bootstrap);
    assert_eq!(found, [SocketAddr::new(LOOPBACK, PORT)]);
}

/// A network that a foreign node began, which alone remembers what a node of seedbank announced.
fn around_it(program: &dyn Program) {
    if !program.available() {
        return;
    }
    let network = Network::new();
    let root = program.start(&Errands::default());
    let torrent = network.torrent();
    let mut seeder = network.seeder(&torrent, &[root.addr()]);
    let peer = seeder.addr();
    let at_root = root.addr().to_string();
    let mut announced = false;
    seeder.process.stdout().find(wait::SOON, |line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        let is = |name, dir| {
            event["event"] == name && event["dir"] == dir && event["addr"] == at_root.as_str()
        };
        announced |= is("dht_announce", "out");
        (announced && is("dht_pong", "in")).then_some(())
    });
    assert!(
        announced,
        "nothing announced: {}",
        seeder.process.transcript()
    );
    seeder.process.kill();
    assert_eq!(network.look_up(torrent.info_hash, &[root.addr()]), [peer]);
}

/// The program by itself: what the tests above take for granted.
fn rig(program: &dyn Program) {
    if !program.available() {
        return;
    }
    let root = program.start(&Errands::default());
    let here = Errands {
        bootstrap: vec![root.addr()],
        ..Errands::default()
    };
    let _announces = program.start(&Errands {
        announce: Some((THEIRS, PORT)),
        ..here.clone()
    });
    let finds = program.start(&Errands {
        find: Some(THEIRS),
        ..here
    });
    finds.finds(SocketAddr::new(LOOPBACK, PORT));
}

/// Declares the tests of one program.
macro_rules! exchanges {
    ($program:expr) => {
        #[test]
        fn each_finds_what_the_other_announced() {
            crate::dht::around_seedbank(&$program);
        }

        #[test]
        fn it_keeps_what_seedbank_announced() {
            crate::dht::around_it(&$program);
        }

        #[test]
        fn the_rig_works_without_seedbank() {
            crate::dht::rig(&$program);
        }
    };
}
use exchanges;
