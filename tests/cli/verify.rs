//! `verify`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{World, bytes};

/// A folder of two files in three pieces of 16 KiB, with its metainfo beside it.
fn folder() -> World {
    let world = World::new();
    world.file("f/one", &bytes(20_000, 1));
    world.file("f/two", &bytes(20_000, 2));
    world.ok(&["create", "f", "--piece-length", "16KiB"]);
    world
}

#[test]
fn a_good_payload_is_found_beside_the_metainfo_in_a_folder_or_outright() {
    let world = folder();
    world.ok(&["verify", "f.bit"]);
    world.ok(&["verify", "f.torrent", "."]);
    world.ok(&["verify", "f.torrent", "f"]);
    fs::create_dir(world.path("else")).unwrap();
    fs::rename(world.path("f"), world.path("else/renamed")).unwrap();
    world.ok(&["verify", "f.torrent", "else/renamed"]);
    assert_eq!(world.run(&["verify", "f.torrent"]).code, 32);
    world.file("single", b"abc");
    world.ok(&["create", "single"]);
    fs::rename(world.path("single"), world.path("else/moved")).unwrap();
    world.ok(&["verify", "single.bit", "else/moved"]);
}

#[test]
fn a_bad_piece_is_named_with_the_files_and_bytes_it_touches() {
    let world = folder();
    let mut two = fs::read(world.path("f/two")).unwrap();
    two[0] ^= 1;
    fs::write(world.path("f/two"), &two).unwrap();
    let ended = world.run(&["verify", "f.bit"]);
    assert_eq!(ended.code, 32);
    let wanted = "bad piece 1: f/one bytes 16384-19999, f/two bytes 0-12767";
    assert_eq!(
        ended.stdout.lines().next(),
        Some(wanted),
        "{}",
        ended.stdout
    );
    assert_eq!(
        fs::read(world.path("f/two")).unwrap(),
        two,
        "verify changed a file"
    );
}

#[test]
fn the_json_document_counts_pieces_by_file() {
    let world = folder();
    fs::remove_file(world.path("f/two")).unwrap();
    let ended = world.run(&["verify", "f.bit", "--json"]);
    assert_eq!(ended.code, 32);
    let mut document = ended.json();
    assert!(document["seconds"].as_f64().unwrap() >= 0.0);
    assert_eq!(document["info_hash"].as_str().unwrap().len(), 40);
    let object = document.as_object_mut().unwrap();
    object.remove("seconds");
    object.remove("info_hash");
    let wanted = json!({
        "pieces": 3, "good": 1, "bad": 0, "missing": 2, "bytes": 16_384,
        "files": [
            {"path": "f/one", "length": 20_000, "good": 1, "bad": 0, "missing": 1},
            {"path": "f/two", "length": 20_000, "good": 0, "bad": 0, "missing": 2},
        ],
    });
    assert_eq!(document, wanted);
    assert!(!world.path("f/two").exists(), "verify made a file");
}

#[test]
fn the_digest_of_the_whole_is_checked_too() {
    let world = World::new();
    world.file("p", b"payload");
    world.ok(&["create", "p"]);
    let bit = fs::read_to_string(world.path("p.bit")).unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&bit).unwrap();
    assert!(document["blake3"].is_string());
    document["blake3"] = json!("00".repeat(32));
    world.file("p.bit", document.to_string().as_bytes());
    world.ok(&["verify", "p.torrent"]);
    world.run(&["verify", "p.bit"]).refused(32, "BLAKE3");
}

#[test]
fn an_empty_file_that_is_missing_counts() {
    let world = World::new();
    world.file("f/one", b"1");
    world.file("f/none", b"");
    world.ok(&["create", "f"]);
    world.ok(&["verify", "f.bit"]);
    fs::remove_file(world.path("f/none")).unwrap();
    let ended = world.run(&["verify", "f.bit"]);
    assert_eq!(ended.code, 32);
    assert!(ended.stderr.contains("f/none"), "{}", ended.stderr);
}

#[test]
fn a_place_that_does_not_exist_is_named() {
    let world = folder();
    world.refused(&["verify", "f.bit", "nowhere"], 3, "nowhere");
    world.refused(&["verify", "f.bit", "f.torrent"], 28, "f.torrent");
}

#[test]
fn a_hole_is_missing_and_takes_no_time_to_tell() {
    let world = World::new();
    let path = world.file("big", &bytes(64 << 10, 7));
    world.ok(&["create", "big", "--piece-length", "16KiB"]);
    let file = File::create(&path).unwrap();
    file.write_all_at(&bytes(64 << 10, 7)[..20_000], 0).unwrap();
    file.set_len(64 << 10).unwrap();
    let ended = world.run(&["verify", "big.bit"]);
    assert_eq!(ended.code, 32);
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(lines[0], "bad piece 1: big bytes 16384-32767");
    assert_eq!(lines[1], "big: 1 of 4 pieces bad, 2 of 4 pieces missing");
    let help = world.ok(&["verify", "--help"]);
    assert!(help.contains("hole"), "{help}");
}

