//! What a medium has of each file and folder, as far as that differs from what can be read.
//!
//! The content of the temporary folder is what a running system sees. Here stands what a power cut may make of it: the old bytes of
//! every sector that was written and not synced, old lengths and times, and names made or removed in folders that were not synced.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::FallocateFlags;

use crate::common::payload::Random;

/// What a disk writes whole or not at all, if it is not torn.
const SECTOR: usize = 512;
/// What the kernel keeps or has never written.
const PAGE: usize = 4_096;

type Sector = [u8; SECTOR];
type Key = (u64, u64);

/// Everything unsynced.
#[derive(Debug)]
pub(crate) struct Ledger {
    files: HashMap<Key, Unsynced>,
    folders: HashMap<Key, Folder>,
    /// Where removed files wait until their removal is synced.
    limbo: PathBuf,
    removed: usize,
}

/// What the medium has of a file.
#[derive(Debug)]
struct Unsynced {
    file: File,
    /// `None` as long as it was never synced: then the medium owes it nothing.
    settled: Option<Settled>,
    /// Sectors to be written by the next sync, with what the medium has there.
    sectors: BTreeMap<u64, Sector>,
    /// Sectors that a failed sync left marked as clean: read, they look written; synced, they are passed over.
    lost: BTreeMap<u64, Sector>,
    /// Some of them were lost by a sync of everything, which its own sync has yet to tell.
    untold: bool,
}

#[derive(Clone, Copy, Debug)]
struct Settled {
    length: u64,
    modified: SystemTime,
}

/// Names that changed since the folder was synced, in order.
#[derive(Debug)]
struct Folder {
    handle: File,
    changes: Vec<(OsString, Change)>,
}

#[derive(Debug)]
enum Change {
    Made,
    /// With the file that went, wherever it waits; folders are just made anew.
    Removed(Option<PathBuf>),
}

/// How a power cut treats what is not synced.
#[derive(Clone, Copy, Debug)]
struct Fate {
    /// Of 8, how many sectors reach the medium.
    kept: u64,
    /// Whether some of them reach it in part.
    torn: bool,
}

impl Ledger {
    pub(crate) fn new(limbo: PathBuf) -> Self {
        Self {
            files: HashMap::new(),
            folders: HashMap::new(),
            limbo,
            removed: 0,
        }
    }

    /// All of it, leaving nothing.
    pub(crate) fn take(&mut self) -> Self {
        let nothing = Self::new(self.limbo.clone());
        std::mem::replace(self, nothing)
    }

    /// `file` was made just now.
    pub(crate) fn made_file(&mut self, folder: BorrowedFd<'_>, name: &OsStr, file: &File) {
        let unsynced = Unsynced::of(file, false);
        self.files.insert(key(file), unsynced);
        self.made(folder, name);
    }

    /// A name was made in `folder`.
    pub(crate) fn made(&mut self, folder: BorrowedFd<'_>, name: &OsStr) {
        let folder = self.folder(folder);
        folder.changes.push((name.to_owned(), Change::Made));
    }

    /// Removes a file in a way that can be taken back.
    pub(crate) fn remove_file(&mut self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        self.removed += 1;
        let aside = self.limbo.join(self.removed.to_string());
        let folder = self.folder(folder);
        fs::rename(within(&folder.handle, name), &aside)?;
        let change = Change::Removed(Some(aside));
        folder.changes.push((name.to_owned(), change));
        Ok(())
    }

    /// An empty folder was removed.
    pub(crate) fn removed_folder(&mut self, folder: BorrowedFd<'_>, name: &OsStr) {
        let folder = self.folder(folder);
        let change = Change::Removed(None);
        folder.changes.push((name.to_owned(), change));
    }

    /// `len` bytes at `offset` are about to be overwritten.
    pub(crate) fn before_write(&mut self, file: &File, offset: u64, len: usize) {
        self.file(file).remember(offset, len as u64);
    }

    /// The file is about to get this length.
    pub(crate) fn before_length(&mut self, file: &File, length: u64) {
        let unsynced = self.file(file);
        let now = file.metadata().unwrap().len();
        unsynced.remember(length.min(now), now.saturating_sub(length));
    }

    /// A sync went well; with `times` it was one that covers the file's times.
    pub(crate) fn synced(&mut self, file: &File, times: bool) {
        self.file(file).synced(times);
    }

    /// A sync failed: some of it got through, and the kernel calls the rest clean.
    pub(crate) fn sync_failed(&mut self, file: &File, random: &mut Random) {
        self.file(file).sync_failed(random);
    }

