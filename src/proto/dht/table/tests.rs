use std::collections::HashSet;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::proto::dht::bucket::{K, places};
use crate::proto::dht::entry::{BAD_FAILURES, FRESH};
use crate::proto::dht::identity;
use crate::proto::dht::scope::Network;
use crate::proto::dht::shunned::PROBATION;

const OWN: NodeId = NodeId([0; 20]);
const RTT: Duration = Duration::from_millis(50);

/// An id that shares `depth` bits with ours and is told from others by `tag`.
fn id_at(depth: usize, tag: u32) -> NodeId {
    let mut id = [0; 20];
    id[depth / 8] = 0x80 >> (depth % 8);
    id[16..].copy_from_slice(&tag.to_be_bytes());
    NodeId(id)
}

/// A node on this machine.
fn local(depth: usize, tag: u32) -> Contact {
    let port = 1 + u16::try_from(tag).unwrap();
    Contact {
        id: id_at(depth, tag),
        addr: SocketAddr::from(([127, 0, 0, 1], port)),
    }
}

/// A node of the internet whose id may not be at its address.
fn stray(depth: usize, net: [u8; 3], tag: u32) -> Contact {
    let addr = SocketAddr::from(([net[0], net[1], net[2], tag as u8], 1_000));
    let id = (tag..).step_by(256).map(|tag| id_at(depth, tag));
    let id = id
        .into_iter()
        .find(|&id| !identity::is_valid(id, addr.ip()))
        .unwrap();
    Contact { id, addr }
}

/// A node of the internet whose id may be at its address, near or far from us as it happens.
fn lawful(ip: [u8; 4], port: u16, tag: u8) -> Contact {
    let ip = IpAddr::from(ip);
    Contact {
        id: identity::generate(Some(ip), [tag; 20]),
        addr: SocketAddr::new(ip, port),
    }
}

fn table(now: Instant) -> Table {
    Table::new(now, OWN, 1)
}

