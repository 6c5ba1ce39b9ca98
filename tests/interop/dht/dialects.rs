//! Nodes that speak JSON and nodes that speak the mainline dialect meet in one of seedbank that speaks both.

use std::net::SocketAddr;

use serde_json::Value;

use super::json_node::JsonNode;
use super::libtorrent::Libtorrent;
use super::network::{self, Network};
use super::{Errands, InfoHash, PORT, Program, THEIRS};
use crate::common::seedbank::{LOOPBACK, Seedbank};
use crate::common::wait;

const IN_JSON: InfoHash = [0xc3; 20];
const JSON_PORT: u16 = 5151;

#[test]
fn nodes_of_both_dialects_sit_in_one_table_and_find_each_others_peers() {
    if !Libtorrent.available() {
        return;
    }
    let network = Network::new();
    let root = network.node("root", &[]);
    let at = network::udp(&root);
    let libtorrent = Libtorrent.start(&Errands {
        bootstrap: vec![at],
        announce: Some((THEIRS, PORT)),
        find: Some(IN_JSON),
    });
    let (one, other) = (JsonNode::start(1), JsonNode::start(2));
    let pong = one.ping(at);
    assert_eq!(pong["type"], "pong", "{pong}");
    assert_eq!(pong["addr"], one.addr().to_string(), "{pong}");
    assert_eq!(other.ping(at)["type"], "pong");

    // The table holds both kinds: to find its neighbours the node asks each in its own dialect.
    asks(&root, libtorrent.addr(), "krpc");
    asks(&root, other.addr(), "json");
    // A node is told of those that it can talk to.
    let both = network.node("both", &[at]);
    let nodes = wait::until("nodes that speak JSON", wait::SOON, || {
        let nodes = nodes(&one.find_peers(at, IN_JSON));
        let has = |addr: SocketAddr| nodes.iter().any(|(_, at)| *at == addr);
        (has(other.addr()) && has(network::udp(&both))).then_some(nodes)
    });
    assert!(nodes.contains(&(other.id().to_owned(), other.addr())));
    assert!(nodes.iter().all(|(_, addr)| *addr != libtorrent.addr()));

    network::hears_announce(&root, THEIRS);
    let found = one.find_peers(at, THEIRS);
    assert_eq!(peers(&found), [SocketAddr::new(LOOPBACK, PORT)]);

    let refused = one.announce(at, IN_JSON, JSON_PORT, "00");
    assert_eq!(refused["type"], "peers", "{refused}");
    let token = refused["token"].as_str().expect("a fresh token");
    let accepted = one.announce(at, IN_JSON, JSON_PORT, token);
    assert_eq!(accepted["type"], "pong", "{accepted}");
    libtorrent.finds(SocketAddr::new(LOOPBACK, JSON_PORT));
}

/// Waits until `root` asks the node at `addr` for others in `dialect`.
fn asks(root: &Seedbank, addr: SocketAddr, dialect: &str) {
    let addr = addr.to_string();
    root.wait_for("dht_findPeers", wait::SOON, |event| {
        event["dir"] == "out" && event["addr"] == addr.as_str() && event["dialect"] == dialect
    });
}

/// The `nodes` of an answer: ids and addresses.
fn nodes(answer: &Value) -> Vec<(String, SocketAddr)> {
    let list = answer["nodes"].as_array().expect("nodes");
    assert!(list.len() <= 8, "{answer}");
    list.iter()
        .map(|node| (node["id"].as_str().unwrap().to_owned(), addr(&node["addr"])))
        .collect()
}

/// The `peers` of an answer.
fn peers(answer: &Value) -> Vec<SocketAddr> {
    let list = answer["peers"].as_array().expect("peers");
    list.iter().map(addr).collect()
}

fn addr(text: &Value) -> SocketAddr {
    text.as_str().unwrap().parse().unwrap()
}
