//! Lookups among ten thousand nodes in virtual time: what `tests/simulation/` does with a thousand, printed.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    dead_code,
    unreachable_pub,
    reason = "a measurement, with parts of a test"
)]

#[path = "../tests/simulation/dht/lookups.rs"]
mod lookups;
#[path = "../tests/simulation/dht/network.rs"]
mod network;

use std::time::Instant;

use seedbank::proto::dht::lookup::Goal;

/// Nodes of the network.
const NODES: usize = 10_000;

fn main() {
    // Only `cargo bench` says this; a test run must not take minutes.
    if !std::env::args().any(|arg| arg == "--bench") {
        println!("skipped: run it with `cargo bench --bench dht`");
        return;
    }
    let begun = Instant::now();
    let mut network = lookups::grown(1, NODES, network::Link::default());
    println!(
        "{NODES} nodes, {} datagrams, built in {:?}",
        network.datagrams,
        begun.elapsed()
    );
    lookups::measure(&mut network, "all alive, closest", 2_000, Goal::Closest);
    lookups::measure(
        &mut network,
        "all alive, neighbours",
        1_000,
        Goal::Neighbours,
    );
    lookups::thin_out(&mut network, 30);
    lookups::measure(&mut network, "30 % dead, closest", 2_000, Goal::Closest);
    lookups::measure(
        &mut network,
        "30 % dead, neighbours",
        1_000,
        Goal::Neighbours,
    );
    println!("in all {:?}", begun.elapsed());
}
