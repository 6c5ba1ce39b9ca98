//! A payload file mapped for writing, and the system calls on pages that have no safe wrapper.
//!
//! Bytes are copied in only after the kernel has promised the pages (`MADV_POPULATE_WRITE`), so that a full or failing disk answers with an
//! error; `sigbus` catches what slips through in between. No reference to mapped bytes ever exists: they may change under us.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};

use super::sigbus::{self, Guard};

/// Bytes whose pages are made ready at once: enough to amortise the call, small enough to stay in the cache until the copy.
const WINDOW: usize = 256 << 10;

/// A shared, writable mapping of a whole file.
#[derive(Debug)]
pub(super) struct Map {
    // Declared first, so dropped first: an address must not be ours once it is unmapped.
    guard: Guard,
    pages: MmapRaw,
}

/// Why bytes did not get into a mapping.
#[derive(Debug)]
pub(super) enum Refused {
    /// This kernel cannot make pages ready (Linux before 5.14).
    Unsupported,
    /// The kernel cannot provide pages there: the file was cut short, the disk is full or it fails.
    Pages(io::Error),
    /// A page was refused while we copied, now or before.
    Poisoned,
}

impl Map {
    /// Maps the first `len` bytes of `file`, which must have its final length. `None` if that cannot be done: write without it.
    pub(super) fn new(file: &File, len: u64) -> Option<Self> {
        let len = usize::try_from(len).ok().filter(|&len| len > 0)?;
        let pages = MmapOptions::new().len(len).map_raw(file).ok()?;
        let guard = Guard::new(
            pages.as_ptr() as usize,
            len.next_multiple_of(sigbus::page_len()),
        )?;
        // Pieces come in random order. Without this advice every page that is made ready brings its neighbours along, which pushes others out
        // where memory is scarce: in a control group of 128 MiB that took ten times as long. The advice may be refused; it is only that.
        let _ = pages.advise(Advice::Random);
        Some(Self { guard, pages })
    }

    /// Copies `data` to `offset`.
    ///
    /// # Panics
    /// If that lies outside of the mapping.
    pub(super) fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Refused> {
        let offset = usize::try_from(offset).expect("the mapping fits the address space");
        let end = offset.checked_add(data.len());
        assert!(
            end.is_some_and(|end| end <= self.pages.len()),
            "a write past the mapping"
        );
        let mut done = 0;
        while done < data.len() {
            let at = offset + done;
            // Windows end on multiples of WINDOW in the file, so that no page is made ready twice.
            let len = (WINDOW - at % WINDOW).min(data.len() - done);
            self.make_ready(at, len)?;
            let chunk = &data[done..done + len];
            // SAFETY: at..at + len lies within the mapping (asserted above), which is writable and lives as long as `self`; `data`
            // is memory of our own and cannot overlap it. Threads that write to the same file write other ranges, and if a file is
            // changed from outside meanwhile, no reference to its bytes exists that could be wronged. A page that was taken away since
            // `make_ready` raises SIGBUS, which the guard's handler resolves.
            unsafe {
                let target = self.pages.as_mut_ptr().add(at);
                std::ptr::copy_nonoverlapping(chunk.as_ptr(), target, len);
            }
            done += len;
        }
        if self.guard.is_poisoned() {
            return Err(Refused::Poisoned);
        }
        Ok(())
    }

    fn make_ready(&self, at: usize, len: usize) -> Result<(), Refused> {
        let start = at - at % sigbus::page_len();
        let len = at + len - start;
        // SAFETY: the range lies within the mapping and starts on a page; the advice makes pages present and changes no byte.
        let result = unsafe {
            let address = self.pages.as_mut_ptr().add(start).cast();
            libc::madvise(address, len, libc::MADV_POPULATE_WRITE)
        };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINVAL) => Err(Refused::Unsupported),
            _ => Err(Refused::Pages(error)),
        }
    }

    /// Whether a page of it was refused.
    pub(super) fn is_poisoned(&self) -> bool {
        self.guard.is_poisoned()
    }

    /// `msync(MS_SYNC)` of the whole mapping.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.pages.flush()
    }

    /// Takes the pages out of this process' resident set; they stay in the kernel's cache, so nothing is lost and no RSS looks like a leak.
    pub(super) fn release(&self) {
        // SAFETY: on a shared mapping of a file the advice drops page table entries only; the bytes live on in the page cache. Only a
        // page of zeros put in by the handler would lose what was written to it, and that mapping is poisoned already.
        let _ = unsafe { self.pages.unchecked_advise(UncheckedAdvice::DontNeed) };
    }
}

