//! Trouble at random moments: however it comes, the file ends right and the process lives.

use std::fs;
use std::time::Duration;

use crate::bench::{Bench, Disk, SHAKY, fill_up, open};
use crate::common::payload::{self, MIB, Random};
use crate::common::seedbank::{self, Seedbank};
use crate::common::{skip, wait};

/// Runs at the same time: most of each is waiting.
const AT_ONCE: usize = 4;

/// How many runs each test makes.
fn runs() -> usize {
    let asked = std::env::var("SEEDBANK_TROUBLE").ok();
    asked.map_or(2, |count| count.parse().unwrap())
}

/// Makes all the runs, a few at a time, each with numbers of its own.
fn repeat(test: &str, run: impl Fn(Random) + Sync) {
    let mut random = Random::of_this_run(test);
    let seeds: Vec<u64> = (0..runs()).map(|_| random.next()).collect();
    for some in seeds.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let run = &run;
            let running: Vec<_> = some
                .iter()
                .map(|&seed| scope.spawn(move || run(Random::new(seed))))
                .collect();
            for (run, seed) in running.into_iter().zip(some) {
                if let Err(panic) = run.join() {
                    eprintln!("{test}: the run with the seed {seed} failed");
                    std::panic::resume_unwind(panic);
                }
            }
        });
    }
    eprintln!("{test}: {} runs", seeds.len());
}

/// A number from 0 to `most` of milliseconds goes by.
fn pass(random: &mut Random, most: u64) {
    wait::within(Duration::from_millis(random.below(most + 1)), || None::<()>);
}

fn io(random: &mut Random) -> &'static str {
    ["pwrite", "mmap"][random.below(2) as usize]
}

/// Waits until a random share of the torrent is verified.
fn reach(bench: &Bench, getter: &Seedbank, random: &mut Random) {
    let (hex, moment) = (
        bench.shaky.hex(),
        random.below(u64::from(bench.shaky.pieces)),
    );
    // Before that there is no file.
    getter.wait_for("resume", wait::SOON, |_| true);
    if moment > 0 {
        getter.wait_for("have", wait::SOON, |have| {
            have["info_hash"] == hex && have["verified"].as_u64().unwrap() >= moment
        });
    }
    pass(random, 50);
}

fn completes(bench: &Bench, getter: &mut Seedbank) {
    let hex = bench.shaky.hex();
    let complete = getter.look_for("complete", Duration::from_secs(90), |event| {
        event["info_hash"] == hex
    });
    assert!(complete.is_some(), "{}", getter.process.transcript());
    assert!(getter.process.runs(), "{}", getter.process.transcript());
}

fn full_disk(mut random: Random) {
    let spare = random.below(4 * MIB);
    let disk = Disk {
        mkfs: "mkfs.ext2 -q -F -m 0",
        size: 9 * MIB + spare,
        options: "",
    };
    Bench::new().with_disk(&disk, |bench| {
        let get = bench.get_these(&[&bench.shaky]);
        let get = get.flag("--io", io(&mut random)).flag("--max-down", "8MiB");
        let mut getter = get.flag("--keep", "forever").spawn();
        let ballast = bench.place().join("ballast");
        for _ in 0..=random.below(2) {
            reach(bench, &getter, &mut random);
            fill_up(&ballast);
            pass(&mut random, 1_500);
            fs::remove_file(&ballast).unwrap();
        }
        completes(bench, &mut getter);
        payload::assert_same(&bench.shaky.payload.join("a"), &bench.file("a"));
        payload::assert_same(&bench.shaky.payload.join("b"), &bench.file("b"));
        assert_eq!(getter.stop(wait::SOON), Some(0));
    });
}

fn truncation(mut random: Random) {
    let bench = Bench::new();
    let get = bench.get_these(&[&bench.shaky]);
    let get = get.flag("--io", io(&mut random)).flag("--max-down", "8MiB");
    let mut getter = get.flag("--keep", "forever").spawn();
    for _ in 0..=random.below(2) {
        reach(&bench, &getter, &mut random);
        let file = random.below(2) as usize;
        let name = ["a", "b"][file];
        open(&bench.file(name))
            .set_len(random.below(SHAKY[file]))
            .unwrap();
    }
    completes(&bench, &mut getter);
    // A cut that came after the end shows when somebody asks.
    let dest = bench.world.dir("second");
    let second = seedbank::get(&bench.shaky.path, &dest, &bench.world.path("state-second"));
    second.peer(getter.addr()).spawn().succeed();
    payload::assert_same(&bench.shaky.payload, &dest.join("shaky"));
    wait::until("the file is whole again", wait::SOON, || {
        let whole = |name: &str| {
            let expected = fs::read(bench.shaky.payload.join(name)).unwrap();
            fs::read(bench.file(name)).unwrap() == expected
        };
        (whole("a") && whole("b")).then_some(())
    });
    assert!(getter.process.runs(), "{}", getter.process.transcript());
    assert_eq!(getter.stop(wait::SOON), Some(0));
}

#[test]
fn a_disk_that_is_full_at_random_moments_costs_no_byte() {
    if skip::unless_root("a small disk") {
        repeat("full_disk", full_disk);
    }
}

#[test]
fn cuts_at_random_moments_are_mended() {
    repeat("truncation", truncation);
}
