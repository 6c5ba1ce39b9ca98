//! `state move`, killed at random moments, in use, and in the way of others.
//!
//! `SEEDBANK_CRASH_FULL=1` kills sixty times instead of six.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::metainfo::Torrent;
use crate::common::payload::{self, MIB, Random};
use crate::common::process::Process;
use crate::common::seedbank::{self, number};
use crate::common::wire::one_file;
use crate::common::{World, asked_for, skip, wait};

/// A torrent that is seeded from `old` with the state folder `state`, and known there from then on.
struct Rig {
    world: World,
    torrent: Torrent,
}

impl Rig {
    fn new(world: World, torrent: Torrent) -> Self {
        let rig = Self { world, torrent };
        let mut seeder =
            seedbank::seed(&rig.torrent.path, &rig.old(), &rig.world.path("state")).spawn();
        seeder.ready(1);
        // What it found is committed before it tells of it.
        seeder.stop(wait::SOON);
        rig
    }

    fn old(&self) -> PathBuf {
        self.torrent.payload.parent().unwrap().to_owned()
    }

    fn name(&self) -> String {
        let hash = self.torrent.info_hash;
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn moving_to(&self, dir: &Path) -> Process {
        let name = self.name();
        let args = [OsStr::new("move"), OsStr::new(&name), dir.as_os_str()];
        let mut command = seedbank::state(&args, &self.world.path("state"));
        Process::spawn("seedbank state move", &mut command)
    }

    /// Must be refused with `code` and one line that has `word`.
    fn refused(&self, dir: &Path, code: i32, word: &str) {
        let mut refused = self.moving_to(dir);
        let status = refused.exit(wait::SOON);
        let said = refused.stderr().all();
        assert_eq!(status.code(), Some(code), "{said:?}");
        let errors: Vec<_> = said
            .iter()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "{said:?}");
        assert!(errors[0].contains(word), "no {word:?} in {said:?}");
    }

