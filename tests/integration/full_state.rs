//! The disk that holds the state folder fills up, which costs torrents their progress for as long as it is full, and no more.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::metainfo::Torrent;
use crate::common::namespace::with_small_disk;
use crate::common::seedbank::{self, number};
use crate::common::wire::one_file;
use crate::common::{World, payload, wait};

/// A file that takes all the room there is.
fn fill(at: &Path) {
    let mut ballast = File::create(at).unwrap();
    for len in [1 << 20, 4096, 1] {
        while ballast.write_all(&vec![1; len]).is_ok() {}
    }
}

fn state(world: &World, folder: &Path, action: &[&str]) -> Output {
    let mut command = seedbank::command(world.root());
    run(command.arg("state").args(action).arg("--state").arg(folder))
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{command:?}: {said}");
    output
}

#[test]
fn torrents_stop_while_the_disk_of_the_state_is_full_and_nothing_is_lost() {
    let world = World::new();
    let source = world.dir("source");
    let torrents: Vec<Torrent> = (0..3)
        .map(|n| one_file(&source, &format!("{n}.bin"), 12 << 20, 700 + n))
        .collect();
    let paths: Vec<&Path> = torrents
        .iter()
        .map(|torrent| torrent.path.as_path())
        .collect();
    let disk = world.dir("disk");
    let (dest, folder, ballast) = (world.dir("dest"), disk.join("state"), disk.join("ballast"));
    with_small_disk(&disk, 8 << 20, || {
        let seeder = seedbank::seed_all(&paths, &source, &world.path("seeder")).spawn();
        let addr = seeder.ready(3);
        let get = |paths: &[&Path], rate: &str| {
            let run = seedbank::get_all(paths, &dest, &folder).peer(addr);
            run.flag("--max-down", rate).spawn()
        };

        // Full while it runs.
        let mut getter = get(&paths[..2], "4MiB");
        getter.wait_for("durable", wait::TRANSFER, |_| true);
        fill(&ballast);
        getter.wait_for("error", wait::TRANSFER, |error| {
            error["message"].as_str().unwrap().contains("no space left")
        });
        std::fs::remove_file(&ballast).unwrap();
        let status = getter.process.exit(wait::TRANSFER).code();
        assert!(
            matches!(status, Some(0 | 9)),
            "{}",
            getter.process.transcript()
        );
        let stderr = getter.process.stderr().all().join("\n");
        assert!(!stderr.contains("panicked"), "{stderr}");
        let durable = |torrent: &Torrent| {
            let events = getter.all("durable").into_iter();
            let of_it = events.filter(|event| event["info_hash"] == torrent.hex().as_str());
            of_it
                .map(|event| number(&event, "pieces"))
                .max()
                .unwrap_or(0)
        };

        // Full at a start: one line, its own status, and what was durable stays so.
        fill(&ballast);
        let mut refused = get(&paths, "1GiB");
        let status = refused.process.exit(wait::TRANSFER).code();
        assert_eq!(status, Some(9), "{}", refused.process.transcript());
        let stderr = refused.process.stderr().all().join("\n");
        assert!(!stderr.contains("panicked"), "{stderr}");
        for action in [&["rebuild"][..], &["forget", &torrents[2].hex()], &["list"]] {
            let output = state(&world, &folder, action);
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 3 | 9)), "{action:?}: {output:?}");
        }
        std::fs::remove_file(&ballast).unwrap();

        let output = state(&world, &folder, &["list", "--json"]);
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        for torrent in &torrents[..2] {
            let mut known = listed.as_array().unwrap().iter();
            let known = known.any(|known| known["info_hash"] == torrent.hex().as_str());
            assert!(known, "{} is not in {listed}", torrent.hex());
        }
        let mut last = get(&paths, "1GiB");
        last.succeed();
        for torrent in &torrents {
            let at = dest.join(torrent.name());
            payload::assert_same(&torrent.payload, &at);
            let mut resumes = last.all("resume").into_iter();
            let resume = resumes.find(|event| event["info_hash"] == torrent.hex().as_str());
            let resume = resume.unwrap();
            let total = number(&resume, "total");
            // A rebuild has it hashed; nothing of it is fetched again.
            assert!(
                total - number(&resume, "missing") >= durable(torrent),
                "{resume}"
            );
        }
    });
}
