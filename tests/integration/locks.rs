//! Two processes never share a state folder, nor write one file.

use std::time::Duration;

use crate::common::payload::{self, MIB};
use crate::common::seedbank::{self, Seedbank, number};
use crate::common::wire::one_file;
use crate::common::{World, wait};
use crate::transfer::seeder;

/// `refused` must end soon with status 15 and one line that has `path` and the pid of `holder`.
fn refused(mut refused: Seedbank, path: &std::path::Path, holder: &mut Seedbank) {
    let status = refused.process.exit(wait::SOON);
    let said = refused.process.stderr().all().join("\n");
    assert_eq!(status.code(), Some(15), "{said}");
    assert!(said.contains(path.to_str().unwrap()), "no path in: {said}");
    let pid = holder.process.pid().to_string();
    assert!(said.contains(&pid), "no pid {pid} in: {said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(holder.process.runs(), "{}", holder.process.transcript());
}

#[test]
fn a_second_process_on_the_same_state_folder_is_refused() {
    let world = World::new();
    let folder = world.dir("payload");
    let (one, two) = (
        one_file(&folder, "one", MIB, 1),
        one_file(&folder, "two", MIB, 2),
    );
    let (mut first, _) = seeder(&one, &world.path("state"));
    let second = seedbank::get(&two.path, &world.dir("dest"), &world.path("state")).spawn();
    refused(second, &world.path("state"), &mut first);
    assert_eq!(std::fs::read_dir(world.path("dest")).unwrap().count(), 0);
}

#[test]
fn a_second_writer_of_the_same_file_is_refused_and_later_adopts_it() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "shared", 6 * MIB, 3);
    let (_seeder, addr) = seeder(&torrent, &world.path("seeder"));
    let dest = world.dir("dest");
    let run = |state: &str| seedbank::get(&torrent.path, &dest, &world.path(state)).peer(addr);
    let mut first = run("first").flag("--max-down", "2MiB").spawn();
    first.wait_for("have", wait::SOON, |_| true);
    refused(
        run("second").spawn(),
        &dest.join(torrent.name()),
        &mut first,
    );
    first.succeed();
    payload::assert_same(&torrent.payload, &dest.join(torrent.name()));

    let mut second = run("second").spawn();
    second.succeed();
    assert_eq!(number(&second.last("complete"), "downloaded"), 0);
    payload::assert_same(&torrent.payload, &dest.join(torrent.name()));
}

#[test]
fn a_complete_file_may_be_seeded_by_several() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "served", 2 * MIB, 4);
    let (_one, first) = seeder(&torrent, &world.path("one"));
    let (_two, second) = seeder(&torrent, &world.path("two"));
    let mut getter = seedbank::get(&torrent.path, &world.dir("dest"), &world.path("getter"))
        .peers(&[first, second])
        .spawn();
    getter.succeed();
}

#[test]
fn the_locks_of_a_killed_process_are_gone_with_it() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "killed", 6 * MIB, 5);
    let (_seeder, addr) = seeder(&torrent, &world.path("seeder"));
    let dest = world.dir("dest");
    let run = || seedbank::get(&torrent.path, &dest, &world.path("state")).peer(addr);
    let mut killed = run().flag("--max-down", "1MiB").spawn();
    killed.wait_for("have", wait::SOON, |_| true);
    killed.process.kill();
    let mut again = run().spawn();
    assert_eq!(again.process.exit(Duration::from_secs(30)).code(), Some(0));
}
