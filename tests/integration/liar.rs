//! A seeder that corrupts what it sends is found out and left; those who are honest are not.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use crate::common::payload::{self, MIB};
use crate::common::seedbank;
use crate::common::wire::{Liar, one_file};
use crate::common::{World, payload::Random, wait};

#[test]
fn one_wrong_block_in_a_hundred_gets_a_seeder_banned_and_nobody_else() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "truth.bin", 48 * MIB, 31);
    let seed = Random::of_this_run("liar").next();
    let liar = Liar::start(&torrent, 100, seed, 16 * MIB);
    let folder = torrent.payload.parent().unwrap();
    let honest = ["one", "two"].map(|name| {
        seedbank::seed(&torrent.path, folder, &world.path(name))
            .flag("--max-up", "4MiB")
            .spawn()
    });
    let mut peers = vec![liar.addr()];
    peers.extend(honest.iter().map(|seeder| seeder.ready(1)));
    let dest = world.dir("dest");
    let getter = seedbank::get(&torrent.path, &dest, &world.path("getter"))
        .peers(&peers)
        .flag("--keep", "forever")
        .spawn();
    getter.wait_for("complete", wait::TRANSFER, |_| true);
    payload::assert_same(&torrent.payload, &dest.join(torrent.name()));

    let told = liar.told();
    let (lies, blocks) = (
        told.lies.load(Ordering::SeqCst),
        told.blocks.load(Ordering::SeqCst),
    );
    assert!(lies > 0, "{blocks} blocks were sent and all were right");
    // Once it has everything it may well leave other seeders: what counts is what came before.
    let mut events = getter.events();
    let last_piece = events.iter().rposition(|event| event["event"] == "have");
    events.truncate(last_piece.unwrap() + 1);
    let last = |name: &str, peer: SocketAddr| {
        let peer = peer.to_string();
        events
            .iter()
            .rposition(|event| event["event"] == name && event["peer"] == peer)
    };

    let failed = events
        .iter()
        .filter(|event| event["event"] == "hash_failed");
    let mut found_out = 0;
    for event in failed {
        let named = event["peers"].as_array().unwrap();
        let liar = liar.addr().to_string();
        assert!(named.iter().any(|peer| *peer == liar), "{event}");
        found_out += 1;
    }
    assert!(found_out > 0);
    let banned = last("left_peer", liar.addr());
    assert!(
        banned.is_some(),
        "the liar is still there after {lies} lies in {blocks} blocks"
    );
    assert_eq!(
        told.connections.load(Ordering::SeqCst),
        1,
        "the liar was met again"
    );
    for &honest in &peers[1..] {
        assert!(last("left_peer", honest).is_none(), "{honest} was left");
        assert!(
            last("have", honest) > banned,
            "{honest} was not used to the end"
        );
    }
}
