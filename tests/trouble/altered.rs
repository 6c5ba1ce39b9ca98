//! Files that somebody cuts short, deletes or replaces while they are being fetched.

use std::fs;

use crate::bench::{Bench, open, together};
use crate::common::payload::{self, MIB};
use crate::common::wait;

fn cut_short(io: &str) {
    let bench = Bench::new();
    let mut getter = bench.get().flag("--io", io).spawn();
    bench.half_way(&getter, 2);
    open(&bench.file("a")).set_len(MIB + 12_345).unwrap();
    bench.stops(&getter, "was cut short");
    bench.others_go_on(&getter);
    // What was lost is fetched again, and only that.
    let resume = bench.goes_on(&mut getter, 0);
    let hashed = resume["rechecked"].as_u64().unwrap();
    let of_a = 5 * MIB / u64::from(bench.shaky.piece_len);
    assert!(hashed >= of_a, "every piece of that file: {resume}");
}

fn deleted(io: &str) {
    let bench = Bench::new();
    let mut getter = bench.get().flag("--io", io).spawn();
    let durable = bench.half_way(&getter, 1);
    let (file, copy) = (bench.file("a"), bench.world.path("copy"));
    fs::copy(&file, &copy).unwrap();
    fs::remove_file(&file).unwrap();
    bench.stops(&getter, "deleted");
    bench.others_go_on(&getter);
    let missing =
        |error: &serde_json::Value| error["message"].as_str().unwrap().contains("is missing");
    getter.wait_for("error", wait::SOON, missing);
    assert!(!file.exists(), "not made anew");
    fs::rename(&copy, &file).unwrap();
    bench.goes_on(&mut getter, durable);
}

fn replaced(io: &str) {
    let bench = Bench::new();
    let mut getter = bench.get().flag("--io", io).spawn();
    bench.half_way(&getter, 1);
    let (file, other) = (bench.file("a"), bench.world.path("other"));
    payload::file(&other, 5 * MIB, 4_711);
    fs::copy(&other, bench.world.path("as-it-was")).unwrap();
    fs::rename(&other, &file).unwrap();
    bench.stops(&getter, "replaced");
    bench.others_go_on(&getter);
    let strange = |error: &serde_json::Value| {
        error["message"]
            .as_str()
            .unwrap()
            .contains("not this torrent")
    };
    getter.wait_for("error", wait::SOON, strange);
    assert_eq!(getter.stop(wait::SOON), Some(13));
    payload::assert_same(&bench.world.path("as-it-was"), &file);
}

#[test]
fn a_file_that_is_cut_short_is_mended_a_deleted_one_is_missing_and_a_strangers_is_left_alone() {
    together(&[
        &|| cut_short("pwrite"),
        &|| cut_short("mmap"),
        &|| deleted("pwrite"),
        &|| deleted("mmap"),
        &|| replaced("pwrite"),
        &|| replaced("mmap"),
    ]);
}
