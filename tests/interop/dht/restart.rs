//! A node that was killed starts again in a network of which half has gone, without a bootstrap address.
#![expect(
    deprecated,
    reason = "the calls that block; the others want a feature and a runtime for nothing"
)]

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use mainline::{Id, Testnet};

use super::mainline::{Mainline, addresses};
use super::network::{self, Network};
use super::{Errands, PORT, Program, THEIRS};
use crate::common::seedbank::LOOPBACK;
use crate::common::wait;

const NODES: usize = 50;
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn first_peers_come_within_a_second_of_a_start_after_a_kill() {
    let network = Network::new();
    let mut theirs = populated();
    let bootstrap = addresses(&theirs.nodes[..3]);

    // What a kill loses is at most the last batch: the second run has nothing new to lose.
    let mut first = network.node("state", &bootstrap);
    first.wait_for("dht_ready", wait::SOON, |_| true);
    assert_eq!(first.stop(wait::SOON), Some(0));
    let mut second = network.node("state", &[]);
    let ready = second.wait_for("dht_ready", wait::SOON, |event| event["warm"] != 0);
    second.process.kill();

    half_goes(&mut theirs);
    // Killed and started again three times: other tests that run beside this one may hold up a start.
    let starts = [(); 3].map(|()| {
        let started = Instant::now();
        let mut lookup = network.lookup("state", THEIRS, &[]);
        let line = lookup.wait_for("peer", wait::SOON, |_| true);
        let took = started.elapsed();
        assert_eq!(network::peer(&line), SocketAddr::new(LOOPBACK, PORT));
        lookup.process.kill();
        took
    });
    eprintln!("first peer {starts:?} after each start; before the first kill: {ready}");
    assert!(starts.iter().min() < Some(&AT_ONCE), "{starts:?}");
}

#[test]
fn the_rig_works_without_seedbank() {
    let mut theirs = populated();
    half_goes(&mut theirs);
    let newcomer = Mainline.start(&Errands {
        bootstrap: addresses(&theirs.nodes[..1]),
        find: Some(THEIRS),
        ..Errands::default()
    });
    newcomer.finds(SocketAddr::new(LOOPBACK, PORT));
}

/// A network in which a peer is announced.
fn populated() -> Testnet {
    let network = Testnet::builder(NODES).build().unwrap();
    let peer = Some(PORT);
    network.nodes[1]
        .announce_peer(Id::from(THEIRS), peer)
        .unwrap();
    network
}

/// Every other node goes for good: its port is free again.
fn half_goes(network: &mut Testnet) {
    let all = addresses(&network.nodes);
    let mut stays = false;
    network.nodes.retain(|_| {
        stays = !stays;
        stays
    });
    for gone in all.iter().skip(1).step_by(2) {
        wait::until("a node is gone", wait::SOON, || UdpSocket::bind(gone).ok());
    }
}