fn answer(table: &mut Table, now: Instant, contact: Contact) -> bool {
    table.on_answer(now, contact, Dialect::Krpc, RTT)
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

#[test]
fn a_full_bucket_keeps_its_old_nodes_and_newcomers_wait() {
    let now = Instant::now();
    let mut table = table(now);
    for tag in 0..100 {
        let placed = answer(&mut table, now, local(6, tag));
        assert_eq!(placed, tag < K as u32);
    }
    assert_eq!((table.len(), table.spares().count()), (K, 8));
    assert!(
        table
            .entries()
            .all(|entry| entry.contact.addr.port() <= K as u16)
    );
    assert!(!table.wants(now, &local(6, 200)), "all are good");
    assert!(table.wants(now, &local(7, 200)));
    assert!(table.wants(now + FRESH, &local(5, 200)));
}

#[test]
fn a_node_is_good_for_15_minutes_after_an_answer_or_a_query() {
    let now = Instant::now();
    let mut table = table(now);
    let contact = local(3, 1);
    answer(&mut table, now, contact);
    let standing = |table: &Table, at| table.get(contact.addr).unwrap().standing(at);
    assert_eq!(standing(&table, now + minutes(14)), Standing::Good);
    assert_eq!(standing(&table, now + minutes(15)), Standing::Questionable);
    table.on_query(now + minutes(20), &contact, Dialect::Json);
    assert_eq!(standing(&table, now + minutes(34)), Standing::Good);
    assert!(
        table
            .get(contact.addr)
            .unwrap()
            .dialects
            .contains(Dialect::Json)
    );
    for ten in 1..20 {
        table.on_query(now + minutes(10 * ten), &contact, Dialect::Krpc);
    }
    assert_eq!(
        standing(&table, now + minutes(191)),
        Standing::Questionable,
        "queries can be forged"
    );
}

#[test]
fn queries_of_unknown_nodes_or_under_another_id_change_nothing() {
    let now = Instant::now();
    let mut table = table(now);
    table.on_query(now, &local(3, 1), Dialect::Krpc);
    assert!(table.is_empty());
    answer(&mut table, now, local(3, 1));
    let forged = Contact {
        id: id_at(3, 9),
        ..local(3, 1)
    };
    table.on_query(now + minutes(16), &forged, Dialect::Krpc);
    assert_eq!(table.good(now + minutes(16)), 0);
    assert_eq!(table.len(), 1);
}

#[test]
fn a_bad_node_gives_way_to_one_that_waits_and_is_kept_if_nobody_does() {
    let now = Instant::now();
    let mut table = table(now);
    for tag in 0..K as u32 + 1 {
        answer(&mut table, now, local(6, tag));
    }
    for _ in 0..BAD_FAILURES {
        table.on_timeout(now, local(6, 0).addr);
    }
    assert!(table.get(local(6, 0).addr).is_none());
    assert_eq!((table.len(), table.spares().count()), (K, 0));
    for _ in 0..BAD_FAILURES {
        table.on_timeout(now, local(6, 1).addr);
    }
    assert_eq!(table.len(), K, "nobody waits");
    assert!(
        table
            .closest(id_at(6, 1), 8)
            .iter()
            .all(|entry| entry.contact != local(6, 1)),
        "but it is not told of"
    );
    assert!(table.wants(now, &local(6, 50)));
    assert!(
        answer(&mut table, now, local(6, 50)),
        "the newcomer takes its place"
    );
    assert!(table.get(local(6, 1).addr).is_none());
}

#[test]
fn a_waiting_node_that_fails_loses_its_turn() {
    let now = Instant::now();
    let mut table = table(now);
    for tag in 0..K as u32 + 1 {
        answer(&mut table, now, local(6, tag));
    }
    table.on_timeout(now, local(6, 8).addr);
    assert_eq!((table.len(), table.spares().count()), (K, 0));
}

#[test]
fn faster_nodes_are_the_first_to_get_a_place_and_slow_ones_the_first_to_stop_waiting() {
    let now = Instant::now();
    let mut table = table(now);
    for tag in 0..K as u32 {
        answer(&mut table, now, local(6, tag));
    }
    for tag in 8..16 {
        table.on_answer(
            now,
            local(6, tag),
            Dialect::Krpc,
            Duration::from_millis(900),
        );
    }
    let fast = local(6, 16);
    table.on_answer(now, fast, Dialect::Krpc, Duration::from_millis(20));
    assert!(table.spares().any(|spare| spare.contact == fast));
    assert_eq!(table.spares().count(), 8);
    let late = local(6, 17);
    table.on_answer(
        now + minutes(1),
        late,
        Dialect::Krpc,
        Duration::from_millis(900),
    );
    assert!(
        table.get(late.addr).is_none(),
        "of equals the older ones stay"
    );
}

#[test]
fn a_node_that_changes_its_id_is_dropped_and_not_taken_for_some_minutes() {
    let now = Instant::now();
    let mut table = table(now);
    let old = local(4, 1);
    answer(&mut table, now, old);
    let new = Contact {
        id: id_at(9, 2),
        ..old
    };
    assert!(!answer(&mut table, now, new));
    assert!(table.is_empty());
    assert!(!table.wants(now, &new));
    assert!(!answer(&mut table, now + PROBATION / 2, new));
    let newer = Contact {
        id: id_at(8, 3),
        ..old
    };
    assert!(
        !answer(&mut table, now + PROBATION, newer),
        "once more: from the start"
    );
    assert!(!answer(&mut table, now + PROBATION * 3 / 2, newer));
    assert!(table.wants(now + PROBATION * 2, &newer));
    assert!(answer(&mut table, now + PROBATION * 2, newer));
}

#[test]
fn an_id_that_somebody_has_is_not_taken_from_another_address() {
    let now = Instant::now();
    let mut table = table(now);
    answer(&mut table, now, local(4, 1));
    let thief = Contact {
        id: id_at(4, 1),
        addr: local(4, 7).addr,
    };
    assert!(!table.wants(now, &thief));
    assert!(!answer(&mut table, now, thief));
    for _ in 0..BAD_FAILURES {
        table.on_timeout(now, local(4, 1).addr);
    }
    assert!(answer(&mut table, now, thief), "it has moved");
    assert!(table.get(local(4, 1).addr).is_none());
    assert_eq!(table.len(), 1);
}

#[test]
fn one_network_has_one_node_in_a_bucket_and_local_ones_any_number() {
    let now = Instant::now();
    let mut table = table(now);
    for tag in 0..200 {
        assert_eq!(answer(&mut table, now, stray(0, [8, 8, 8], tag)), tag == 0);
        assert!(!table.wants(now, &stray(0, [8, 8, 8], tag)));
    }
    assert!(
        answer(&mut table, now, stray(1, [8, 8, 8], 1)),
        "another bucket"
    );
    assert_eq!((table.len(), table.spares().count()), (2, 0));
    for tag in 0..100 {
        assert!(answer(&mut table, now, local(0, tag)));
    }
}

#[test]
fn a_lawful_id_pushes_out_one_that_is_not_and_never_the_other_way() {
    let now = Instant::now();
    let good = lawful([9, 9, 9, 9], 1, 0x5a);
    let depth = OWN.distance(&good.id).shared_bits() as usize;
    let mut table = table(now);
    for net in 0..places(depth) as u8 {
        assert!(answer(
            &mut table,
            now,
            stray(depth, [20, 20, net], u32::from(net))
        ));
    }
    assert!(table.wants(now, &good));
    assert!(answer(&mut table, now, good));
    assert_eq!((table.len(), table.spares().count()), (places(depth), 1));
    let neighbour = stray(depth, [9, 9, 9], 3);
    assert!(!table.wants(now, &neighbour));
    assert!(!answer(&mut table, now, neighbour));
    assert!(table.get(good.addr).is_some());
}

#[test]
fn a_lawful_id_pushes_out_a_stray_of_its_own_network() {
    let now = Instant::now();
    let good = lawful([9, 9, 9, 9], 1, 0x5a);
    let depth = OWN.distance(&good.id).shared_bits() as usize;
    let mut table = table(now);
    assert!(answer(&mut table, now, stray(depth, [9, 9, 9], 3)));
    assert!(answer(&mut table, now, good));
    assert_eq!((table.len(), table.spares().count()), (1, 0));
}

#[test]
fn impossible_contacts_are_never_taken() {
    let now = Instant::now();
    let mut table = table(now);
    for (id, addr) in [
        (OWN, "1.2.3.4:5"),
        (id_at(0, 1), "1.2.3.4:0"),
        (id_at(0, 1), "0.0.0.0:5"),
        (id_at(0, 1), "224.0.0.1:5"),
        (id_at(0, 1), "[::ffff:1.2.3.4]:5"),
    ] {
        let contact = Contact {
            id,
            addr: addr.parse().unwrap(),
        };
        assert!(!table.wants(now, &contact), "{addr}");
        assert!(!answer(&mut table, now, contact), "{addr}");
    }
    assert!(table.is_empty());
}

#[test]
fn when_everybody_falls_silent_nobody_is_blamed_until_one_answers() {
    let now = Instant::now();
    let mut table = table(now);
    for tag in 0..100 {
        answer(&mut table, now, local(0, tag));
    }
    for round in 0..20 {
        for tag in 0..100 {
            table.on_timeout(now + minutes(round), local(0, tag).addr);
        }
    }
    assert!(table.is_dark());
    assert_eq!(table.len(), 100);
    assert_eq!(
        table.closest(OWN, 200).len(),
        100,
        "none is bad: each failed once at most"
    );
    answer(&mut table, now + minutes(20), local(1, 200));
    assert!(!table.is_dark());
    for tag in 0..12 {
        table.on_timeout(now + minutes(20), local(0, tag).addr);
    }
    assert_eq!(table.closest(OWN, 200).len(), 101 - 12);
}

#[test]
fn a_silent_node_is_pinged_again_with_growing_pauses_and_forgotten_in_the_end() {
    let start = Instant::now();
    let mut table = table(start);
    answer(&mut table, start, local(0, 1));
    let mut pings = Vec::new();
    let mut now = start;
    while let Some(at) = table
        .next_deadline()
        .filter(|&at| at < start + minutes(120))
    {
        assert!(at >= now);
        now = at;
        table.poll_refresh(now);
        if let Some(addr) = table.poll_ping(now) {
            pings.push(now - start);
            // Somebody else answers, so the network is not to blame.
            answer(&mut table, now, local(1, 2));
            if addr == local(0, 1).addr {
                table.on_timeout(now, addr);
            }
        }
        if table.get(local(0, 1).addr).is_none() {
            break;
        }
    }
    assert_eq!(
        pings[..4].iter().map(Duration::as_secs).collect::<Vec<_>>(),
        [900, 915, 945, 1_005]
    );
    assert!(table.get(local(0, 1).addr).is_none());
}

#[test]
fn where_newcomers_wait_the_silent_are_pinged_first() {
    let start = Instant::now();
    let mut table = table(start);
    answer(&mut table, start, local(0, 100));
    for tag in 0..K as u32 + 1 {
        answer(&mut table, start + minutes(1), local(6, tag));
    }
    let now = start + minutes(17);
    assert!(table.wants(now, &local(6, 50)), "some may have gone");
    let first = table.poll_ping(now).unwrap();
    assert!((1..=8).contains(&first.port()), "{first}");
    assert_eq!(table.poll_ping(now), None, "one at a time");
    let mut asked = HashSet::from([first]);
    for step in 1..9 {
        let next = table.poll_ping(now + CHECK_SPACING * step).unwrap();
        assert!(asked.insert(next), "{next} was asked twice");
    }
    assert_eq!(table.poll_ping(now + CHECK_SPACING * 10), None);
}

#[test]
fn each_bucket_that_nobody_came_to_is_refreshed_within_its_range() {
    let start = Instant::now();
    let own = NodeId([0xa5; 20]);
    let mut table = Table::new(start, own, 7);
    for depth in 0..4 {
        let mut id = own;
        id.0[0] ^= 0x80 >> depth;
        answer(
            &mut table,
            start,
            Contact {
                id,
                ..local(0, depth)
            },
        );
    }
    assert_eq!(table.poll_refresh(start), None);
    let mut depths = Vec::new();
    let mut now = start + FRESH;
    while let Some(point) = table.poll_refresh(now) {
        depths.push(own.distance(&point).shared_bits());
        now += REFRESH_SPACING;
    }
    assert_eq!(
        depths,
        [0, 1, 2, 3, 4],
        "and the one beyond, where our neighbours would be"
    );
    assert_eq!(
        table.poll_refresh(start + FRESH * 2 - REFRESH_SPACING),
        None
    );
}

#[test]
fn whoever_settles_next_to_us_does_not_make_us_look_at_every_distance() {
    let start = Instant::now();
    let mut table = table(start);
    answer(&mut table, start, local(0, 0));
    answer(&mut table, start, local(120, 1));
    let mut now = start + FRESH;
    let mut refreshes = 0;
    while table.poll_refresh(now).is_some() {
        refreshes += 1;
        now += REFRESH_SPACING;
    }
    assert_eq!(refreshes, 2);
}

#[test]
fn a_new_id_of_our_own_keeps_all_that_fit() {
    let now = Instant::now();
    let mut random = Random::new(11);
    let mut table = table(now);
    for tag in 0..2_000 {
        answer(
            &mut table,
            now,
            Contact {
                id: NodeId(random.id()),
                ..local(0, tag)
            },
        );
    }
    let before: Vec<_> = table.entries().map(|entry| entry.contact).collect();
    let own = NodeId(random.id());
    table.set_own(now, own);
    assert_eq!(table.own(), own);
    assert!(
        table.len() >= before.len() / 2,
        "{} of {}",
        table.len(),
        before.len()
    );
    check(&table, now);
}

#[test]
fn a_full_table_is_small() {
    let now = Instant::now();
    let mut random = Random::new(3);
    let mut table = table(now);
    for tag in 0..60_000u32 {
        let contact = Contact {
            id: NodeId(random.id()),
            addr: SocketAddr::from(([127, (tag >> 16) as u8, 0, 1], tag as u16 + 1)),
        };
        answer(&mut table, now, contact);
    }
    let held = table.len() + table.spares().count();
    let bytes = held * (size_of::<Entry>() + size_of::<(SocketAddr, NodeId)>());
    eprintln!(
        "{} nodes and {} spares of 60,000: about {bytes} bytes",
        table.len(),
        held - table.len()
    );
    assert!((300..600).contains(&table.len()), "{}", table.len());
    assert!(bytes < 256 << 10, "{bytes}");
}

/// What holds of every table at any time.
fn check(table: &Table, now: Instant) {
    let mut seen = HashSet::new();
    for (depth, bucket) in table.buckets.iter().enumerate() {
        assert!(bucket.entries().len() <= places(depth));
        assert!(bucket.spares().len() <= crate::base::limits::SPARES_PER_BUCKET);
        let all: Vec<_> = bucket.entries().iter().chain(bucket.spares()).collect();
        let mut networks = HashSet::new();
        for entry in &all {
            let Contact { id, addr } = entry.contact;
            assert_eq!(table.depth_of(id), depth);
            assert_eq!(table.ids.get(&addr), Some(&id));
            assert!(seen.insert(addr), "{addr} twice");
            if scope(addr.ip()) == Some(crate::proto::dht::scope::Scope::Global) {
                assert!(
                    networks.insert(Network::of(addr.ip())),
                    "{addr}: its network twice"
                );
            }
        }
        if !bucket.spares().is_empty() {
            assert_eq!(
                bucket.entries().len(),
                places(depth),
                "spares wait beside free places"
            );
            assert!(
                bucket.entries().iter().all(|entry| !entry.is_bad()),
                "spares wait behind a bad node"
            );
        }
    }
    assert_eq!(seen.len(), table.ids.len());
}

#[derive(Clone, Debug)]
enum Step {
    Answer { node: u16, id: u16, millis: u64 },
    Query { node: u16, id: u16 },
    Timeout { node: u16 },
    Wait { seconds: u64 },
    Poll,
    Own { id: u16 },
}

/// Sixty-four nodes in sixteen networks, local ones among them, and few bits that tell ids apart.
fn address(node: u16) -> SocketAddr {
    let [net, host] = [(node % 16) as u8, (node / 16 % 4) as u8];
    let ip = if net < 4 {
        [10, 0, 0, 1]
    } else {
        [30, 0, net, host]
    };
    SocketAddr::from((ip, 1 + node))
}

fn identity_of(id: u16) -> NodeId {
    let mut bytes = [0; 20];
    bytes[..2].copy_from_slice(&(id & 0x1fff).to_be_bytes());
    NodeId(bytes)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..128u16, any::<u16>(), 1..2_000u64).prop_map(|(node, id, millis)| Step::Answer { node, id, millis }),
        4 => (0..128u16, 1..2_000u64).prop_map(|(node, millis)| Step::Answer { node, id: node.wrapping_mul(97), millis }),
        1 => (0..128u16, any::<u16>()).prop_map(|(node, id)| Step::Query { node, id }),
        4 => (0..128u16).prop_map(|node| Step::Timeout { node }),
        2 => (0..2_000u64).prop_map(|seconds| Step::Wait { seconds }),
        2 => Just(Step::Poll),
        1 => any::<u16>().prop_map(|id| Step::Own { id }),
    ]
}

