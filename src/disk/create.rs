//! Making what a payload lacks, in which order, and durably (R0): folders, files in full, links.

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, Metadata};
use std::io;
use std::iter;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::file::OpenFile;
use super::hash::join;
use super::lock::{self, Hold};
use super::open::{in_the_way, to_lock};
use super::place::{Place, free, identity};
use super::volume::Volume;
use super::{DiskError, FileSpec, Layout, Medium, SpecKind};

/// Most threads that make files of one payload: they wait for the filesystem's journal more than for the disk.
const THREADS: usize = 4;
/// Files that are worth a thread.
const SHARE: usize = 32;

/// What is to be there when all is made.
#[derive(Debug)]
pub(super) struct Making<'a> {
    pub(super) layout: &'a Layout,
    /// Files that an earlier run made, and finished making.
    pub(super) ours: &'a [bool],
    /// What lay under the name of each file.
    pub(super) found: &'a [Option<Metadata>],
    pub(super) place: &'a Place,
    pub(super) volume: Option<&'a Arc<Volume>>,
    pub(super) poisoned: &'a [Arc<AtomicBool>],
    pub(super) mapped: bool,
}

/// What was made so far.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// The files that are locked, by place in the layout.
    pub(super) locked: HashMap<usize, Arc<OpenFile>>,
    /// Files and links that were not there.
    files: Vec<PathBuf>,
    /// Folders that were not there, uppermost first.
    folders: Vec<PathBuf>,
    unsynced: Unsynced,
}

/// What is not durable yet.
#[derive(Debug, Default)]
struct Unsynced {
    /// Files by place in the layout, for their length and space.
    files: Vec<usize>,
    /// Folders, for the names in them.
    folders: BTreeSet<PathBuf>,
    /// Whether some of these files are on another filesystem than the folder.
    elsewhere: bool,
}

impl Made {
    /// Adds what another thread made.
    fn append(&mut self, other: Self) {
        self.locked.extend(other.locked);
        self.files.extend(other.files);
        self.folders.extend(other.folders);
        self.unsynced.files.extend(other.unsynced.files);
        self.unsynced.folders.extend(other.unsynced.folders);
        self.unsynced.elsewhere |= other.unsynced.elsewhere;
    }

    /// Removes what was not there before.
    pub(super) fn remove(self, place: &Place) {
        // The locked ones last, which were made first: until then nobody else begins here.
        let files = self.files.iter().rev();
        files.for_each(|path| place.remove_file(path));
        drop(self.locked);
        place.remove_folders(&self.folders);
    }
}

