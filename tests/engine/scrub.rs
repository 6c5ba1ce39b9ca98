//! Bit rot in what is shared: it is found, told, not shared any more, and mended from the swarm.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seedbank::disk::{Kernel, Medium};
use seedbank::engine::{Event, Goal, State, Status, Torrent};
use seedbank::store::Store;
use tokio::sync::broadcast;
use tokio::time::timeout;

use crate::hooked::{Hook, Hooked};
use crate::world::{PIECE, World};

/// Long enough for anything here, on a machine that does much else.
const SOON: Duration = Duration::from_secs(60);

/// What `pick` makes of the first event that it takes.
async fn hear<T>(
    events: &mut broadcast::Receiver<Event>,
    mut pick: impl FnMut(&Event) -> Option<T>,
) -> T {
    let heard = async {
        loop {
            if let Some(picked) = pick(&events.recv().await.unwrap()) {
                return picked;
            }
        }
    };
    timeout(SOON, heard).await.expect("it is told")
}

/// Bad pieces of the next pass that ends.
async fn scrubbed(events: &mut broadcast::Receiver<Event>) -> u32 {
    hear(events, |event| match event {
        Event::Scrubbed { pieces, bad, .. } => {
            assert_eq!(*pieces, 16);
            Some(*bad)
        }
        _ => None,
    })
    .await
}

async fn stands(torrent: &Torrent, so: impl Fn(&Status) -> bool) {
    let mut status = torrent.watch();
    let stands = timeout(SOON, status.wait_for(|status| so(status))).await;
    drop(stands.expect("it comes to that").unwrap());
}

/// Flips a bit without a trace in the file's metadata, as a disk does.
fn rot(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let before = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 8], offset).unwrap();
    file.set_modified(before).unwrap();
}

#[tokio::test]
async fn what_rots_is_told_not_shared_any_more_and_mended_from_the_swarm() {
    let world = World::new();
    world.fetch("state", "dest").await;

    // A first pass finds all well, and remembers what each piece was.
    let engine = world.scrubber("state", Arc::new(Kernel)).await;
    let mut events = engine.subscribe();
    let torrent = world.torrent("dest", Goal::Download, vec![]);
    engine.add(torrent).await.unwrap();
    assert_eq!(scrubbed(&mut events).await, 0);
    engine.shutdown().await;
    let store = Store::open(world.path("state")).await.unwrap().store;
    let info_hash = world.metainfo.info.info_hash();
    assert!(store.scrub_mark(info_hash).await.unwrap().finished > 0);
    assert_eq!(store.digests(info_hash, 0).await.len(), 16);
    store.close().await.unwrap();

    // Nothing about the file says that it changed, so it is trusted, until it is re-read.
    let offset = 2 * u64::from(PIECE) + 5;
    rot(&world.path("dest/pair/a"), offset);
    let engine = world.scrubber("state", Arc::new(Kernel)).await;
    let mut events = engine.subscribe();
    let torrent = world.torrent("dest", Goal::Download, vec![]);
    let torrent = engine.add(torrent).await.unwrap();
    let trusted = hear(&mut events, |event| match event {
        Event::Resume { trusted, .. } => Some(*trusted),
        _ => None,
    });
    assert_eq!(trusted.await, 16);
    let warning = hear(&mut events, |event| match event {
        Event::Warning {
            kind: "bit_rot",
            message,
            ..
        } => Some(message.clone()),
        _ => None,
    });
    let warning = warning.await;
    assert!(
        warning.contains("piece 2 (pair/a bytes 65536-98303)"),
        "{warning}"
    );

    // It shares the others, and nothing but good bytes.
    stands(&torrent, |status| {
        matches!(status.state, State::Downloading)
    })
    .await;
    let other = world.engine("other").await;
    let mut heard = other.subscribe();
    let peers = engine.tcp_addr().into_iter().collect();
    let asker = world.torrent("other-dest", Goal::Download, peers);
    let asker = other.add(asker).await.unwrap();
    stands(&asker, |status| status.verified == 15).await;

    // Somebody who has it comes.
    let (seeder, _) = world.seeder().await;
    torrent
        .add_peers(seeder.tcp_addr().into_iter().collect())
        .await;
    timeout(SOON, torrent.completed()).await.unwrap().unwrap();
    world.assert_whole("dest");
    timeout(SOON, asker.completed()).await.unwrap().unwrap();
    world.assert_whole("other-dest");
    other.shutdown().await;
    while let Ok(event) = heard.recv().await {
        assert!(!matches!(event, Event::HashFailed { .. }), "{event:?}");
    }
    // The pass goes on where it was, and then all is well again.
    assert_eq!(scrubbed(&mut events).await, 1);
    assert_eq!(scrubbed(&mut events).await, 0);
    engine.shutdown().await;
    seeder.shutdown().await;
}

