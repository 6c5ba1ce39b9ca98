//! The original client's commands run as they were written: one dash, no subcommand.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::payload::{self, MIB};
use crate::common::seedbank::{self, Seedbank, number};
use crate::common::{World, wait};

fn original(home: &Path, line: &[&str]) -> Command {
    let mut command = seedbank::command(home);
    command.args(line).args(["-dht-listen", ""]);
    command
}

#[test]
fn the_original_commands_share_and_fetch_a_file_and_resume() {
    let world = World::new();
    let film = world.dir("Movies").join("big_buck_bunny.mp4");
    payload::file(&film, 3 * MIB + 5, 1);
    let bit = world.path("Movies/big_buck_bunny.mp4.bit");
    let film_arg = film.to_str().unwrap();
    let seed = || {
        let line = ["-seed", film_arg, "-tcp-listen", "127.0.0.1:0"];
        Seedbank::spawn(&mut original(&world.dir("home-1"), &line))
    };
    let mut seeder = seed();
    let addr = seeder.addr().to_string();
    assert!(
        bit.is_file(),
        "the first run writes the metainfo beside the file"
    );

    let dest = world.dir("Downloads");
    let bit_arg = bit.to_str().unwrap();
    let get = |peer: &str| {
        let line = [
            "-get",
            bit_arg,
            "-dest",
            dest.to_str().unwrap(),
            "-tcp-listen",
            "127.0.0.1:0",
            "-peer",
            peer,
        ];
        Seedbank::spawn(&mut original(&world.dir("home-2"), &line))
    };
    let mut getter = get(&addr);
    getter.succeed();
    payload::assert_same(&film, &dest.join("big_buck_bunny.mp4"));
    assert_eq!(seeder.stop(Duration::from_secs(5)), Some(0));

    // Each command again, its state warm.
    let written = std::fs::read(&bit).unwrap();
    let again = seed();
    assert_eq!(std::fs::read(&bit).unwrap(), written);
    let mut getter = get(&again.addr().to_string());
    getter.succeed();
    assert_eq!(number(&getter.last("complete"), "downloaded"), 0);
    assert_eq!(number(&getter.last("resume"), "rechecked"), 0);
}

#[test]
fn values_may_be_attached_and_dashes_doubled() {
    let world = World::new();
    let file = world.dir("shared").join("f.bin");
    payload::file(&file, 100_000, 2);
    let seed = format!("-seed={}", file.display());
    let seeder = Seedbank::spawn(&mut original(
        &world.dir("home-1"),
        &[&seed, "-tcp-listen=127.0.0.1:0"],
    ));
    let peer = format!("--peer={}", seeder.addr());
    let bit = format!("{}.bit", file.display());
    let dest = world.dir("dest");
    let getter = Seedbank::spawn(&mut original(
        &world.dir("home-2"),
        &[
            "--get",
            &bit,
            "--dest",
            dest.to_str().unwrap(),
            "--tcp-listen=127.0.0.1:0",
            &peer,
            "-keep",
            "1200",
        ],
    ));
    getter.wait_for("complete", wait::SOON, |_| true);
    payload::assert_same(&file, &dest.join("f.bin"));
}
