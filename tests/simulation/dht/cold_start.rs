//! A thousand nodes that start at the same moment and know one address.

use std::time::Duration;

use super::network::{Link, Network};

#[test]
fn a_thousand_nodes_find_their_neighbours_within_ten_seconds_of_a_cold_start() {
    let mut network = Network::new(2, Link::default());
    let router = network.add(&[]);
    let router = network.hosts[router].addr;
    for _ in 1..1_000 {
        network.add(&[router]);
    }
    for second in 1..=10 {
        network.run(network.start + Duration::from_secs(second));
        let (mut known, mut whole) = (0, 0);
        for host in network.up() {
            let truth = network.closest(network.id(host), 9);
            let neighbours = network.hosts[host].node.neighbours(true);
            known += usize::from(neighbours.first() == Some(&truth[1]));
            whole += usize::from(neighbours == &truth[1..]);
        }
        println!(
            "after {second} s: {known} know the closest other, {whole} the eight closest, {} datagrams",
            network.datagrams
        );
    }
}
