mod strangers;

use std::collections::VecDeque;
use std::num::NonZeroU16;

use super::super::identity;
use super::super::message::{Body, Query, Reply, Token, Transaction, Want};
use super::super::{decode, encode};
use super::*;
use crate::base::limits::DHT_TRANSACTIONS_MAX;

/// Nodes that hear each other at once.
struct Lan {
    now: Instant,
    nodes: Vec<(SocketAddr, Node)>,
    told: Vec<(usize, Output)>,
    /// Datagrams to nobody.
    stray: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

impl Lan {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            nodes: Vec::new(),
            told: Vec::new(),
            stray: Vec::new(),
        }
    }

    fn add(&mut self, config: Config, addr: SocketAddr, routers: &[SocketAddr]) -> usize {
        let mut node = Node::new(self.now, config, Vec::new());
        node.add_routers(self.now, routers);
        self.nodes.push((addr, node));
        self.nodes.len() - 1
    }

    fn run(&mut self, seconds: f64) {
        for _ in 0..(seconds * 100.0) as u32 {
            let mut wire = VecDeque::new();
            for at in 0..self.nodes.len() {
                self.nodes[at].1.handle_timeout(self.now);
                self.drain(at, &mut wire);
            }
            while let Some((from, to, datagram)) = wire.pop_front() {
                let Some(at) = self.nodes.iter().position(|(addr, _)| *addr == to) else {
                    self.stray.push((from, to, datagram));
                    continue;
                };
                self.nodes[at].1.on_datagram(self.now, from, &datagram);
                self.drain(at, &mut wire);
            }
            self.now += Duration::from_millis(10);
        }
    }

    fn drain(&mut self, at: usize, wire: &mut VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>) {
        let from = self.nodes[at].0;
        while let Some(output) = self.nodes[at].1.poll() {
            match output {
                Output::Send { to, datagram } => wire.push_back((from, to, datagram)),
                output => self.told.push((at, output)),
            }
        }
    }
}

fn config(seed: u64) -> Config {
    Config {
        seed: Random::new(seed).bytes(),
        v4: true,
        v6: true,
        ..Config::default()
    }
}

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn lan(count: u16) -> Lan {
    let mut lan = Lan::new();
    for n in 0..count {
        let routers: &[SocketAddr] = if n == 0 { &[] } else { &[local(7_000)] };
        lan.add(config(u64::from(n)), local(7_000 + n), routers);
    }
    lan
}

fn query(transaction: &[u8], query: Query) -> Message {
    Message {
        transaction: Transaction(transaction.to_vec()),
        body: Body::Query {
            from: NodeId([9; 20]),
            read_only: false,
            query,
        },
    }
}

fn get_peers(info_hash: InfoHash) -> Query {
    Query::GetPeers {
        info_hash,
        want: Want::default(),
        scrape: false,
        no_seeds: false,
    }
}

/// What a node sends back at once.
fn answers(
    node: &mut Node,
    now: Instant,
    from: SocketAddr,
    dialect: Dialect,
    asked: &Message,
) -> Vec<Message> {
    node.on_datagram(now, from, &encode(dialect, asked));
    let outputs = std::iter::from_fn(|| node.poll());
    let sent = outputs.filter_map(|output| match output {
        Output::Send { to, datagram } if to == from => decode(&datagram).ok(),
        _ => None,
    });
    let sent = sent.map(|(_, message)| message);
    sent.filter(|message| message.transaction == asked.transaction)
        .collect()
}

fn reply_of(messages: &[Message]) -> &Reply {
    let [
        Message {
            body: Body::Reply { reply, .. },
            ..
        },
    ] = messages
    else {
        panic!("{messages:?}");
    };
    reply
}

const TORRENT: InfoHash = InfoHash([7; 20]);

#[test]
fn a_node_that_knows_nobody_waits_and_is_ready_when_the_first_shows_up() {
    let mut lan = lan(1);
    lan.run(30.0);
    assert!(lan.told.is_empty() && lan.stray.is_empty());
    lan.add(config(5), local(7_001), &[local(7_000)]);
    lan.run(1.0);
    let ready = |at| {
        let mut told = lan.told.iter().filter(move |(who, _)| *who == at);
        told.any(|(_, output)| {
            matches!(
                output,
                Output::Ready {
                    nodes: 1,
                    warm: 0,
                    ..
                }
            )
        })
    };
    assert!(ready(0) && ready(1), "{:?}", lan.told);
}

