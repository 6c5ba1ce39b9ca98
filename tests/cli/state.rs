//! `state`.

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
