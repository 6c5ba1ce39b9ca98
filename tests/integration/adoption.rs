//! What is found in the folder of a download: ours is adopted, a stranger's file is left alone unless told otherwise, and of what changed
//! no more is hashed than changed.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::common::metainfo::Torrent;
use crate::common::payload::{self, Random};
use crate::common::seedbank::{self, Run, Seedbank, number};
use crate::common::{World, wait};
use crate::transfer::seeder;

const PIECE: u32 = 64 << 10;
/// Files `0` to `4` of so many whole pieces each.
const PIECES: [u64; 5] = [4, 7, 2, 9, 3];
const ALL: u64 = 25;

/// A folder of five files that is seeded, and a folder to download it to.
struct Rig {
    world: World,
    torrent: Torrent,
    dest: PathBuf,
    _seeder: Seedbank,
    addr: SocketAddr,
}

impl Rig {
    fn new() -> Self {
        let world = World::new();
        let folder = world.dir("payload").join("five");
        for (file, pieces) in (0..).zip(PIECES) {
            let path = folder.join(file.to_string());
            payload::file(&path, pieces * u64::from(PIECE), file);
        }
        let torrent = Torrent::of(&folder, PIECE, &world.dir("metainfo"));
        let (seeder, addr) = seeder(&torrent, &world.path("seeder"));
        Self {
            dest: world.dir("dest"),
            world,
            torrent,
            _seeder: seeder,
            addr,
        }
    }

    fn file(&self, number: usize) -> PathBuf {
        self.dest.join("five").join(number.to_string())
    }

    /// Puts all of it there as another program would.
    fn copy_all(&self) {
        payload::copy(&self.torrent.payload, &self.dest.join("five"));
    }

    fn get(&self) -> Run {
        seedbank::get(&self.torrent.path, &self.dest, &self.world.path("state"))
    }

    fn assert_whole(&self) {
        payload::assert_same(&self.torrent.payload, &self.dest.join("five"));
    }

    /// Downloads what is missing; pieces trusted, rechecked, and bytes downloaded.
    fn complete(&self, run: Run) -> (u64, u64, u64) {
        let mut getter = run.peer(self.addr).spawn();
        getter.succeed();
        self.assert_whole();
        let resume = getter.last("resume");
        let downloaded = number(&getter.last("complete"), "downloaded");
        let counted = |name| number(&resume, name);
        assert_eq!(counted("total"), ALL);
        (counted("trusted"), counted("rechecked"), downloaded)
    }

    /// Is refused with status 13 and a line that names file `number`, and changes nothing.
    fn refused(&self, number: usize) {
        let before: Vec<_> = payload::files(&self.dest).into_keys().collect();
        let content = fs::read(self.file(number)).unwrap();
        let mut getter = self.get().peer(self.addr).spawn();
        let status = getter.process.exit(wait::SOON);
        let said = getter.process.stderr().all();
        assert_eq!(status.code(), Some(13), "{said:?}");
        let path = self.file(number);
        assert!(said.concat().contains(path.to_str().unwrap()), "{said:?}");
        assert!(said.concat().contains("--overwrite"), "{said:?}");
        let after: Vec<_> = payload::files(&self.dest).into_keys().collect();
        assert_eq!(before, after);
        assert!(fs::read(path).unwrap() == content);
    }
}

const BYTES: u64 = PIECE as u64;

#[test]
fn a_complete_folder_is_adopted_without_a_peer() {
    let rig = Rig::new();
    rig.copy_all();
    let mut getter = rig.get().spawn();
    getter.succeed();
    let resume = getter.last("resume");
    assert_eq!(number(&resume, "rechecked"), ALL);
    assert_eq!(number(&resume, "missing"), 0);
    rig.assert_whole();
    // And is known from then on.
    assert_eq!(rig.complete(rig.get()), (ALL, 0, 0));
}

#[test]
fn of_five_files_the_one_that_changed_is_hashed_alone() {
    let rig = Rig::new();
    rig.complete(rig.get());
    for changed in [3, 0] {
        let mut content = fs::read(rig.file(changed)).unwrap();
        content[PIECE as usize + 5] ^= 1;
        fs::write(rig.file(changed), content).unwrap();
        let pieces = PIECES[changed];
        assert_eq!(rig.complete(rig.get()), (ALL - pieces, pieces, BYTES));
    }
}

