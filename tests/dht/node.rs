//! A whole node that is sent nothing but harm.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use seedbank::base::limits::DHT_TRANSACTIONS_MAX;
use seedbank::proto::dht::{Config, Dialect, Node, Output};

use crate::dice;
use crate::mutants::Mutants;

const DATAGRAMS: usize = 100_000;

fn survives(dialect: Dialect) {
    let mut random = dice(dialect.as_str());
    let start = Instant::now();
    let config = Config {
        seed: random.bytes(),
        v4: true,
        v6: true,
        ..Config::default()
    };
    let mut node = Node::new(start, config, Vec::new());
    let mut sent = 0;
    let mut now = start;
    for datagram in Mutants::new(dialect, random.clone()).take(DATAGRAMS) {
        now += Duration::from_micros(500);
        let ip = Ipv4Addr::from_bits(random.next() as u32);
        let from = SocketAddr::from((ip, random.next() as u16));
        node.on_datagram(now, from, &datagram);
        let mut back = 0;
        while let Some(output) = node.poll() {
            back += usize::from(matches!(output, Output::Send { .. }));
        }
        // The answer, and pings that had to wait for their turn.
        assert!(back <= 100, "{back} datagrams for one");
        sent += back;
        assert!(node.waiting() <= DHT_TRANSACTIONS_MAX);
    }
    println!("{sent} datagrams in return");
    assert!(sent <= 2 * DATAGRAMS);
    assert!(node.is_empty(), "nobody answered anything");
    assert_eq!(node.announced(), 0, "nobody had a token");
    assert!(node.saved(now).is_empty());
}

#[test]
fn a_hundred_thousand_datagrams_in_krpc_leave_nothing_behind() {
    survives(Dialect::Krpc);
}

#[test]
fn a_hundred_thousand_datagrams_in_json_leave_nothing_behind() {
    survives(Dialect::Json);
}