    fn listed(&self) -> serde_json::Value {
        let args = ["list", "--json"].map(OsStr::new);
        let mut command = seedbank::state(&args, &self.world.path("state"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
        listed[0].clone()
    }

    /// A download there finds everything and hashes nothing.
    fn assert_trusted(&self, dest: &Path) {
        let mut getter = seedbank::get(&self.torrent.path, dest, &self.world.path("state")).spawn();
        getter.succeed();
        let resume = getter.last("resume");
        assert_eq!(
            number(&resume, "trusted"),
            u64::from(self.torrent.pieces),
            "{resume}"
        );
        assert_eq!(number(&resume, "rechecked"), 0, "{resume}");
    }
}

#[test]
fn a_move_across_filesystems_that_is_killed_again_and_again_loses_nothing() {
    let world = World::new();
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
        return skip::say("there is no second filesystem for temporary files");
    };
    let device = |path: &Path| path.metadata().unwrap().dev();
    if device(other.path()) == device(world.root()) {
        return skip::say("there is no second filesystem for temporary files");
    }
    let payload = world.dir("old").join("set");
    payload::file(&payload.join("a"), 24 * MIB, 1);
    payload::file(&payload.join("b"), 12 * MIB, 2);
    payload::file(&payload.join("c/d"), 3 * MIB + 17, 3);
    payload::file(&payload.join("c/empty"), 0, 4);
    let reference = world.path("reference");
    payload::copy(&payload, &reference);
    let torrent = Torrent::of(&payload, 256 << 10, &world.dir("metainfo"));
    let rig = Rig::new(world, torrent);
    let places = [rig.old(), other.path().to_owned()];

    let kills = if asked_for("SEEDBANK_CRASH_FULL") {
        60
    } else {
        6
    };
    let mut random = Random::of_this_run("a_move_that_is_killed");
    let (mut cut, mut done) = (0, 0);
    for _ in 0..kills {
        let to = &places[random.below(2) as usize];
        let mut moving = rig.moving_to(to);
        // On a quiet machine it takes a tenth of a second, on a busy one several.
        let moment = Duration::from_millis(random.below(20) * random.below(20));
        let ended = wait::within(moment, || (!moving.runs()).then_some(()));
        if ended.is_some() {
            done += 1;
            moving.succeed(wait::SOON);
        } else {
            cut += 1;
            moving.kill();
        }
        let listed = rig.listed();
        assert_eq!(number(&listed, "durable"), u64::from(rig.torrent.pieces));
        // Whole under its name in one place at least, at every moment.
        for (name, path) in payload::files(&reference) {
            let length = path.metadata().unwrap().len();
            let whole = |place: &&PathBuf| {
                let found = place.join("set").join(&name).metadata();
                found.is_ok_and(|found| found.len() == length)
            };
            assert!(
                places.iter().any(|place| whole(&place)),
                "{}",
                name.display()
            );
        }
    }
    eprintln!("{cut} moves were killed, {done} were faster");
    for (to, left) in [(&places[1], &places[0]), (&places[0], &places[1])] {
        rig.moving_to(to).succeed(wait::TRANSFER);
        payload::assert_same(&reference, &to.join("set"));
        assert!(
            !left.join("set").exists(),
            "something is left in {}",
            left.display()
        );
        rig.assert_trusted(to);
        let listed = rig.listed();
        assert_eq!(listed["dest"], to.to_str().unwrap());
        assert!(
            listed["moving_to"].is_null() && listed["moved_from"].is_null(),
            "{listed}"
        );
    }
}

#[test]
fn a_move_is_refused_in_one_line_and_changes_nothing() {
    let world = World::new();
    let torrent = one_file(&world.dir("old"), "mine", MIB, 5);
    let rig = Rig::new(world, torrent);
    let new = rig.world.dir("new");
    rig.refused(&rig.world.path("none"), 3, "none");
    fs::write(new.join("mine"), "a stranger's").unwrap();
    rig.refused(&new, 13, new.join("mine").to_str().unwrap());
    assert_eq!(fs::read(new.join("mine")).unwrap(), b"a stranger's");
    fs::remove_file(new.join("mine")).unwrap();
    let state = rig.world.path("state");
    let by = |seeder: &seedbank::Seedbank| format!("process {}", seeder.process.pid());
    let mut seeder = seedbank::seed(&rig.torrent.path, &rig.old(), &state).spawn();
    seeder.ready(1);
    rig.refused(&new, 15, &by(&seeder));
    seeder.stop(wait::SOON);
    // Another state folder, the same payload.
    let apart = rig.world.path("apart");
    let mut seeder = seedbank::seed(&rig.torrent.path, &rig.old(), &apart).spawn();
    seeder.ready(1);
    rig.refused(&new, 15, &by(&seeder));
    seeder.stop(wait::SOON);
    assert_eq!(fs::read_dir(&new).unwrap().count(), 0);
    rig.assert_trusted(&rig.old());
    rig.moving_to(&new).succeed(wait::SOON);
    // A second time there is nothing to do.
    rig.moving_to(&new).succeed(wait::SOON);
    rig.assert_trusted(&new);
}

#[test]
fn what_was_moved_is_found_by_its_name_alone() {
    let world = World::new();
    let torrent = one_file(&world.dir("old"), "mine", MIB, 6);
    let rig = Rig::new(world, torrent);
    let new = rig.world.dir("new");
    rig.moving_to(&new).succeed(wait::SOON);
    let state = rig.world.path("state");
    let mut command = seedbank::command(rig.world.root());
    command.args([
        "get",
        &rig.name(),
        "--log",
        "json",
        "--tcp-listen",
        "127.0.0.1:0",
    ]);
    command.args(["--dht-listen", "", "--state"]).arg(state);
    let mut getter = seedbank::Seedbank::spawn(&mut command);
    getter.succeed();
    assert_eq!(
        number(&getter.last("resume"), "trusted"),
        u64::from(rig.torrent.pieces)
    );
    assert_eq!(number(&getter.last("resume"), "rechecked"), 0);
}
