//! What lies under payload files: the calls by which files are made, written, synced and read back while a torrent is fetched and shared.
//!
//! The client runs on [`Kernel`]. The trait exists so that crash tests can put a disk under the very same code that forgets what was
//! not synced, fails at a chosen call, or writes less than it was given. Opening, locking and looking at files never pass through
//! it: they change nothing that a power cut could take back. Nor do moves of a payload, which copy, rename and remove files; the look
//! for zeros in a file that nobody vouches for; and mappings, unless [`Medium::may_map`] forbids them. What these leave is for tests on
//! a real filesystem to show.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Advice, AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::{uncached, volume};

/// A medium for files and folders. Offsets and lengths are in bytes; errors are those of the system call of that name.
///
/// A call may come from several threads at once. What a call promises of a power cut is said with it; whatever no call
/// promised may be lost, in part or in whole, in any order.
pub trait Medium: std::fmt::Debug + Send + Sync {
    /// Whether files on it may be written through a mapping, which passes by this interface.
    fn may_map(&self) -> bool;

    /// Reads at `offset`; gives the bytes read, which may be fewer than fit, and 0 only at the end of the file.
    fn read(&self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// As [`read`](Self::read), but what it has to bring into the cache does not stay there. An error of the kind
    /// [`io::ErrorKind::Unsupported`] if there is no such read.
    fn read_uncached(&self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(file, offset, buffer)
    }

    /// As [`read`](Self::read) into several buffers, of what is in the page cache; it never waits. An error of the kind
    /// [`io::ErrorKind::WouldBlock`] if it would have to, and of the kind [`io::ErrorKind::Unsupported`] if there is no such
    /// read: as here, so that whoever stands in for a medium sees every read as [`read`](Self::read).
    fn read_cached(
        &self,
        _file: &File,
        _offset: u64,
        _buffers: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Writes at `offset`; gives the bytes written, which may be fewer than there are.
    fn write(&self, file: &File, offset: u64, data: &[u8]) -> io::Result<usize>;

    /// `fdatasync`: content and length of the file, as they are now, survive a power cut; its times may not. After a failure
    /// nothing is known of what was written since the last success, and a later success says nothing about it.
    fn sync_data(&self, file: &File) -> io::Result<()>;

    /// `fsync`: as [`sync_data`](Self::sync_data), and the file's times survive too. The name of the file may not.
    fn sync_all(&self, file: &File) -> io::Result<()>;

    /// `syncfs`: whatever is on the filesystem of the folder `at`, content, lengths, times and names, as it is now, survives a power cut;
    /// the content perhaps only after the [`sync_data`](Self::sync_data) of some file there. An error of the kind
    /// [`io::ErrorKind::Unsupported`], and without a number of the system's, if this cannot promise as much, or would take long, as here. Any
    /// other tells that something failed since `at` was opened, once; what it was is told by a sync of each file.
    fn sync_filesystem(&self, _at: BorrowedFd<'_>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Lets go of cached pages that are not waiting to be written, so that the next read asks the medium. A wish, not a promise.
    fn drop_cache(&self, file: &File);

    /// `fallocate`: the space for the first `length` bytes is reserved, and the file is at least that long.
    fn allocate(&self, file: &File, length: u64) -> io::Result<()>;

    /// `ftruncate`.
    fn set_len(&self, file: &File, length: u64) -> io::Result<()>;

    /// Makes the file `name`, which must not exist, in `folder`, and opens it for reading and writing.
    fn create_file(&self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<File>;

    /// Makes the folder `name`, which must not exist, in `folder`.
    fn create_folder(&self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()>;

    /// Makes the symbolic link `name`, which must not exist, with the text `target` in `folder`.
    fn create_link(&self, folder: BorrowedFd<'_>, name: &OsStr, target: &Path) -> io::Result<()>;

    /// Removes the file or link `name` from `folder`.
    fn remove_file(&self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()>;

    /// Removes the empty folder `name` from `folder`.
    fn remove_folder(&self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()>;

    /// `fsync` of a folder: the names in it, as they are now, survive a power cut. What they lead to may not.
    fn sync_folder(&self, folder: BorrowedFd<'_>) -> io::Result<()>;
}

/// The medium that the operating system provides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl Medium for Kernel {
    fn may_map(&self) -> bool {
        true
    }

    fn read(&self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        file.read_at(buffer, offset)
    }

    fn read_uncached(&self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        uncached::read_dont_cache(file, offset, buffer)
    }

    fn read_cached(
        &self,
        file: &File,
        offset: u64,
        buffers: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        match rustix::io::preadv2(file, buffers, offset, ReadWriteFlags::NOWAIT) {
            // Filesystems, kernels and sandboxes that do not know the flag.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::PERM) => {
                Err(io::ErrorKind::Unsupported.into())
            }
            read => Ok(read?),
        }
    }

    fn write(&self, file: &File, offset: u64, data: &[u8]) -> io::Result<usize> {
        file.write_at(data, offset)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_filesystem(&self, at: BorrowedFd<'_>) -> io::Result<()> {
        volume::sync_filesystem(at)
    }

    fn drop_cache(&self, file: &File) {
        let _ = rustix::fs::fadvise(file, 0, None, Advice::DontNeed);
    }

    fn allocate(&self, file: &File, length: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(
            file,
            FallocateFlags::empty(),
            0,
            length,
        )?)
    }

    fn set_len(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn create_file(&self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
        // Exclusive creation follows no link either.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o666))?;
        Ok(File::from(file))
    }

    fn create_folder(&self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::mkdirat(
            folder,
            name,
            Mode::from_raw_mode(0o777),
        )?)
    }

    fn create_link(&self, folder: BorrowedFd<'_>, name: &OsStr, target: &Path) -> io::Result<()> {
        Ok(rustix::fs::symlinkat(target, folder, name)?)
    }

    fn remove_file(&self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?)
    }

    fn remove_folder(&self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?)
    }

    fn sync_folder(&self, folder: BorrowedFd<'_>) -> io::Result<()> {
        Ok(rustix::fs::fsync(folder)?)
    }
}

/// Reads until `buffer` is full.
///
/// # Errors
/// Of the kind [`io::ErrorKind::UnexpectedEof`] if the file ends before that, and whatever the medium says.
pub(super) fn read_exact(
    medium: &dyn Medium,
    file: &File,
    mut offset: u64,
    mut buffer: &mut [u8],
) -> io::Result<()> {
    while !buffer.is_empty() {
        match medium.read(file, offset, buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes of one write: the kernel puts longer ones into larger folios, which are of memory that was free for long, and that costs a
/// virtual machine a fault for each page.
const WRITE_AT_ONCE: usize = 256 << 10;

/// Writes until `data` is written.
///
/// # Errors
/// Of the kind [`io::ErrorKind::WriteZero`] if the medium takes nothing any more, and whatever it says.
pub(super) fn write_all(
    medium: &dyn Medium,
    file: &File,
    mut offset: u64,
    mut data: &[u8],
) -> io::Result<()> {
    while !data.is_empty() {
        let next = &data[..data.len().min(WRITE_AT_ONCE)];
        match medium.write(file, offset, next) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                data = &data[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