    /// A sync of everything went well.
    pub(crate) fn synced_all(&mut self) {
        for unsynced in self.files.values_mut() {
            unsynced.synced(true);
        }
        for folder in self.folders.values_mut() {
            folder.synced();
        }
    }

    /// A sync of everything failed, for some files or for what is none of ours. The kernel tells it to whoever syncs one of these files next;
    /// or, unless it is `untold`, somebody else was told already.
    pub(crate) fn sync_of_all_failed(&mut self, untold: bool, random: &mut Random) {
        let mut struck: Vec<_> = self.files.iter_mut().collect();
        struck.sort_by_key(|(key, _)| **key);
        for (_, unsynced) in struck {
            if !unsynced.sectors.is_empty() && random.below(2) == 0 {
                unsynced.sync_failed(random);
                unsynced.untold = untold;
            }
        }
    }

    /// Whether a sync of everything has lost something of the file that was not told yet; it is now.
    pub(crate) fn takes_failure(&mut self, file: &File) -> bool {
        std::mem::take(&mut self.file(file).untold)
    }

    /// Cached pages of the file go: what a failed sync lost is seen to be lost.
    pub(crate) fn drop_cache(&mut self, file: &File) {
        let unsynced = self.file(file);
        let lost = std::mem::take(&mut unsynced.lost);
        if !lost.is_empty() {
            let modified = file.metadata().unwrap().modified().unwrap();
            unsynced.restore(&lost);
            unsynced.set_modified(modified);
        }
    }

    /// The names in `folder` are as they are for good.
    pub(crate) fn synced_folder(&mut self, folder: BorrowedFd<'_>) {
        self.folder(folder).synced();
    }

    /// The power is cut: files and folders become what a medium might have of them.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        let fate = Fate {
            kept: [0, 1, 4, 7, 8][random.below(5) as usize],
            torn: random.below(2) == 0,
        };
        // In an order that does not hang on hashes, for the sake of the seed.
        let mut files: Vec<_> = self.files.drain().collect();
        files.sort_by_key(|(key, _)| *key);
        for (_, unsynced) in files {
            unsynced.crash(fate, random);
        }
        let mut folders: Vec<_> = self.folders.drain().collect();
        folders.sort_by_key(|(key, _)| *key);
        for (_, folder) in folders {
            folder.crash(fate, random);
        }
    }

    fn file(&mut self, file: &File) -> &mut Unsynced {
        self.files
            .entry(key(file))
            .or_insert_with(|| Unsynced::of(file, true))
    }

    fn folder(&mut self, folder: BorrowedFd<'_>) -> &mut Folder {
        let handle = File::from(folder.try_clone_to_owned().unwrap());
        let changes = Vec::new();
        self.folders
            .entry(key(&handle))
            .or_insert(Folder { handle, changes })
    }
}

impl Unsynced {
    fn of(file: &File, settled: bool) -> Self {
        let now = file.metadata().unwrap();
        let settled = settled.then(|| Settled {
            length: now.len(),
            modified: now.modified().unwrap(),
        });
        // Opened anew: a clone would keep the lock of the one who opened it.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mut options = File::options();
        let file = options.read(true).write(true).open(path).unwrap();
        Self {
            file,
            settled,
            sectors: BTreeMap::new(),
            lost: BTreeMap::new(),
            untold: false,
        }
    }

    fn remember(&mut self, offset: u64, len: u64) {
        let sectors = offset / SECTOR as u64..(offset + len).div_ceil(SECTOR as u64);
        for at in sectors {
            let lost = self.lost.remove(&at);
            let file = &self.file;
            self.sectors
                .entry(at)
                .or_insert_with(|| lost.unwrap_or_else(|| read_sector(file, at)));
        }
    }

    fn synced(&mut self, times: bool) {
        self.sectors.clear();
        let now = self.file.metadata().unwrap();
        let modified = match self.settled {
            Some(settled) if !times => settled.modified,
            _ => now.modified().unwrap(),
        };
        let length = now.len();
        self.settled = Some(Settled { length, modified });
    }

    fn sync_failed(&mut self, random: &mut Random) {
        for (at, old) in std::mem::take(&mut self.sectors) {
            if random.below(2) == 0 {
                self.lost.entry(at).or_insert(old);
            }
        }
    }

