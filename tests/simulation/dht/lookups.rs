//! How many hops, questions and milliseconds a lookup takes, and whether it ends at the right node.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use seedbank::base::NodeId;
use seedbank::proto::dht::lookup::Goal;
use seedbank::proto::dht::{LookupId, Output};

use super::network::{Link, Network, percentile};

/// What many lookups came to.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) hops: u32,
    pub(crate) asked: usize,
    pub(crate) latency: Duration,
    pub(crate) right: f64,
}

/// Nodes join one after the other, through one router, and then mind their own business for a while.
pub(crate) fn grown(seed: u64, count: usize, link: Link) -> Network {
    let mut network = Network::new(seed, link);
    let router = network.add(&[]);
    let router = network.hosts[router].addr;
    for _ in 1..count {
        network.add(&[router]);
        network.run_for(Duration::from_secs(30) / count as u32);
    }
    network.run_for(Duration::from_secs(60));
    network
}

/// Takes down a share of all nodes, in percent, without a word.
pub(crate) fn thin_out(network: &mut Network, percent: usize) {
    let mut hosts = network.up();
    network.random.shuffle(&mut hosts);
    let gone = hosts.len() * percent / 100;
    for &host in &hosts[..gone] {
        network.kill(host);
    }
}

/// Lookups of random points by random nodes, each node at most once, all within a few seconds.
pub(crate) fn measure(network: &mut Network, name: &str, count: usize, goal: Goal) -> Figures {
    let mut hosts = network.up();
    network.random.shuffle(&mut hosts);
    let mut begun: HashMap<(usize, LookupId), (Instant, NodeId)> = HashMap::new();
    network.heard.clear();
    for &host in hosts.iter().cycle().take(count) {
        let target = NodeId(network.random.id());
        let now = network.now;
        let lookup = network.with(host, |node| node.locate(now, target, goal));
        begun.insert((host, lookup), (now, target));
        network.run_for(Duration::from_millis(5));
    }
    network.run_for(Duration::from_secs(15));
    let (mut hops, mut asked, mut latency) = (Vec::new(), Vec::new(), Vec::new());
    let mut right = 0;
    for heard in std::mem::take(&mut network.heard) {
        let Output::Located {
            lookup,
            closest,
            hops: depth,
            asked: questions,
        } = heard.output
        else {
            continue;
        };
        let (at, target) = begun.remove(&(heard.host, lookup)).unwrap();
        let own = network.id(heard.host);
        // The one that looks is a node too, which nobody names to it.
        let truth = network.closest(target, 2);
        let truth = truth.into_iter().find(|id| *id != own);
        right += usize::from(closest.first().map(|contact| contact.id) == truth);
        hops.push(depth);
        asked.push(questions);
        latency.push(heard.at - at);
    }
    assert!(begun.is_empty(), "{} lookups did not end", begun.len());
    let right = right as f64 / hops.len() as f64;
    println!(
        "{name}: hops p50 {} p95 {} · questions p50 {} p95 {} · latency p50 {:?} p95 {:?} · {:.1} % at the closest node",
        percentile(&mut hops, 50),
        percentile(&mut hops, 95),
        percentile(&mut asked, 50),
        percentile(&mut asked, 95),
        percentile(&mut latency, 50),
        percentile(&mut latency, 95),
        right * 100.0,
    );
    Figures {
        hops: percentile(&mut hops, 95),
        asked: percentile(&mut asked, 95),
        latency: percentile(&mut latency, 95),
        right,
    }
}

#[test]
fn lookups_are_short_cheap_and_right_and_dead_contacts_cost_little() {
    let count = 1_000;
    let mut network = grown(1, count, Link::default());
    let contacts: usize = network.hosts.iter().map(|host| host.node.len()).sum();
    println!(
        "{count} nodes with {} contacts each, {} datagrams so far",
        contacts / count,
        network.datagrams
    );
    let alive = measure(&mut network, "all alive, closest", 500, Goal::Closest);
    measure(&mut network, "all alive, neighbours", 300, Goal::Neighbours);
    let bits = (count as f64).log2();
    assert!(f64::from(alive.hops) <= (bits / 3.0).ceil());
    assert!(alive.asked as f64 <= 2.0 + bits);
    assert!(alive.right >= 0.99);

    thin_out(&mut network, 30);
    let thinned = measure(&mut network, "30 % dead, closest", 500, Goal::Closest);
    measure(&mut network, "30 % dead, neighbours", 300, Goal::Neighbours);
    assert!(thinned.latency <= Duration::from_millis(1_500));
    assert!(thinned.asked as f64 <= 1.6 * alive.asked as f64);
    assert!(thinned.asked as f64 <= 1.6 * (2.0 + bits));
}
