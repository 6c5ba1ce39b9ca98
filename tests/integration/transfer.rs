//! From those who have to those who want.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::common::metainfo::Torrent;
use crate::common::payload::{self, MIB};
use crate::common::seedbank::{self, Seedbank, number};
use crate::common::wire::one_file;
use crate::common::{World, wait};

/// A running seeder of `torrent`, where its payload lies.
pub(crate) fn seeder(torrent: &Torrent, state: &Path) -> (Seedbank, SocketAddr) {
    let folder = torrent.payload.parent().unwrap();
    let seeder = seedbank::seed(&torrent.path, folder, state).spawn();
    let addr = seeder.addr();
    (seeder, addr)
}

/// Gets `torrent` from a fresh seeder into a fresh folder; the events of the leecher are looked at.
fn transfer(world: &World, torrent: &Torrent) {
    let (_seeder, addr) = seeder(torrent, &world.path("seeder"));
    let dest = world.dir("dest");
    let mut getter = seedbank::get(&torrent.path, &dest, &world.path("getter"))
        .peer(addr)
        .spawn();
    getter.succeed();
    payload::assert_same(&torrent.payload, &dest.join(torrent.name()));
    check_events(&getter, torrent, addr);
}

fn check_events(getter: &Seedbank, torrent: &Torrent, seeder: SocketAddr) {
    let pieces = u64::from(torrent.pieces);
    let resume = getter.last("resume");
    assert_eq!(number(&resume, "missing"), pieces);
    assert_eq!(number(&resume, "trusted"), 0);
    let haves = getter.all("have");
    let mut seen: Vec<u64> = haves.iter().map(|have| number(have, "piece")).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..pieces).collect::<Vec<_>>(), "one `have` a piece");
    let counted: Vec<u64> = haves.iter().map(|have| number(have, "verified")).collect();
    assert_eq!(counted, (1..=pieces).collect::<Vec<_>>());
    for have in &haves {
        assert_eq!(have["peer"], seeder.to_string(), "{have}");
        assert_eq!(have["info_hash"], torrent.hex(), "{have}");
    }
    assert_eq!(number(&getter.last("durable"), "pieces"), pieces);
    let complete = getter.last("complete");
    assert_eq!(complete["name"], torrent.name());
    assert_eq!(number(&complete, "bytes"), torrent.len);
    assert_eq!(number(&complete, "downloaded"), torrent.len);
    assert_eq!(number(&complete, "wasted"), 0);
    assert!(getter.all("hash_failed").is_empty());
    assert!(getter.all("error").is_empty());
}

#[test]
fn a_file_arrives_whole_and_every_event_is_told_once() {
    let world = World::new();
    let torrent = one_file(
        &world.dir("payload"),
        "file with spaces.bin",
        16 * MIB + 777,
        1,
    );
    transfer(&world, &torrent);
}

#[test]
fn a_folder_arrives_with_its_empty_files_and_strange_names() {
    let world = World::new();
    let folder = payload::numbers(&world.dir("payload"));
    let torrent = Torrent::of(&folder, 32 * 1024, &world.path("meta"));
    transfer(&world, &torrent);
}

#[test]
fn one_byte_arrives() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "byte", 1, 2);
    transfer(&world, &torrent);
}

#[test]
fn a_payload_of_whole_pieces_arrives() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "whole", 4 * MIB, 3);
    transfer(&world, &torrent);
}

#[test]
fn one_process_gets_two_torrents_at_once_from_one_that_seeds_both() {
    let world = World::new();
    let folder = world.dir("payload");
    let one = one_file(&folder, "one", 6 * MIB + 1, 4);
    let two = one_file(&folder, "two", 9 * MIB + 2, 5);
    let both = [one.path.as_path(), two.path.as_path()];
    let seeder = seedbank::seed_all(&both, &folder, &world.path("seeder")).spawn();
    let dest = world.dir("dest");
    let mut getter = seedbank::get_all(&both, &dest, &world.path("getter"))
        .peer(seeder.addr())
        .spawn();
    getter.succeed();
    for torrent in [&one, &two] {
        payload::assert_same(&torrent.payload, &dest.join(torrent.name()));
    }
    assert_eq!(getter.all("complete").len(), 2);
}

