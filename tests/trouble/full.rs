//! Disks that fill up.

use std::fs;
use std::path::Path;

use rustix::fs::FallocateFlags;

use crate::bench::{Bench, Disk, fill_up, open, run, together};
use crate::common::payload::MIB;
use crate::common::{namespace, wait};

/// Without extents, so without a way to reserve room.
pub(crate) const CANNOT_RESERVE: Disk<'_> = Disk {
    mkfs: "mkfs.ext2 -q -F -m 0",
    size: 12 * MIB,
    options: "",
};

fn filled_by_another(io: &str) {
    Bench::new().with_disk(&CANNOT_RESERVE, |bench| {
        let mut getter = bench.get().flag("--io", io).spawn();
        let durable = bench.half_way(&getter, 1);
        let ballast = bench.place().join("ballast");
        getter.process.halted(|| fill_up(&ballast));
        bench.stops(&getter, "is full");
        bench.others_go_on(&getter);
        fs::remove_file(&ballast).unwrap();
        bench.goes_on(&mut getter, durable);
    });
}

#[test]
fn a_disk_that_another_program_fills_up_stops_that_torrent_until_there_is_room() {
    together(&[
        &|| filled_by_another("pwrite"),
        &|| filled_by_another("mmap"),
        &a_hole_under_the_mapping_of_a_full_disk,
        &a_disk_in_a_file_that_cannot_grow,
        &a_quota_that_is_used_up,
        &a_full_disk_under_the_state_folder,
    ]);
}

/// Room that was reserved is taken away: somebody punches holes, and fills the disk.
fn a_hole_under_the_mapping_of_a_full_disk() {
    let disk = Disk {
        mkfs: "mkfs.ext4 -q -F -m 0 -O ^has_journal",
        size: 14 * MIB,
        options: "",
    };
    Bench::new().with_disk(&disk, |bench| {
        let mut getter = bench.get().flag("--io", "mmap").spawn();
        let durable = bench.half_way(&getter, 1);
        let ballast = bench.place().join("ballast");
        getter.process.halted(|| {
            punch_holes(&bench.file("a"));
            punch_holes(&bench.file("b"));
            fill_up(&ballast);
        });
        bench.stops(&getter, "is full");
        bench.others_go_on(&getter);
        fs::remove_file(&ballast).unwrap();
        bench.goes_on(&mut getter, durable);
    });
}

/// Takes its blocks from whatever of a file was not written yet.
fn punch_holes(path: &Path) {
    const HOLE: usize = 64 * 1024;
    let (file, bytes) = (open(path), fs::read(path).unwrap());
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for (at, bytes) in bytes.chunks(HOLE).enumerate() {
        if bytes.iter().all(|&byte| byte == 0) {
            let (from, len) = ((at * HOLE) as u64, bytes.len() as u64);
            rustix::fs::fallocate(&file, punch, from, len).unwrap();
        }
    }
}

/// The filesystem has room, and what it lies on has not: only write-back finds out.
///
/// Blocks are as long as the pages of what it lies on, for a loop device takes a request for done of which only the beginning found room:
/// of 6,144 bytes written directly from 3,072 on, where only the first page was there, 1,024 arrived, and neither the write nor a sync said
/// so (Linux 6.18).
fn a_disk_in_a_file_that_cannot_grow() {
    let bench = Bench::new();
    let (image, at) = (bench.world.dir("image"), bench.place());
    let (image, at) = (image.to_str().unwrap(), at.to_str().unwrap());
    let set_up = [
        format!("mount -t tmpfs -o size=12m small {image}"),
        format!("truncate -s 40M {image}/disk"),
        format!("mkfs.ext2 -q -F -m 0 -b 4096 {image}/disk"),
        format!("mount -o loop {image}/disk {at}"),
    ];
    namespace::with_mounts(&set_up, || {
        let mut getter = bench.get().spawn();
        let durable = bench.half_way(&getter, 1);
        let ballast = bench.world.path("image/ballast");
        getter.process.halted(|| fill_up(&ballast));
        // Some kernels call it a failure, some a want of room.
        bench.stops(&getter, "dest/shaky/");
        bench.others_go_on(&getter);
        fs::remove_file(&ballast).unwrap();
        bench.goes_on(&mut getter, durable);
    });
}

fn a_quota_that_is_used_up() {
    let disk = Disk {
        mkfs: "mkfs.btrfs -q -f",
        size: 256 * MIB,
        options: "",
    };
    Bench::new().with_disk(&disk, |bench| {
        let at = bench.place();
        let at = at.display();
        run(&format!("btrfs quota enable {at}"));
        run(&format!("btrfs qgroup limit 4M 0/5 {at}"));
        let mut getter = bench.get_these(&[&bench.shaky, &bench.sound]).spawn();
        let status = getter.process.exit(wait::SOON);
        bench.others_go_on(&getter);
        let said = getter.process.stderr().all().join("\n");
        assert_eq!(status.code(), Some(9), "{said}");
        assert!(said.contains("quota"), "{said}");
        assert!(!bench.file("b").exists(), "what was made is removed");
        run(&format!("btrfs qgroup limit none 0/5 {at}"));
        let mut getter = bench.get_these(&[&bench.shaky]).spawn();
        getter.succeed();
    });
}

#[test]
fn a_disk_that_is_full_from_the_start_costs_that_torrent_alone() {
    let bench = Bench::new();
    namespace::with_small_disk(&bench.place(), 4 * MIB, || {
        let mut getter = bench.get_these(&[&bench.shaky, &bench.sound]).spawn();
        let status = getter.process.exit(wait::SOON);
        bench.others_go_on(&getter);
        let said = getter.process.stderr().all();
        assert_eq!(status.code(), Some(9), "{said:?}");
        let line = said.iter().find(|line| line.contains("is full")).unwrap();
        let free = &line[..line.find(" free").unwrap()];
        let free: u64 = free.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(free <= 4 * MIB, "of the disk in question: {line}");
        assert_eq!(fs::read_dir(bench.place()).unwrap().count(), 0);
    });
}

fn a_full_disk_under_the_state_folder() {
    let bench = Bench::new();
    let state = bench.world.dir("state");
    namespace::with_small_disk(&state, 4 * MIB, || {
        let mut getter = bench.get().spawn();
        let durable = bench.half_way(&getter, 1);
        let ballast = state.join("ballast");
        fill_up(&ballast);
        bench.stops(&getter, "no space left");
        fs::remove_file(&ballast).unwrap();
        bench.goes_on(&mut getter, durable);
    });
}