#[test]
fn only_what_is_asked_for_is_looked_at() {
    let world = World::new();
    for (name, seed) in [("f/a/one", 1), ("f/a/two", 2), ("f/b", 3)] {
        world.file(name, &bytes(32 << 10, seed));
    }
    world.ok(&["create", "f", "--piece-length", "16KiB"]);
    fs::remove_file(world.path("f/b")).unwrap();
    for only in ["f/a", "a", "a/", "f/a/one", "a/two"] {
        let document: Value =
            serde_json::from_str(&world.ok(&["verify", "f.bit", "--json", "--only", only]))
                .unwrap();
        let pieces = if only.trim_end_matches('/').ends_with('a') {
            4
        } else {
            2
        };
        assert_eq!(document["pieces"], pieces, "{only}");
        assert_eq!(document["good"], pieces, "{only}");
        assert_eq!(document["files"].as_array().unwrap().len(), pieces / 2);
    }
    let named = world.ok(&["verify", "f.bit", "--only", "a", "-v"]);
    assert!(
        named.starts_with("f/a/one: good\nf/a/two: good\n"),
        "{named}"
    );
    world.refused(&["verify", "f.bit", "--only", "c"], 28, "--only c");
    assert_eq!(world.run(&["verify", "f.bit", "--only", "b"]).code, 32);
}

const PIECE: u64 = 16 << 20;
const PIECES: u64 = 64;

/// Something that takes a while to hash and none to make: in each piece a page that is not zeros.
struct Long {
    world: World,
    path: PathBuf,
}

impl Long {
    fn new() -> Self {
        let world = World::new();
        let path = world.path("long");
        let file = File::create(&path).unwrap();
        file.set_len(PIECE * PIECES).unwrap();
        for piece in 0..PIECES {
            let page = bytes(4_096, piece);
            file.write_all_at(&page, piece * PIECE + 8_192).unwrap();
        }
        world.ok(&["create", "long", "--piece-length", "16MiB"]);
        Self { world, path }
    }

    fn verify(&self) -> Command {
        self.world
            .command(&["verify", "long.bit", "--json", "--state", "state"])
    }

    /// A run that has left something for the next one.
    fn begin(&self) -> Child {
        let mut verify = self.verify();
        let child = verify.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = child.spawn().unwrap();
        let journals = self.world.path("state/verify");
        let give_up = Instant::now() + Duration::from_secs(60);
        while written(&journals) == 0 {
            assert!(Instant::now() < give_up, "nothing was kept");
            std::thread::yield_now();
        }
        child
    }

    /// The document of a run to the end, and what it said.
    fn finish(&self, code: i32) -> (Value, String) {
        let ended = crate::support::Ended::of(self.verify().output().unwrap());
        assert_eq!(ended.code, code, "{}", ended.stderr);
        assert_eq!(written(&self.world.path("state/verify")), 0, "left behind");
        (ended.json(), ended.stderr)
    }
}

/// Bytes of the journals in a folder.
fn written(journals: &Path) -> u64 {
    let entries = fs::read_dir(journals).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.metadata().map_or(0, |found| found.len()))
        .sum()
}

#[test]
fn a_run_that_was_killed_is_gone_on_with() {
    let long = Long::new();
    let mut child = long.begin();
    child.kill().unwrap();
    child.wait().unwrap();
    let (document, said) = long.finish(0);
    assert_eq!(document["good"], PIECES);
    let bytes = document["bytes"].as_u64().unwrap();
    assert!(
        bytes > 0 && bytes < PIECE * PIECES,
        "{bytes} bytes were hashed again"
    );
    assert!(said.contains("going on"), "{said}");
    let (again, _) = long.finish(0);
    assert_eq!(
        again["bytes"],
        PIECE * PIECES,
        "a run that ended is not gone on with"
    );
}

#[test]
fn ctrl_c_says_how_far_it_came_and_what_changed_since_is_hashed_again() {
    let long = Long::new();
    let child = long.begin();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let ended = crate::support::Ended::of(child.wait_with_output().unwrap());
    assert_eq!(ended.code, 7, "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    assert!(
        ended
            .stderr
            .contains("of 64 pieces; run the same command again"),
        "{}",
        ended.stderr
    );

    let file = File::options().write(true).open(&long.path).unwrap();
    file.write_all_at(b"x", 8_192).unwrap();
    let (document, said) = long.finish(32);
    assert_eq!(document["bad"], 1);
    assert_eq!(document["good"], PIECES - 1);
    assert_eq!(document["bytes"], PIECE * PIECES, "{said}");
}

/// How many pages of the first and second half of a file are in the page cache, by `fincore`; `None` if it is not installed.
fn cached(path: &Path) -> Option<u64> {
    let fincore = Command::new("fincore")
        .args(["--bytes", "--noheadings", "--output", "RES"])
        .arg(path)
        .output()
        .ok()?;
    String::from_utf8(fincore.stdout).ok()?.trim().parse().ok()
}

#[test]
fn the_page_cache_is_left_as_it_was() {
    const LEN: usize = 8 << 20;
    let world = World::new();
    let path = world.file("p", &bytes(LEN, 5));
    world.ok(&["create", "p"]);
    let file = File::open(&path).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
    let mut half = vec![0; LEN / 2];
    file.read_exact_at(&mut half, 0).unwrap();
    let before = cached(&path);
    if before != Some(LEN as u64 / 2) {
        return eprintln!("skipped: what is cached cannot be told here: {before:?}");
    }
    world.ok(&["verify", "p.bit"]);
    let (before, after) = (before.unwrap(), cached(&path).unwrap());
    // The kernel cannot let go of a page that another processor holds at that moment.
    let few = LEN as u64 / 32;
    assert!(
        (before..=before + few).contains(&after),
        "{before}, then {after}"
    );
}
