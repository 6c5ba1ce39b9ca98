//! What becomes of files when their filesystem is synced as a whole, and when it cannot be.

use std::ffi::OsStr;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::super::{DiskError, Kernel};
use super::*;

/// A medium whose syncs fail.
#[derive(Debug, Default)]
struct Broken {
    /// How the next one of the whole filesystem does.
    whole: Mutex<Option<io::Error>>,
    /// Name of the file whose own do.
    file: Option<&'static str>,
}

impl Broken {
    fn failing_once(how: impl Fn() -> io::Error) -> Self {
        Self {
            whole: Mutex::new(Some(how())),
            file: None,
        }
    }

    fn is_well(&self, file: &File) -> io::Result<()> {
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let name = std::fs::read_link(link)?;
        let struck = name.file_name() == self.file.map(OsStr::new);
        if struck {
            Err(io::ErrorKind::Other.into())
        } else {
            Ok(())
        }
    }
}

impl Medium for Broken {
    fn may_map(&self) -> bool {
        false
    }

    fn read(&self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        Kernel.read(file, offset, buffer)
    }

    fn read_cached(
        &self,
        file: &File,
        offset: u64,
        buffers: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        Kernel.read_cached(file, offset, buffers)
    }

    fn write(&self, file: &File, offset: u64, data: &[u8]) -> io::Result<usize> {
        Kernel.write(file, offset, data)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.is_well(file)
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        self.is_well(file)
    }

    fn sync_filesystem(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        self.whole.lock().unwrap().take().map_or(Ok(()), Err)
    }

    fn drop_cache(&self, file: &File) {
        Kernel.drop_cache(file);
    }

    fn allocate(&self, file: &File, length: u64) -> io::Result<()> {
        Kernel.allocate(file, length)
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

#[test]
fn releases_and_unwritten_bytes_are_read_as_the_kernel_writes_them() {
    assert_eq!(release_of("5.10.0-28-amd64"), Some((5, 10)));
    assert_eq!(release_of("6.18.44"), Some((6, 18)));
    assert_eq!(release_of("6"), None);
    assert_eq!(release_of("mine"), None);
    let text = "MemFree:  1 kB\nDirty:          1024 kB\nWriteback:         4 kB\nDirtyX: 9 kB\n";
    assert_eq!(dirty_of(text), 1_028 << 10);
    assert_eq!(dirty_of("Dirty: 1 kB\n"), u64::MAX);
    assert_eq!(dirty_of("Dirty: x kB\nWriteback: 1 kB\n"), u64::MAX);
}

/// Files of one byte each, written and not synced, on a medium that fails as it is told.
fn written(medium: Broken, root: &Path) -> (Arc<Volume>, Vec<Arc<OpenFile>>) {
    let medium: Arc<dyn Medium> = Arc::new(medium);
    let place = Place::on(&medium, root).unwrap();
    let volume = Volume::of(&place).unwrap();
    let files = ["a", "b", "c"].map(|name| {
        let file = place.create_file(name.as_ref()).unwrap();
        file.set_len(1).unwrap();
        let path = root.join(name);
        let medium = Arc::clone(&medium);
        let open = OpenFile::new(path, file, 1, false, Arc::default(), medium);
        open.write_at(0, b"x").unwrap();
        Arc::new(open.on(Some(Arc::clone(&volume))))
    });
    (volume, files.into())
}

#[test]
fn one_sync_cleans_all_files() {
    let root = tempfile::tempdir().unwrap();
    let (volume, files) = written(Broken::default(), root.path());
    assert!(volume.sync(&files, &files[0]));
    assert!(files.iter().all(|file| !file.is_dirty()));
}

#[test]
fn a_filesystem_that_cannot_be_synced_as_a_whole_now_is_tried_again() {
    let root = tempfile::tempdir().unwrap();
    let unsupported = || io::ErrorKind::Unsupported.into();
    let medium = Broken::failing_once(unsupported);
    let (volume, files) = written(medium, root.path());
    assert!(!volume.sync(&files, &files[0]));
    assert!(files.iter().all(|file| file.is_dirty()));
    assert!(volume.sync(&files, &files[0]));
}

#[test]
fn after_a_failure_only_the_files_themselves_are_asked() {
    let root = tempfile::tempdir().unwrap();
    let failed = || io::Error::from_raw_os_error(libc::EIO);
    let medium = Broken {
        file: Some("b"),
        ..Broken::failing_once(failed)
    };
    let (volume, files) = written(medium, root.path());
    // Whoever was struck need not be among those that are named.
    assert!(!volume.sync(&files[..1], &files[0]));
    assert!(
        !volume.sync(&files, &files[0]),
        "nobody told of the failure"
    );
    assert!(files.iter().all(|file| file.is_dirty()));
    assert!(files[0].sync().is_ok());
    assert!(files[1].sync().is_err());
    assert!(matches!(files[1].sync(), Err(DiskError::Poisoned { .. })));
}

#[test]
fn a_whole_that_is_synced_counts_only_with_a_file_of_it() {
    let root = tempfile::tempdir().unwrap();
    let medium = Broken {
        file: Some("a"),
        ..Broken::default()
    };
    let (volume, files) = written(medium, root.path());
    assert!(!volume.sync(&files[1..], &files[0]));
    assert!(files.iter().all(|file| file.is_dirty()));
}

#[test]
fn the_kernel_syncs_what_it_can_or_says_that_it_cannot() {
    let root = tempfile::tempdir().unwrap();
    let folder = File::open(root.path()).unwrap();
    match Kernel.sync_filesystem(folder.as_fd()) {
        Ok(()) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
    }
    let memory = File::open("/dev/shm").unwrap();
    let error = Kernel.sync_filesystem(memory.as_fd()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
}
