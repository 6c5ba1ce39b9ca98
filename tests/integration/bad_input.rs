//! A wrong command is refused in one line that says what is wrong with what, with its exit status, and nothing is left behind.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::common::metainfo::Torrent;
use crate::common::payload::{self, MIB};
use crate::common::process::Process;
use crate::common::seedbank::{self, LOOPBACK};
use crate::common::wire::one_file;
use crate::common::{World, namespace, skip, wait};

/// Runs `command` to its end, which must be `status` with one line on standard error that has `word`.
fn refused(command: &mut Command, status: i32, word: &str) {
    let mut process = Process::spawn("seedbank", command);
    let code = process.exit(wait::SOON).code();
    let said = process.stderr().all();
    let transcript = process.transcript();
    assert_eq!(code, Some(status), "{transcript}");
    assert_eq!(said.len(), 1, "not one line: {transcript}");
    assert!(said[0].starts_with("error: "), "{transcript}");
    assert!(said[0].contains(word), "no {word:?}: {transcript}");
}

/// `seedbank get SOURCE --dest dest …` in `world`.
fn get(world: &World, source: &Path) -> Command {
    let mut command = seedbank::command(world.root());
    command.arg("get").arg(source);
    command.arg("--dest").arg(world.dir("dest"));
    command.arg("--state").arg(world.path("state"));
    command.args(["--tcp-listen", "127.0.0.1:0", "--dht-listen", ""]);
    command
}

fn assert_empty(folder: &Path) {
    let inside: Vec<_> = fs::read_dir(folder).unwrap().collect();
    assert!(inside.is_empty(), "left behind: {inside:?}");
}

#[test]
fn a_source_that_does_not_exist() {
    let world = World::new();
    refused(
        &mut get(&world, &world.path("none.torrent")),
        3,
        "none.torrent",
    );
    assert_empty(&world.path("dest"));
}

#[test]
fn a_payload_that_does_not_exist() {
    let world = World::new();
    let mut command = seedbank::command(world.root());
    command.arg("seed").arg(world.path("no film.mp4"));
    command.args(["--tcp-listen", "127.0.0.1:0", "--dht-listen", ""]);
    refused(&mut command, 3, "no film.mp4");
    assert!(!world.path("no film.mp4.bit").exists());
}

#[test]
fn a_file_that_is_no_torrent() {
    let world = World::new();
    for (name, content) in [
        ("noise.torrent", &b"\x89PNG, perhaps"[..]),
        ("empty.torrent", b""),
        ("cut.torrent", b"d8:announce"),
        ("deep.torrent", &[b'l'; 1 << 20]),
        ("noise.bit", b"{\"bit\": 1"),
    ] {
        let path = world.path(name);
        fs::write(&path, content).unwrap();
        refused(&mut get(&world, &path), 1, name);
    }
    assert_empty(&world.path("dest"));
}

#[test]
fn a_torrent_that_is_not_valid() {
    let world = World::new();
    let valid = one_file(&world.dir("payload"), "p.bin", MIB, 1);
    let bytes = fs::read(&valid.path).unwrap();
    let with = |from: &str, to: &str| {
        let at = bytes
            .windows(from.len())
            .position(|part| part == from.as_bytes());
        let at = at.unwrap();
        [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
    };
    for (name, content) in [
        (
            "zero.torrent",
            with("12:piece lengthi262144e", "12:piece lengthi0e"),
        ),
        (
            "minus.torrent",
            with("12:piece lengthi262144e", "12:piece lengthi-1e"),
        ),
        (
            "longer.torrent",
            with("6:lengthi1048576e", "6:lengthi1048577e"),
        ),
        ("escape.torrent", with("4:name5:p.bin", "4:name5:../..")),
        ("nameless.torrent", with("4:name5:p.bin", "4:name0:")),
    ] {
        let path = world.path(name);
        fs::write(&path, content).unwrap();
        refused(&mut get(&world, &path), 1, name);
    }
    assert_empty(&world.path("dest"));
}

#[test]
fn a_port_that_is_taken() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "p.bin", MIB, 2);
    let taken = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let mut command = seedbank::command(world.root());
    command.arg("get").arg(&torrent.path);
    command.arg("--dest").arg(world.dir("dest"));
    command.arg("--state").arg(world.path("state"));
    command.args(["--tcp-listen", &addr, "--dht-listen", ""]);
    refused(&mut command, 1, &addr);
    assert_empty(&world.path("dest"));
}

