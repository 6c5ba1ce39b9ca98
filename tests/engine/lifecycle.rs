//! What adding, stopping and removing do, what is refused, and that a refusal changes nothing.

use std::fs;
use std::path::Path;

use seedbank::engine::{ErrorKind, Event, Goal, State};
use tokio::sync::broadcast;

use crate::world::{PIECE, World, bytes};

/// Trusted, rechecked and missing pieces of the next `resume`.
async fn resumed(events: &mut broadcast::Receiver<Event>) -> (u32, u32, u32) {
    loop {
        if let Event::Resume {
            trusted,
            rechecked,
            missing,
            ..
        } = events.recv().await.unwrap()
        {
            return (trusted, rechecked, missing);
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_file_among_several_is_refused_and_nothing_is_made() {
    let world = World::new();
    fs::create_dir_all(world.path("dest/pair")).unwrap();
    let strange = bytes(10 * PIECE as usize, 99);
    fs::write(world.path("dest/pair/a"), &strange).unwrap();
    let (seeder, _) = world.seeder().await;
    let peers: Vec<_> = seeder.tcp_addr().into_iter().collect();
    let engine = world.engine("state").await;
    let torrent = world.torrent("dest", Goal::Download, peers.clone());
    let refused = match engine.add(torrent).await {
        Ok(torrent) => torrent.completed().await.unwrap_err(),
        Err(refused) => refused,
    };
    assert_eq!(refused.kind(), ErrorKind::FileExists, "{refused}");
    assert_eq!(names(&world.path("dest/pair")), ["a"]);
    assert!(fs::read(world.path("dest/pair/a")).unwrap() == strange);

    engine
        .remove(world.metainfo.info.info_hash())
        .await
        .unwrap();
    let mut torrent = world.torrent("dest", Goal::Download, peers);
    torrent.overwrite = true;
    let torrent = engine.add(torrent).await.unwrap();
    torrent.completed().await.unwrap();
    world.assert_whole("dest");
    engine.shutdown().await;
    seeder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_what_is_wanted_is_adopted() {
    let world = World::new();
    fs::create_dir_all(world.path("dest/pair")).unwrap();
    fs::copy(world.path("source/pair/a"), world.path("dest/pair/a")).unwrap();
    let (seeder, _) = world.seeder().await;
    let engine = world.engine("state").await;
    let mut events = engine.subscribe();
    let peers = seeder.tcp_addr().into_iter().collect();
    let torrent = world.torrent("dest", Goal::Download, peers);
    let torrent = engine.add(torrent).await.unwrap();
    torrent.completed().await.unwrap();
    assert_eq!(resumed(&mut events).await, (0, 10, 6));
    assert_eq!(torrent.status().downloaded, 6 * u64::from(PIECE));
    world.assert_whole("dest");
    engine.shutdown().await;
    seeder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_that_is_gone_is_missing_even_when_the_database_is_lost() {
    let world = World::new();
    world.fetch("state", "dest").await;
    fs::remove_dir_all(world.path("state/db")).unwrap();
    fs::remove_dir_all(world.path("dest/pair")).unwrap();
    let engine = world.engine("state").await;
    let refused = engine
        .add(world.torrent("dest", Goal::Download, vec![]))
        .await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
    assert!(names(&world.path("dest")).is_empty());
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistyped_destination_makes_nothing_forgotten() {
    let world = World::new();
    world.fetch("state", "dest").await;
    let engine = world.engine("state").await;
    let mut events = engine.subscribe();
    let refused = engine.add(world.torrent("dset", Goal::Seed, vec![])).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
    let torrent = engine
        .add(world.torrent("dest", Goal::Download, vec![]))
        .await
        .unwrap();
    torrent.completed().await.unwrap();
    assert_eq!(resumed(&mut events).await, (16, 0, 0));
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_changed_file_is_hashed_alone_and_mended() {
    let world = World::new();
    world.fetch("state", "dest").await;
    let path = world.path("dest/pair/b");
    let mut content = fs::read(&path).unwrap();
    content[PIECE as usize] ^= 1;
    fs::write(&path, content).unwrap();
    let (seeder, _) = world.seeder().await;
    let engine = world.engine("state").await;
    let mut events = engine.subscribe();
    let peers = seeder.tcp_addr().into_iter().collect();
    let torrent = world.torrent("dest", Goal::Download, peers);
    let torrent = engine.add(torrent).await.unwrap();
    torrent.completed().await.unwrap();
    assert_eq!(resumed(&mut events).await, (10, 6, 1));
    world.assert_whole("dest");
    engine.shutdown().await;
    seeder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_and_resume_hash_nothing_and_let_go_of_the_files_between() {
    let world = World::new();
    let (engine, torrent) = world.seeder().await;
    let mut events = engine.subscribe();
    assert_eq!(resumed(&mut events).await, (0, 16, 0));
    torrent.pause().await;
    assert!(matches!(torrent.status().state, State::Paused));
    let path = world.path("source/pair/a");
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .unwrap()
        .try_lock()
        .unwrap();
    torrent.resume().await;
    torrent.completed().await.unwrap();
    assert_eq!(resumed(&mut events).await, (16, 0, 0));
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torrent_is_added_once_and_again_after_it_was_removed() {
    let world = World::new();
    let (engine, torrent) = world.seeder().await;
    let again = engine
        .add(world.torrent("source", Goal::Seed, vec![]))
        .await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Usage);
    engine.remove(torrent.info_hash()).await.unwrap();
    assert!(engine.torrents().is_empty());
    let gone = engine.remove(torrent.info_hash()).await;
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::Usage);
    let again = engine
        .add(world.torrent("source", Goal::Seed, vec![]))
        .await
        .unwrap();
    again.completed().await.unwrap();
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seeder_that_stops_does_not_vouch_for_what_others_changed() {
    let world = World::new();
    let (seeder, _) = world.seeder().await;
    let engine = world.engine("state").await;
    let peers = seeder.tcp_addr().into_iter().collect();
    let torrent = world.torrent("dest", Goal::Download, peers);
    let torrent = engine.add(torrent).await.unwrap();
    torrent.completed().await.unwrap();
    engine.shutdown().await;
    let path = world.path("source/pair/a");
    let mut content = fs::read(&path).unwrap();
    content[7] ^= 1;
    fs::write(&path, content).unwrap();
    seeder.shutdown().await;

    let again = world.engine("seeder").await;
    let torrent = world.torrent("source", Goal::Seed, vec![]);
    let torrent = again.add(torrent).await.unwrap();
    let error = torrent.completed().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HashCheck, "{error}");
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_digest_that_does_not_match_has_every_piece_hashed_the_next_time() {
    let mut world = World::new();
    let (seeder, _) = world.seeder().await;
    let peers: Vec<_> = seeder.tcp_addr().into_iter().collect();
    world.metainfo.blake3 = Some([7; 32]);
    for run in 0..2 {
        let engine = world.engine("state").await;
        let mut events = engine.subscribe();
        let torrent = world.torrent("dest", Goal::Download, peers.clone());
        let outcome = match engine.add(torrent).await {
            Ok(torrent) => torrent.completed().await,
            Err(error) => Err(error),
        };
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HashCheck, "{error}");
        if run == 0 {
            assert_eq!(resumed(&mut events).await, (0, 0, 16));
        }
        engine.shutdown().await;
    }
    world.metainfo.blake3 = None;
    let engine = world.engine("state").await;
    let mut events = engine.subscribe();
    let torrent = world.torrent("dest", Goal::Download, peers);
    engine
        .add(torrent)
        .await
        .unwrap()
        .completed()
        .await
        .unwrap();
    assert_eq!(resumed(&mut events).await, (0, 16, 0));
    engine.shutdown().await;
    seeder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_went_back_is_noticed_and_the_files_are_hashed() {
    let world = World::new();
    let engine = world.engine("state").await;
    engine.shutdown().await;
    let (db, old) = (world.path("state/db"), world.path("old"));
    copy_folder(&db, &old);
    world.fetch("state", "dest").await;
    fs::remove_dir_all(&db).unwrap();
    copy_folder(&old, &db);

    let engine = world.engine("state").await;
    let mut events = engine.subscribe();
    assert!(matches!(
        events.recv().await.unwrap(),
        Event::Warning { kind: "state", .. }
    ));
    let torrent = world.torrent("dest", Goal::Download, vec![]);
    engine
        .add(torrent)
        .await
        .unwrap()
        .completed()
        .await
        .unwrap();
    assert_eq!(resumed(&mut events).await, (0, 16, 0));
    engine.shutdown().await;
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
