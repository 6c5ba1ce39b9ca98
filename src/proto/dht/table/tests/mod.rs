mod properties;

use std::collections::HashSet;
use std::net::IpAddr;

use super::*;
use crate::proto::dht::bucket::places;
use crate::proto::dht::entry::{BAD_FAILURES, FRESH};
use crate::proto::dht::identity;
use crate::proto::dht::lookup::K;
use crate::proto::dht::shunned::PROBATION;
use properties::check;

pub(super) const OWN: NodeId = NodeId([0; 20]);
const RTT: Duration = Duration::from_millis(50);

/// An id that shares `depth` bits with ours and is told from others by `tag`.
pub(super) fn id_at(depth: usize, tag: u32) -> NodeId {
    let mut id = [0; 20];
    id[depth / 8] = 0x80 >> (depth % 8);
    id[16..].copy_from_slice(&tag.to_be_bytes());
    NodeId(id)
}

/// A node on this machine.
pub(super) fn local(depth: usize, tag: u32) -> Contact {
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

/// A table that knows so many nodes close to us that all distances up to 30 bits have a bucket to themselves, without anybody
/// at those.
pub(super) fn crowded(now: Instant) -> Table {
    let mut table = table(now);
    for tag in 40_000..40_129 {
        answer(&mut table, now, local(30, tag));
    }
    assert!(table.buckets.len() > 31);
    table
}

/// How many have a place and how many wait for one in a bucket.
fn at(table: &Table, depth: usize) -> (usize, usize) {
    let bucket = &table.buckets[depth];
    (bucket.entries().len(), bucket.spares().len())
}

pub(super) fn answer(table: &mut Table, now: Instant, contact: Contact) -> bool {
    table.on_answer(now, contact, Dialect::Krpc, RTT)
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(n * 60)
}

#[test]
fn a_full_bucket_keeps_its_old_nodes_and_newcomers_wait() {
    let now = Instant::now();
    let mut table = crowded(now);
    for tag in 0..100 {
        let placed = answer(&mut table, now, local(6, tag));
        assert_eq!(placed, tag < K as u32);
    }
    assert_eq!(at(&table, 6), (K, 8));
    assert!(
        table.buckets[6]
            .entries()
            .iter()
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
    let entry = table.get(contact.addr).unwrap();
    assert!(entry.is_heard_in(Dialect::Json));
    assert!(
        !entry.dialects.contains(Dialect::Json),
        "anybody may have written that query"
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
    let mut table = crowded(now);
    for tag in 0..K as u32 + 1 {
        answer(&mut table, now, local(6, tag));
    }
    for _ in 0..BAD_FAILURES {
        table.on_timeout(now, now, local(6, 0).addr);
    }
    assert!(table.get(local(6, 0).addr).is_none());
    assert_eq!(at(&table, 6), (K, 0));
    for _ in 0..BAD_FAILURES {
        table.on_timeout(now, now, local(6, 1).addr);
    }
    assert_eq!(at(&table, 6), (K, 0), "nobody waits");
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
    let mut table = crowded(now);
    for tag in 0..K as u32 + 1 {
        answer(&mut table, now, local(6, tag));
    }
    table.on_timeout(now, now, local(6, 8).addr);
    assert_eq!(at(&table, 6), (K, 0));
}

#[test]
fn faster_nodes_are_the_first_to_get_a_place_and_slow_ones_the_first_to_stop_waiting() {
    let now = Instant::now();
    let mut table = crowded(now);
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
    assert_eq!(at(&table, 6), (K, 8));
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
        table.on_timeout(now, now, local(4, 1).addr);
    }
    assert!(answer(&mut table, now, thief), "it has moved");
    assert!(table.get(local(4, 1).addr).is_none());
    assert_eq!(table.len(), 1);
}

#[test]
fn one_network_has_one_node_in_a_bucket_and_local_ones_any_number() {
    let now = Instant::now();
    let mut table = crowded(now);
    for tag in 0..200 {
        assert_eq!(answer(&mut table, now, stray(0, [8, 8, 8], tag)), tag == 0);
        assert!(!table.wants(now, &stray(0, [8, 8, 8], tag)));
    }
    assert!(
        answer(&mut table, now, stray(1, [8, 8, 8], 1)),
        "another bucket"
    );
    assert_eq!((at(&table, 0), at(&table, 1)), ((1, 0), (1, 0)));
    for tag in 0..100 {
        assert!(answer(&mut table, now, local(0, tag)));
    }
}

#[test]
fn a_lawful_id_pushes_out_one_that_is_not_and_never_the_other_way() {
    let now = Instant::now();
    let good = lawful([9, 9, 9, 9], 1, 0x5a);
    let depth = OWN.distance(&good.id).shared_bits() as usize;
    let mut table = crowded(now);
    for net in 0..places(depth) as u8 {
        assert!(answer(
            &mut table,
            now,
            stray(depth, [20, 20, net], u32::from(net))
        ));
    }
    assert!(table.wants(now, &good));
    assert!(answer(&mut table, now, good));
    assert_eq!(at(&table, depth), (places(depth), 1));
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
fn one_outage_is_one_failure_however_many_queries_it_swallowed() {
    let start = Instant::now();
    let mut table = table(start);
    answer(&mut table, start, local(0, 1));
    let addr = local(0, 1).addr;
    let second = Duration::from_secs(1);
    for late in 0..5 {
        let sent = start + second + late * Duration::from_millis(100);
        table.on_timeout(sent + 5 * second, sent, addr);
    }
    assert_eq!(table.get(addr).unwrap().failures, 1);
    let again = start + 10 * second;
    table.on_timeout(again + second, again, addr);
    assert!(table.get(addr).unwrap().is_bad(), "asked after the first");
}

#[test]
fn a_node_that_answered_later_is_not_blamed_for_a_query_that_was_lost() {
    let start = Instant::now();
    let mut table = table(start);
    let second = Duration::from_secs(1);
    for _ in 0..2 {
        answer(&mut table, start + second, local(0, 1));
        table.on_timeout(start + 5 * second, start, local(0, 1).addr);
    }
    assert_eq!(table.get(local(0, 1).addr).unwrap().failures, 0);
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
            table.on_timeout(
                now + minutes(round),
                now + minutes(round),
                local(0, tag).addr,
            );
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
        table.on_timeout(now + minutes(20), now + minutes(20), local(0, tag).addr);
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
                table.on_timeout(now, now, addr);
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
    let mut table = crowded(start);
    answer(&mut table, start, local(0, 100));
    for tag in 0..K as u32 + 1 {
        answer(&mut table, start + minutes(1), local(6, tag));
    }
    for tag in 40_000..40_129 {
        table.on_query(start + minutes(10), &local(30, tag), Dialect::Krpc);
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
    let mut table = crowded(start);
    assert_eq!(table.poll_refresh(start), None);
    let mut depths = Vec::new();
    let mut now = start + FRESH;
    while let Some(point) = table.poll_refresh(now) {
        depths.push(OWN.distance(&point).shared_bits() as usize);
        now += REFRESH_SPACING;
    }
    let last = table.buckets.len() - 1;
    assert_eq!(depths.len(), last + 1);
    assert_eq!(depths[..last], (0..last).collect::<Vec<_>>());
    assert!(depths[last] >= last);
    assert_eq!(
        table.poll_refresh(start + FRESH * 2 - REFRESH_SPACING),
        None
    );
}

#[test]
fn whoever_makes_up_ids_close_to_ours_gets_no_more_places_than_far_from_us() {
    let now = Instant::now();
    let mut random = Random::new(21);
    let own = NodeId(random.id());
    let mut table = Table::new(now, own, 1);
    let attack = |table: &mut Table| {
        for depth in 0..160 {
            let mut id = own;
            id.0[depth / 8] ^= 0x80 >> (depth % 8);
            let addr = SocketAddr::from(([66, 6, 6, depth as u8], 1));
            answer(table, now, Contact { id, addr });
        }
    };
    attack(&mut table);
    assert_eq!(table.len(), 1);
    for tag in 0..4_000u32 {
        let ip = IpAddr::from([100, (tag >> 8) as u8, tag as u8, 7]);
        let id = NodeId(random.id());
        answer(
            &mut table,
            now,
            Contact {
                id,
                addr: SocketAddr::new(ip, 1),
            },
        );
    }
    attack(&mut table);
    let closest = table.closest(own, K);
    assert_eq!(closest.len(), K);
    let hostile = closest
        .iter()
        .filter(|entry| entry.contact.addr.ip().to_string().starts_with("66."));
    assert!(
        hostile.count() <= 2,
        "one in the last bucket, one in that before it"
    );
    check(&table);
}

#[test]
fn a_small_network_fits_whole() {
    let now = Instant::now();
    let mut random = Random::new(2);
    let mut table = table(now);
    for tag in 0..128 {
        let contact = Contact {
            id: NodeId(random.id()),
            ..local(0, tag)
        };
        assert!(answer(&mut table, now, contact));
    }
    assert_eq!((table.len(), table.buckets.len()), (128, 1));
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
    check(&table);
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
