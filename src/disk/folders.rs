//! The open destination folders of this process: many torrents in one folder share one descriptor.
//!
//! A folder is told by its device and inode, which stand for it for as long as a descriptor is open. Whoever opens a path always
//! looks where it leads now, so a folder that was replaced or mounted over is another one.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::io::Errno;

/// Device and inode.
type Identity = (u64, u64);

static OPEN: Mutex<Option<HashMap<Identity, Weak<OwnedFd>>>> = Mutex::new(None);

/// A descriptor of the folder that was just opened: one that is open already, or this one.
pub(super) fn share(folder: OwnedFd) -> Result<Arc<OwnedFd>, Errno> {
    let found = rustix::fs::fstat(&folder)?;
    let identity = (found.st_dev, found.st_ino);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let open = open.get_or_insert_default();
    if let Some(shared) = open.get(&identity).and_then(Weak::upgrade) {
        return Ok(shared);
    }
    // Now and then, for it takes a look at each.
    if open.len().is_power_of_two() {
        open.retain(|_, folder| folder.strong_count() > 0);
    }
    let folder = Arc::new(folder);
    open.insert(identity, Arc::downgrade(&folder));
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::path::Path;

    fn open(path: &Path) -> Arc<OwnedFd> {
        share(File::open(path).unwrap().into()).unwrap()
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
        assert!(Arc::ptr_eq(&first, &open(&root.path().join("b"))));
    }
}
