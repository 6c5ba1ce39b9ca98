//! Files that change between the look at them and the first write.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use seedbank::disk::{Kernel, Medium};
use seedbank::engine::{Event, Goal};
use tokio::time::timeout;

use crate::hooked::{Hook, Hooked};
use crate::world::{PIECE, World};

const SPOILT: u64 = 3 * PIECE as u64;

/// Somebody who writes over a piece as soon as that has been read.
#[derive(Debug, Default)]
struct Stranger(AtomicBool);

impl Hook for Stranger {
    fn read(&self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = Kernel.read(file, offset, buffer)?;
        if offset == SPOILT && !self.0.swap(true, Ordering::Relaxed) {
            // The file is open for reading only.
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            let file = File::options().write(true).open(path)?;
            file.write_all_at(b"spoilt", offset)?;
        }
        Ok(read)
    }
}

#[tokio::test]
async fn a_file_that_was_written_to_while_it_was_hashed_is_hashed_again() {
    let world = World::new();
    fs::create_dir_all(world.path("dest/pair")).unwrap();
    let path = world.path("dest/pair/a");
    fs::copy(world.path("source/pair/a"), &path).unwrap();
    // Clocks of filesystems are coarse.
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(long_ago).unwrap();
    let disk: Arc<dyn Medium> = Arc::new(Hooked(Stranger::default()));
    let engine = world.engine_on("state", disk).await;
    let mut events = engine.subscribe();
    let torrent = world.torrent("dest", Goal::Download, vec![]);
    // Whether the first attempt is told here or by the torrent is beside the point.
    let _torrent = engine.add(torrent).await;
    let resumed = async {
        loop {
            if let Event::Resume {
                rechecked, missing, ..
            } = events.recv().await.unwrap()
            {
                return (rechecked, missing);
            }
        }
    };
    let resumed = timeout(Duration::from_secs(60), resumed).await.unwrap();
    assert_eq!(resumed, (10, 7), "9 of 16 pieces are good");
    engine.shutdown().await;
}
