//! The node of the crate mainline, in this process, alone and as a network of its own.
#![expect(
    deprecated,
    reason = "the calls that block; the others want a feature and a runtime for nothing"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainline::{Dht, Id, Testnet};

use super::network::{self, Network};
use super::{Errands, Node, PORT, Program, THEIRS, exchanges};
use crate::common::seedbank::LOOPBACK;
use crate::common::wait;

/// How long to wait before errands are run again.
const AGAIN: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct Mainline;

impl Program for Mainline {
    fn start(&self, errands: &Errands) -> Box<dyn Node> {
        Box::new(Running::start(errands))
    }
}

/// A node, and the thread that runs its errands until it is dropped.
struct Running {
    addr: SocketAddr,
    found: Arc<Mutex<Vec<SocketAddr>>>,
    _stop: mpsc::Sender<()>,
}

impl Running {
    fn start(errands: &Errands) -> Self {
        let dht = Dht::builder()
            .server_mode()
            .bind_address(Ipv4Addr::LOCALHOST)
            .port(0)
            .bootstrap(&errands.bootstrap)
            .build()
            .unwrap();
        let addr = dht.info().local_addr().into();
        let (stop, stopped) = mpsc::channel();
        let found = Arc::new(Mutex::new(Vec::new()));
        let (errands, peers) = (errands.clone(), Arc::clone(&found));
        std::thread::spawn(move || {
            while stopped.recv_timeout(AGAIN) == Err(RecvTimeoutError::Timeout) {
                if let Some((info_hash, port)) = errands.announce {
                    let info_hash = Id::from(info_hash);
                    // Without asking for peers first it announces to those alone who keep values (BEP 44).
                    let _known = dht.get_peers(info_hash).count();
                    // Too early it fails for want of nodes.
                    let _ = dht.announce_peer(info_hash, Some(port));
                }
                if let Some(info_hash) = errands.find {
                    for some in dht.get_peers(Id::from(info_hash)) {
                        peers
                            .lock()
                            .unwrap()
                            .extend(some.into_iter().map(SocketAddr::from));
                    }
                }
            }
        });
        Self {
            addr,
            found,
            _stop: stop,
        }
    }
}

impl Node for Running {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn finds(&self, peer: SocketAddr) {
        wait::until("the peer is found", wait::SOON, || {
            self.found.lock().unwrap().contains(&peer).then_some(())
        });
    }
}

exchanges!(Mainline);

/// A network of ten nodes in this process, of which any serves as bootstrap.
#[test]
fn seedbank_takes_part_in_a_network_of_it() {
    let network = Network::new();
    let theirs = Testnet::builder(10).build().unwrap();
    let bootstrap: Vec<SocketAddr> = addresses(&theirs.nodes[..1]);
    let torrent = network.torrent();
    let seeder = network.seeder(&torrent, &bootstrap);
    let far = &theirs.nodes[9];
    far.announce_peer(Id::from(THEIRS), Some(PORT)).unwrap();
    let found = network.look_up(THEIRS, &bootstrap);
    assert_eq!(found, [SocketAddr::new(LOOPBACK, PORT)]);
    let peer = wait::until("the seeder is found", wait::SOON, || {
        far.get_peers(Id::from(torrent.info_hash)).flatten().next()
    });
    assert_eq!(SocketAddr::from(peer), seeder.addr());
    assert!(network::udp(&seeder).ip().is_loopback());
}

/// Where nodes of a network take datagrams.
pub(super) fn addresses(nodes: &[Dht]) -> Vec<SocketAddr> {
    nodes
        .iter()
        .map(|node| node.info().local_addr().into())
        .collect()
}
