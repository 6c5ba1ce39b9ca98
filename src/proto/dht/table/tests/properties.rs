//! What holds of every table, whatever happens.

use std::collections::HashSet;
use std::net::IpAddr;

use proptest::prelude::*;

use super::super::*;
use super::{OWN, answer, crowded, id_at, local};
use crate::base::limits::SPARES_PER_BUCKET;
use crate::proto::dht::bucket::places;
use crate::proto::dht::identity;
use crate::proto::dht::scope::{Network, Scope};

/// What holds of every table at any time.
pub(super) fn check(table: &Table) {
    let mut seen = HashSet::new();
    for (depth, bucket) in table.buckets.iter().enumerate() {
        assert!(bucket.entries().len() <= places(depth));
        assert!(bucket.spares().len() <= SPARES_PER_BUCKET);
        let all: Vec<_> = bucket.entries().iter().chain(bucket.spares()).collect();
        let mut networks = HashSet::new();
        for entry in &all {
            let Contact { id, addr } = entry.contact;
            assert_eq!(table.index_of(id), depth);
            assert_eq!(table.ids.get(&addr), Some(&id));
            assert!(seen.insert(addr), "{addr} twice");
            if scope(addr.ip()) == Some(Scope::Global) {
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

/// Addresses in twelve networks of the internet, and in a local one.
fn address(node: u16) -> SocketAddr {
    let [net, host] = [(node % 16) as u8, (node / 16 % 4) as u8];
    let ip = if net < 4 {
        [10, 0, 0, 1]
    } else {
        [30, 0, net, host]
    };
    SocketAddr::from((ip, 1 + node))
}

/// Ids at four distances, where buckets are small, so that many meet there.
fn identity_of(id: u16) -> NodeId {
    id_at(4 + usize::from(id % 4), u32::from(id / 4 % 64))
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
        let mut table = crowded(now);
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
                Step::Timeout { node } => table.on_timeout(now, now, address(node)),
                Step::Wait { seconds } => now += Duration::from_secs(seconds),
                Step::Poll => {
                    if let Some(addr) = table.poll_ping(now) {
                        prop_assert!(table.get(addr).is_some());
                    }
                    table.poll_refresh(now);
                }
                Step::Own { id } => table.set_own(now, identity_of(id)),
            }
            check(&table);
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
            table.on_timeout(now, now, local(0, tag as u32).addr);
            table.on_timeout(now, now, local(0, tag as u32).addr);
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
        let mut table = Table::new(now, OWN, 1);
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
                    table.on_timeout(now, now, addr);
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
                table.on_timeout(now, now, victim.addr);
            }
        }
        for (depth, bucket) in table.buckets.iter().enumerate() {
            let hostile = bucket.entries().iter().filter(|entry| Network::of(entry.contact.addr.ip()) == Network::of([66, 6, 6, 0].into()));
            prop_assert!(hostile.count() <= 1, "bucket {}", depth);
        }
        prop_assert!(table.len() > 200, "the honest ones have the rest: {}", table.len());
    }
}
