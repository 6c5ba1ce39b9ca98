//! A filesystem of one mebibyte, for what happens on a full one.

use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

use super::skip;

/// A tmpfs of 1 MiB, unmounted when this is dropped.
///
/// By system calls and not by mount(8): a child shares the locks of this process until it has become its command, and another test
/// would find its own payload in use.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts one; says `skipped: …` where that is not allowed.
    pub fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let flags = MountFlags::empty();
        if mount("seedbank-test", folder.path(), "tmpfs", flags, c"size=1m").is_ok() {
            return Some(Self(folder));
        }
        skip::say("mounting a small filesystem needs root");
        None
    }

    /// Its root.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A folder on it, to be dropped before it.
    pub fn folder(&self) -> TempDir {
        tempfile::tempdir_in(self.path()).unwrap()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}
