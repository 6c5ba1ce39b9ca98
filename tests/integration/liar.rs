//! A seeder that corrupts what it sends is found out and left; those who are honest are not.

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
    peers.extend(honest.iter().map(seedbank::Seedbank::addr));
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
    let failed = getter.all("hash_failed");
    let liar_name = liar.addr().to_string();
    assert!(!failed.is_empty());
    for event in &failed {
        let named = event["peers"].as_array().unwrap();
        assert!(named.iter().any(|peer| *peer == liar_name), "{event}");
    }
    assert!(
        getter
            .all("left_peer")
            .iter()
            .any(|event| event["peer"] == liar_name),
        "the liar is still there after {lies} lies in {blocks} blocks"
    );
    assert_eq!(
        told.connections.load(Ordering::SeqCst),
        1,
        "the liar was met again"
    );
    for peer in &peers[1..] {
        let peer = peer.to_string();
        assert!(
            getter
                .all("left_peer")
                .iter()
                .all(|event| event["peer"] != peer),
            "an honest seeder was left"
        );
        assert!(
            getter.all("have").iter().any(|event| event["peer"] == peer),
            "an honest seeder was not used"
        );
    }
    let last_lie = position(&getter, "left_peer", &liar_name);
    for peer in &peers[1..] {
        let last_have = position(&getter, "have", &peer.to_string());
        assert!(last_have > last_lie, "{peer} was not used to the end");
    }
}

/// Where in the order of events the last one called `name` stands that is about `peer`.
fn position(of: &seedbank::Seedbank, name: &str, peer: &str) -> Option<usize> {
    let events = of.events();
    events
        .iter()
        .rposition(|event| event["event"] == name && event["peer"] == peer)
}
