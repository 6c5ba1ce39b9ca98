//! Two torrents and a seeder of both: one that is fetched to a place that makes trouble, one that is fetched beside it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::common::metainfo::Torrent;
use crate::common::payload::{self, MIB};
use crate::common::seedbank::{self, Run, Seedbank, number};
use crate::common::wire::one_file;
use crate::common::{World, namespace, wait};

/// Bytes of the two files of the torrent that meets trouble.
pub(crate) const SHAKY: [u64; 2] = [5 * MIB, 3 * MIB];

/// Slow enough to be met half way on a busy machine.
pub(crate) const SLOW: &str = "6MiB";

/// Bytes of a piece.
const PIECE: u32 = 128 * 1024;

/// What there is to fetch, and who has it.
pub(crate) struct Bench {
    pub(crate) world: World,
    /// A folder of the files `a` and `b`.
    pub(crate) shaky: Torrent,
    /// One file.
    pub(crate) sound: Torrent,
    pub(crate) seeder: Seedbank,
    addr: SocketAddr,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let world = World::new();
        let source = world.dir("source");
        for (name, len) in ["a", "b"].into_iter().zip(SHAKY) {
            payload::file(&source.join("shaky").join(name), len, len);
        }
        let shaky = Torrent::of(&source.join("shaky"), PIECE, &source);
        let sound = one_file(&source, "sound", 2 * MIB, 9);
        let seeder = seedbank::seed_all(
            &[&shaky.path, &sound.path],
            &source,
            &world.path("state-seeder"),
        );
        let seeder = seeder.spawn();
        let addr = seeder.ready(2);
        fs::create_dir_all(world.path("dest/shaky")).unwrap();
        Self {
            world,
            shaky,
            sound,
            seeder,
            addr,
        }
    }

    /// The folder of the torrent that meets trouble, where a disk may be mounted.
    pub(crate) fn place(&self) -> PathBuf {
        self.world.path("dest/shaky")
    }

    /// One of its files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.place().join(name)
    }

    /// A slow `get` of both that stays.
    pub(crate) fn get(&self) -> Run {
        self.get_these(&[&self.shaky, &self.sound])
            .flag("--max-down", SLOW)
            .flag("--keep", "forever")
    }

    /// A `get` of `torrents`.
    pub(crate) fn get_these(&self, torrents: &[&Torrent]) -> Run {
        let paths: Vec<&Path> = torrents
            .iter()
            .map(|torrent| torrent.path.as_path())
            .collect();
        let (dest, state) = (self.world.path("dest"), self.world.path("state"));
        seedbank::get_all(&paths, &dest, &state).peer(self.addr)
    }

    /// Waits until some pieces of the torrent are durable and more than `share` of four parts verified; how many are durable.
    pub(crate) fn half_way(&self, getter: &Seedbank, share: u64) -> u64 {
        let (hex, total) = (self.shaky.hex(), u64::from(self.shaky.pieces));
        getter.wait_for("have", wait::SOON, |have| {
            have["info_hash"] == hex && number(have, "verified") > total * share / 4
        });
        let durable = getter.wait_for("durable", wait::SOON, |durable| durable["info_hash"] == hex);
        assert!(
            number(&durable, "pieces") < total,
            "too late: {}",
            getter.process.transcript()
        );
        number(&durable, "pieces")
    }

    /// Waits until the torrent has stopped, for a reason that has `word` in it.
    pub(crate) fn stops(&self, getter: &Seedbank, word: &str) {
        let hex = self.shaky.hex();
        let error = getter.wait_for("error", wait::SOON, |error| error["info_hash"] == hex);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(word), "{message:?} has no {word:?}");
        assert!(!message.contains('\n'), "{message:?}");
    }

    /// Waits until the other torrent is complete, for which the trouble must not matter.
    pub(crate) fn others_go_on(&self, getter: &Seedbank) {
        let hex = self.sound.hex();
        getter.wait_for("complete", wait::SOON, |event| event["info_hash"] == hex);
        payload::assert_same(&self.sound.payload, &self.world.path("dest/sound"));
    }

    /// Waits until the torrent goes on and is complete, without fetching again any of the `durable` pieces; the `resume` of it.
    pub(crate) fn goes_on(&self, getter: &mut Seedbank, durable: u64) -> Value {
        let hex = self.shaky.hex();
        getter.wait_for("complete", wait::SOON, |event| event["info_hash"] == hex);
        payload::assert_same(&self.shaky.payload, &self.place());
        let story = self.story(getter);
        let resumed = story
            .iter()
            .rposition(|event| event["event"] == "resume")
            .unwrap();
        let names: Vec<_> = story
            .iter()
            .map(|event| event["event"].as_str().unwrap())
            .collect();
        assert!(names.starts_with(&["resume", "error"]), "{names:?}");
        assert_eq!(names[resumed - 1], "error", "{names:?}");
        assert_eq!(names.last(), Some(&"complete"), "{names:?}");
        let resume = story[resumed].clone();
        let here = u64::from(self.shaky.pieces) - number(&resume, "missing");
        assert!(here >= durable, "{durable} pieces were durable: {resume}");
        assert!(getter.process.runs());
        assert_eq!(getter.stop(wait::SOON), Some(0));
        resume
    }

    /// What was told of how the torrent stands.
    pub(crate) fn story(&self, getter: &Seedbank) -> Vec<Value> {
        let mut events = getter.events();
        let hex = self.shaky.hex();
        let told = ["resume", "error", "complete"];
        events.retain(|event| {
            event["info_hash"] == hex && told.contains(&event["event"].as_str().unwrap())
        });
        events
    }

    /// Runs `test` with a filesystem of `size` bytes made by `mkfs` in the torrent's folder. The image lies in the folder `image`.
    pub(crate) fn with_disk(&self, disk: &Disk<'_>, test: impl FnOnce(&Self) + Send) -> bool {
        namespace::with_mounts(&disk.set_up(self), || test(self))
    }
}

