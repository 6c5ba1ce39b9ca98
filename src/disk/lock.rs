//! Advisory locks that keep two programs from writing one payload, and who holds them.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use fs2::FileExt;

use super::DiskError;

/// How a file is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// By us alone: it is being written.
    Exclusive,
    /// By anyone who only reads.
    Shared,
}

/// How often the lock of a writer is tried, a millisecond apart: who only looks whether a file is held has its lock for a moment.
const TRIES: usize = 20;

/// Takes the lock of `file`, or turns the one held into the other kind; waits no longer than for somebody who only looks.
///
/// A filesystem without locks is used without: refusing it would help nobody.
///
/// # Errors
/// [`DiskError::InUse`] if someone holds it in a way that excludes ours.
pub(super) fn hold(file: &File, path: &Path, hold: Hold) -> Result<(), DiskError> {
    let result = match hold {
        Hold::Exclusive => try_exclusive(file),
        Hold::Shared => FileExt::try_lock_shared(file),
    };
    match result {
        Err(error) if is_held(&error) => Err(DiskError::InUse {
            path: path.to_owned(),
            pid: holder(file),
        }),
        _ => Ok(()),
    }
}

fn try_exclusive(file: &File) -> io::Result<()> {
    for _ in 1..TRIES {
        match FileExt::try_lock_exclusive(file) {
            Err(error) if is_held(&error) => thread::sleep(Duration::from_millis(1)),
            result => return result,
        }
    }
    FileExt::try_lock_exclusive(file)
}

fn is_held(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Gives the lock of `file` up.
pub(super) fn release(file: &File) {
    // It can fail only where there are no locks.
    let _ = FileExt::unlock(file);
}

/// The process that holds a lock on `file`, as the kernel's list of locks has it.
fn holder(file: &File) -> Option<u32> {
    let found = file.metadata().ok()?;
    let list = std::fs::read_to_string("/proc/locks").ok()?;
    let device = (libc::major(found.dev()), libc::minor(found.dev()));
    // btrfs reports another device for the file than for the lock; then the inode has to do.
    pid_in(&list, Some(device), found.ino()).or_else(|| pid_in(&list, None, found.ino()))
}

/// Looks up a whole-file lock in text of the form `1: FLOCK  ADVISORY  WRITE 4242 fd:01:131 0 EOF`.
fn pid_in(list: &str, device: Option<(u32, u32)>, inode: u64) -> Option<u32> {
    list.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let kind = words.next()?;
        let (_, _, pid, place) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let mut place = place.split(':');
        let major = u32::from_str_radix(place.next()?, 16).ok()?;
        let minor = u32::from_str_radix(place.next()?, 16).ok()?;
        let found: u64 = place.next()?.parse().ok()?;
        let same = device.is_none_or(|device| device == (major, minor)) && found == inode;
        // A process outside of our namespace is listed as 0.
        let pid = pid.parse().ok().filter(|&pid| pid > 0)?;
        (kind == "FLOCK" && same).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_found_by_device_and_inode() {
        let list = "1: POSIX  ADVISORY  WRITE 11 fe:00:7 0 EOF\n\
                    2: FLOCK  ADVISORY  WRITE 12 fe:01:7 0 EOF\n\
                    2: -> FLOCK  ADVISORY  WRITE 15 fe:00:7 0 EOF\n\
                    3: FLOCK  ADVISORY  READ  13 fe:00:7 0 EOF\n\
                    4: FLOCK  ADVISORY  WRITE 0 fe:00:8 0 EOF\n\
                    garbage\n";
        assert_eq!(pid_in(list, Some((0xfe, 0)), 7), Some(13));
        assert_eq!(pid_in(list, None, 7), Some(12));
        assert_eq!(pid_in(list, None, 8), None);
        assert_eq!(pid_in(list, None, 9), None);
    }

    #[test]
    fn a_writer_excludes_everyone_and_readers_exclude_writers() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (one, two) = (file.reopen().unwrap(), file.reopen().unwrap());
        hold(&one, file.path(), Hold::Exclusive).unwrap();
        match hold(&two, file.path(), Hold::Shared) {
            Err(DiskError::InUse { pid, .. }) => {
                assert!(pid.is_none_or(|pid| pid == std::process::id()));
            }
            other => panic!("{other:?}"),
        }
        hold(&one, file.path(), Hold::Shared).unwrap();
        hold(&two, file.path(), Hold::Shared).unwrap();
        assert!(hold(&two, file.path(), Hold::Exclusive).is_err());
    }
}
