//! `state`.

use std::fs;
use std::path::PathBuf;

use crate::support::World;

const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

#[test]
fn a_folder_that_does_not_exist_is_not_made() {
    let world = World::new();
    assert_eq!(
        world
            .run(&["state", "list", "--json", "--state", "s"])
            .json(),
        serde_json::json!([])
    );
    world.refused(&["state", "check", "--state", "s"], 3, "s");
    world.refused(&["state", "rebuild", "--state", "s"], 3, "s");
    world.refused(&["state", "forget", HASH, "--state", "s"], 3, HASH);
    assert!(!world.path("s").exists());
}

#[test]
fn the_folder_follows_the_flags_the_port_and_the_environment() {
    let world = World::new();
    let named = |args: &[&str]| world.run(&[&["state", "check"], args].concat()).stderr;
    assert!(named(&[]).contains("/home/.local/state/seedbank/default"));
    assert!(named(&["--dht-listen", ":20000"]).contains("/seedbank/node-20000"));
    assert!(named(&["--state", "mine"]).contains("mine"));
    let mut command = world.command(&["state", "check"]);
    let output = command.env("SEEDBANK_STATE", "theirs").output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("theirs"));
    let mut command = world.command(&["state", "check"]);
    let output = command.env("XDG_STATE_HOME", "/nowhere").output().unwrap();
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("/nowhere/seedbank/default")
    );
}

/// A world whose state folder `s` knows one torrent, which is whole in `d`; its info-hash.
fn with_torrent() -> (World, String) {
    let world = World::new();
    world.file("d/payload.bin", &[7; 100_000]);
    let made = world.ok(&[
        "create",
        "d/payload.bin",
        "-o",
        "x.torrent",
        "--format",
        "torrent",
    ]);
    let is_hash = |word: &&str| word.len() == 40 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = made.split(|c: char| !c.is_ascii_alphanumeric());
    let hash = words.into_iter().find(is_hash).unwrap().to_owned();
    get(&world, "x.torrent");
    (world, hash)
}

fn get(world: &World, source: &str) {
    let args = [
        "get", source, "--dest", "d", "--state", "s", "--log", "json",
    ];
    let network = ["--tcp-listen", "127.0.0.1:0", "--dht-listen", ""];
    world.ok(&[&args[..], &network].concat());
}

fn of_catalog(world: &World, hash: &str) -> [PathBuf; 3] {
    ["torrent", "json", "json.copy"]
        .map(|end| world.path("s/torrents").join(format!("{hash}.{end}")))
}

fn list(world: &World) -> serde_json::Value {
    let ended = world.run(&["state", "list", "--json", "--state", "s"]);
    serde_json::from_str(&ended.stdout).unwrap()
}

#[test]
fn one_copy_of_the_choices_is_enough_and_rebuild_writes_the_other_anew() {
    let (world, hash) = with_torrent();
    for damaged in &of_catalog(&world, &hash)[1..] {
        fs::write(damaged, "{\"version\":1,").unwrap();
        assert_eq!(
            list(&world)[0]["dest"],
            world.path("d").display().to_string()
        );
        let check = world.run(&["state", "check", "--state", "s"]);
        assert_eq!(check.code, 1, "{}", check.stdout);
        assert!(check.stdout.contains("state rebuild"), "{}", check.stdout);
        world.ok(&["state", "rebuild", "--state", "s"]);
        world.ok(&["state", "check", "--state", "s"]);
    }
}

#[test]
fn a_torrent_whose_place_is_lost_is_listed_and_taken_up_again_where_it_is_said_to_be() {
    let (world, hash) = with_torrent();
    for damaged in &of_catalog(&world, &hash)[1..] {
        fs::write(damaged, "").unwrap();
    }
    let listed = list(&world);
    assert_eq!(listed[0]["info_hash"], hash.as_str());
    assert_eq!(listed[0]["name"], "payload.bin");
    assert!(listed[0]["dest"].is_null(), "{listed}");
    let check = world.run(&["state", "check", "--state", "s"]);
    assert_eq!(check.code, 1);
    let advice = format!("seedbank get {hash} --dest DIR");
    assert!(check.stdout.contains(&advice), "{}", check.stdout);
    world.ok(&["state", "rebuild", "--state", "s"]);
    assert!(list(&world)[0]["dest"].is_null());
    get(&world, "x.torrent");
    world.ok(&["state", "check", "--state", "s"]);
    assert_eq!(
        list(&world)[0]["dest"],
        world.path("d").display().to_string()
    );
}

#[test]
fn a_damaged_metainfo_is_named_and_can_be_replaced_or_forgotten() {
    let (world, hash) = with_torrent();
    let [metainfo, ..] = of_catalog(&world, &hash);
    let sound = fs::read(&metainfo).unwrap();
    let mut flipped = sound.clone();
    let at = flipped
        .windows(6)
        .position(|some| some == b"pieces")
        .unwrap()
        + 15;
    flipped[at] ^= 1;
    for damaged in [&sound[..40], &[], &flipped] {
        fs::write(&metainfo, damaged).unwrap();
        for action in ["list", "check"] {
            let ended = world.run(&["state", action, "--state", "s", "--log", "human"]);
            assert_eq!(ended.code, 1, "{action}: {}", ended.stdout);
            let said = ended.stdout + &ended.stderr;
            assert!(said.contains(&hash), "{action}: {said}");
        }
    }
    get(&world, "x.torrent");
    world.ok(&["state", "check", "--state", "s"]);
    fs::write(&metainfo, "d").unwrap();
    world.ok(&["state", "forget", &hash, "--state", "s"]);
    assert_eq!(list(&world), serde_json::json!([]));
    world.refused(&["state", "forget", &hash, "--state", "s"], 3, &hash);
}

#[test]
fn what_is_not_known_is_not_moved_and_no_folder_is_made() {
    let world = World::new();
    world.refused(&["state", "move", HASH, "d", "--state", "s"], 3, HASH);
    assert!(!world.path("s").exists() && !world.path("d").exists());
    world.file("s/file", b"");
    world.refused(&["state", "move", HASH, "d", "--state", "s"], 3, HASH);
    assert_eq!(world.run(&["state", "move", HASH]).code, 28);
    assert!(!world.path("d").exists());
}
