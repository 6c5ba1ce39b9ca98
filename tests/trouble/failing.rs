//! Disks that fail, and folders that may not be written to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::bench::{Bench, Disk, run, together};
use crate::common::payload::MIB;
use crate::common::process::Process;
use crate::common::seedbank::Seedbank;
use crate::common::{skip, wait};

/// A running process of which some system calls fail for as long as this lives.
struct Injected(Process);

impl Injected {
    /// Has `calls` of `victim`, on `path` only if given, fail with `error`.
    fn new(victim: &Seedbank, path: Option<&Path>, calls: &str, error: &str) -> Self {
        let pid = victim.process.pid().to_string();
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o", "/dev/null", "-p", &pid, "-e"]);
        strace.arg(format!("trace={calls}"));
        strace
            .arg("-e")
            .arg(format!("inject={calls}:error={error}"));
        if let Some(path) = path {
            strace.arg("-P").arg(path);
        }
        let strace = Process::spawn("strace", &mut strace);
        let attached = |line: &str| line.contains("attached").then_some(());
        let found = strace.stderr().find(wait::SOON, attached);
        assert!(found.is_some(), "{}", strace.transcript());
        Self(strace)
    }

    /// From now on they do not fail any more.
    fn end(mut self) {
        self.0.terminate();
        self.0.exit(wait::SOON);
    }
}

fn refused(io: &str, calls: &str, error: &str, word: &str) {
    let bench = Bench::new();
    let mut getter = bench.get().flag("--io", io).spawn();
    let durable = bench.half_way(&getter, 1);
    let path = bench.file("a");
    // No path leads from a mapping to its file, so that the other torrent meets the same.
    let path = (calls != "msync").then_some(path.as_path());
    let injected = Injected::new(&getter, path, calls, error);
    bench.stops(&getter, word);
    if path.is_some() {
        bench.others_go_on(&getter);
    }
    injected.end();
    bench.goes_on(&mut getter, durable);
}

#[test]
fn a_disk_that_fails_for_a_while_stops_that_torrent_for_as_long() {
    if skip::unless_installed("strace").is_none() || !skip::unless_root("strace") {
        return;
    }
    together(&[
        &|| refused("pwrite", "pwrite64", "EIO", "cannot write"),
        &|| refused("pwrite", "pwrite64", "EDQUOT", "quota"),
        &|| refused("pwrite", "fdatasync", "EIO", "cannot sync"),
        &|| refused("mmap", "msync", "EIO", "cannot sync"),
        &a_seeder_whose_disk_fails,
        &a_filesystem_that_goes_read_only,
    ]);
}

fn a_seeder_whose_disk_fails() {
    let bench = Bench::new();
    let source = bench.shaky.payload.join("a");
    let injected = Injected::new(&bench.seeder, Some(&source), "pread64,preadv2", "EIO");
    let mut getter = bench.get().spawn();
    bench.stops(&bench.seeder, "cannot read");
    bench.others_go_on(&getter);
    injected.end();
    let hex = bench.shaky.hex();
    getter.wait_for("complete", wait::SOON, |event| event["info_hash"] == hex);
    assert_eq!(getter.stop(wait::SOON), Some(0));
    let story = bench.story(&bench.seeder);
    assert_eq!(story.last().unwrap()["event"], "resume", "{story:?}");
    assert_eq!(story.last().unwrap()["rechecked"], 0, "{story:?}");
}

/// Until it is mounted anew.
fn a_filesystem_that_goes_read_only() {
    let disk = Disk {
        mkfs: "mkfs.ext4 -q -F -m 0",
        size: 24 * MIB,
        options: "",
    };
    Bench::new().with_disk(&disk, |bench| {
        let mut getter = bench.get().spawn();
        let durable = bench.half_way(&getter, 1);
        let at = bench.place();
        run(&format!("mount -o remount,abort {}", at.display()));
        bench.stops(&getter, "dest/shaky/");
        bench.others_go_on(&getter);
        let umount = || Command::new("umount").arg(&at).output().unwrap();
        let gone = || umount().status.success().then_some(());
        wait::until("nothing is held of it any more", wait::SOON, gone);
        let image = bench.world.path("image/disk");
        run(&format!(
            "mount -o loop {} {}",
            image.display(),
            at.display()
        ));
        bench.goes_on(&mut getter, durable);
    });
}

#[test]
fn a_folder_that_may_not_be_written_to_is_told_and_costs_that_torrent_alone() {
    let bench = Bench::new();
    // Root may do everything, unless it does without that right.
    let mere_user = [
        "setpriv",
        "--bounding-set",
        "-dac_override,-dac_read_search",
    ];
    let wrapper: &[&str] = match (skip::is_root(), skip::on_path("setpriv")) {
        (false, _) => &["env"],
        (true, Some(_)) => &mere_user,
        (true, None) => return skip::say("setpriv not found"),
    };
    let may = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let both = [&bench.shaky, &bench.sound];
    may(&bench.place(), 0o555);
    let mut getter = bench.get_these(&both).under(wrapper).spawn();
    let status = getter.process.exit(wait::SOON);
    bench.others_go_on(&getter);
    assert_eq!(status.code(), Some(16), "{}", getter.process.transcript());

    may(&bench.place(), 0o755);
    let slow = bench.get_these(&both).flag("--max-down", "8MiB");
    let mut getter = slow.under(wrapper).spawn();
    let durable = bench.half_way(&getter, 1);
    assert_eq!(getter.stop(wait::SOON), Some(7));
    may(&bench.file("a"), 0o444);
    let mut getter = bench.get_these(&both).under(wrapper).spawn();
    let status = getter.process.exit(wait::SOON);
    assert_eq!(status.code(), Some(15), "{}", getter.process.transcript());

    may(&bench.file("a"), 0o644);
    let mut getter = bench.get_these(&both).under(wrapper).spawn();
    getter.succeed();
    let hex = bench.shaky.hex();
    let resume = getter.wait_for("resume", wait::SOON, |event| event["info_hash"] == hex);
    assert!(resume["trusted"].as_u64().unwrap() >= durable, "{resume}");
}
