//! Reads that leave the page cache as they find it: what was there stays, and what was not does not come to stay. So a look at
//! a whole library costs nobody else the pages that they work with.
//!
//! Kernels from 6.14 on do it themselves where the filesystem can (`RWF_DONTCACHE`). Elsewhere the kernel is asked what was
//! there before (`cachestat`, from 6.5 on), and what was not is dropped after the read. Where it cannot tell, nothing is
//! dropped: pages that others use are worth more than those that we leave behind.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

use super::Medium;
use super::map::cached_pages;
use super::sigbus::page_len;

/// `RWF_DONTCACHE`: drop what this read brought in.
const DONT_CACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// Bytes that are kept or dropped together. They start at multiples of it, so that reads that share one do not take what the
/// other left for what was there.
const WINDOW: u64 = 64 << 10;

/// How files are read; what is learned of one file holds for those beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// As any program does: whoever comes next finds the pages.
    Cached,
    /// By the kernel's own means.
    DontCache,
    /// By looking before and dropping after.
    DropAfter,
}

impl Way {
    /// Makes a file, just opened, ready for such reads.
    pub(super) fn prepare(self, file: &File) {
        if self == Self::DropAfter {
            // Read ahead, pages would be there before anybody could tell whether they had been.
            read_no_further(file);
        }
    }

    /// Reads up to `buffer` at `offset`; takes to the next way where this one is not to be had.
    fn read_at(
        &mut self,
        medium: &dyn Medium,
        file: &File,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        if *self == Self::DontCache {
            match medium.read_uncached(file, offset, buffer) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    *self = Self::DropAfter;
                    self.prepare(file);
                }
                read => return read,
            }
        }
        if *self == Self::Cached {
            return medium.read(file, offset, buffer);
        }
        let windows = windows(offset, buffer.len() as u64);
        let empty = windows.filter(|&from| cached_pages(file, from, WINDOW) == Some(0));
        let empty: Vec<u64> = empty.collect();
        let read = medium.read(file, offset, buffer)?;
        for from in empty {
            // Only a cache that is a little fuller depends on it.
            let _ = rustix::fs::fadvise(file, from, NonZeroU64::new(WINDOW), Advice::DontNeed);
        }
        Ok(read)
    }

    /// Reads exactly `buffer` at `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file ends before that, or what the system says.
    pub(super) fn read_exact_at(
        &mut self,
        medium: &dyn Medium,
        file: &File,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_at(medium, file, offset + done as u64, &mut buffer[done..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Reads at `offset` by the kernel's own means, where it has them.
pub(super) fn read_dont_cache(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    match rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer)], offset, DONT_CACHE) {
        // Filesystems, kernels and sandboxes that do not know the flag.
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::PERM) => {
            Err(io::ErrorKind::Unsupported.into())
        }
        read => Ok(read?),
    }
}

/// Whether `len` bytes from `offset` on are in the page cache. False where the kernel does not tell.
pub(super) fn is_cached(file: &File, offset: u64, len: u64) -> bool {
    let page = page_len() as u64;
    let pages = (offset + len).div_ceil(page) - offset / page;
    len == 0 || cached_pages(file, offset, len) == Some(pages)
}

/// Asks the kernel not to read ahead in `file`. It is a hint: where it is not taken, only time and memory depend on it.
pub(super) fn read_no_further(file: &File) {
    let _ = rustix::fs::fadvise(file, 0, None, Advice::Random);
}

/// Offsets of the windows that `len` bytes from `offset` on touch.
fn windows(offset: u64, len: u64) -> impl Iterator<Item = u64> {
    let first = offset - offset % WINDOW;
    (first..offset + len).step_by(WINDOW as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Kernel;
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    const LEN: u64 = 1 << 20;

    /// A file whose first half is in the cache and whose second half is not; `None` where that cannot be had.
    fn half_cached() -> Option<File> {
        let mut named = tempfile::NamedTempFile::new_in(".").unwrap();
        named.write_all(&vec![7; LEN as usize]).unwrap();
        named.as_file().sync_all().unwrap();
        let file = named.reopen().unwrap();
        Way::DropAfter.prepare(&file);
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
        let mut half = vec![0; LEN as usize / 2];
        file.read_exact_at(&mut half, 0).unwrap();
        let found = [0, LEN / 2].map(|from| cached_pages(&file, from, LEN / 2));
        let pages = LEN / 2 / page_len() as u64;
        if found != [Some(pages), Some(0)] {
            eprintln!("skipped: this filesystem or kernel does not tell what is cached: {found:?}");
            return None;
        }
        Some(file)
    }

    fn read_all(file: &File, mut way: Way) {
        let mut buffer = vec![0; 200_000];
        for offset in (0..LEN).step_by(buffer.len()) {
            let len = (LEN - offset).min(buffer.len() as u64) as usize;
            way.read_exact_at(&Kernel, file, offset, &mut buffer[..len])
                .unwrap();
            assert!(buffer[..len].iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn what_was_cached_stays_and_what_was_not_does_not_come_to_stay() {
        for way in [Way::DontCache, Way::DropAfter] {
            let Some(file) = half_cached() else { return };
            read_all(&file, way);
            let pages = LEN / 2 / page_len() as u64;
            assert_eq!(cached_pages(&file, 0, LEN / 2), Some(pages), "{way:?}");
            assert!(is_cached(&file, 5, LEN / 2 - 5));
            assert!(!is_cached(&file, LEN / 2 - 5, LEN / 2 + 5));
            let left = cached_pages(&file, LEN / 2, LEN / 2).unwrap();
            // The kernel's own means leave pages that another processor holds at that moment.
            let few = if way == Way::DontCache { pages / 8 } else { 0 };
            assert!(left <= few, "{way:?} left {left} pages");
        }
    }

    #[test]
    fn a_read_past_the_end_is_told() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"abc").unwrap();
        for mut way in [Way::Cached, Way::DontCache, Way::DropAfter] {
            let mut buffer = [0; 3];
            way.read_exact_at(&Kernel, &file, 0, &mut buffer).unwrap();
            assert_eq!(&buffer, b"abc");
            let error = way
                .read_exact_at(&Kernel, &file, 1, &mut buffer)
                .unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