#[test]
fn what_one_announces_another_finds() {
    let mut lan = lan(4);
    let announce = Announce {
        port: NonZeroU16::new(4_000).unwrap(),
        seed: true,
    };
    let now = lan.now;
    lan.nodes[2].1.search(now, TORRENT, Some(announce), false);
    lan.run(5.0);
    let now = lan.now;
    let search = lan.nodes[3].1.search(now, TORRENT, None, true);
    lan.run(1.0);
    let told = |output| lan.told.contains(&(3, output));
    assert!(told(Output::Found {
        search,
        peers: vec![local(4_000)]
    }));
    assert!(told(Output::Finished { search }));
    let own = lan
        .told
        .iter()
        .any(|(at, output)| *at == 2 && matches!(output, Output::Found { .. }));
    assert!(!own, "nobody is told of itself");
}

#[test]
fn a_search_that_is_stopped_says_nothing_more() {
    let mut lan = lan(3);
    lan.run(2.0);
    let now = lan.now;
    let search = lan.nodes[2].1.search(now, TORRENT, None, true);
    lan.nodes[2].1.stop(search);
    lan.run(3.0);
    assert_eq!(lan.nodes[2].1.searches(), 0);
    assert!(!lan.told.contains(&(2, Output::Finished { search })));
}

#[test]
fn one_dialect_finds_what_was_announced_in_the_other() {
    let mut lan = lan(2);
    lan.run(2.0);
    let now = lan.now;
    let client = local(9_000);
    let node = &mut lan.nodes[0].1;
    let announce = |token: &Token| {
        let query = Query::Announce {
            info_hash: TORRENT,
            port: NonZeroU16::new(4_000),
            token: token.clone(),
            seed: false,
        };
        self::query(b"ab", query)
    };
    let refused = answers(
        node,
        now,
        client,
        Dialect::Json,
        &announce(&Token(vec![1, 2])),
    );
    let fresh = reply_of(&refused).token.clone().unwrap();
    assert_eq!(node.announced(), 0);
    let taken = answers(node, now, client, Dialect::Json, &announce(&fresh));
    assert_eq!(reply_of(&taken).token, None);
    assert_eq!(node.announced(), 1);
    let found = answers(
        node,
        now,
        client,
        Dialect::Krpc,
        &query(b"cd", get_peers(TORRENT)),
    );
    assert_eq!(reply_of(&found).peers, [local(4_000)]);
    let error = answers(node, now, client, Dialect::Krpc, &announce(&Token(vec![3])));
    assert!(matches!(error[0].body, Body::Error { code: 203, .. }));
}

#[test]
fn a_node_that_refuses_a_token_is_told_again_with_the_one_it_sends() {
    let mut lan = Lan::new();
    let router = local(9_000);
    lan.add(config(1), local(7_000), &[router]);
    let announce = Announce {
        port: NonZeroU16::MIN,
        seed: false,
    };
    let now = lan.now;
    lan.nodes[0].1.search(now, TORRENT, Some(announce), false);
    let mut announced = Vec::new();
    for _ in 0..300 {
        lan.run(0.01);
        for (_, _, datagram) in std::mem::take(&mut lan.stray) {
            let (dialect, message) = decode(&datagram).unwrap();
            let Body::Query { query, .. } = message.body else {
                continue;
            };
            if dialect == Dialect::Krpc {
                continue;
            }
            if let Query::Announce { token, .. } = &query {
                announced.push(token.0.clone());
            }
            let token = Token(vec![announced.len() as u8]);
            let reply = Message {
                transaction: message.transaction,
                body: Body::Reply {
                    from: NodeId([3; 20]),
                    observed: None,
                    reply: Reply {
                        about: (query != Query::Ping).then_some(TORRENT),
                        token: (query != Query::Ping).then_some(token),
                        ..Reply::default()
                    },
                },
            };
            let now = lan.now;
            lan.nodes[0]
                .1
                .on_datagram(now, router, &encode(Dialect::Json, &reply));
        }
        if announced.len() >= 2 {
            break;
        }
    }
    lan.run(1.0);
    assert_eq!(announced, [vec![0], vec![1]]);
}