    fn restore(&self, sectors: &BTreeMap<u64, Sector>) {
        let length = self.file.metadata().unwrap().len();
        for (at, old) in sectors {
            let offset = at * SECTOR as u64;
            let len = length.saturating_sub(offset).min(SECTOR as u64) as usize;
            self.file.write_all_at(&old[..len], offset).unwrap();
        }
    }

    fn crash(mut self, fate: Fate, random: &mut Random) {
        let now = self.file.metadata().unwrap();
        let (seen, modified) = (now.len(), now.modified().unwrap());
        let settled = self.settled;
        let length = match settled.map(|settled| settled.length) {
            Some(length) if random.below(2) == 0 => length,
            None if random.below(3) == 0 => random.below(seen + 1),
            None if random.below(2) == 0 => 0,
            _ => seen,
        };
        if length != seen {
            self.file.set_len(length).unwrap();
        }
        for (&at, old) in &mut self.sectors {
            if random.below(8) < fate.kept {
                let torn = fate.torn && random.below(16) == 0;
                let new = read_sector(&self.file, at);
                let kept = if torn {
                    random.below(SECTOR as u64) as usize
                } else {
                    SECTOR
                };
                old[..kept].copy_from_slice(&new[..kept]);
            }
        }
        let mut back = std::mem::take(&mut self.sectors);
        back.append(&mut self.lost);
        self.restore(&back);
        self.punch(&back, length < seen);
        let then = settled.map_or(modified, |settled| settled.modified);
        let chosen = [then, modified][random.below(2) as usize];
        self.set_modified(chosen);
    }

    /// Pages of which nothing was ever written are holes again, with their space still reserved.
    fn punch(&self, sectors: &BTreeMap<u64, Sector>, cut_short: bool) {
        let length = self.file.metadata().unwrap().len();
        let mut blank: BTreeSet<u64> = sectors
            .keys()
            .map(|at| at * SECTOR as u64 / PAGE as u64)
            .collect();
        if self.settled.is_none() {
            blank.extend(0..length.div_ceil(PAGE as u64));
        }
        if cut_short {
            blank.insert(length / PAGE as u64);
        }
        for page in blank {
            let offset = page * PAGE as u64;
            let mut bytes = [0; PAGE];
            let read = self.file.read_at(&mut bytes, offset).unwrap();
            if read > 0 && bytes == [0; PAGE] {
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                // Where there are no holes, zeros are as good.
                let _ = rustix::fs::fallocate(&self.file, hole, offset, PAGE as u64);
                let keep = FallocateFlags::KEEP_SIZE;
                let _ = rustix::fs::fallocate(&self.file, keep, offset, PAGE as u64);
            }
        }
    }

    fn set_modified(&self, modified: SystemTime) {
        let times = FileTimes::new().set_modified(modified);
        self.file.set_times(times).unwrap();
    }
}

impl Folder {
    fn synced(&mut self) {
        for (_, change) in self.changes.drain(..) {
            if let Change::Removed(Some(aside)) = change {
                fs::remove_file(aside).unwrap();
            }
        }
    }

    /// Of all that happened to one name, the first few stay.
    fn crash(self, fate: Fate, random: &mut Random) {
        let mut stays: HashMap<&OsStr, bool> = HashMap::new();
        let mut gone = Vec::new();
        for (name, change) in &self.changes {
            let stays = stays.entry(name).or_insert(true);
            *stays = *stays && random.below(8) < fate.kept;
            if !*stays {
                gone.push((name, change));
            }
        }
        for (name, change) in gone.into_iter().rev() {
            let path = within(&self.handle, name);
            match change {
                Change::Made => unmake(&path),
                // The folder itself may be gone by now.
                Change::Removed(Some(aside)) => drop(fs::rename(aside, path)),
                Change::Removed(None) => drop(fs::create_dir(path)),
            }
        }
    }
}

/// The name is gone, and what it led to; it may have gone already with a folder above it.
fn unmake(path: &Path) {
    let result = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}

fn read_sector(file: &File, at: u64) -> Sector {
    let mut sector = [0; SECTOR];
    let mut read = 0;
    while read < SECTOR {
        let offset = at * SECTOR as u64 + read as u64;
        match file.read_at(&mut sector[read..], offset).unwrap() {
            0 => break,
            more => read += more,
        }
    }
    sector
}

/// The path of `name` in a folder that may have been renamed or removed.
fn within(folder: &File, name: &OsStr) -> PathBuf {
    let handle = format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd());
    Path::new(&handle).join(name)
}

fn key(file: &File) -> Key {
    let found = file.metadata().unwrap();
    (found.dev(), found.ino())
}
