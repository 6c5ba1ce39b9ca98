//! One network of 254 addresses tries to surround a node.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use seedbank::base::NodeId;
use seedbank::proto::dht::lookup::Goal;
use seedbank::proto::dht::{Output, identity};

use super::lookups::grown;
use super::network::{Link, Network};

const ATTACKERS: [u8; 3] = [66, 66, 66];

fn is_attacker(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if v4.octets()[..3] == ATTACKERS)
}

/// The most places that attackers have at one distance from one honest node, and how many they have in all.
fn places(network: &Network, honest: usize) -> (usize, usize) {
    let (mut most, mut all) = (0, 0);
    for host in &network.hosts[..honest] {
        let table = host.node.table(true).unwrap();
        let mut by_distance: BTreeMap<u32, usize> = BTreeMap::new();
        for entry in table
            .entries()
            .filter(|entry| is_attacker(entry.contact.addr.ip()))
        {
            *by_distance
                .entry(table.own().distance(&entry.contact.id).shared_bits())
                .or_default() += 1;
        }
        most = most.max(by_distance.values().copied().max().unwrap_or(0));
        all += by_distance.values().sum::<usize>();
    }
    (most, all)
}

#[test]
fn one_network_never_holds_more_than_one_place_of_a_bucket() {
    let honest = 300;
    let mut network = grown(3, honest, Link::default());
    let router = network.hosts[0].addr;
    let victim = network.id(honest / 2);
    for host in 1..=254u8 {
        let [a, b, c] = ATTACKERS;
        let addr = SocketAddr::from(([a, b, c, host], 6881));
        let mut random = network.random.id();
        // Half play by the rules, the others sit next to the victim.
        let id = if host % 2 == 0 {
            identity::generate(Some(addr.ip()), random)
        } else {
            random[..12].copy_from_slice(&victim.0[..12]);
            NodeId(random)
        };
        network.add_at(addr, vec![(Some(addr.ip()), id)], &[router], Vec::new());
        network.run_for(Duration::from_millis(50));
        assert!(places(&network, honest).0 <= 1);
    }
    for _ in 0..20 {
        network.run_for(Duration::from_secs(30));
        let (most, all) = places(&network, honest);
        assert!(most <= 1, "{most} of one bucket");
        assert!(all > 0, "the attackers are there");
    }
    let contacts: usize = network.hosts[..honest]
        .iter()
        .map(|host| host.node.len())
        .sum();
    let (_, all) = places(&network, honest);
    println!("254 attackers of one network hold {all} of {contacts} places in {honest} tables");

    network.heard.clear();
    for host in 0..honest {
        let now = network.now;
        network.with(host, |node| node.locate(now, victim, Goal::Closest));
        network.run_for(Duration::from_millis(20));
    }
    network.run_for(Duration::from_secs(10));
    let found = network.heard.iter().filter(|heard| match &heard.output {
        Output::Located { closest, .. } => closest.first().is_some_and(|node| node.id == victim),
        _ => false,
    });
    let found = found.count();
    println!("{found} of {} others still find the victim", honest - 1);
    assert!(found * 100 >= (honest - 1) * 99);
}