impl Making<'_> {
    /// Makes every folder, file and link. What it made is in `made` also if it fails.
    pub(super) fn make_all(&self, made: &mut Made) -> Result<(), DiskError> {
        // These first: who makes the same payload at the same time is told before either has made much.
        let locked = to_lock(self.layout);
        for &at in &locked {
            self.make_parents(&self.layout.files()[at], made)?;
            let file = self.make_file(at, true, made)?;
            made.locked.insert(at, Arc::new(self.opened(at, file)));
        }
        for spec in self.layout.files() {
            if let SpecKind::Symlink { target } = &spec.kind {
                self.make_parents(spec, made)?;
                self.make_link(spec, target, made)?;
            }
        }
        let others = self.layout.payload_files();
        let others = others.filter(|(at, _)| locked.binary_search(at).is_err());
        let others: Vec<usize> = others.map(|(at, _)| at).collect();
        for &at in &others {
            self.make_parents(&self.layout.files()[at], made)?;
        }
        self.make_files(&others, made)?;
        self.sync_all(&made.unsynced)
    }

    /// Makes `files`, whose folders are there, on several threads if they are many.
    fn make_files(&self, files: &[usize], made: &mut Made) -> Result<(), DiskError> {
        let failed = AtomicBool::new(false);
        let work = |share: &[usize]| {
            let mut made = Made::default();
            // One who failed has the others stop.
            let mut going = share.iter().take_while(|_| !failed.load(Ordering::Relaxed));
            let ended = going.try_for_each(|&at| self.make_file(at, false, &mut made).map(drop));
            failed.fetch_or(ended.is_err(), Ordering::Relaxed);
            (made, ended)
        };
        let mut shares = files.chunks(files.len().div_ceil(threads_for(files.len())).max(1));
        let ended: Vec<_> = thread::scope(|scope| {
            let work = &work;
            let own = shares.next().unwrap_or_default();
            let begin = |share| {
                let thread = thread::Builder::new().name("disk-make".to_owned());
                let begun = thread.spawn_scoped(scope, move || work(share));
                // Without another thread it takes longer.
                begun.map_err(|_| share)
            };
            let others: Vec<_> = shares.map(begin).collect();
            let own = work(own);
            let end = |begun: Result<_, _>| begun.map_or_else(work, join);
            iter::once(own).chain(others.into_iter().map(end)).collect()
        });
        let mut result = Ok(());
        for (share, ended) in ended {
            made.append(share);
            result = result.and(ended);
        }
        result
    }

    fn opened(&self, at: usize, file: File) -> OpenFile {
        let spec = &self.layout.files()[at];
        let (path, mark) = (spec.path.clone(), Arc::clone(&self.poisoned[at]));
        let medium = Arc::clone(self.place.medium());
        let open = OpenFile::new(path, file, spec.length, self.mapped, mark, medium);
        let here = |volume: &&Arc<Volume>| {
            let found = open.file().metadata();
            found.is_ok_and(|found| volume.holds(found.dev()))
        };
        let volume = self.volume.filter(here).cloned();
        open.on(volume)
    }

    /// Makes all of it durable, with one sync of the whole filesystem if it is much.
    fn sync_all(&self, unsynced: &Unsynced) -> Result<(), DiskError> {
        let Unsynced {
            files,
            folders,
            elsewhere,
        } = unsynced;
        if let Some(volume) = self.volume
            && let Some(&some) = files.first()
            && !elsewhere
            && Volume::is_worth(files.len() + folders.len())
            && volume.sync_whole()
        {
            return self.sync_made(some);
        }
        files.iter().try_for_each(|&at| self.sync_made(at))?;
        let mut folders = folders.iter().rev();
        folders.try_for_each(|path| self.place.sync_folder(path))
    }

    fn sync_made(&self, at: usize) -> Result<(), DiskError> {
        let path = &self.layout.files()[at].path;
        let file = self.place.open_file(self.layout.relative(path), false)?;
        let synced = self.medium().sync_all(&file);
        synced.map_err(|error| DiskError::io(path, "sync", error))
    }

    /// Makes, or completes, a file whose folder is there; with `lock`, holds it before it gets its length.
    fn make_file(&self, at: usize, lock: bool, made: &mut Made) -> Result<File, DiskError> {
        let spec = &self.layout.files()[at];
        let path = self.layout.relative(&spec.path);
        let found = self.found[at].as_ref();
        let file = match found {
            None => {
                let file = self.place.create_file(path);
                let file = file.map_err(|error| match error.kind() {
                    // It was not there when we looked; one that is to be locked may not be locked yet.
                    io::ErrorKind::AlreadyExists if lock => DiskError::InUse {
                        path: spec.path.clone(),
                        pid: None,
                    },
                    io::ErrorKind::AlreadyExists => in_the_way(self.layout, self.place, &spec.path),
                    _ => DiskError::creating(&spec.path, error, spec.length, self.place.free()),
                })?;
                made.files.push(path.to_owned());
                file
            }
            Some(_) => self.place.open_file(path, true)?,
        };
        if lock && let Err(error) = lock::hold(&file, &spec.path, Hold::Exclusive) {
            if found.is_none() && matches!(error, DiskError::InUse { .. }) {
                // Whoever was quicker goes on with it.
                made.files.pop();
            }
            return Err(error);
        }
        // Whoever held the lock before us may have changed it since we looked.
        let now = file
            .metadata()
            .map_err(|error| DiskError::io(&spec.path, "look at", error))?;
        if found.is_some_and(|found| identity(found) != identity(&now)) {
            return Err(DiskError::vanished(&spec.path));
        }
        let incomplete = now.len() != spec.length || still_to_allocate(spec, Some(&now)) > 0;
        if incomplete {
            self.give_length(&file, spec, now.len())?;
        }
        // An earlier run may have been killed right after it gave the file its length.
        if incomplete || found.is_none() || !self.ours.get(at).copied().unwrap_or(false) {
            made.unsynced.files.push(at);
            let here = |volume: &Arc<Volume>| volume.holds(now.dev());
            made.unsynced.elsewhere |= !self.volume.is_some_and(here);
        }
        Ok(file)
    }

    fn give_length(&self, file: &File, spec: &FileSpec, now: u64) -> Result<(), DiskError> {
        // Another disk may be mounted below the folder.
        let full = |error| DiskError::creating(&spec.path, error, spec.length, free(file));
        let allocated = allocate(self.medium(), file, spec.length);
        if let Err(error) = &allocated
            // Without fallocate the length at least is final; running out of space then shows as a failed write.
            && !matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS))
        {
            // What was there gets its length back, to be found as it was.
            let _ = self.medium().set_len(file, now);
            return allocated.map_err(full);
        }
        if allocated.is_ok() && now <= spec.length {
            return Ok(());
        }
        self.medium().set_len(file, spec.length).map_err(full)
    }

    fn medium(&self) -> &dyn Medium {
        &**self.place.medium()
    }

    fn make_link(&self, spec: &FileSpec, target: &Path, made: &mut Made) -> Result<(), DiskError> {
        let path = self.layout.relative(&spec.path);
        let text = text_of_link(path, self.layout.relative(target));
        let link = self.place.make_link(path, &text);
        if link.map_err(|error| DiskError::creating(&spec.path, error, 0, 0))? {
            made.files.push(path.to_owned());
        }
        Ok(())
    }

    /// Makes the folders above `spec`, of whichever kind, unless they are there.
    fn make_parents(&self, spec: &FileSpec, made: &mut Made) -> Result<(), DiskError> {
        let path = self.layout.relative(&spec.path);
        let parent = path.parent().unwrap_or(Path::new(""));
        if made.unsynced.folders.contains(parent) {
            return Ok(());
        }
        made.folders.extend(self.place.make_folders(parent)?);
        // Also those that were there: an earlier run may have made them and been killed before it could sync them.
        let above = parent.ancestors().map(Path::to_owned);
        made.unsynced.folders.extend(above);
        Ok(())
    }
}

/// How many threads make so many files.
fn threads_for(files: usize) -> usize {
    match (files / SHARE).min(THREADS) {
        0 | 1 => 1,
        worth => thread::available_parallelism().map_or(1, |cores| cores.get().min(worth)),
    }
}

/// Bytes that the disk must still provide for `file`.
pub(super) fn still_to_allocate(file: &FileSpec, found: Option<&Metadata>) -> u64 {
    if file.kind != SpecKind::Payload {
        return 0;
    }
    let there = found.map_or(0, |found| found.blocks().saturating_mul(512));
    file.length.saturating_sub(there)
}

fn allocate(medium: &dyn Medium, file: &File, length: u64) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    // A signal may interrupt a long allocation; what was allocated stays, so this comes to an end.
    for _ in 0..1_000 {
        match medium.allocate(file, length) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
    Err(io::ErrorKind::Interrupted.into())
}

/// What a link at `path` says to get to `target`, both relative to the root: relative, so that the folder can be moved.
pub(super) fn text_of_link(path: &Path, target: &Path) -> PathBuf {
    let depth = path.components().count().saturating_sub(1);
    let mut text: PathBuf = std::iter::repeat_n("..", depth).collect();
    text.push(target);
    text
}
