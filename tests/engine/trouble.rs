//! Files that others touch while they are shared: what changed is not uploaded, and what is still good is shared again.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use seedbank::engine::{Engine, ErrorKind, Event, Goal, State, Torrent};
use tokio::sync::broadcast;
use tokio::time::timeout;

use crate::world::{PIECE, World, bytes};

/// Long enough for anything here, on a machine that does much else.
const SOON: Duration = Duration::from_secs(30);

/// A seeder of a payload that was there, one who has fetched it all, and what the seeder tells from now on.
struct Pair {
    world: World,
    seeder: Engine,
    shared: Torrent,
    other: Engine,
    events: broadcast::Receiver<Event>,
}

impl Pair {
    async fn new() -> Self {
        let world = World::new();
        let (seeder, shared) = world.seeder().await;
        let other = world.engine("other").await;
        let peers = seeder.tcp_addr().into_iter().collect();
        let torrent = world.torrent("other-dest", Goal::Download, peers);
        let torrent = other.add(torrent).await.unwrap();
        torrent.completed().await.unwrap();
        // The first who asks hears of everything since the start.
        drop(seeder.subscribe());
        let events = seeder.subscribe();
        Self {
            world,
            seeder,
            shared,
            other,
            events,
        }
    }

    /// Somebody who asks the seeder for everything, which is what makes it look.
    async fn ask(&self) -> (Engine, Torrent) {
        let engine = self.world.engine("asker").await;
        let peers = self.seeder.tcp_addr().into_iter().collect();
        let torrent = self.world.torrent("asker-dest", Goal::Download, peers);
        let torrent = engine.add(torrent).await.unwrap();
        (engine, torrent)
    }

    /// What `pick` makes of the first event of the seeder that it takes.
    async fn hear<T>(&mut self, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        let heard = async {
            loop {
                if let Some(picked) = pick(&self.events.recv().await.unwrap()) {
                    return picked;
                }
            }
        };
        timeout(SOON, heard).await.expect("the seeder tells it")
    }

    /// Trusted, rechecked and missing pieces of the seeder's next `resume`.
    async fn resumed(&mut self) -> (u32, u32, u32) {
        self.hear(|event| match event {
            Event::Resume {
                trusted,
                rechecked,
                missing,
                ..
            } => Some((*trusted, *rechecked, *missing)),
            _ => None,
        })
        .await
    }

    /// The seeder's next `warning` that a file changed.
    async fn warned(&mut self) -> String {
        self.hear(|event| match event {
            Event::Warning {
                kind: "changed",
                message,
                ..
            } => Some(message.clone()),
            Event::Error { message, .. } => panic!("{message}"),
            _ => None,
        })
        .await
    }

    async fn shares_again(&self) {
        let mut status = self.shared.watch();
        let shares = status.wait_for(|status| matches!(status.state, State::Seeding));
        let shares = timeout(SOON, shares).await;
        drop(shares.expect("it shares again").unwrap());
    }

    async fn fails(&self) -> ErrorKind {
        let mut status = self.shared.watch();
        let fails = status.wait_for(|status| matches!(status.state, State::Failed(_)));
        let status = timeout(SOON, fails).await.expect("it fails").unwrap();
        match &status.state {
            State::Failed(error) => error.kind(),
            other => unreachable!("{other:?}"),
        }
    }

    async fn end(self, asker: Engine) {
        asker.shutdown().await;
        self.other.shutdown().await;
        self.seeder.shutdown().await;
        let (a, b) = (
            self.world.path("source/pair/a"),
            self.world.path("source/pair/b"),
        );
        assert!(fs::read(a).unwrap() == bytes(10 * PIECE as usize, 1));
        assert!(fs::read(b).unwrap() == bytes(6 * PIECE as usize, 2));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_user_does_to_a_shared_file_is_not_uploaded_and_not_undone() {
    let changes: [fn(&fs::File) -> std::io::Result<()>; 2] = [
        |file| file.write_all_at(b"edited", 3 * u64::from(PIECE)),
        |file| file.set_len(4 * u64::from(PIECE) + 7),
    ];
    for change in changes {
        let mut pair = Pair::new().await;
        let path = pair.world.path("source/pair/a");
        change(&OpenOptions::new().write(true).open(&path).unwrap()).unwrap();
        let now = fs::read(&path).unwrap();
        let (asker, torrent) = pair.ask().await;
        assert!(pair.warned().await.contains(path.to_str().unwrap()));
        assert_eq!(pair.fails().await, ErrorKind::HashCheck);
        assert!(fs::read(&path).unwrap() == now, "it is the user's");
        // Undone by the user, it is shared again.
        fs::write(&path, bytes(10 * PIECE as usize, 1)).unwrap();
        pair.shared.resume().await;
        pair.shares_again().await;
        assert_eq!(pair.resumed().await, (6, 10, 0));
        timeout(SOON, torrent.completed()).await.unwrap().unwrap();
        assert_eq!(torrent.status().wasted, 0, "no damaged piece arrived");
        pair.world.assert_whole("asker-dest");
        pair.end(asker).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_in_the_place_of_a_shared_file_is_hashed_and_shared() {
    let mut pair = Pair::new().await;
    let (path, copy) = (pair.world.path("source/pair/b"), pair.world.path("copy"));
    fs::copy(&path, &copy).unwrap();
    fs::rename(&copy, &path).unwrap();
    let (asker, torrent) = pair.ask().await;
    pair.warned().await;
    assert_eq!(pair.resumed().await, (10, 6, 0));
    timeout(SOON, torrent.completed()).await.unwrap().unwrap();
    pair.end(asker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_file_in_the_place_of_a_shared_one_is_left_alone() {
    let mut pair = Pair::new().await;
    let (path, other) = (pair.world.path("source/pair/b"), pair.world.path("new"));
    let strange = [bytes(6 * PIECE as usize, 77), bytes(9, 78)];
    for strange in &strange {
        fs::write(&other, strange).unwrap();
        fs::rename(&other, &path).unwrap();
        let (asker, _torrent) = pair.ask().await;
        pair.warned().await;
        assert_eq!(pair.fails().await, ErrorKind::HashCheck);
        assert!(&fs::read(&path).unwrap() == strange, "not ours to touch");
        // The content is back, in the very file that is there now.
        fs::write(&path, bytes(6 * PIECE as usize, 2)).unwrap();
        pair.shared.resume().await;
        pair.shares_again().await;
        pair.resumed().await;
        asker.shutdown().await;
    }
    pair.other.shutdown().await;
    pair.seeder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_file_that_is_gone_is_missing_until_it_is_back_and_never_made_anew() {
    let mut pair = Pair::new().await;
    let (path, away) = (pair.world.path("source/pair/a"), pair.world.path("away"));
    fs::copy(&path, &away).unwrap();
    fs::remove_file(&path).unwrap();
    let (asker, torrent) = pair.ask().await;
    pair.warned().await;
    assert_eq!(pair.fails().await, ErrorKind::NotFound);
    assert!(!path.exists());
    let told = |event: &Event| match event {
        Event::Error { message, .. } => Some(message.clone()),
        _ => None,
    };
    assert!(pair.hear(told).await.contains("is missing"));
    fs::rename(&away, &path).unwrap();
    // Nobody resumes it.
    assert_eq!(pair.resumed().await, (6, 10, 0));
    pair.shares_again().await;
    timeout(SOON, torrent.completed()).await.unwrap().unwrap();
    pair.end(asker).await;
}
