//! Copying one file to another filesystem: holes stay holes, the time of the last change stays, and every byte is on the medium
//! before the copy is called one.

use std::fs::{File, FileTimes, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, fchown};
use std::path::Path;

use rustix::fs::{Advice, SeekFrom};
use rustix::io::Errno;

use super::DiskError;
use super::map::start_write_back;
use super::place::identity;
use crate::base::{FileIdentity, limits};

/// Bytes read and written at once.
const CHUNK: usize = 1 << 20;

/// A copy in the making.
pub(super) struct Copying<'a> {
    pub(super) source: &'a File,
    /// Where `source` is, for errors.
    pub(super) from: &'a Path,
    /// Empty, and ours alone.
    pub(super) target: &'a File,
    /// What `target` will be called, for errors.
    pub(super) to: &'a Path,
}

impl Copying<'_> {
    /// Copies everything and syncs the copy. `advance` hears of every run of bytes and may stop it with an error. Answers what the source
    /// was all the while.
    ///
    /// # Errors
    /// [`DiskError::Full`], [`DiskError::Io`], [`DiskError::Vanished`] if the source changed meanwhile, or what `advance` says.
    pub(super) fn run(
        &self,
        advance: &dyn Fn(u64) -> Result<(), DiskError>,
    ) -> Result<FileIdentity, DiskError> {
        let before = self.look()?;
        let length = before.len();
        self.target
            .set_len(length)
            .map_err(|error| self.unwritten(error, length))?;
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while let Some(data) = self.data(at, length) {
            self.copy_range(data.start, data.end, &mut buffer, advance)?;
            at = data.end;
        }
        self.keep_attributes(&before)?;
        self.target
            .sync_all()
            .map_err(|error| self.unwritten(error, length))?;
        // What is read from now on to check the copy shall come from the medium, and whoever else uses the page cache shall keep theirs.
        for file in [self.source, self.target] {
            let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
        }
        if identity(&self.look()?) != identity(&before) {
            return Err(DiskError::vanished(self.from));
        }
        Ok(identity(&before))
    }

    fn look(&self) -> Result<Metadata, DiskError> {
        let found = self.source.metadata();
        found.map_err(|error| DiskError::io(self.from, "look at", error))
    }

    /// The next run of bytes from `at` on that is no hole; all the rest where the filesystem tells no holes.
    fn data(&self, at: u64, length: u64) -> Option<std::ops::Range<u64>> {
        if at >= length {
            return None;
        }
        let start = match rustix::fs::seek(self.source, SeekFrom::Data(at)) {
            Ok(start) => start.max(at),
            Err(Errno::NXIO) => return None,
            Err(_) => return Some(at..length),
        };
        let end = rustix::fs::seek(self.source, SeekFrom::Hole(start)).unwrap_or(length);
        // A file that grows meanwhile may have its next data past what it was.
        let start = start.min(length);
        let end = end.clamp(start, length);
        // A file that is cut short meanwhile must not keep us here; that it was is told in the end.
        (start < end).then_some(start..end)
    }

    fn copy_range(
        &self,
        start: u64,
        end: u64,
        buffer: &mut [u8],
        advance: &dyn Fn(u64) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let mut at = start;
        while at < end {
            let len = buffer.len().min((end - at) as usize);
            let chunk = &mut buffer[..len];
            self.source
                .read_exact_at(chunk, at)
                .map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => DiskError::vanished(self.from),
                    _ => DiskError::io(self.from, "read", error),
                })?;
            self.target
                .write_all_at(chunk, at)
                .map_err(|error| self.unwritten(error, end - at))?;
            let before = at;
            at += len as u64;
            if before / limits::WRITE_BACK_BYTES != at / limits::WRITE_BACK_BYTES {
                start_write_back(self.target);
            }
            advance(len as u64)?;
        }
        Ok(())
    }

    /// The time of the last change is part of what the store knows a file by. Whose it is and who may read it are kept as far as we may.
    fn keep_attributes(&self, source: &Metadata) -> Result<(), DiskError> {
        let _ = fchown(self.target, Some(source.uid()), Some(source.gid()));
        let _ = self.target.set_permissions(source.permissions());
        let modified = source
            .modified()
            .map_err(|error| DiskError::io(self.from, "look at", error))?;
        let times = FileTimes::new().set_modified(modified);
        self.target
            .set_times(times)
            .map_err(|error| DiskError::io(self.to, "set the time of", error))
    }

    fn unwritten(&self, error: io::Error, need: u64) -> DiskError {
        match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => {
                let free = rustix::fs::fstatvfs(self.target)
                    .map_or(0, |found| found.f_bavail.saturating_mul(found.f_frsize));
                DiskError::creating(self.to, error, need, free)
            }
            _ => DiskError::io(self.to, "write", error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn copy(source: &File, target: &File) -> Result<FileIdentity, DiskError> {
        let (from, to) = (Path::new("from"), Path::new("to"));
        Copying {
            source,
            from,
            target,
            to,
        }
        .run(&|_| Ok(()))
    }

    #[test]
    fn bytes_holes_and_the_time_of_the_last_change_are_kept() {
        let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.set_len(64 << 20).unwrap();
        source.write_all_at(b"begin", 0).unwrap();
        source.write_all_at(&[7; 100_000], (30 << 20) + 5).unwrap();
        let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::new(1_000_000_007, 500);
        source
            .set_times(FileTimes::new().set_modified(then))
            .unwrap();
        let was = copy(&source, &target).unwrap();
        let (one, two) = (source.metadata().unwrap(), target.metadata().unwrap());
        assert_eq!(identity(&one), was);
        assert_eq!((one.len(), one.modified().unwrap()), (two.len(), then));
        assert_eq!(two.modified().unwrap(), then);
        let (mut a, mut b) = (vec![0; 64 << 20], vec![1; 64 << 20]);
        source.read_exact_at(&mut a, 0).unwrap();
        target.read_exact_at(&mut b, 0).unwrap();
        assert!(a == b);
        if one.blocks() * 512 < 1 << 20 {
            assert!(two.blocks() * 512 < 4 << 20, "{} blocks", two.blocks());
        }
    }

    #[test]
    fn a_source_that_changes_meanwhile_makes_no_copy() {
        let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.write_all_at(&[1; 3 << 20], 0).unwrap();
        let calls = Cell::new(0);
        let (from, to) = (Path::new("from"), Path::new("to"));
        let copying = Copying {
            source: &source,
            from,
            target: &target,
            to,
        };
        let cut = copying.run(&|_| {
            calls.set(calls.get() + 1);
            source.set_len(1 << 20).unwrap();
            Ok(())
        });
        assert!(matches!(cut, Err(DiskError::Vanished { .. })), "{cut:?}");
        assert_eq!(calls.get(), 1);
    }

    #[test]
    fn a_source_that_grew_past_a_hole_has_no_data_past_what_it_was() {
        let (source, target) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        source.write_all_at(b"new", 64 << 20).unwrap();
        let (from, to) = (Path::new("from"), Path::new("to"));
        let copying = Copying {
            source: &source,
            from,
            target: &target,
            to,
        };
        let length = 1 << 20;
        let data = copying.data(0, length);
        assert!(
            // Some filesystems tell no holes.
            data.is_none() || data == Some(0..length),
            "{data:?}"
        );
    }
}
