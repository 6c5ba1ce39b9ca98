//! Payloads, and whether two of them are the same.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Bytes in a MiB.
pub const MIB: u64 = 1024 * 1024;

/// A small generator of pseudo-random numbers (SplitMix64): the same seed gives the same payload.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed of the moment, printed so that a failure can be repeated with `SEEDBANK_TEST_SEED`.
    pub fn of_this_run(test: &str) -> Self {
        let given = std::env::var("SEEDBANK_TEST_SEED").ok();
        let seed = given.map_or_else(rand::random, |text| text.parse().unwrap());
        eprintln!("{test}: SEEDBANK_TEST_SEED={seed}");
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let next = self.next().to_le_bytes();
            chunk.copy_from_slice(&next[..chunk.len()]);
        }
    }
}

/// Writes `len` bytes that only `seed` decides to `path`.
pub fn file(path: &Path, len: u64, seed: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut random = Random::new(seed);
    let mut out = File::create(path).unwrap();
    let mut left = len;
    let mut chunk = vec![0; 1 << 20];
    while left > 0 {
        let now = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        random.fill(&mut chunk[..now]);
        out.write_all(&chunk[..now]).unwrap();
        left -= now as u64;
    }
}

/// Makes the folder `numbers` in `parent`: many small files, some nested, one empty, names that are not ASCII, one file that spans pieces.
///
/// No two names in a folder are such that tools order them differently (one is never a prefix of the other up to a character below
/// `/`, and all is lower case): the order is part of the info-hash.
pub fn numbers(parent: &Path) -> PathBuf {
    let root = parent.join("numbers");
    for number in 1..=40u64 {
        let name = format!("small/{number:03}.txt");
        file(&root.join(name), number, number);
    }
    file(&root.join("big/deeper/still/700001.bin"), 700_001, 700_001);
    file(&root.join("big/deeper/65536.bin"), 65_536, 65_536);
    file(&root.join("big/16384.bin"), 16_384, 16_384);
    file(&root.join("ünïcödé/数字 π.txt"), 31_415, 31_415);
    file(&root.join("empty"), 0, 0);
    file(&root.join("one"), 1, 1);
    root
}

/// Asserts that two files or folders hold the same names and bytes.
pub fn assert_same(expected: &Path, found: &Path) {
    let (want, have) = (files(expected), files(found));
    assert_eq!(
        want.keys().collect::<Vec<_>>(),
        have.keys().collect::<Vec<_>>(),
        "names below {} and {}",
        expected.display(),
        found.display()
    );
    for (name, path) in &want {
        if let Some(at) = first_difference(path, &have[name]) {
            panic!(
                "{} and {} differ at byte {at}",
                path.display(),
                have[name].display()
            );
        }
    }
}

/// The files below `root` by relative path; `root` itself if it is a file.
pub fn files(root: &Path) -> BTreeMap<PathBuf, PathBuf> {
    assert!(root.exists(), "{} does not exist", root.display());
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|at| at.unwrap().path()));
        } else {
            let name = path.strip_prefix(root).unwrap().to_owned();
            found.insert(name, path);
        }
    }
    found
}

/// Copies a file or folder to `to`, which must not exist.
pub fn copy(from: &Path, to: &Path) {
    for (name, path) in files(from) {
        let target = if name.as_os_str().is_empty() {
            to.to_owned()
        } else {
            to.join(name)
        };
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    }
}

/// Makes the files below `like` that have no bytes also below `root`, where they are missing.
pub fn make_empty_files(like: &Path, root: &Path) {
    for (name, path) in files(like) {
        if fs::metadata(path).unwrap().len() == 0 && !root.join(&name).exists() {
            fs::create_dir_all(root.join(&name).parent().unwrap()).unwrap();
            fs::write(root.join(&name), []).unwrap();
        }
    }
}

fn first_difference(one: &Path, other: &Path) -> Option<u64> {
    let (mut one, mut other) = (File::open(one).unwrap(), File::open(other).unwrap());
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut at = 0;
    loop {
        let (got, also) = (read_full(&mut one, &mut a), read_full(&mut other, &mut b));
        let same = a[..got].iter().zip(&b[..also]);
        if let Some(offset) = same.clone().position(|(x, y)| x != y) {
            return Some(at + offset as u64);
        }
        if got != also {
            return Some(at + got.min(also) as u64);
        }
        if got == 0 {
            return None;
        }
        at += got as u64;
    }
}

fn read_full(from: &mut File, into: &mut [u8]) -> usize {
    let mut done = 0;
    while done < into.len() {
        match from.read(&mut into[done..]).unwrap() {
            0 => break,
            got => done += got,
        }
    }
    done
}
