use std::collections::HashSet;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn torrent(tag: u32) -> InfoHash {
    let mut bytes = [0; 20];
    bytes[..4].copy_from_slice(&tag.to_be_bytes());
    InfoHash(bytes)
}

/// One of as many hosts of the internet as needed.
fn host(tag: u32, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from((0x1400_0000 + tag).to_be_bytes()), port)
}

fn all(announced: &mut Announced, now: Instant, info_hash: InfoHash) -> HashSet<SocketAddr> {
    let peers = announced.peers(now, info_hash, usize::MAX, false, |_| true);
    peers.into_iter().collect()
}

#[test]
fn an_announce_holds_for_half_an_hour_after_its_last_repetition() {
    let start = Instant::now();
    let mut announced = Announced::new(1);
    announced.insert(start, torrent(1), host(1, 1), false);
    announced.insert(start, torrent(1), host(2, 1), false);
    let again = start + Duration::from_secs(15 * 60);
    announced.insert(again, torrent(1), host(1, 1), false);
    assert_eq!(announced.len(), 2);
    assert_eq!(announced.next_deadline(), Some(start + LIFE));
    let just_before = start + LIFE - Duration::from_nanos(1);
    assert_eq!(all(&mut announced, just_before, torrent(1)).len(), 2);
    assert_eq!(
        all(&mut announced, start + LIFE, torrent(1)),
        HashSet::from([host(1, 1)])
    );
    announced.handle_timeout(again + LIFE);
    assert!(announced.is_empty());
    assert_eq!((announced.torrents(), announced.next_deadline()), (0, None));
}

#[test]
fn a_reply_is_a_random_choice_of_what_fits() {
    let now = Instant::now();
    let mut announced = Announced::new(1);
    for tag in 0..100 {
        announced.insert(now, torrent(1), host(tag, 1), tag % 2 == 0);
    }
    announced.insert(now, torrent(1), "[2600::1]:7".parse().unwrap(), false);
    let mut told = HashSet::new();
    for _ in 0..100 {
        let peers = announced.peers(now, torrent(1), 10, true, |addr| addr.is_ipv4());
        assert_eq!(peers.iter().collect::<HashSet<_>>().len(), 10);
        told.extend(peers);
    }
    assert_eq!(
        told.len(),
        50,
        "every leecher of the family had its turn, and no seed"
    );
    assert_eq!(announced.peers(now, torrent(2), 10, false, |_| true), []);
}

#[test]
fn a_leecher_that_announces_as_a_seed_becomes_one() {
    let now = Instant::now();
    let mut announced = Announced::new(1);
    announced.insert(now, torrent(1), host(1, 1), false);
    announced.insert(now, torrent(1), host(1, 1), true);
    assert_eq!(announced.len(), 1);
    assert_eq!(announced.peers(now, torrent(1), 9, true, |_| true), []);
}

#[test]
fn a_scrape_counts_hosts_and_a_torrent_that_nobody_has_has_none() {
    let now = Instant::now();
    let mut announced = Announced::new(1);
    assert_eq!(announced.scrape(now, torrent(1)), None);
    for tag in 0..40 {
        announced.insert(now, torrent(1), host(tag, 1), tag < 10);
        announced.insert(now, torrent(1), host(tag, 2), tag < 10);
    }
    let scrape = announced.scrape(now, torrent(1)).unwrap();
    let estimate = |bytes| Filter::from(bytes).estimate().round();
    assert_eq!(
        (estimate(scrape.seeds), estimate(scrape.leechers)),
        (10.0, 30.0)
    );
    assert_eq!(announced.scrape(now + LIFE, torrent(1)), None);
}

#[test]
fn a_sample_stays_the_same_until_its_interval_is_over() {
    let now = Instant::now();
    let mut announced = Announced::new(1);
    for tag in 0..100 {
        announced.insert(now, torrent(tag), host(tag, 1), false);
    }
    let first = announced.sample(now);
    assert_eq!((first.total, first.hashes.len()), (100, SAMPLES_MAX));
    assert_eq!(u64::from(first.interval), SAMPLE_INTERVAL.as_secs());
    let later = now + SAMPLE_INTERVAL / 2;
    let second = announced.sample(later);
    assert_eq!(second.hashes, first.hashes);
    let next = later + Duration::from_secs(u64::from(second.interval));
    assert_ne!(announced.sample(next).hashes, first.hashes);
    assert_eq!(announced.sample(now + LIFE).hashes, []);
}

#[test]
fn addresses_where_no_peer_can_be_are_left_out() {
    let now = Instant::now();
    let mut announced = Announced::new(1);
    for addr in [
        "1.2.3.4:0",
        "0.0.0.0:1",
        "224.0.0.1:1",
        "[::]:1",
        "[::ffff:1.2.3.4]:1",
    ] {
        announced.insert(now, torrent(1), addr.parse().unwrap(), false);
    }
    assert!(announced.is_empty());
}