#[test]
fn replies_to_strangers_are_never_much_longer_than_what_they_sent() {
    let now = Instant::now();
    let mut lan = lan(40);
    lan.run(3.0);
    let node = &mut lan.nodes[0].1;
    for n in 0..400u32 {
        let [_, _, c, d] = n.to_be_bytes();
        let peer = SocketAddr::from(([127, 9, c, d], 4_000));
        node.announced.insert(lan.now, TORRENT, peer, n % 2 == 0);
        let other = InfoHash([d; 20]);
        node.announced.insert(lan.now, other, peer, n % 2 == 0);
    }
    let both = Want { v4: true, v6: true };
    let target = NodeId(TORRENT.0);
    let queries = [
        Query::Ping,
        Query::FindNode { target, want: both },
        get_peers(TORRENT),
        Query::GetPeers {
            info_hash: TORRENT,
            want: both,
            scrape: true,
            no_seeds: true,
        },
        Query::Announce {
            info_hash: TORRENT,
            port: NonZeroU16::new(1),
            token: Token(Vec::new()),
            seed: false,
        },
        Query::Get { target, want: both },
        Query::Sample { target, want: both },
    ];
    let mut worst = 0.0_f64;
    for (n, asked) in queries.into_iter().enumerate() {
        for dialect in [Dialect::Krpc, Dialect::Json] {
            for transaction in [&b""[..], b"aa", &[1; 32]] {
                let from = local(20_000 + n as u16);
                let sent = encode(dialect, &query(transaction, asked.clone()));
                node.on_datagram(lan.now, from, &sent);
                let outputs = std::iter::from_fn(|| node.poll());
                let back: usize = outputs
                    .map(|output| match output {
                        Output::Send { to, datagram } if to == from => datagram.len(),
                        _ => 0,
                    })
                    .sum();
                let factor = back as f64 / sent.len() as f64;
                // A ping may follow, once per stranger, which is shorter than any question.
                assert!(factor <= AMPLIFICATION as f64 + 1.0, "{asked:?} {factor}");
                worst = worst.max(factor);
            }
        }
    }
    println!("at most {worst:.1} times as long, {:?}", now.elapsed());
    assert!(worst > 2.0, "the replies hold something");
}

#[test]
fn nothing_enters_a_table_that_was_not_asked_for() {
    let mut node = Node::new(Instant::now(), config(1), Vec::new());
    let now = node.started;
    for n in 0..1_000u16 {
        let reply = Message {
            transaction: Transaction(u32::from(n).to_be_bytes().to_vec()),
            body: Body::Reply {
                from: NodeId([n as u8; 20]),
                observed: Some(local(1)),
                reply: Reply::default(),
            },
        };
        for dialect in [Dialect::Krpc, Dialect::Json] {
            node.on_datagram(now, local(1_000 + n), &encode(dialect, &reply));
        }
    }
    assert!(node.is_empty());
    assert_eq!(node.poll(), None);
}

#[test]
fn an_answer_from_elsewhere_or_in_another_dialect_is_none() {
    let mut node = Node::new(Instant::now(), config(1), Vec::new());
    let now = node.started;
    node.add_routers(now, &[local(9_000)]);
    while let Some(Output::Send { to, datagram }) = node.poll() {
        assert_eq!(to, local(9_000));
        let (dialect, asked) = decode(&datagram).unwrap();
        let reply = Message {
            transaction: asked.transaction,
            body: Body::Reply {
                from: NodeId([4; 20]),
                observed: None,
                reply: Reply::default(),
            },
        };
        node.on_datagram(now, local(9_001), &encode(dialect, &reply));
        assert!(node.is_empty());
        node.on_datagram(now, local(9_000), &encode(dialect.other(), &reply));
        assert!(node.is_empty());
        assert_eq!(node.waiting(), 2, "it is still waited for");
    }
}

