//! Syncs that fail.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use seedbank::disk::{Disk, DiskError, Medium};

use crate::hooked::{Hook, Hooked};
use crate::rig::{Rig, block_on};

/// A disk that cannot sync the file with this inode.
#[derive(Debug, Default)]
struct Failing(AtomicU64);

impl Hook for Failing {
    fn sync_data(&self, file: &File) -> io::Result<()> {
        if file.metadata()?.ino() == self.0.load(Ordering::Relaxed) {
            return Err(rustix::io::Errno::IO.into());
        }
        file.sync_data()
    }
}

#[test]
fn lost_pages_of_one_file_are_told_though_another_vanished() {
    for (fails, vanishes) in [(0, 1), (1, 0)] {
        let mut rig = Rig::new(&[("a", 100_000), ("b", 100_000)]);
        let medium = Arc::new(Hooked(Failing::default()));
        rig.disk = Disk::on(2, Arc::clone(&medium) as Arc<dyn Medium>);
        block_on(async {
            let payload = rig.open_to_write().await.unwrap().payload;
            for piece in rig.pieces() {
                payload
                    .check_and_write(piece, rig.data(piece), rig.hash(piece), false, || ())
                    .await
                    .unwrap();
            }
            let inode = fs::metadata(rig.path(fails)).unwrap().ino();
            medium.0.0.store(inode, Ordering::Relaxed);
            fs::remove_file(rig.path(vanishes)).unwrap();
            let error = payload.sync(rig.pieces()).await.unwrap_err();
            assert!(
                matches!(&error, DiskError::Io { path, .. } if *path == rig.path(fails)),
                "{error}"
            );
        });
    }
}
