//! The files of the demo: room for them, the random payload, and the comparison at the end.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use indicatif::BinaryBytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::cli::exit::{Exit, Failure};

/// Bytes that are made or compared at a time.
const CHUNK: usize = 1 << 20;

/// Refuses to begin what cannot end for want of room.
///
/// # Errors
/// If fewer than `bytes` are free in `folder`.
pub(super) fn check_room(folder: &Path, bytes: u64) -> Result<(), Failure> {
    // A filesystem that does not say how much is free gets the benefit of the doubt.
    let free = fs2::available_space(folder).unwrap_or(u64::MAX);
    if free >= bytes {
        return Ok(());
    }
    let message = format!(
        "the demo takes {} in {} and {} are free",
        BinaryBytes(bytes),
        folder.display(),
        BinaryBytes(free)
    );
    Err(Failure::new(Exit::DiskFull, message).hint("make it smaller with --size, or set TMPDIR"))
}

/// Makes a file of `size` bytes that follow from `seed`.
///
/// # Errors
/// If it cannot be written.
pub(super) fn random(path: &Path, size: u64, seed: u64) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::create(path, &error);
    let mut file = BufWriter::new(File::create_new(path).map_err(failed)?);
    let mut source = StdRng::seed_from_u64(seed);
    let mut chunk = vec![0; CHUNK];
    let mut left = size;
    while left > 0 {
        let part = left.min(CHUNK as u64) as usize;
        source.fill_bytes(&mut chunk[..part]);
        file.write_all(&chunk[..part]).map_err(failed)?;
        left -= part as u64;
    }
    file.flush().map_err(failed)
}

/// Whether two files hold the same bytes; a file that is not there is not the same.
///
/// # Errors
/// If one is there and cannot be read.
pub(super) fn same(one: &Path, other: &Path) -> Result<bool, Failure> {
    let open = |path: &Path| match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::open(path, &error)),
    };
    let (Some(mut left), Some(mut right)) = (open(one)?, open(other)?) else {
        return Ok(false);
    };
    let (mut a, mut b) = (Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK));
    loop {
        let fill = |from: &mut File, into: &mut Vec<u8>, path: &Path| {
            into.clear();
            let read = from.take(CHUNK as u64).read_to_end(into);
            read.map_err(|error| Failure::open(path, &error))
        };
        fill(&mut left, &mut a, one)?;
        fill(&mut right, &mut b, other)?;
        if a != b {
            return Ok(false);
        }
        if a.is_empty() {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn files_are_the_same_only_byte_by_byte() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        random(&at("a"), 2_500_000, 7).unwrap();
        random(&at("b"), 2_500_000, 7).unwrap();
        random(&at("c"), 2_500_000, 8).unwrap();
        random(&at("d"), 2_499_999, 7).unwrap();
        assert!(same(&at("a"), &at("b")).unwrap());
        assert!(!same(&at("a"), &at("c")).unwrap());
        assert!(!same(&at("a"), &at("d")).unwrap());
        assert!(!same(&at("a"), &at("none")).unwrap());
        let mut bytes = fs::read(at("b")).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(at("b"), bytes).unwrap();
        assert!(!same(&at("a"), &at("b")).unwrap());
    }
}
