//! Telling apart files of one torrent that would fall on one another.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher};

use super::SafePath;
use super::sanitise::{cut, split_extension};
use crate::base::limits::{NAME_LEN_MAX, PATH_LEN_MAX, RENAMES_MAX};

/// More files collide than is plausible for an honest torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many files have the same name")]
pub struct TooManyCollisions;

/// Renames, in order, each path that equals an earlier one, or a folder on the way to any of them, if letter case is ignored:
/// the second `a.txt` becomes `a.1.txt`, as in libtorrent.
///
/// # Errors
/// If more than [`RENAMES_MAX`] names were tried in vain.
pub fn make_unique(paths: &mut [&mut SafePath]) -> Result<(), TooManyCollisions> {
    // Hashes stand for paths so that many deep paths do not take more memory than the torrent; a chance collision only renames a file.
    let mut taken = HashSet::with_capacity(paths.len() * 2);
    for path in paths.iter() {
        hash_each(path.as_str(), |hash, last| {
            if !last {
                taken.insert(hash);
            }
        });
    }
    let mut tried = 0;
    for path in paths.iter_mut() {
        if taken.insert(hash_of(path.as_str())) {
            continue;
        }
        let original = path.clone();
        for number in 1.. {
            rename(path, &original, number).ok_or(TooManyCollisions)?;
            if taken.insert(hash_of(path.as_str())) {
                break;
            }
            tried += 1;
            if tried > RENAMES_MAX {
                return Err(TooManyCollisions);
            }
        }
    }
    Ok(())
}

/// Sets the last name of `path` to that of `original` with a number before its extension; `None` if it does not fit.
fn rename(path: &mut SafePath, original: &SafePath, number: usize) -> Option<()> {
    let name = original.file_name();
    let (stem, extension) = split_extension(name);
    let suffix = format!(".{number}{extension}");
    let parent = original.as_str().len() - name.len();
    let room = NAME_LEN_MAX
        .min(PATH_LEN_MAX - parent)
        .checked_sub(suffix.len());
    let stem = cut(stem, room.filter(|&room| room > 0)?);
    path.set_file_name(&format!("{stem}{suffix}"));
    Some(())
}

fn hash_of(path: &str) -> u64 {
    let mut whole = 0;
    hash_each(path, |hash, _| whole = hash);
    whole
}

/// The hash of the path up to each of its components without letter case, and whether it was the last.
fn hash_each(path: &str, mut each: impl FnMut(u64, bool)) {
    let mut hasher = DefaultHasher::new();
    for c in path.chars() {
        if c == '/' {
            each(hasher.finish(), false);
        }
        for lower in c.to_lowercase() {
            hasher.write_u32(u32::from(lower));
        }
    }
    each(hasher.finish(), true);
}