proptest! {
    #[test]
    fn the_rules_hold_whatever_happens(steps in prop::collection::vec(step(), 1..400)) {
        let mut now = Instant::now();
        let mut table = Table::new(now, identity_of(0), 5);
        for step in steps {
            match step {
                Step::Answer { node, id, millis } => {
                    let contact = Contact { id: identity_of(id), addr: address(node) };
                    let placed = table.on_answer(now, contact, Dialect::Krpc, Duration::from_millis(millis));
                    prop_assert_eq!(placed, table.entries().any(|entry| entry.contact == contact));
                }
                Step::Query { node, id } => {
                    let contact = Contact { id: identity_of(id), addr: address(node) };
                    table.on_query(now, &contact, Dialect::Json);
                }
                Step::Timeout { node } => table.on_timeout(now, address(node)),
                Step::Wait { seconds } => now += Duration::from_secs(seconds),
                Step::Poll => {
                    if let Some(addr) = table.poll_ping(now) {
                        prop_assert!(table.get(addr).is_some());
                    }
                    table.poll_refresh(now);
                }
                Step::Own { id } => table.set_own(now, identity_of(id)),
            }
            check(&table, now);
        }
    }

    #[test]
    fn the_closest_are_those_of_a_full_search(seed: u64, nodes in 0..400usize, count in 0..30usize, near: bool) {
        let now = Instant::now();
        let mut random = Random::new(seed);
        let own = NodeId(random.id());
        let mut table = Table::new(now, own, seed);
        for tag in 0..nodes {
            let mut id = NodeId(random.id());
            let shared = random.below(20);
            for bit in 0..shared {
                let (byte, bit) = (bit / 8, 0x80 >> (bit % 8));
                id.0[byte] = id.0[byte] & !bit | own.0[byte] & bit;
            }
            answer(&mut table, now, Contact { id, ..local(0, tag as u32) });
        }
        for tag in (0..nodes).step_by(50) {
            table.on_timeout(now, local(0, tag as u32).addr);
            table.on_timeout(now, local(0, tag as u32).addr);
        }
        let mut target = NodeId(random.id());
        if near {
            target = own;
            target.0[19] ^= random.below(256) as u8;
        }
        let mut expected: Vec<_> = table.entries().filter(|entry| !entry.is_bad()).map(|entry| entry.contact.id).collect();
        expected.sort_by_key(|id| id.distance(&target));
        expected.truncate(count);
        let found: Vec<_> = table.closest(target, count).iter().map(|entry| entry.contact.id).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn a_deadline_is_when_there_is_something_to_do(seed: u64, nodes in 1..60u32) {
        let mut now = Instant::now();
        let mut random = Random::new(seed);
        let mut table = table(now);
        for tag in 0..nodes {
            answer(&mut table, now, Contact { id: NodeId(random.id()), ..local(0, tag) });
        }
        let mut idle = 0;
        for _ in 0..1_000 {
            let at = table.next_deadline().unwrap();
            prop_assert!(at >= now);
            now = at;
            let ping = table.poll_ping(now);
            if let Some(addr) = ping {
                if random.below(3) == 0 {
                    table.on_timeout(now, addr);
                } else {
                    let contact = table.get(addr).unwrap().contact;
                    answer(&mut table, now, contact);
                }
            }
            if ping.is_none() && table.poll_refresh(now).is_none() {
                idle += 1;
            }
        }
        // Only a full bucket of good nodes lets its time pass with nothing to do.
        prop_assert!(idle < 100, "{idle}");
    }

    /// Whoever has one network and any number of ids and ports gets one place of a bucket, among honest nodes that come and go.
    #[test]
    fn one_network_never_gets_more_than_its_share(seed: u64, lawful_attacker: bool) {
        let start = Instant::now();
        let mut random = Random::new(seed);
        let own = NodeId(random.id());
        let mut table = Table::new(start, own, seed);
        let mut honest: Vec<Contact> = Vec::new();
        for round in 0..3_000u32 {
            let now = start + Duration::from_secs(u64::from(round) * 3);
            let ip = IpAddr::from([66, 6, 6, random.below(256) as u8]);
            let id = random.id();
            let id = if lawful_attacker { identity::generate(Some(ip), id) } else { NodeId(id) };
            let port = 1 + random.below(60_000) as u16;
            table.on_answer(now, Contact { id, addr: SocketAddr::new(ip, port) }, Dialect::Krpc, Duration::from_millis(1));
            if round % 3 == 0 {
                let ip = IpAddr::from([100, random.below(60) as u8, random.below(256) as u8, 7]);
                let contact = Contact { id: identity::generate(Some(ip), random.id()), addr: SocketAddr::new(ip, 6_881) };
                answer(&mut table, now, contact);
                honest.push(contact);
            }
            if round % 7 == 0 {
                let victim = honest[random.below(honest.len())];
                table.on_timeout(now, victim.addr);
            }
        }
        for (depth, bucket) in table.buckets.iter().enumerate() {
            let hostile = bucket.entries().iter().filter(|entry| Network::of(entry.contact.addr.ip()) == Network::of([66, 6, 6, 0].into()));
            prop_assert!(hostile.count() <= 1, "bucket {}", depth);
        }
        prop_assert!(table.len() > 200, "the honest ones have the rest: {}", table.len());
    }
}
