//! A thousand nodes that start at the same moment and know one address.
//!
//! What counts is what the last lookup of a node's own id came to: the eight closest others, all of them and in order.

use std::time::Duration;

use seedbank::proto::dht::identity;

use super::network::{Link, Network};

/// How many know the closest other node, and how many the eight closest, after ten seconds.
fn settle(network: &mut Network) -> (usize, usize) {
    let mut known = (0, 0);
    for second in 1..=10 {
        network.run(network.start + Duration::from_secs(second));
        known = (0, 0);
        for host in network.up() {
            let truth = network.closest(network.id(host), 9);
            let neighbours = network.hosts[host].node.neighbours(true);
            known.0 += usize::from(neighbours.first() == Some(&truth[1]));
            known.1 += usize::from(neighbours == &truth[1..]);
        }
        println!(
            "after {second} s: {} know the closest other, {} the eight closest, {} datagrams",
            known.0, known.1, network.datagrams
        );
    }
    known
}

#[test]
fn a_thousand_nodes_find_their_neighbours_within_ten_seconds_of_a_cold_start() {
    let mut network = Network::new(2, Link::default());
    let router = network.add(&[]);
    let router = network.hosts[router].addr;
    for _ in 1..1_000 {
        network.add(&[router]);
    }
    assert_eq!(settle(&mut network), (1_000, 1_000));
}

#[test]
fn nodes_that_learn_their_ids_from_the_first_answer_find_their_neighbours_as_fast() {
    let mut network = Network::new(7, Link::default());
    let router = network.add(&[]);
    let router = network.hosts[router].addr;
    for _ in 1..200 {
        let addr = network.address();
        network.add_at(addr, Vec::new(), &[router], Vec::new());
    }
    // The router itself learns its id only from them, and some must learn of it anew.
    let (closest, all) = settle(&mut network);
    assert_eq!(closest, 200);
    assert!(all >= 198);
    for host in &network.hosts {
        let own = host.node.table(true).unwrap().own();
        assert!(identity::is_valid(own, host.addr.ip()));
    }
}
