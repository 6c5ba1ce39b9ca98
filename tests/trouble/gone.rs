//! Mounts that vanish: what was on them is missing, and nothing is made in its place.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::bench::{Bench, Disk, run, together};
use crate::common::payload::MIB;
use crate::common::{namespace, payload, seedbank, wait};

const DISK: Disk<'_> = Disk {
    mkfs: "mkfs.ext4 -q -F -m 0",
    size: 24 * MIB,
    options: "",
};

/// Waits until nobody holds anything of an image any more, and mounts it again.
fn mount_again(image: &Path, at: &Path) {
    let loops = || Command::new("losetup").arg("-j").arg(image).output();
    wait::until("nothing is held of it any more", wait::SOON, || {
        loops().unwrap().stdout.is_empty().then_some(())
    });
    run(&format!(
        "mount -o loop {} {}",
        image.display(),
        at.display()
    ));
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

fn while_it_is_fetched(io: &str) {
    Bench::new().with_disk(&DISK, |bench| {
        let mut getter = bench.get().flag("--io", io).spawn();
        let durable = bench.half_way(&getter, 1);
        run(&format!("umount -l {}", bench.place().display()));
        bench.stops(&getter, "dest/shaky");
        bench.others_go_on(&getter);
        let missing =
            |error: &serde_json::Value| error["message"].as_str().unwrap().contains("is missing");
        getter.wait_for("error", wait::SOON, missing);
        assert!(is_empty(&bench.place()));
        mount_again(&bench.world.path("image/disk"), &bench.place());
        bench.goes_on(&mut getter, durable);
    });
}

/// The whole destination was on it, not only what the torrent has below.
fn with_the_destination() {
    let bench = Bench::new();
    let (image, dest) = (
        bench.world.dir("image").join("disk"),
        bench.world.dir("mount"),
    );
    let set_up = [
        format!("truncate -s 24M {}", image.display()),
        format!("mkfs.ext4 -q -F -m 0 {}", image.display()),
        format!("mount -o loop {} {}", image.display(), dest.display()),
    ];
    namespace::with_mounts(&set_up, || {
        let get = || {
            let get = seedbank::get(&bench.shaky.path, &dest, &bench.world.path("state"));
            get.peer(bench.seeder.addr()).flag("--keep", "forever")
        };
        let mut getter = get().flag("--max-down", "6MiB").spawn();
        let durable = bench.half_way(&getter, 1);
        run(&format!("umount -l {}", dest.display()));
        bench.stops(&getter, "mount");
        let missing =
            |error: &serde_json::Value| error["message"].as_str().unwrap().contains("is missing");
        getter.wait_for("error", wait::SOON, missing);
        assert!(is_empty(&dest));
        mount_again(&image, &dest);
        getter.wait_for("complete", wait::SOON, |_| true);
        payload::assert_same(&bench.shaky.payload, &dest.join("shaky"));
        let resume = getter.last("resume");
        let here = u64::from(bench.shaky.pieces) - resume["missing"].as_u64().unwrap();
        assert!(here >= durable, "{durable} were durable: {resume}");
        assert_eq!(getter.stop(wait::SOON), Some(0));
    });
}

/// Also if nothing but the catalog tells that there was anything.
fn at_a_start() {
    Bench::new().with_disk(&DISK, |bench| {
        let get = || bench.get_these(&[&bench.shaky, &bench.sound]);
        let mut getter = get().flag("--max-down", "8MiB").spawn();
        let durable = bench.half_way(&getter, 1);
        assert_eq!(getter.stop(wait::SOON), Some(7));
        run(&format!("umount {}", bench.place().display()));
        let refused = || {
            let mut getter = get().spawn();
            let status = getter.process.exit(wait::SOON);
            assert_eq!(status.code(), Some(3), "{}", getter.process.transcript());
            let said = getter.process.stderr().all().join("\n");
            assert!(said.contains("is missing"), "{said}");
            bench.others_go_on(&getter);
            assert!(is_empty(&bench.place()));
        };
        refused();
        mount_again(&bench.world.path("image/disk"), &bench.place());
        let mut getter = get().spawn();
        getter.succeed();
        let hex = bench.shaky.hex();
        let resume = getter.wait_for("resume", wait::SOON, |event| event["info_hash"] == hex);
        assert!(resume["trusted"].as_u64().unwrap() >= durable, "{resume}");

        fs::remove_dir_all(bench.world.path("state/db")).unwrap();
        run(&format!("umount {}", bench.place().display()));
        refused();
    });
}

#[test]
fn a_mount_that_vanishes_makes_the_payload_missing_and_never_empty() {
    together(&[
        &|| while_it_is_fetched("pwrite"),
        &|| while_it_is_fetched("mmap"),
        &with_the_destination,
        &at_a_start,
    ]);
}
