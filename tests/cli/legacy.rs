//! The original client's commands. Sharing and fetching with them needs the engine; being understood does not.

use crate::support::World;

#[test]
fn the_original_flags_are_understood() {
    let world = World::new();
    world.refused(&["-seed", "none", "-dht-listen", ""], 3, "none");
    world.refused(&["--seed=none", "-tcp-listen=:0"], 3, "none");
    world.refused(
        &["-get", "none.bit", "-dest", "d", "-keep", "1200"],
        3,
        "none.bit",
    );
    world.refused(
        &["-get=none.bit", "--dest=d", "-bootstrap", ""],
        3,
        "none.bit",
    );
    assert!(!world.path("d").exists());
}

#[test]
fn both_modes_at_once_are_bad_usage() {
    let world = World::new();
    assert_eq!(world.run(&["-seed", "a", "-get", "b"]).code, 28);
    assert_eq!(world.run(&["-seed"]).code, 28);
    assert_eq!(world.run(&["-dest"]).code, 28);
}
