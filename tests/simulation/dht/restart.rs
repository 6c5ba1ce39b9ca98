//! A node that starts again, with the contacts that it saved and nobody to ask for others.

use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use seedbank::base::InfoHash;
use seedbank::proto::dht::{Announce, Output};

use super::lookups::{grown, thin_out};
use super::network::{Link, Network};

/// The time from the start of a node to the first peer, in a network of 50 of which half have gone.
fn first_peer(seed: u64, link: Link) -> Duration {
    let mut network = grown(seed, 50, link);
    let torrent = InfoHash(network.random.id());
    let announce = Announce {
        port: NonZeroU16::MIN,
        seed: true,
    };
    for host in 1..6 {
        let now = network.now;
        network.with(host, |node| {
            node.search(now, torrent, Some(announce), false)
        });
    }
    network.run_for(Duration::from_secs(30));
    let (saved, identities) = {
        let node = &network.hosts[10].node;
        (node.saved(network.now), node.identities())
    };
    let addr = network.hosts[10].addr;
    network.kill(10);
    thin_out(&mut network, 50);
    let begun: Instant = network.now;
    let again = network.add_at(addr, identities, &[], saved);
    network.heard.clear();
    network.with(again, |node| node.search(begun, torrent, None, true));
    wait_for_peers(&mut network, begun)
}

fn wait_for_peers(network: &mut Network, begun: Instant) -> Duration {
    let end = begun + Duration::from_secs(60);
    while network.step(end) {
        let found = network
            .heard
            .iter()
            .find(|heard| matches!(heard.output, Output::Found { .. }));
        if let Some(found) = found {
            return found.at - begun;
        }
    }
    panic!("no peers within a minute");
}

#[test]
fn first_peers_come_within_a_second_of_a_restart_though_half_of_the_contacts_are_gone() {
    for median in [1, 100] {
        let link = Link {
            median: Duration::from_millis(median),
            ..Link::default()
        };
        let mut times: Vec<Duration> = (0..10).map(|seed| first_peer(100 + seed, link)).collect();
        times.sort();
        println!("round trips of {median} ms: first peers after {times:?}");
        assert!(times[9] < Duration::from_secs(1));
    }
}