#[test]
fn a_flag_that_makes_no_sense() {
    let world = World::new();
    for line in [
        &["get"][..],
        &["get", "x.torrent", "--no-such-flag"],
        &["get", "x.torrent", "--max-down", "fast"],
        &["get", "x.torrent", "--keep", "a while"],
        &["no-such-command"],
    ] {
        let mut process = Process::spawn("seedbank", seedbank::command(world.root()).args(line));
        let code = process.exit(wait::SOON).code();
        assert_eq!(code, Some(28), "{line:?}: {}", process.transcript());
        assert!(process.stdout().all().is_empty(), "{line:?}");
    }
}

#[test]
fn a_file_that_is_not_this_torrents_is_not_touched() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "p.bin", MIB, 3);
    let mine = world.dir("dest").join("p.bin");
    fs::write(&mine, "my diary").unwrap();
    refused(&mut get(&world, &torrent.path), 13, mine.to_str().unwrap());
    assert_eq!(fs::read(&mine).unwrap(), b"my diary");
}

#[test]
fn a_damaged_payload_is_not_seeded() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "p.bin", MIB, 4);
    let mut bytes = fs::read(&torrent.payload).unwrap();
    bytes[700_000] ^= 0x10;
    fs::write(&torrent.payload, bytes).unwrap();
    let mut command = seedbank::command(world.root());
    command.arg("seed").arg(&torrent.path);
    command.arg("--state").arg(world.path("state"));
    command.args(["--tcp-listen", "127.0.0.1:0", "--dht-listen", ""]);
    refused(&mut command, 32, "p.bin");
}

#[test]
fn a_folder_without_the_right_to_write() {
    if skip::unless_installed("setpriv").is_none() || !skip::unless_root("another user") {
        return;
    }
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "p.bin", MIB, 5);
    // The other user must get at everything but the folder.
    let program = world.path("seedbank");
    fs::copy(env!("CARGO_BIN_EXE_seedbank"), &program).unwrap();
    for path in [world.root(), &world.dir("state"), &world.dir("payload")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    fs::set_permissions(world.dir("dest"), fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command.arg(program).arg("get").arg(&torrent.path);
    command.arg("--dest").arg(world.path("dest"));
    command.arg("--state").arg(world.path("state/it"));
    command.args(["--tcp-listen", "127.0.0.1:0", "--dht-listen", ""]);
    command.env("HOME", world.root());
    refused(&mut command, 16, world.path("dest").to_str().unwrap());
    assert_empty(&world.path("dest"));
}

#[test]
fn a_disk_that_is_too_small_is_noticed_before_a_byte_is_fetched() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "p.bin", 12 * MIB, 6);
    namespace::with_small_disk(&world.dir("dest"), 4 * MIB, || {
        refused(
            &mut get(&world, &torrent.path),
            9,
            world.path("dest").to_str().unwrap(),
        );
        let left: u64 = payload::files(&world.path("dest"))
            .values()
            .map(|path| fs::metadata(path).unwrap().len())
            .sum();
        assert_eq!(left, 0, "{left} bytes are left behind");
    });
}

#[test]
fn a_folder_torrent_into_a_file_of_its_name() {
    let world = World::new();
    let folder = payload::numbers(&world.dir("payload"));
    let torrent = Torrent::of(&folder, 32 * 1024, &world.path("meta"));
    fs::write(world.dir("dest").join("numbers"), "no folder").unwrap();
    let mut process = Process::spawn("seedbank", &mut get(&world, &torrent.path));
    let code = process.exit(wait::SOON).code();
    assert!(matches!(code, Some(13 | 16)), "{}", process.transcript());
    assert_eq!(fs::read(world.path("dest/numbers")).unwrap(), b"no folder");
}