#[tokio::test]
async fn a_payload_that_was_there_to_be_shared_is_mended_too() {
    let world = World::new();
    world.fetch("other", "other-dest").await;
    let engine = world.scrubber("seeder", Arc::new(Kernel)).await;
    let mut events = engine.subscribe();
    rot(&world.path("source/pair/b"), 7);
    // It was found whole in an earlier run, so nobody hashes it now.
    let torrent = world.torrent("source", Goal::Seed, vec![]);
    let torrent = engine.add(torrent).await.unwrap();
    let rotten = hear(&mut events, |event| match event {
        Event::Warning {
            kind: "bit_rot", ..
        } => Some(()),
        _ => None,
    });
    rotten.await;
    let other = world.engine("other").await;
    let whole = world.torrent("other-dest", Goal::Download, vec![]);
    other.add(whole).await.unwrap();
    torrent
        .add_peers(other.tcp_addr().into_iter().collect())
        .await;
    // The pass ends once the payload is whole again, with what it found.
    assert_eq!(scrubbed(&mut events).await, 1);
    let content = std::fs::read(world.path("source/pair/b")).unwrap();
    assert!(content == crate::world::bytes(content.len(), 2));
    engine.shutdown().await;
    other.shutdown().await;
}

/// A disk of which one sector cannot be read until it is written again: inode and offset of a byte in it.
#[derive(Debug, Default)]
struct BadSector(Mutex<Option<(u64, u64)>>);

impl BadSector {
    fn is_hit(&self, file: &File, offset: u64, len: usize) -> bool {
        let bad = *self.0.lock().unwrap();
        bad.is_some_and(|(inode, at)| {
            (offset..offset + len as u64).contains(&at) && file.metadata().unwrap().ino() == inode
        })
    }
}

impl Hook for BadSector {
    fn read(&self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_hit(file, offset, buffer.len()) {
            let failure = rustix::io::Errno::IO.raw_os_error();
            return Err(io::Error::from_raw_os_error(failure));
        }
        Kernel.read(file, offset, buffer)
    }

    fn write(&self, file: &File, offset: u64, data: &[u8]) -> io::Result<usize> {
        if self.is_hit(file, offset, data.len()) {
            *self.0.lock().unwrap() = None;
        }
        Kernel.write(file, offset, data)
    }
}

#[tokio::test]
async fn a_sector_that_cannot_be_read_is_written_again() {
    let world = World::new();
    world.fetch("state", "dest").await;
    let disk = Arc::new(Hooked(BadSector::default()));
    let medium: Arc<dyn Medium> = disk.clone();
    let engine = world.scrubber("state", medium).await;
    let mut events = engine.subscribe();
    let torrent = world.torrent("dest", Goal::Download, vec![]);
    let torrent = engine.add(torrent).await.unwrap();
    assert_eq!(scrubbed(&mut events).await, 0);

    let found = std::fs::metadata(world.path("dest/pair/b")).unwrap();
    *disk.0.0.lock().unwrap() = Some((found.ino(), 4 * u64::from(PIECE) + 9));
    let warning = hear(&mut events, |event| match event {
        Event::Warning {
            kind: "bit_rot",
            message,
            ..
        } => Some(message.clone()),
        Event::Error { message, .. } => panic!("{message}"),
        _ => None,
    });
    let warning = warning.await;
    assert!(
        warning.contains("piece 14 ") && warning.contains("cannot be read any more"),
        "{warning}"
    );
    let (seeder, _) = world.seeder().await;
    let peers = seeder.tcp_addr().into_iter().collect();
    torrent.add_peers(peers).await;
    assert_eq!(scrubbed(&mut events).await, 1);
    assert_eq!(*disk.0.0.lock().unwrap(), None, "it was written again");
    world.assert_whole("dest");
    engine.shutdown().await;
    seeder.shutdown().await;
}
