//! A node that was killed starts again in a network of which half has gone, without a bootstrap address.

use std::time::{Duration, Instant};

use mainline::{Id, Testnet};

use super::mainline::addresses;
use super::network::{self, Network};
use super::{PORT, THEIRS};
use crate::common::wait;

const NODES: usize = 50;
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
#[expect(
    deprecated,
    reason = "the call that blocks; the other wants a runtime for nothing"
)]
fn first_peers_come_within_a_second_of_a_start_after_a_kill() {
    let network = Network::new();
    let mut theirs = Testnet::builder(NODES).build().unwrap();
    let bootstrap = addresses(&theirs.nodes[..3]);
    theirs.nodes[1]
        .announce_peer(Id::from(THEIRS), Some(PORT))
        .unwrap();

    // What a kill loses is at most the last batch: the second run has nothing new to lose.
    let mut first = network.node("state", &bootstrap);
    first.wait_for("dht_ready", wait::SOON, |_| true);
    assert_eq!(first.stop(wait::SOON), Some(0));
    let mut second = network.node("state", &[]);
    let ready = second.wait_for("dht_ready", wait::SOON, |event| event["warm"] != 0);
    second.process.kill();

    let mut keep = false;
    theirs.nodes.retain(|_| {
        keep = !keep;
        keep
    });
    let started = Instant::now();
    let lookup = network.lookup("state", THEIRS, &[]);
    let peer = lookup.wait_for("peer", wait::SOON, |_| true);
    let took = started.elapsed();
    eprintln!("first peer {took:?} after the start; before the kill: {ready}");
    assert_eq!(network::peer(&peer).port(), PORT);
    assert!(took < AT_ONCE, "{took:?}: {}", lookup.process.transcript());
}
