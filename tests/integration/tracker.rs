//! What a tracker (BEP 3, 12, 23) hears from us, and what we make of it.

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::metainfo::Torrent;
use crate::common::payload::{self, MIB};
use crate::common::seedbank::{self, LOOPBACK};
use crate::common::tracker::{Announce, Tracker};
use crate::common::wire::one_file;
use crate::common::{World, wait};

fn tracked(world: &World, torrent: &Torrent, tiers: &[Vec<String>]) -> PathBuf {
    let path = world.path("tracked.torrent");
    torrent.tracked(&path, tiers);
    path
}

fn of(announces: &[Announce], port: u16) -> Vec<Announce> {
    let mut mine = announces.to_vec();
    mine.retain(|announce| announce.peer.port() == port);
    mine
}

#[test]
fn peers_find_each_other_and_the_tracker_hears_started_completed_and_stopped() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "announced.bin", 3 * MIB, 1);
    let tracker = Tracker::start(LOOPBACK, 1);
    let source = tracked(&world, &torrent, &[vec![tracker.url()]]);
    let folder = torrent.payload.parent().unwrap();
    let mut seeder = seedbank::seed(&source, folder, &world.path("seeder")).spawn();
    let seeder_port = seeder.addr().port();
    tracker.wait_for("the seeder announces itself", wait::SOON, |announce| {
        announce.peer.port() == seeder_port
    });
    let dest = world.dir("dest");
    let mut getter = seedbank::get(&source, &dest, &world.path("getter")).spawn();
    let getter_port = getter.addr().port();
    getter.succeed();
    payload::assert_same(&torrent.payload, &dest.join(torrent.name()));
    assert_eq!(seeder.stop(Duration::from_secs(5)), Some(0));

    let all = tracker.announces();
    let seeds = of(&all, seeder_port);
    assert_eq!(seeds[0].event, "started");
    assert_eq!(seeds[0].left, 0);
    assert!(seeds.iter().all(|announce| announce.event != "completed"));
    assert_eq!(seeds.last().unwrap().event, "stopped");

    let gets = of(&all, getter_port);
    assert_eq!(gets[0].event, "started");
    assert_eq!((gets[0].left, gets[0].downloaded), (torrent.len, 0));
    let completed: Vec<_> = gets
        .iter()
        .filter(|announce| announce.event == "completed")
        .collect();
    assert_eq!(completed.len(), 1);
    assert_eq!(
        (completed[0].left, completed[0].downloaded),
        (0, torrent.len)
    );
    assert_eq!(gets.last().unwrap().event, "stopped");
    for announce in all {
        assert_eq!(announce.info_hash, torrent.info_hash);
        assert_eq!(announce.peer_id.len(), 20);
        assert!(announce.query.contains("compact=1"), "{}", announce.query);
    }
    assert!(
        gets.iter()
            .all(|announce| announce.peer_id == gets[0].peer_id)
    );
    assert_ne!(gets[0].peer_id, seeds[0].peer_id);
}

#[test]
fn a_tracker_that_is_gone_and_one_that_refuses_lead_to_the_next_tier() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "tiers.bin", MIB, 2);
    let gone = {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        format!("http://{}/announce", listener.local_addr().unwrap())
    };
    let refusing = Tracker::start(LOOPBACK, 1);
    refusing.refuse();
    let good = Tracker::start(LOOPBACK, 1);
    let (_seeder, addr) = crate::transfer::seeder(&torrent, &world.path("seeder"));
    good.give(addr);
    let tiers = [vec![gone], vec![refusing.url()], vec![good.url()]];
    let source = tracked(&world, &torrent, &tiers);
    let dest = world.dir("dest");
    let mut getter = seedbank::get(&source, &dest, &world.path("getter")).spawn();
    getter.succeed();
    payload::assert_same(&torrent.payload, &dest.join(torrent.name()));
    assert!(!refusing.announces().is_empty());
    assert_eq!(good.announces()[0].event, "started");
}

#[test]
fn a_tracker_that_never_answers_holds_nothing_up() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "mute.bin", MIB, 3);
    let mute = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let url = format!("http://{}/announce", mute.local_addr().unwrap());
    let source = tracked(&world, &torrent, &[vec![url]]);
    let (_seeder, addr) = crate::transfer::seeder(&torrent, &world.path("seeder"));
    let mut getter = seedbank::get(&source, &world.dir("dest"), &world.path("getter"))
        .peer(addr)
        .flag("--keep", "forever")
        .spawn();
    getter.wait_for("complete", wait::SOON, |_| true);
    // An orderly stop says `stopped` to the tracker, but does not wait for ever to be heard.
    assert_eq!(getter.stop(Duration::from_secs(4)), Some(0));
}

#[test]
fn a_seeder_announces_itself_again() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "again.bin", MIB, 4);
    let tracker = Tracker::start(LOOPBACK, 1);
    let source = tracked(&world, &torrent, &[vec![tracker.url()]]);
    let folder = torrent.payload.parent().unwrap();
    let _seeder = seedbank::seed(&source, folder, &world.path("seeder")).spawn();
    // How soon is the client's choice as long as it is not sooner than told.
    wait::until("a second announce", Duration::from_secs(90), || {
        (tracker.announces().len() > 1).then_some(())
    });
    let all = tracker.announces();
    assert_eq!(all[1].event, "");
    assert!(all[1].at - all[0].at >= Duration::from_millis(900));
}
