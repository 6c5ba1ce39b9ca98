//! Reads for uploads: from the page cache, or from a disk thread, and never of what was touched since it was judged.

use std::fs::{self, File};
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use seedbank::base::limits::LOCKED_FILES;
use seedbank::base::{BlockRange, FileIdentity};
use seedbank::disk::{Access, Disk, DiskError, Payload, WritePath};

use crate::hooked::{Hook, Hooked};
use crate::rig::{Rig, block_on, write};
use crate::skip;

const FILES: &[(&str, u64)] = &[
    ("t/a", 100_000),
    ("t/empty", 0),
    (".pad/1", 31_072),
    ("t/tiny", 5),
    ("t/b", 300_001),
];

fn to_read(rig: &Rig) -> Payload {
    let opened = block_on(rig.open(Access::Read, WritePath::Auto));
    opened.unwrap().payload
}

fn read(payload: &Payload, ranges: &[BlockRange]) -> Result<Vec<u8>, DiskError> {
    block_on(payload.read(ranges.to_vec()))
}

/// As [`read`], from the page cache.
fn read_cached(payload: &Payload, ranges: &[BlockRange]) -> Result<Option<Vec<u8>>, DiskError> {
    let len = |range: &BlockRange| range.len() as usize;
    let mut bytes = vec![0xee; ranges.iter().map(len).sum()];
    let mut rest = &mut bytes[..];
    let mut blocks = Vec::new();
    for range in ranges {
        let (block, later) = std::mem::take(&mut rest).split_at_mut(len(range));
        blocks.push(IoSliceMut::new(block));
        rest = later;
    }
    let cached = payload.read_cached(ranges, &mut blocks)?;
    Ok(cached.then_some(bytes))
}

/// What is there now, as what it was judged by.
fn judge(payload: &Payload) {
    let now = block_on(payload.identities()).unwrap();
    let now: Vec<(usize, FileIdentity)> = now
        .into_iter()
        .enumerate()
        .filter_map(|(at, now)| Some((at, now?)))
        .collect();
    payload.judge_by(&now);
}

fn all(rig: &Rig) -> Vec<BlockRange> {
    let whole = |piece| rig.layout.geometry().whole(piece);
    rig.pieces().into_iter().map(whole).collect()
}

/// A rig whose files were last written long ago: clocks of filesystems are coarse.
fn old() -> Rig {
    let rig = Rig::new(FILES);
    rig.fill();
    for (_, file) in rig.layout.payload_files() {
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let file = File::options().write(true).open(&file.path).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    rig
}

#[test]
fn a_file_that_is_not_open_is_left_to_the_disk_thread() {
    let names: Vec<String> = (0..=LOCKED_FILES).map(|at| format!("f{at:02}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), 32 << 10)).collect();
    let rig = Rig::new(&files);
    rig.fill();
    let payload = to_read(&rig);
    let last = &all(&rig)[LOCKED_FILES..];
    assert!(read_cached(&payload, last).unwrap().is_none());
    let read = read(&payload, last).unwrap();
    if let Some(found) = read_cached(&payload, last).unwrap() {
        assert!(found == read);
    }
}

#[test]
fn thousands_of_tiny_blocks_are_read_at_once() {
    let rig = Rig::new(FILES);
    rig.fill();
    let payload = to_read(&rig);
    read(&payload, &all(&rig)).unwrap();
    let geometry = rig.layout.geometry();
    let piece = rig.pieces()[1];
    let tiny = (0..3_000).map(|at| geometry.range(piece.get(), at, 1).unwrap());
    let tiny: Vec<_> = tiny.collect();
    match read_cached(&payload, &tiny).unwrap() {
        Some(found) => assert!(found == rig.data(piece)[..3_000]),
        None => skip::say("no reads of the page cache alone on this filesystem"),
    }
}

#[test]
fn nothing_is_given_of_a_file_that_was_touched_since_it_was_judged() {
    for harm in ["written", "cut", "replaced"] {
        let rig = old();
        let payload = to_read(&rig);
        judge(&payload);
        let before = rig
            .layout
            .pieces_of(0)
            .map(|piece| rig.pieces()[piece as usize]);
        let of_a: Vec<_> = before
            .map(|piece| rig.layout.geometry().whole(piece))
            .collect();
        let of_b = [*all(&rig).last().unwrap()];
        read(&payload, &of_a).unwrap();
        read(&payload, &of_b).unwrap();
        let cached = read_cached(&payload, &of_a).unwrap().is_some();
        let path = rig.path(0);
        let file = File::options().write(true).open(&path).unwrap();
        match harm {
            "written" => file.write_all_at(b"x", 99_999).unwrap(),
            "cut" => file.set_len(99_999).unwrap(),
            _ => {
                // Whoever has it open reads the old one, which has no name any more.
                fs::copy(&path, rig.root().join("new")).unwrap();
                fs::rename(rig.root().join("new"), &path).unwrap();
            }
        }
        // Of the first file some bytes are as they were; that nobody knows.
        let first = &of_a[..1];
        let told =
            |found: &DiskError| matches!(found, DiskError::Vanished { path: of } if *of == path);
        assert!(told(&read(&payload, first).unwrap_err()), "{harm}");
        if cached {
            assert!(told(&read_cached(&payload, first).unwrap_err()), "{harm}");
        }
        read(&payload, &of_b).unwrap();
        assert_eq!(read_cached(&payload, &of_b).unwrap().is_some(), cached);
    }
}

#[test]
fn while_we_write_to_a_file_its_pieces_are_given_all_the_same() {
    let rig = Rig::new(FILES);
    let opened = block_on(rig.open(write(false, &[]), WritePath::Auto));
    let payload = opened.unwrap().payload;
    judge(&payload);
    for piece in rig.pieces() {
        let whole = rig.layout.geometry().whole(piece);
        block_on(payload.write(whole, rig.data(piece))).unwrap();
        assert!(read(&payload, &[whole]).unwrap() == rig.data(piece));
        if let Some(found) = read_cached(&payload, &[whole]).unwrap() {
            assert!(found == rig.data(piece));
        }
    }
}

/// A medium that stands in for the system's.
#[derive(Debug)]
struct Own;

impl Hook for Own {}

#[test]
fn another_medium_than_the_systems_sees_every_read() {
    let rig = Rig::new(FILES);
    rig.fill();
    let disk = Disk::on(1, Arc::new(Hooked(Own)));
    let opened = disk.open(Arc::clone(&rig.layout), Access::Read, WritePath::Auto);
    let payload = block_on(opened).unwrap().payload;
    let all = all(&rig);
    assert!(read(&payload, &all).unwrap() == **rig.bytes);
    assert!(read_cached(&payload, &all).unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_page_cache_gives_what_the_disk_gives_over_files_and_pads(
        places in prop::collection::vec((0u32..14, 0u32..32_768, 1u32..32_768), 1..20),
    ) {
        let rig = Rig::new(FILES);
        rig.fill();
        let payload = to_read(&rig);
        let ranges: Vec<_> = places
            .into_iter()
            .filter_map(|(piece, begin, len)| rig.layout.geometry().range(piece, begin, len))
            .collect();
        let due: Vec<u8> = ranges
            .iter()
            .flat_map(|range| rig.data(range.piece())[range.begin() as usize..range.end() as usize].to_vec())
            .collect();
        prop_assert!(read(&payload, &ranges).unwrap() == due);
        if let Some(found) = read_cached(&payload, &ranges).unwrap() {
            prop_assert!(found == due);
        }
    }
}