#[test]
fn some_peers_behind_one_address_are_remembered_and_the_latest_of_more() {
    let now = Instant::now();
    let mut announced = Announced::new(1);
    for port in 1..=10 {
        announced.insert(now, torrent(1), host(1, port), false);
    }
    let expected = (7..=10).map(|port| host(1, port)).collect();
    assert_eq!(all(&mut announced, now, torrent(1)), expected);
    for port in 1..=10 {
        announced.insert(
            now,
            torrent(1),
            SocketAddr::from(([127, 0, 0, 1], port)),
            false,
        );
    }
    assert_eq!(announced.len(), 4 + 10, "local peers share addresses");
}

#[test]
fn one_host_pushes_out_nobody_but_itself() {
    let now = Instant::now();
    let mut announced = Announced::new(1);
    for tag in 0..50 {
        announced.insert(now, torrent(tag), host(tag, 1), false);
    }
    for flood in 0..10_000 {
        announced.insert(now, torrent(flood), host(1_000, 1), false);
    }
    assert_eq!(announced.len(), 50 + ANNOUNCED_PER_SOURCE_MAX);
    for tag in 0..50 {
        assert!(all(&mut announced, now, torrent(tag)).contains(&host(tag, 1)));
    }
    assert!(
        all(&mut announced, now, torrent(9_999)).contains(&host(1_000, 1)),
        "the latest count"
    );
}

#[test]
fn a_hundred_hosts_together_push_out_nobody_else() {
    let now = Instant::now();
    let mut announced = Announced::new(1);
    announced.insert(now, torrent(0), host(0, 1), false);
    for flood in 1..=10_000 {
        announced.insert(now, torrent(flood), host(flood / 100, 1), false);
    }
    assert_eq!(all(&mut announced, now, torrent(0)).len(), 1);
}

#[test]
fn an_ipv6_site_is_one_host() {
    let now = Instant::now();
    let mut announced = Announced::new(1);
    for tag in 0..1_000u16 {
        let addr = SocketAddr::from(([0x2600, 1, 2, tag, 0, 0, 0, tag], 1));
        announced.insert(now, torrent(u32::from(tag)), addr, false);
    }
    assert_eq!(announced.len(), ANNOUNCED_PER_SOURCE_MAX);
}

#[test]
fn each_bound_holds_in_a_flood_from_everywhere() {
    let now = Instant::now();
    let mut announced = Announced::new(1);
    for tag in 0..2 * ANNOUNCED_PER_TORRENT_MAX as u32 {
        announced.insert(now, torrent(0), host(tag, 1), false);
    }
    assert_eq!(announced.len(), ANNOUNCED_PER_TORRENT_MAX);
    for tag in 0..2 * ANNOUNCED_MAX as u32 {
        announced.insert(now, torrent(tag), host(tag, 1), false);
    }
    assert_eq!(announced.len(), ANNOUNCED_MAX);
    assert_eq!(announced.torrents(), ANNOUNCED_MAX);
    for tag in 0..2 * ANNOUNCED_MAX as u32 {
        announced.insert(now, torrent(tag % 100), host(tag, 1), false);
    }
    assert_eq!(announced.len(), ANNOUNCED_MAX);
    let sizes =
        size_of::<Peer>() + size_of::<(Turn, Announce)>() + size_of::<(Source, BTreeSet<Turn>)>();
    eprintln!(
        "{ANNOUNCED_MAX} announces: about {} bytes",
        ANNOUNCED_MAX * (sizes + size_of::<Turn>() * 11)
    );
    announced.handle_timeout(now + LIFE);
    assert!(announced.by_source.is_empty() && announced.torrents.is_empty());
}

/// What holds whatever was announced.
fn check(announced: &Announced) {
    let peers: usize = announced.torrents.values().map(Vec::len).sum();
    let turns: usize = announced.by_source.values().map(BTreeSet::len).sum();
    assert_eq!(
        (peers, turns),
        (announced.order.len(), announced.order.len())
    );
    for (info_hash, peers) in &announced.torrents {
        assert!(!peers.is_empty());
        assert!(peers.is_sorted_by(|a, b| a.turn < b.turn));
        for peer in peers {
            let announce = announced.order[&peer.turn];
            assert_eq!((announce.info_hash, announce.addr), (*info_hash, peer.addr));
            assert!(announced.by_source[&Source::site(peer.addr)].contains(&peer.turn));
        }
    }
    assert!(
        announced
            .by_source
            .values()
            .all(|turns| (1..=ANNOUNCED_PER_SOURCE_MAX).contains(&turns.len()))
    );
    let expiries = announced.order.values().map(|announce| announce.expires);
    assert!(expiries.is_sorted());
}

proptest! {
    #[test]
    fn the_books_agree_whatever_is_announced(
        steps in prop::collection::vec((0..40u32, 0..30u32, 1..8u16, any::<bool>(), 0..300u64), 1..500),
    ) {
        let mut now = Instant::now();
        let mut announced = Announced::new(1);
        for (tag, from, port, seed, seconds) in steps {
            let addr = if from < 3 { SocketAddr::from(([10, 0, 0, 1], port)) } else { host(from, port) };
            announced.insert(now, torrent(tag), addr, seed);
            prop_assert!(all(&mut announced, now, torrent(tag)).contains(&addr));
            check(&announced);
            if seconds > 250 {
                now += Duration::from_secs(seconds);
            }
        }
    }
}
