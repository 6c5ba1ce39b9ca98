//! A node among others that do what they like.

use super::*;
use crate::base::limits::QUOTA_SOURCE_BURST;

/// What the others do with a question.
type Answer<'a> = &'a mut dyn FnMut(SocketAddr, Dialect, Message) -> Vec<(Dialect, Message)>;

/// Lets a node run among strangers for a while.
fn run(node: &mut Node, now: &mut Instant, seconds: f64, answer: Answer<'_>) -> Vec<Output> {
    let mut told = Vec::new();
    for _ in 0..(seconds * 100.0) as u32 {
        node.handle_timeout(*now);
        while let Some(output) = node.poll() {
            let Output::Send { to, datagram } = output else {
                told.push(output);
                continue;
            };
            let (dialect, asked) = decode(&datagram).unwrap();
            for (dialect, back) in answer(to, dialect, asked) {
                node.on_datagram(*now, to, &encode(dialect, &back));
            }
        }
        *now += Duration::from_millis(10);
    }
    told
}

/// What the node at `from` replies, whose id is its port.
fn reply(from: SocketAddr, asked: &Message, reply: Reply) -> Message {
    Message {
        transaction: asked.transaction.clone(),
        body: Body::Reply {
            from: id_of(from),
            observed: None,
            reply,
        },
    }
}

fn id_of(addr: SocketAddr) -> NodeId {
    let mut id = [5; 20];
    id[..2].copy_from_slice(&addr.port().to_be_bytes());
    NodeId(id)
}

#[test]
fn a_lookup_ends_though_a_node_answers_its_steps_in_the_wrong_dialect() {
    let mut node = Node::new(Instant::now(), config(1), Vec::new());
    let mut now = node.started;
    node.add_routers(now, &[local(9_000)]);
    let search = node.search(now, TORRENT, None, true);
    let mut wrong = 0;
    let told = run(&mut node, &mut now, 90.0, &mut |to, dialect, asked| {
        let step = matches!(
            asked.body,
            Body::Query {
                query: Query::GetPeers { .. },
                ..
            }
        );
        wrong += usize::from(step);
        let dialect = if step { dialect.other() } else { dialect };
        vec![(dialect, reply(to, &asked, Reply::default()))]
    });
    assert!(wrong > 0);
    assert!(told.contains(&Output::Finished { search }), "{told:?}");
}

/// Undoes `x ^ (x >> shift)`.
fn unshift(mixed: u64, shift: u32) -> u64 {
    (0..64 / shift).fold(mixed, |x, _| mixed ^ (x >> shift))
}

