//! The operating system's medium with a few calls that a test takes into its own hands.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use seedbank::disk::{Kernel, Medium};

/// The calls that a test may take over; those that it does not are the kernel's.
pub trait Hook: Debug + Send + Sync {
    fn read(&self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Kernel.read(file, offset, buffer)
    }

    fn write(&self, file: &File, offset: u64, data: &[u8]) -> io::Result<usize> {
        Kernel.write(file, offset, data)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        Kernel.sync_data(file)
    }

    fn allocate(&self, file: &File, length: u64) -> io::Result<()> {
        Kernel.allocate(file, length)
    }
}

/// The medium with a hook in it. Nothing is mapped.
#[derive(Debug)]
pub struct Hooked<H>(pub H);

impl<H: Hook> Medium for Hooked<H> {
    fn may_map(&self) -> bool {
        false
    }

    fn read(&self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(file, offset, buffer)
    }

    fn write(&self, file: &File, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.0.write(file, offset, data)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.0.sync_data(file)
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        Kernel.sync_all(file)
    }

    fn drop_cache(&self, file: &File) {
        Kernel.drop_cache(file);
    }

    fn allocate(&self, file: &File, length: u64) -> io::Result<()> {
        self.0.allocate(file, length)
    }

    fn set_len(&self, file: &File, length: u64) -> io::Result<()> {
        Kernel.set_len(file, length)
    }

    fn create_file(&self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
        Kernel.create_file(folder, name)
    }

    fn create_folder(&self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        Kernel.create_folder(folder, name)
    }

    fn create_link(&self, folder: BorrowedFd<'_>, name: &OsStr, target: &Path) -> io::Result<()> {
        Kernel.create_link(folder, name, target)
    }

    fn remove_file(&self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        Kernel.remove_file(folder, name)
    }

    fn remove_folder(&self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        Kernel.remove_folder(folder, name)
    }

    fn sync_folder(&self, folder: BorrowedFd<'_>) -> io::Result<()> {
        Kernel.sync_folder(folder)
    }
}
