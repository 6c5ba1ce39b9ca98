//! The number of the last commit, in a file of its own beside the database.
//!
//! A database whose newest bytes are damaged opens without complaint as it was some commits ago. What it then fails to say
//! costs a download; this file tells. It is written after each commit and never synced: after a power cut it may be
//! behind, which says nothing, but never ahead.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of the number, and as many of its BLAKE3.
const HALF: usize = 8;

/// The file, open for writing.
#[derive(Debug)]
pub(super) struct Watermark(File);

impl Watermark {
    /// That of the database in the folder `database`.
    pub(super) fn open(database: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(false);
        options.open(path(database)).map(Self)
    }

    /// The commit number `sequence` is durable.
    pub(super) fn raise(&self, sequence: u64) -> io::Result<()> {
        self.0.write_all_at(&seal(sequence), 0)
    }
}

/// The last commit known of the database in the folder `database`; 0 if nothing is known.
pub(super) fn read(database: &Path) -> u64 {
    let stored = fs::read(path(database)).unwrap_or_default();
    let number = stored
        .first_chunk()
        .map(|number| u64::from_be_bytes(*number));
    number
        .filter(|&number| seal(number) == *stored)
        .unwrap_or(0)
}

/// Forgets it: the database is another from now on. False if there is none.
pub(super) fn reset(database: &Path) -> io::Result<bool> {
    match fs::remove_file(path(database)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

fn path(database: &Path) -> PathBuf {
    database.with_extension("sequence")
}

fn seal(sequence: u64) -> [u8; 2 * HALF] {
    let mut sealed = [0; 2 * HALF];
    let (number, checksum) = sealed.split_at_mut(HALF);
    number.copy_from_slice(&sequence.to_be_bytes());
    checksum.copy_from_slice(&blake3::hash(number).as_bytes()[..HALF]);
    sealed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_torn_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("db");
        assert_eq!(read(&database), 0);
        let watermark = Watermark::open(&database).unwrap();
        watermark.raise(7).unwrap();
        watermark.raise(u64::MAX - 1).unwrap();
        assert_eq!(read(&database), u64::MAX - 1);
        let whole = fs::read(path(&database)).unwrap();
        for len in 0..whole.len() {
            fs::write(path(&database), &whole[..len]).unwrap();
            assert_eq!(read(&database), 0);
        }
        assert!(reset(&database).unwrap());
        assert!(!reset(&database).unwrap());
        assert_eq!(read(&database), 0);
    }
}
