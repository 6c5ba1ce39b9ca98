//! Peers found through the DHT alone, private torrents kept out of it, and a table that outlives its process.

use std::net::SocketAddr;
use std::time::Duration;

use seedbank::base::InfoHash;
use seedbank::engine::events::Hex;
use seedbank::engine::{Engine, Event, Goal};
use seedbank::format::metainfo::create::Draft;
use tokio::sync::broadcast;
use tokio::time::timeout;

use crate::world::World;

/// Far more than anything here takes.
const SOON: Duration = Duration::from_secs(30);

fn udp(engine: &Engine) -> SocketAddr {
    engine.udp_addr().unwrap()
}

/// The nodes, and how many of them from an earlier run, that the next `dht_ready` tells of.
async fn ready(events: &mut broadcast::Receiver<Event>) -> (usize, usize) {
    let told = async {
        loop {
            if let Event::DhtReady { nodes, warm, .. } = events.recv().await.unwrap() {
                return (nodes, warm);
            }
        }
    };
    timeout(SOON, told).await.unwrap()
}

/// The torrent that an event of the DHT is about.
fn about(event: &Event) -> Option<InfoHash> {
    match event {
        Event::DhtFindPeers { info_hash, .. } | Event::DhtAnnounce { info_hash, .. } => {
            Some(info_hash.0)
        }
        Event::DhtPeers { info_hash, .. } => info_hash.map(|Hex(info_hash)| info_hash),
        _ => None,
    }
}

#[tokio::test]
async fn a_leecher_finds_its_seeder_through_the_dht_alone() {
    let world = World::new();
    let router = world.node("router", &[]).await;
    let seeder = world.node("seeder", &[udp(&router)]).await;
    let seed = world.torrent("source", Goal::Seed, vec![]);
    seeder.add(seed).await.unwrap();

    let leecher = world.node("leecher", &[udp(&router)]).await;
    let download = world.torrent("there", Goal::Download, vec![]);
    let download = leecher.add(download).await.unwrap();
    timeout(SOON, download.completed()).await.unwrap().unwrap();
    world.assert_whole("there");
    for engine in [leecher, seeder, router] {
        engine.shutdown().await;
    }
}

#[tokio::test]
async fn a_private_torrent_is_never_mentioned() {
    let mut world = World::new();
    let secret = b"nobody's business";
    let mut draft = Draft::file("secret", secret.len() as u64);
    draft.private = true;
    draft.pieces = vec![seedbank::disk::sha1(secret)];
    std::fs::write(world.path("source/secret"), secret).unwrap();
    world.metainfo = draft.finish().unwrap();
    let private = world.metainfo.info.info_hash();
    let public = InfoHash([7; 20]);

    let router = world.node("router", &[]).await;
    let seeder = world.node("seeder", &[udp(&router)]).await;
    let mut events = seeder.subscribe();
    let seed = world.torrent("source", Goal::Seed, vec![]);
    seeder.add(seed).await.unwrap().completed().await.unwrap();
    assert!(ready(&mut events).await.0 > 0);
    // A search that begins after the private torrent would have been searched for, and ends.
    let mut search = seeder.look_up(public).unwrap();
    assert_eq!(timeout(SOON, search.next()).await.unwrap(), None);
    seeder.shutdown().await;
    let mut mentioned = Vec::new();
    while let Ok(event) = events.recv().await {
        mentioned.extend(about(&event));
    }
    assert!(mentioned.contains(&public), "{mentioned:?}");
    assert!(!mentioned.contains(&private), "{mentioned:?}");
    router.shutdown().await;
}

#[tokio::test]
async fn a_node_that_starts_again_needs_no_bootstrap() {
    let world = World::new();
    let router = world.node("router", &[]).await;
    let seeder = world.node("seeder", &[udp(&router)]).await;
    let seed = world.torrent("source", Goal::Seed, vec![]);
    seeder.add(seed).await.unwrap();

    let node = world.node("node", &[udp(&router)]).await;
    assert!(ready(&mut node.subscribe()).await.0 > 0);
    node.shutdown().await;

    let node = world.node("node", &[]).await;
    let (_, warm) = ready(&mut node.subscribe()).await;
    assert!(warm > 0);
    let mut search = node.look_up(world.metainfo.info.info_hash()).unwrap();
    let found = timeout(SOON, search.next()).await.unwrap();
    assert_eq!(found, Some(vec![seeder.tcp_addr().unwrap()]));
    for engine in [node, seeder, router] {
        engine.shutdown().await;
    }
}
