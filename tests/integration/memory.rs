//! Files larger than memory: a download in a memory control group that holds a fraction of it.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::group::MemoryGroup;
use crate::common::metainfo::Torrent;
use crate::common::payload::{self, MIB};
use crate::common::process::Process;
use crate::common::seedbank;
use crate::common::wire::one_file;
use crate::common::{World, asked_for, skip, wait};
use crate::transfer::seeder;

/// What the client has, page cache included.
const MEMORY: u64 = 128 * MIB;
/// Of which it may keep to itself.
const ANONYMOUS: u64 = 96 * MIB;
/// Longest time without a piece that is no stall.
const STALL: Duration = Duration::from_secs(5);

/// How a download went.
struct Outcome {
    took: Duration,
    /// The longest time without a piece.
    pause: Duration,
    /// Most memory that no file backs.
    anonymous: u64,
}

/// Gets `torrent`, within `group` if there is one.
fn download(world: &World, torrent: &Torrent, io: &str, group: Option<&MemoryGroup>) -> Outcome {
    let limited = if group.is_some() { "limited" } else { "free" };
    let (dest, state) = (world.dir(&format!("{io}-{limited}")), world.path("getter"));
    let (_seeder, addr) = seeder(torrent, &world.path("seeder"));
    let started = Instant::now();
    let mut getter = seedbank::get(&torrent.path, &dest, &state)
        .peer(addr)
        .flag("--io", io)
        .spawn();
    if let Some(group) = group {
        group.admit(&getter.process);
    }
    let (mut pieces, mut last) = (0, started);
    let mut outcome = Outcome {
        took: Duration::ZERO,
        pause: Duration::ZERO,
        anonymous: 0,
    };
    wait::until("the download ends", wait::TRANSFER, || {
        outcome.anonymous = outcome.anonymous.max(getter.process.anonymous_memory());
        let lines = getter.process.stdout().count();
        if lines > pieces {
            (pieces, last) = (lines, Instant::now());
        }
        outcome.pause = outcome.pause.max(last.elapsed());
        (!getter.process.runs()).then_some(())
    });
    outcome.took = started.elapsed();
    getter.succeed();
    payload::assert_same(&torrent.payload, &dest.join(torrent.name()));
    std::fs::remove_dir_all(&dest).unwrap();
    std::fs::remove_dir_all(&state).unwrap();
    outcome
}

#[test]
fn a_file_larger_than_memory_arrives_without_a_stall() {
    let full = asked_for("SEEDBANK_MEMORY_FULL");
    let len = if full { 32 * MEMORY } else { 3 * MEMORY };
    let Some(group) = MemoryGroup::new(MEMORY) else {
        return;
    };
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "large.bin", len, 31);
    // The mapping is for those who ask for it; it is slower with or without a limit.
    let paths: &[&str] = if full { &["auto", "mmap"] } else { &["auto"] };
    for io in paths {
        let limited = download(&world, &torrent, io, Some(&group));
        assert_eq!(group.killed(), 0, "killed for want of memory");
        assert!(
            limited.pause < STALL,
            "{io}: nothing for {:?}",
            limited.pause
        );
        assert!(
            limited.anonymous < ANONYMOUS,
            "{io}: {} bytes",
            limited.anonymous
        );
        let rate = |outcome: &Outcome| len as f64 / MIB as f64 / outcome.took.as_secs_f64();
        let told = format!(
            "{} MiB in a group of {} MiB, --io {io}: {:.0} MiB/s, {} MiB anonymous, longest pause {:.2} s",
            len / MIB,
            MEMORY / MIB,
            rate(&limited),
            limited.anonymous / MIB,
            limited.pause.as_secs_f64()
        );
        if !full {
            eprintln!("{told}");
            continue;
        }
        let free = download(&world, &torrent, io, None);
        let ratio = rate(&limited) / rate(&free);
        eprintln!("{told}; {ratio:.2} × the speed without a limit");
        assert!(ratio >= 0.8, "{ratio}");
    }
}

/// Without this the test above could not fail.
#[test]
fn who_takes_more_than_the_group_has_is_killed() {
    let (Some(group), Some(tail)) = (MemoryGroup::new(16 * MIB), skip::unless_installed("tail"))
    else {
        return;
    };
    let world = World::new();
    let go = world.path("go");
    // It keeps a line that never ends.
    let script = "until [ -e \"$1\" ]; do :; done; exec \"$0\" -n 1 /dev/zero";
    let mut greedy = Command::new("sh");
    greedy.args(["-c", script]).arg(tail).arg(&go);
    let mut greedy = Process::spawn("a greedy process", &mut greedy);
    group.admit(&greedy);
    std::fs::write(&go, "").unwrap();
    assert!(!greedy.exit(wait::SOON).success());
    assert!(group.killed() > 0);
}