/// A filesystem in a file.
#[derive(Clone, Debug)]
pub(crate) struct Disk<'a> {
    /// What makes it, with its arguments.
    pub(crate) mkfs: &'a str,
    /// Bytes of it.
    pub(crate) size: u64,
    /// How it is mounted.
    pub(crate) options: &'a str,
}

impl Disk<'_> {
    fn set_up(&self, bench: &Bench) -> Vec<String> {
        let folder = bench.world.dir("image");
        let image = folder.join("disk");
        File::create(&image).unwrap().set_len(self.size).unwrap();
        let (image, at) = (image.to_str().unwrap(), bench.place());
        let (mkfs, options) = (self.mkfs, self.options);
        vec![
            format!("{mkfs} {image}"),
            format!("mount -o loop{options} {image} {}", at.to_str().unwrap()),
        ]
    }
}

/// Runs a command that must succeed.
pub(crate) fn run(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Writes to the new file `path` until there is no room left; how many bytes went in.
pub(crate) fn fill_up(path: &Path) -> u64 {
    let mut file = File::create(path).unwrap();
    let chunk = vec![0x5a; 64 * 1024];
    // In small steps at the end, so that not a block is left.
    let by = |file: &mut File, step: usize| while file.write_all(&chunk[..step]).is_ok() {};
    by(&mut file, chunk.len());
    by(&mut file, 512);
    // What cannot be synced is not there; that there is no room is what is wanted.
    let _ = file.sync_all();
    file.metadata().unwrap().len()
}

/// Opens a file of the payload as another program would.
pub(crate) fn open(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

/// Runs all of `tests` at the same time: most of each is waiting.
pub(crate) fn together(tests: &[&(dyn Fn() + Sync)]) {
    std::thread::scope(|scope| {
        let running: Vec<_> = tests.iter().map(|test| scope.spawn(test)).collect();
        let ended: Vec<_> = running
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        if let Some(panic) = ended.into_iter().find_map(Result::err) {
            std::panic::resume_unwind(panic);
        }
    });
}
