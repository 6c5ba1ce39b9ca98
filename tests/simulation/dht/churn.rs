//! Networks that lose datagrams, and networks that change all day.

use std::num::NonZeroU16;
use std::time::Duration;

use seedbank::base::InfoHash;
use seedbank::proto::dht::lookup::Goal;
use seedbank::proto::dht::{Announce, Output};

use super::lookups::{grown, measure};
use super::network::Link;

const ANNOUNCE: Announce = Announce {
    port: NonZeroU16::MIN,
    seed: false,
};

#[test]
fn what_is_announced_is_found_though_one_datagram_in_ten_is_lost() {
    let lossy = Link {
        loss: 100,
        ..Link::default()
    };
    let mut network = grown(4, 200, lossy);
    let figures = measure(&mut network, "10 % lost, neighbours", 200, Goal::Neighbours);
    assert!(figures.right >= 0.85);
    network.heard.clear();
    let torrents: Vec<InfoHash> = (0..50).map(|_| InfoHash(network.random.id())).collect();
    for (host, torrent) in torrents.iter().enumerate() {
        let now = network.now;
        network.with(host, |node| {
            node.search(now, *torrent, Some(ANNOUNCE), false)
        });
    }
    network.run_for(Duration::from_secs(10));
    for (host, torrent) in torrents.iter().enumerate() {
        let now = network.now;
        network.with(100 + host, |node| node.search(now, *torrent, None, true));
    }
    network.run_for(Duration::from_secs(20));
    let mut found: Vec<usize> = Vec::new();
    for heard in &network.heard {
        if heard.host >= 100 && matches!(heard.output, Output::Found { .. }) {
            found.push(heard.host);
        }
    }
    found.dedup();
    found.sort_unstable();
    found.dedup();
    println!("{} of 50 found", found.len());
    assert!(found.len() >= 49);
}

#[test]
fn a_day_in_a_changing_network_leaves_no_more_behind_than_an_hour() {
    let mut network = grown(5, 30, Link::default());
    let router = network.hosts[0].addr;
    for _ in 0..40 {
        let torrent = InfoHash(network.random.id());
        let now = network.now;
        network.with(0, |node| node.search(now, torrent, Some(ANNOUNCE), false));
    }
    let mut most = [(0, 0, 0, 0); 2];
    for quarter in 1..=96 {
        // Every quarter of an hour a tenth of the network is replaced.
        for _ in 0..3 {
            let hosts = network.up();
            let leaver = hosts[1 + network.random.below(hosts.len() - 1)];
            network.kill(leaver);
            let joiner = network.add(&[router]);
            let torrent = InfoHash(network.random.id());
            let now = network.now;
            network.with(joiner, |node| {
                node.search(now, torrent, Some(ANNOUNCE), false)
            });
        }
        network.heard.clear();
        network.run_for(Duration::from_secs(15 * 60));
        let node = &network.hosts[0].node;
        let saved = node.saved(network.now).len();
        let state = (node.len(), node.announced(), node.waiting(), saved);
        if [4, 24, 48, 72, 96].contains(&quarter) {
            println!(
                "after {} h: {} contacts, {} announcements, {} questions out, {} to save, {} datagrams",
                quarter / 4,
                state.0,
                state.1,
                state.2,
                state.3,
                network.datagrams
            );
        }
        // What it needs by the sixth hour must do for the rest of the day.
        let half = &mut most[usize::from(quarter > 24)];
        *half = (
            half.0.max(state.0),
            half.1.max(state.1),
            half.2.max(state.2),
            half.3.max(state.3),
        );
    }
    let [early, late] = most;
    println!("most until 6 h {early:?}, most after {late:?}");
    assert!(late.0 <= early.0 * 3 / 2);
    // Of so few announcements it is chance how many are ours to keep: what grows without end goes past this by far.
    assert!(late.1 <= early.1 * 2 + 10);
    assert!(late.2 <= early.2 * 2 + 50);
    assert!(late.3 <= early.3 * 3 / 2);
}
