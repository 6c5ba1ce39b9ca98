//! Payloads of so many files that several threads make them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use seedbank::disk::{Disk, DiskError, FileState, Kernel, Medium};

use crate::hooked::{Hook, Hooked};
use crate::rig::{Rig, block_on};

/// 1,000 files of different lengths in 50 folders.
fn many() -> Rig {
    let files: Vec<_> = (0..1_000u64)
        .map(|n| (format!("t/{}/{n}", n / 20), 1 + n * 7))
        .collect();
    let files: Vec<_> = files.iter().map(|(name, len)| (&**name, *len)).collect();
    Rig::new(&files)
}

#[test]
fn each_is_made_in_full() {
    let rig = many();
    let opened = block_on(rig.open_to_write()).unwrap();
    assert!(
        opened
            .states
            .iter()
            .all(|state| *state == FileState::Missing)
    );
    for spec in rig.layout.files() {
        let made = fs::metadata(&spec.path).unwrap();
        assert_eq!(made.len(), spec.length);
        assert!(made.blocks() * 512 >= spec.length, "space is reserved");
    }
    drop(opened);
    let again = block_on(rig.open_to_write()).unwrap();
    let is_there = |state: &FileState| matches!(state, FileState::Existing(_));
    assert!(again.states.iter().all(is_there));
}

/// A disk on which there is no room for a file of this length.
#[derive(Debug)]
struct NoRoom {
    length: u64,
    /// Longer ones than this wait until that was found.
    patient: u64,
    found: AtomicBool,
    asked: AtomicU64,
}

impl Hook for NoRoom {
    fn allocate(&self, file: &File, length: u64) -> io::Result<()> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if length == self.length {
            self.found.store(true, Ordering::Release);
            return Err(rustix::io::Errno::NOSPC.into());
        }
        while length > self.patient && !self.found.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        Kernel.allocate(file, length)
    }
}

/// Makes many, of which this one cannot be made; gives how many were tried.
fn tried_if_one_fails(fails: usize, patient: u64) -> u64 {
    let mut rig = many();
    let disk = Arc::new(Hooked(NoRoom {
        length: rig.layout.files()[fails].length,
        patient,
        found: AtomicBool::new(false),
        asked: AtomicU64::new(0),
    }));
    rig.disk = Disk::on(2, Arc::clone(&disk) as Arc<dyn Medium>);
    let error = block_on(rig.open_to_write()).unwrap_err();
    assert!(
        matches!(&error, DiskError::Full { path, .. } if *path == rig.path(fails)),
        "{error}"
    );
    assert_eq!(fs::read_dir(rig.root()).unwrap().count(), 0);
    disk.0.asked.load(Ordering::Relaxed)
}

#[test]
fn if_one_fails_none_is_left_whoever_made_it() {
    for fails in [17, 500, 999] {
        tried_if_one_fails(fails, u64::MAX);
    }
}

#[test]
fn if_one_fails_the_others_are_not_begun() {
    let locked = tried_if_one_fails(3, u64::MAX);
    assert_eq!(locked, 4, "nothing is made beside the first");
    // Whoever makes the second half waits in it for one of the first half to fail.
    let tried = tried_if_one_fails(100, many().layout.files()[500].length);
    assert!(tried < 990, "{tried} were tried");
}

#[test]
fn of_two_that_make_the_same_one_goes_on_and_the_other_is_told() {
    let rig = many();
    let other = Disk::new(2);
    for _ in 0..10 {
        let open = |disk: Disk| {
            let layout = Arc::clone(&rig.layout);
            let access = crate::rig::write(false, &[]);
            std::thread::spawn(move || {
                crate::rig::past_forks();
                block_on(disk.open(layout, access, seedbank::disk::WritePath::Pwrite))
            })
        };
        let ended = [open(rig.disk.clone()), open(other.clone())];
        let ended = ended.map(|thread| thread.join().unwrap());
        let [one, two] = &ended;
        let good = [one, two].iter().filter(|opened| opened.is_ok()).count();
        assert_eq!(good, 1, "{one:?}\n{two:?}");
        for error in ended.iter().filter_map(|opened| opened.as_ref().err()) {
            let told = matches!(error, DiskError::InUse { .. } | DiskError::Vanished { .. });
            assert!(told, "{error}");
        }
        for spec in rig.layout.files() {
            assert_eq!(fs::metadata(&spec.path).unwrap().len(), spec.length);
        }
        drop(ended);
        fs::remove_dir_all(rig.root()).unwrap();
    }
}