/// The state of the dice before they showed `shown`.
fn state_of_dice(shown: u64) -> u64 {
    let mixed = unshift(shown, 31).wrapping_mul(0x3196_42b2_d24d_8ec3);
    let mixed = unshift(mixed, 27).wrapping_mul(0x96de_1b17_3f11_9089);
    unshift(mixed, 30).wrapping_sub(GAMMA)
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

#[test]
fn what_a_node_publishes_leads_to_none_of_its_secrets() {
    let seed = config(1).seed;
    let node = Node::new(Instant::now(), config(1), Vec::new());
    // All but a few bits of an id are what the dice showed.
    let id = node.table(true).unwrap().own().0;
    let state = state_of_dice(u64::from_be_bytes(id[8..16].try_into().unwrap()));
    let mut dice = Random::new(state);
    assert_eq!(dice.next().to_be_bytes(), id[8..16], "they can be computed");
    let near: Vec<u64> = (0..=32)
        .map(|back: u64| state.wrapping_sub(GAMMA.wrapping_mul(back)))
        .flat_map(|state| [state, Random::new(state).next()])
        .collect();
    for window in seed.windows(8) {
        let [little, big] =
            [u64::from_le_bytes, u64::from_be_bytes].map(|read| read(window.try_into().unwrap()));
        assert!(!near.contains(&little) && !near.contains(&big));
    }
    let (ip, now) = (local(1).ip(), node.started);
    let issued = node.tokens.issue(now, ip, TORRENT);
    assert_eq!(issued, Tokens::new(now, &seed).issue(now, ip, TORRENT));
}

#[test]
fn nothing_is_told_of_an_answer_to_nothing_and_it_is_paid_for() {
    let traced = Config {
        trace: true,
        ..config(1)
    };
    let mut node = Node::new(Instant::now(), traced, Vec::new());
    let (now, router) = (node.started, local(9_000));
    node.add_routers(now, &[router]);
    while node.poll().is_some() {}
    let forged = Message {
        transaction: Transaction(vec![1; 3]),
        body: Body::Reply {
            from: id_of(router),
            observed: None,
            reply: Reply::default(),
        },
    };
    let refusal = Message {
        body: Body::Error {
            code: 201,
            text: "no".to_owned(),
        },
        ..forged.clone()
    };
    for unsolicited in [&forged, &refusal] {
        for from in [router, local(9_001)] {
            for _ in 0..QUOTA_SOURCE_BURST {
                node.on_datagram(now, from, &encode(Dialect::Krpc, unsolicited));
            }
            assert_eq!(node.poll(), None);
            assert!(!node.quota.admit(now, from, 1), "{from} has used it up");
        }
    }
}

#[test]
fn a_stranger_hears_how_many_there_are() {
    let mut lan = lan(12);
    lan.run(3.0);
    let (now, node) = (lan.now, &mut lan.nodes[0].1);
    for host in 1..200 {
        let peer = SocketAddr::from(([127, 0, 0, host], 4_000));
        node.announced.insert(now, TORRENT, peer, true);
    }
    let asked = |scrape| {
        let query = Query::GetPeers {
            info_hash: TORRENT,
            want: Want::default(),
            scrape,
            no_seeds: false,
        };
        self::query(b"aa", query)
    };
    let stranger = local(20_000);
    for scrape in [true, false] {
        let back = answers(node, now, stranger, Dialect::Krpc, &asked(scrape));
        let reply = reply_of(&back);
        assert_eq!(reply.scrape.is_some(), scrape);
        assert_eq!(reply.peers.is_empty(), scrape);
        assert!(reply.token.is_some());
    }
}

#[test]
fn an_address_is_proven_by_an_answer_of_the_last_quarter_of_an_hour_only() {
    let mut lan = lan(12);
    lan.run(3.0);
    let (now, node) = (lan.now, &mut lan.nodes[0].1);
    for host in 1..200 {
        let peer = SocketAddr::from(([127, 0, 0, host], 4_000));
        node.announced.insert(now, TORRENT, peer, true);
    }
    let contact = local(7_001);
    let entry = node.table(true).unwrap().get(contact).unwrap();
    let proven_until = entry.last_answer + Duration::from_secs(15 * 60);
    let asked = query(b"aa", get_peers(TORRENT));
    let mut told = |now| {
        let back = answers(node, now, contact, Dialect::Krpc, &asked);
        let bound = encode(Dialect::Krpc, &asked).len() * AMPLIFICATION;
        encode(Dialect::Krpc, &back[0]).len() > bound
    };
    assert!(told(now));
    assert!(told(proven_until - Duration::from_millis(1)));
    assert!(!told(proven_until));
}

#[test]
fn others_are_asked_for_json_only_while_somebody_speaks_nothing_else() {
    let mut node = Node::new(Instant::now(), config(1), Vec::new());
    let mut now = node.started;
    let (lonely, first, second) = (local(9_000), local(9_100), local(9_200));
    let mut meet = |addr, seconds, is_there: bool| {
        node.add_node(now, addr);
        let mut pings = Vec::new();
        run(&mut node, &mut now, seconds, &mut |to, dialect, asked| {
            let Body::Query { query, .. } = &asked.body else {
                panic!("{asked:?}");
            };
            if *query == Query::Ping && dialect == Dialect::Json {
                pings.push(to);
            }
            let speaks = if to == lonely {
                is_there && dialect == Dialect::Json
            } else {
                dialect == Dialect::Krpc
            };
            let back = (dialect, reply(to, &asked, Reply::default()));
            speaks.then_some(back).into_iter().collect()
        });
        pings
    };
    meet(lonely, 10.0, true);
    assert!(meet(first, 10.0, true).contains(&first));
    meet(lonely, 3_600.0, false);
    assert!(
        !meet(second, 10.0, false).contains(&second),
        "nobody is left who needs it"
    );
}
