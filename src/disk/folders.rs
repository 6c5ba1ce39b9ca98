//! The open destination folders of this process: many torrents in one folder share one descriptor.
//!
//! A folder is told by its inode, device and mount, which stand for it for as long as a descriptor is open, and by its path, for some
//! filesystems in user space give two folders one inode. Whoever opens a path always looks where it leads now, so a folder that was
//! replaced, moved or mounted over is another one. Where the kernel does not tell all of that, nothing is shared.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::{AtFlags, StatxFlags};

#[derive(PartialEq, Eq, Hash)]
struct Identity {
    inode: u64,
    device: (u32, u32),
    mount: u64,
    path: OsString,
}

impl Identity {
    fn of(folder: &OwnedFd) -> Option<Self> {
        let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
        let found = rustix::fs::statx(folder, "", AtFlags::EMPTY_PATH, wanted).ok()?;
        let told = StatxFlags::from_bits_retain(found.stx_mask).contains(wanted);
        let path = std::fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).ok()?;
        told.then(|| Self {
            inode: found.stx_ino,
            device: (found.stx_dev_major, found.stx_dev_minor),
            mount: found.stx_mnt_id,
            path: path.into_os_string(),
        })
    }
}

static OPEN: Mutex<Option<HashMap<Identity, Weak<OwnedFd>>>> = Mutex::new(None);

/// A descriptor of the folder that was just opened: one that is open already, or this one.
pub(super) fn share(folder: OwnedFd) -> Arc<OwnedFd> {
    let Some(identity) = Identity::of(&folder) else {
        return Arc::new(folder);
    };
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let open = open.get_or_insert_default();
    if let Some(shared) = open.get(&identity).and_then(Weak::upgrade) {
        return shared;
    }
    // Now and then, for it takes a look at each.
    if open.len().is_power_of_two() {
        open.retain(|_, folder| folder.strong_count() > 0);
    }
    let folder = Arc::new(folder);
    open.insert(identity, Arc::downgrade(&folder));
    folder
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::path::Path;

    fn open(path: &Path) -> Arc<OwnedFd> {
        share(File::open(path).unwrap().into())
    }

    #[test]
    fn one_folder_is_open_once_whatever_path_leads_there_and_its_successor_apart() {
        let root = tempfile::tempdir().unwrap();
        let (path, link) = (root.path().join("a"), root.path().join("link"));
        std::fs::create_dir(&path).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let first = open(&path);
        assert!(Arc::ptr_eq(&first, &open(&link)));
        assert!(!Arc::ptr_eq(&first, &open(root.path())));
        std::fs::rename(&path, root.path().join("b")).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(!Arc::ptr_eq(&first, &open(&path)));
        assert!(!Arc::ptr_eq(&first, &open(&root.path().join("b"))));
    }
}
