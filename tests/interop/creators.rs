//! `seedbank create` and the makers of metainfo that people use give one payload one info-hash.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::client::Client;
use crate::common::metainfo::{self, Torrent};
use crate::common::payload;
use crate::common::process::Process;
use crate::common::{World, seedbank, skip, wait};
use crate::libtorrent::{self, Libtorrent};

const PIECE: u32 = 64 * 1024;
const TRACKER: &str = "http://127.0.0.1:9/announce";

/// The payloads: one file, one byte, an exact multiple of the piece length, a folder.
fn payloads(parent: &Path) -> Vec<PathBuf> {
    let files = [
        ("one file.bin", 1_000_003),
        ("byte.bin", 1),
        ("exact.bin", 8 * u64::from(PIECE)),
    ];
    let mut all = Vec::new();
    for (seed, (name, len)) in (10..).zip(files) {
        let path = parent.join(name);
        payload::file(&path, len, seed);
        all.push(path);
    }
    all.push(payload::numbers(parent));
    all
}

fn seedbank_create(payload: &Path, out: &Path, more: &[&str]) -> [u8; 20] {
    let mut command = seedbank::command(out.parent().unwrap());
    command.arg("create").arg(payload).arg("-o").arg(out);
    command.args(["--format", "torrent", "--piece-length", &PIECE.to_string()]);
    let mut process = Process::spawn("seedbank create", command.args(more));
    process.succeed(wait::SOON);
    let hash = metainfo::info_hash_of(out);
    let printed = process.stdout().tail(usize::MAX);
    let hex = data_encoding::HEXLOWER.encode(&hash);
    assert!(printed.contains(&hex), "{hex} is not in: {printed}");
    hash
}

/// Compares for every payload that `keep` accepts. `make` runs the other tool: payload, then the file to write.
fn agree(more: &[&str], keep: impl Fn(&Path) -> bool, make: impl Fn(&Path, &Path) -> Command) {
    let world = World::new();
    let mut compared = 0;
    for payload in payloads(&world.dir("payload")) {
        if !keep(&payload) {
            continue;
        }
        let out = world.path("theirs.torrent");
        let _ = std::fs::remove_file(&out);
        Process::spawn("maker", &mut make(&payload, &out)).succeed(wait::SOON);
        let ours = seedbank_create(&payload, &world.path("ours.torrent"), more);
        assert_eq!(ours, metainfo::info_hash_of(&out), "{}", payload.display());
        compared += 1;
    }
    assert!(compared >= 3);
}

#[test]
fn the_info_hash_is_the_one_that_the_specification_gives() {
    let world = World::new();
    for payload in payloads(&world.dir("payload")) {
        let spelled_out = Torrent::of(&payload, PIECE, &world.path("meta"));
        assert_eq!(
            metainfo::info_hash_of(&spelled_out.path),
            spelled_out.info_hash
        );
        let ours = seedbank_create(&payload, &world.path("ours.torrent"), &[]);
        assert_eq!(ours, spelled_out.info_hash, "{}", payload.display());
    }
}

#[test]
fn libtorrent_gives_the_same_info_hash() {
    if !Libtorrent.available() {
        return;
    }
    agree(
        &[],
        |_| true,
        |payload, out| {
            let mut command = libtorrent::command("libtorrent_peer.py");
            command.arg("create").arg(payload).arg(out);
            command.arg(PIECE.to_string());
            command
        },
    );
}

#[test]
fn mktorrent_gives_the_same_info_hash() {
    if skip::unless_installed("mktorrent").is_none() {
        return;
    }
    agree(
        &[],
        |_| true,
        |payload, out| {
            let mut command = Command::new("mktorrent");
            let exponent = PIECE.ilog2().to_string();
            command.args(["-l", &exponent, "-o"]).arg(out).arg(payload);
            command
        },
    );
}

#[test]
fn transmission_create_gives_the_same_info_hash() {
    if skip::unless_installed("transmission-create").is_none() {
        return;
    }
    // Before version 4 it writes `private = 0` into the info dictionary of a torrent that is not private, so both make
    // a private one. It leaves empty files out, and takes letters that are not ASCII for negative numbers when it sorts.
    let private = ["--private", "--announce", TRACKER];
    let suit = |payload: &Path| {
        if payload.is_dir() {
            std::fs::remove_file(payload.join("empty")).unwrap();
            std::fs::rename(payload.join("ünïcödé"), payload.join("unicode")).unwrap();
        }
        true
    };
    agree(&private, suit, |payload, out| {
        let mut command = Command::new("transmission-create");
        let kib = (PIECE / 1024).to_string();
        command.args(["-p", "-t", TRACKER, "-s", &kib, "-o"]);
        command.arg(out).arg(payload);
        command
    });
}