/// Asks the kernel to start writing the file's dirty pages, without waiting for them. It is no barrier: a power cut may still lose all.
pub(super) fn start_write_back(file: &File) {
    // SAFETY: a plain system call on a descriptor that `file` keeps open. A failure shows again in the sync that follows.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}

/// How many pages of `len` bytes from `offset` on are in the kernel's cache; `None` where it does not tell: before Linux 6.5, and of
/// files of others.
pub(super) fn cached_pages(file: &File, offset: u64, len: u64) -> Option<u64> {
    /// `cachestat`, which has the same number on every architecture that we build for.
    const CACHESTAT: libc::c_long = 451;
    let range = [offset, len];
    // Pages cached, dirty, in write-back, evicted, recently evicted.
    let mut counts = [0u64; 5];
    // SAFETY: both pointers are to arrays of our own, laid out as `struct cachestat_range` and `struct cachestat`, that live across
    // the call; the kernel reads the first and writes the second.
    let result = unsafe {
        let (range, counts) = (range.as_ptr(), counts.as_mut_ptr());
        libc::syscall(CACHESTAT, file.as_raw_fd(), range, counts, 0)
    };
    (result == 0).then_some(counts[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    fn file(len: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(len).unwrap();
        file
    }

    #[test]
    fn bytes_written_through_the_mapping_are_in_the_file() {
        let file = file(1 << 20);
        let map = Map::new(&file, 1 << 20).unwrap();
        let data: Vec<u8> = (0..700_000u32).map(|at| (at % 251) as u8).collect();
        match map.write_at(12_345, &data) {
            Err(Refused::Unsupported) => return eprintln!("skipped: no MADV_POPULATE_WRITE here"),
            other => other.unwrap(),
        }
        map.sync().unwrap();
        map.release();
        let mut back = vec![0; data.len()];
        file.read_exact_at(&mut back, 12_345).unwrap();
        assert_eq!(back, data);
    }

    #[test]
    fn a_file_cut_short_answers_with_an_error() {
        let file = file(1 << 20);
        let map = Map::new(&file, 1 << 20).unwrap();
        file.set_len(4_096).unwrap();
        assert!(map.write_at(8_192, &[1; 100]).is_err());
        map.write_at(0, &[1; 100]).ok();
    }

    #[test]
    fn a_page_refused_during_the_copy_poisons_its_mapping_only() {
        let (cut, whole) = (file(1 << 20), file(1 << 20));
        let map = Map::new(&cut, 1 << 20).unwrap();
        let other = Map::new(&whole, 1 << 20).unwrap();
        cut.set_len(0).unwrap();
        // What `write_at` would meet if the file were cut between its two steps.
        // SAFETY: the address lies in a live mapping; the fault is what is tested.
        unsafe { map.pages.as_mut_ptr().add(300_000).write_volatile(1) };
        assert!(map.is_poisoned());
        assert!(!other.is_poisoned());
        assert!(map.write_at(300_000, &[1]).is_err());
        drop(map);
        let again = Map::new(&whole, 1 << 20).unwrap();
        assert!(!again.is_poisoned(), "a slot used again starts clean");
    }

    /// Set in the process that is to die.
    const VICTIM: &str = "SEEDBANK_TEST_VICTIM";

    #[test]
    fn a_fault_in_a_mapping_of_somebody_else_still_ends_the_process() {
        if std::env::var_os(VICTIM).is_some() {
            let (ours, theirs) = (file(4_096), file(4_096));
            let _installs_the_handler = Map::new(&ours, 4_096).unwrap();
            let pages = MmapOptions::new().len(4_096).map_raw(&theirs).unwrap();
            theirs.set_len(0).unwrap();
            // SAFETY: the address lies in a live mapping; the fault is what is tested.
            unsafe { pages.as_mut_ptr().write_volatile(1) };
            return;
        }
        let name = "disk::map::tests::a_fault_in_a_mapping_of_somebody_else_still_ends_the_process";
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(VICTIM, "1")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        assert_eq!(signal, Some(libc::SIGBUS), "{status}");
    }
}
