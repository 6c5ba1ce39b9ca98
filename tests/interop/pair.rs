//! One transfer between two clients, and the comparison of the bytes.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::client::{Client, Job, Role};
use crate::common::metainfo::Torrent;
use crate::common::payload::{self, MIB};
use crate::common::process::Process;
use crate::common::seedbank::{self, LOOPBACK};
use crate::common::tracker::Tracker;
use crate::common::{World, asked_for, namespace, wait};
use crate::libtorrent::Libtorrent;

/// Makes a payload in a folder.
pub(crate) type Make = fn(&Path) -> PathBuf;

/// A file of 64 MiB and a bit; of 1 GiB with `SEEDBANK_INTEROP_FULL=1`.
pub(crate) fn big_file(parent: &Path) -> PathBuf {
    let len = if asked_for("SEEDBANK_INTEROP_FULL") {
        1024 * MIB
    } else {
        64 * MIB
    };
    let path = parent.join("big file.bin");
    payload::file(&path, len + 12_345, 1);
    path
}

/// The numbers folder.
pub(crate) fn folder(parent: &Path) -> PathBuf {
    payload::numbers(parent)
}

/// Seedbank seeds, `client` gets.
pub(crate) fn seedbank_seeds(client: &dyn Client, make: Make) {
    on_stage(client, make, |stage| {
        let torrent = &stage.torrent;
        let parent = torrent.payload.parent().unwrap();
        let mut seeder = seedbank::seed(&torrent.path, parent, &stage.world.path("state"))
            .listen(&format!("{}:0", stage.here))
            .spawn();
        stage.tracker.give(seeder.addr());
        stage.get_with(client);
        assert_eq!(seeder.stop(Duration::from_secs(5)), Some(0));
        let sent: u64 = seeder
            .all("left_peer")
            .iter()
            .map(|event| seedbank::number(event, "uploaded"))
            .sum();
        assert!(
            sent >= torrent.len,
            "{sent} of {} bytes were sent",
            torrent.len
        );
    });
}

/// `client` seeds, seedbank gets.
pub(crate) fn seedbank_gets(client: &dyn Client, make: Make) {
    on_stage(client, make, |stage| {
        let (_seeder, addr) = stage.seed_with(client);
        let (torrent, dest) = (&stage.torrent, stage.world.dir("dest"));
        let mut getter = seedbank::get(&torrent.path, &dest, &stage.world.path("state"))
            .listen(&format!("{}:0", stage.here))
            .peer(addr)
            .spawn();
        getter.succeed();
        assert_eq!(
            seedbank::number(&getter.last("complete"), "bytes"),
            torrent.len
        );
        payload::assert_same(&torrent.payload, &dest.join(torrent.name()));
    });
}

/// `client` and libtorrent, both ways: what the tests above take for granted.
pub(crate) fn rig(client: &dyn Client, make: Make) {
    if !Libtorrent.available() {
        return;
    }
    on_stage(client, make, |stage| {
        let _seeder = stage.seed_with(client);
        stage.get_with(&Libtorrent);
    });
    on_stage(client, make, |stage| {
        let _seeder = stage.seed_with(&Libtorrent);
        stage.get_with(client);
    });
}

/// A payload, its torrent and a tracker.
struct Stage {
    world: World,
    tracker: Tracker,
    torrent: Torrent,
    tracked: PathBuf,
    here: IpAddr,
    there: IpAddr,
}

fn on_stage(client: &dyn Client, make: Make, act: impl FnOnce(&Stage) + Send) {
    if !client.available() {
        return;
    }
    if client.needs_network() {
        namespace::with_network(|| act(&Stage::new(make, namespace::HERE, namespace::THERE)));
    } else {
        act(&Stage::new(make, LOOPBACK, LOOPBACK));
    }
}

impl Stage {
    fn new(make: Make, here: IpAddr, there: IpAddr) -> Self {
        let world = World::new();
        let payload = make(&world.dir("payload"));
        let torrent = Torrent::of(&payload, 64 * 1024, &world.path("meta"));
        let tracker = Tracker::start(here, 2);
        let tracked = world.path("meta/tracked/it.torrent");
        torrent.tracked(&tracked, &[vec![tracker.url()]]);
        Self {
            world,
            tracker,
            torrent,
            tracked,
            here,
            there,
        }
    }

    /// Starts `client` on a copy of the payload; where it listens, once it has told the tracker that it has everything.
    fn seed_with(&self, client: &dyn Client) -> (Process, SocketAddr) {
        let folder = self.world.dir("foreign-seed");
        payload::copy(&self.torrent.payload, &folder.join(self.torrent.name()));
        let mut process = client.start(&self.job(&folder, Role::Seed));
        let announced = wait::within(wait::SOON * 2, || {
            assert!(process.runs(), "ended: {}", process.transcript());
            let all = self.tracker.announces();
            all.into_iter().find(|announce| announce.left == 0)
        });
        let Some(announced) = announced else {
            let told = self.tracker.announces();
            panic!("does not seed: {told:?} {}", process.transcript());
        };
        (process, announced.peer)
    }

    /// Starts `client` in an empty folder and waits until it has the payload, which must be right.
    fn get_with(&self, client: &dyn Client) {
        let folder = self.world.dir("foreign-get");
        let mut process = client.start(&self.job(&folder, Role::Get));
        if client.ends_when_complete() {
            process.succeed(wait::TRANSFER);
        } else {
            let completed = wait::within(wait::TRANSFER, || {
                let mut announces = self.tracker.announces().into_iter();
                announces.find(|announce| announce.event == "completed")
            });
            assert!(completed.is_some(), "{}", process.transcript());
            process.terminate();
            process.exit(wait::SOON);
        }
        let expected = self.torrent.payload.clone();
        let found = folder.join(self.torrent.name());
        if client.leaves_empty_files_out() && expected.is_dir() {
            payload::make_empty_files(&expected, &found);
        }
        payload::assert_same(&expected, &found);
    }

    fn job<'a>(&'a self, folder: &'a Path, role: Role) -> Job<'a> {
        Job {
            torrent: &self.tracked,
            folder,
            home: self.world.root(),
            ip: self.there,
            role,
        }
    }
}