#[test]
fn a_file_replaced_by_the_same_bytes_costs_a_hash_and_no_download() {
    let rig = Rig::new();
    rig.complete(rig.get());
    let content = fs::read(rig.file(1)).unwrap();
    fs::remove_file(rig.file(1)).unwrap();
    fs::write(rig.file(1), content).unwrap();
    assert_eq!(rig.complete(rig.get()), (ALL - PIECES[1], PIECES[1], 0));
}

#[test]
fn a_strangers_file_of_the_same_length_is_refused_and_taken_over_when_told_to() {
    let rig = Rig::new();
    rig.copy_all();
    payload::file(&rig.file(3), PIECES[3] * BYTES, 333);
    rig.refused(3);
    // What is told once is not guessed from then on.
    rig.refused(3);
    let told = rig.get().switch("--overwrite");
    assert_eq!(rig.complete(told), (0, ALL, PIECES[3] * BYTES));
}

#[test]
fn a_shorter_file_is_refused_and_taken_over_when_told_to() {
    let rig = Rig::new();
    rig.copy_all();
    let short = fs::read(rig.file(1)).unwrap()[..3 * PIECE as usize].to_vec();
    fs::write(rig.file(1), &short).unwrap();
    rig.refused(1);
    let told = rig.get().switch("--overwrite");
    let (trusted, rechecked, downloaded) = rig.complete(told);
    assert_eq!((trusted, rechecked), (0, ALL - PIECES[1]));
    assert_eq!(downloaded, PIECES[1] * BYTES);
}

#[test]
fn a_longer_file_is_refused_and_taken_over_when_told_to() {
    let rig = Rig::new();
    rig.copy_all();
    let mut long = fs::read(rig.file(4)).unwrap();
    long.extend(b"and more");
    fs::write(rig.file(4), &long).unwrap();
    rig.refused(4);
    let told = rig.get().switch("--overwrite");
    assert_eq!(rig.complete(told).2, PIECES[4] * BYTES);
}

#[test]
fn after_a_kill_only_what_was_in_flight_is_hashed_in_whichever_file_it_lies() {
    let mut random = Random::of_this_run("after_a_kill_only_what_was_in_flight");
    let rig = Rig::new();
    let mut getter = rig
        .get()
        .peer(rig.addr)
        .flag("--max-down", "768KiB")
        .spawn();
    let moment = 3 + random.below(ALL - 6);
    getter.wait_for("have", wait::SOON, |have| {
        number(have, "verified") >= moment
    });
    getter.process.kill();
    let durable = getter
        .all("durable")
        .last()
        .map_or(0, |event| number(event, "pieces"));
    let verified = number(&getter.last("have"), "verified");
    let (trusted, rechecked, downloaded) = rig.complete(rig.get());
    assert!(trusted >= durable, "{durable} durable, {trusted} trusted");
    // Verified and not durable yet: no more than that is hashed. A line of the log may come later than a note.
    assert!(
        rechecked <= ALL - durable && trusted + rechecked >= verified,
        "{durable} durable, {verified} verified, {trusted} trusted, {rechecked} rechecked"
    );
    assert!(downloaded <= (ALL - verified) * BYTES, "{downloaded}");
}

#[test]
fn what_was_only_shared_is_the_users_and_no_download_takes_it_over() {
    let rig = Rig::new();
    rig.copy_all();
    let state = rig.world.path("state");
    let mut shared = seedbank::seed(&rig.torrent.path, &rig.dest, &state).spawn();
    shared.ready(1);
    shared.stop(wait::SOON);
    // Rewritten in place: the same file to the system, and nothing of it is the torrent's any more.
    fs::write(rig.file(2), "a new text").unwrap();
    rig.refused(2);
    rig.complete(rig.get().switch("--overwrite"));
}

#[test]
fn zeros_in_a_strangers_file_do_not_make_it_the_torrents() {
    let mut rig = Rig::new();
    let folder = rig.world.dir("disk");
    let image = |seed| {
        let path = folder.join("disk.img");
        payload::file(&path, 4 * BYTES, seed);
        let mut bytes = fs::read(&path).unwrap();
        bytes[usize::try_from(2 * BYTES).unwrap()..].fill(0);
        (path, bytes)
    };
    let (path, bytes) = image(1);
    fs::write(&path, bytes).unwrap();
    rig.torrent = Torrent::of(&path, PIECE, &rig.world.dir("metainfo"));
    let (_, strange) = image(2);
    let there = rig.dest.join("disk.img");
    fs::write(&there, &strange).unwrap();
    let mut getter = rig.get().peer(rig.addr).spawn();
    assert_eq!(getter.process.exit(wait::SOON).code(), Some(13));
    assert!(fs::read(there).unwrap() == strange);
}