#[test]
fn leechers_trade_among_themselves() {
    const LEECHERS: u64 = 4;
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "swarm", 16 * MIB, 6);
    // Slow enough that all of them are there before the first is done.
    let mut source = seedbank::seed(
        &torrent.path,
        torrent.payload.parent().unwrap(),
        &world.path("seeder"),
    )
    .flag("--max-up", "4MiB")
    .spawn();
    let mut known = vec![source.addr()];
    let mut leechers = Vec::new();
    for number in 0..LEECHERS {
        let name = format!("leecher-{number}");
        let leecher = seedbank::get(
            &torrent.path,
            &world.dir(&name),
            &world.path(&format!("{name}-state")),
        )
        .peers(&known)
        .flag("--keep", "forever")
        .spawn();
        known.push(leecher.addr());
        leechers.push((name, leecher));
    }
    for (name, leecher) in &leechers {
        leecher.wait_for("complete", wait::TRANSFER, |_| true);
        payload::assert_same(&torrent.payload, &world.path(name).join(torrent.name()));
    }
    for (_, leecher) in &mut leechers {
        assert_eq!(leecher.stop(Duration::from_secs(5)), Some(0));
    }
    assert_eq!(source.stop(Duration::from_secs(5)), Some(0));
    let sent: u64 = source
        .all("left_peer")
        .iter()
        .map(|event| number(event, "uploaded"))
        .sum();
    assert!(
        sent < torrent.len * (LEECHERS - 1),
        "the seeder sent {sent} bytes to {LEECHERS} leechers of {} bytes",
        torrent.len
    );
}

#[test]
fn who_got_it_and_keeps_it_is_a_seeder_too() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "relay", 5 * MIB, 7);
    let (mut first, addr) = seeder(&torrent, &world.path("first"));
    let second = seedbank::get(
        &torrent.path,
        &world.dir("second"),
        &world.path("second-state"),
    )
    .peer(addr)
    .flag("--keep", "forever")
    .spawn();
    second.wait_for("complete", wait::TRANSFER, |_| true);
    assert_eq!(first.stop(Duration::from_secs(5)), Some(0));
    let mut third = seedbank::get(
        &torrent.path,
        &world.dir("third"),
        &world.path("third-state"),
    )
    .peer(second.addr())
    .spawn();
    third.succeed();
    payload::assert_same(&torrent.payload, &world.path("third").join(torrent.name()));
}

#[test]
fn ctrl_c_stops_a_download_in_order_and_the_same_command_finishes_it() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "stopped", 8 * MIB, 8);
    let (_seeder, addr) = seeder(&torrent, &world.path("seeder"));
    let dest = world.dir("dest");
    let run = || seedbank::get(&torrent.path, &dest, &world.path("getter")).peer(addr);
    let mut getter = run().flag("--max-down", "2MiB").spawn();
    getter.wait_for("have", wait::SOON, |have| number(have, "verified") >= 4);
    assert_eq!(getter.stop(Duration::from_secs(4)), Some(7), "unfinished");
    let verified = number(&getter.last("have"), "verified");

    let mut again = run().spawn();
    again.succeed();
    payload::assert_same(&torrent.payload, &dest.join(torrent.name()));
    let resume = again.last("resume");
    assert_eq!(resume["clean"], true, "{resume}");
    assert_eq!(number(&resume, "rechecked"), 0, "{resume}");
    assert!(number(&resume, "trusted") >= verified, "{resume}");
    let downloaded = number(&again.last("complete"), "downloaded");
    let missing = torrent.len - verified * u64::from(torrent.piece_len);
    assert!(downloaded <= missing, "{downloaded} of {missing} missing");
}

#[test]
fn a_rate_limit_holds() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "slow", 6 * MIB, 9);
    let (_seeder, addr) = seeder(&torrent, &world.path("seeder"));
    let mut getter = seedbank::get(&torrent.path, &world.dir("dest"), &world.path("getter"))
        .peer(addr)
        .flag("--max-down", "2MiB")
        .spawn();
    getter.succeed();
    // 3 s at the rate; a burst of up to a second is allowed for.
    let seconds = getter.last("complete")["seconds"].as_f64().unwrap();
    assert!((1.9..10.0).contains(&seconds), "{seconds}");
}