#[test]
fn whoever_cannot_be_a_node_gets_no_answer() {
    let mut node = Node::new(Instant::now(), config(1), Vec::new());
    let now = node.started;
    let ping = query(b"aa", Query::Ping);
    for from in [
        "0.0.0.0:1",
        "127.0.0.1:0",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "[ff02::1]:1",
        "[::]:1",
    ] {
        assert!(answers(&mut node, now, from.parse().unwrap(), Dialect::Krpc, &ping).is_empty());
    }
    let mut ours = ping.clone();
    if let Body::Query { from, .. } = &mut ours.body {
        *from = node.table(true).unwrap().own();
    }
    assert!(answers(&mut node, now, local(1), Dialect::Krpc, &ours).is_empty());
    assert_eq!(
        answers(&mut node, now, local(1), Dialect::Krpc, &ping).len(),
        1
    );
}

#[test]
fn a_node_that_only_asks_answers_nobody_and_is_remembered_by_nobody() {
    let mut lan = lan(3);
    let silent = Config {
        read_only: true,
        ..config(9)
    };
    let at = lan.add(silent, local(7_009), &[local(7_000)]);
    lan.run(5.0);
    assert!(lan.nodes[at].1.len() >= 3);
    for (_, node) in &lan.nodes[..3] {
        assert!(node.table(true).unwrap().get(local(7_009)).is_none());
    }
    let now = lan.now;
    let node = &mut lan.nodes[at].1;
    assert!(
        answers(
            node,
            now,
            local(1),
            Dialect::Krpc,
            &query(b"aa", Query::Ping)
        )
        .is_empty()
    );
}

#[test]
fn the_first_answer_tells_a_new_node_where_on_the_internet_it_is() {
    let mut lan = Lan::new();
    let router = SocketAddr::from(([80, 1, 2, 3], 6881));
    let ours = SocketAddr::from(([90, 4, 5, 6], 6881));
    lan.add(config(1), router, &[]);
    let at = lan.add(config(2), ours, &[router]);
    lan.run(2.0);
    let node = &lan.nodes[at].1;
    let own = node.table(true).unwrap().own();
    assert!(identity::is_valid(own, ours.ip()));
    assert_eq!(node.identities()[0], (Some(ours.ip()), own));
    let again = Config {
        identities: node.identities(),
        ..config(3)
    };
    let next = Node::new(lan.now, again, node.saved(lan.now));
    assert_eq!(next.table(true).unwrap().own(), own);
}

#[test]
fn a_flood_of_questions_is_answered_within_its_quota_and_leaves_nothing() {
    let mut node = Node::new(Instant::now(), config(1), Vec::new());
    let start = node.started;
    let mut sent = 0;
    for n in 0..100_000u32 {
        let now = start + Duration::from_micros(u64::from(n) * 10);
        let [_, b, c, d] = n.wrapping_mul(0x9e37_79b9).to_be_bytes();
        let from = SocketAddr::from(([80, b, c, d], 6881));
        let mut ping = query(b"aa", get_peers(InfoHash([b; 20])));
        if let Body::Query { from, .. } = &mut ping.body {
            from.0[..4].copy_from_slice(&n.to_be_bytes());
        }
        node.on_datagram(now, from, &encode(Dialect::Krpc, &ping));
        while let Some(output) = node.poll() {
            sent += usize::from(matches!(output, Output::Send { .. }));
        }
        assert!(node.waiting() <= DHT_TRANSACTIONS_MAX);
    }
    println!("{sent} datagrams in answer to 100,000 in a second");
    assert!(sent < 10_000, "{sent}");
    assert!(node.is_empty());
}

#[test]
fn each_address_family_has_a_table_of_its_own() {
    let mut lan = Lan::new();
    let six = |port: u16| SocketAddr::new("::1".parse().unwrap(), port);
    let (a, b) = (
        lan.add(config(1), local(7_000), &[]),
        lan.add(config(2), six(7_001), &[]),
    );
    assert_eq!((a, b), (0, 1));
    let now = lan.now;
    lan.nodes[1].1.add_node(now, six(7_001));
    lan.add(config(3), six(7_002), &[six(7_001)]);
    lan.run(2.0);
    assert_eq!(lan.nodes[1].1.table(false).unwrap().len(), 1);
    assert_eq!(lan.nodes[2].1.table(false).unwrap().len(), 1);
    assert!(lan.nodes[0].1.is_empty());
}
