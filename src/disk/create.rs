//! Opening a payload: what is there, what has to be made, and in which order (R0).

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::file::{OpenFile, is_blank};
use super::lock::{self, Hold};
use super::look::{FileState, state, survey};
use super::place::{Place, free, identity};
use super::volume::Volume;
use super::{DiskError, FileSpec, Layout, Medium, Payload, SpecKind};
use crate::base::{FileIdentity, limits};

/// What a payload is opened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// To check and to share; nothing is made or changed.
    Read,
    /// To fetch what is missing. The destination folder and all files are made as needed.
    Write {
        /// Whether files of another length than the torrent's may be taken and set to the right one. Empty ones always are.
        overwrite: bool,
        /// Files, by place in the layout, that an earlier run made: one that is too *short* is grown. Missing entries mean no.
        ours: Vec<bool>,
        /// What was there, by place in the layout, when it was decided what to believe of it ([`Disk::look`](super::Disk::look)): whoever
        /// hashed something must not write to something else, nor make anew what is gone. Missing entries mean that nothing was.
        found: Vec<Option<FileIdentity>>,
    },
}

/// A payload and what was found.
#[derive(Debug)]
pub struct Opened {
    /// The payload, ready to use.
    pub payload: Payload,
    /// For each file of the layout, what was found.
    pub states: Vec<FileState>,
}

/// A payload's folder and its locked files, ready for [`Payload`].
pub(super) struct Ready {
    pub(super) place: Place,
    /// By which its files can be synced together, if it is to be written and has many.
    pub(super) volume: Option<Arc<Volume>>,
    pub(super) locked: HashMap<usize, Arc<OpenFile>>,
    pub(super) poisoned: Vec<Arc<AtomicBool>>,
    pub(super) states: Vec<FileState>,
}

/// Which files are locked and kept open: the first few with bytes in them, or the first few at all.
pub(super) fn to_lock(layout: &Layout) -> Vec<usize> {
    let files = || layout.payload_files().map(|(at, file)| (at, file.length));
    let full = files().filter(|(_, length)| *length > 0).map(|(at, _)| at);
    let mut chosen: Vec<_> = full.take(limits::LOCKED_FILES).collect();
    if chosen.is_empty() {
        chosen = files()
            .map(|(at, _)| at)
            .take(limits::LOCKED_FILES)
            .collect();
    }
    chosen
}

/// Opens for reading: locks what is there, makes nothing.
pub(super) fn open_to_read(layout: &Layout, medium: &Arc<dyn Medium>) -> Result<Ready, DiskError> {
    let place = Place::on(medium, layout.root())?;
    let found = survey(layout, &place)?;
    let poisoned = fresh_marks(layout);
    let mut locked = HashMap::new();
    for at in to_lock(layout) {
        if found[at].is_none() {
            continue;
        }
        let spec = &layout.files()[at];
        let file = place.open_file(layout.relative(&spec.path), false)?;
        lock::hold(&file, &spec.path, Hold::Shared)?;
        let mark = Arc::clone(&poisoned[at]);
        let medium = Arc::clone(medium);
        let open = OpenFile::new(spec.path.clone(), file, spec.length, false, mark, medium);
        locked.insert(at, Arc::new(open));
    }
    let files = layout.files().iter().zip(&found);
    let states = files
        .map(|(file, found)| state(file, found.as_ref()))
        .collect();
    Ok(Ready {
        place,
        volume: None,
        locked,
        poisoned,
        states,
    })
}

fn fresh_marks(layout: &Layout) -> Vec<Arc<AtomicBool>> {
    layout.files().iter().map(|_| Arc::default()).collect()
}

/// The error for a file that is not ours: whoever is just making it is told apart from a stranger's.
fn in_the_way(layout: &Layout, place: &Place, path: &Path) -> DiskError {
    in_use(layout, place, path).unwrap_or_else(|| DiskError::NotOurs {
        path: path.to_owned(),
    })
}

/// The error for a file that somebody writes to, if somebody does.
fn in_use(layout: &Layout, place: &Place, path: &Path) -> Option<DiskError> {
    let held = place
        .open_file(layout.relative(path), false)
        .and_then(|file| lock::hold(&file, path, Hold::Shared));
    held.err()
        .filter(|error| matches!(error, DiskError::InUse { .. }))
}

/// Refuses files that are not what they were when they were judged.
fn check_unchanged(
    layout: &Layout,
    place: &Place,
    then: &[Option<FileIdentity>],
    now: &[Option<Metadata>],
) -> Result<(), DiskError> {
    for (at, now) in now.iter().enumerate() {
        if then.get(at).copied().flatten() != now.as_ref().map(identity) {
            let path = &layout.files()[at].path;
            let error = in_use(layout, place, path);
            return Err(error.unwrap_or_else(|| DiskError::vanished(path)));
        }
    }
    Ok(())
}

/// Opens for writing, by R0: every file and folder exists in full and durably when this returns. If it fails, what it made is removed.
/// `then` is what was there when it was judged.
pub(super) fn open_to_write(
    layout: &Layout,
    overwrite: bool,
    ours: &[bool],
    then: &[Option<FileIdentity>],
    mapped: impl Fn(&Place) -> bool,
    medium: &Arc<dyn Medium>,
) -> Result<Ready, DiskError> {
    let place = if then.iter().any(Option::is_some) {
        // Not made anew: it may be on a disk that was mounted a moment ago.
        Place::keep(medium, layout.root())?
    } else {
        Place::make(medium, layout.root())?
    };
    let found = survey(layout, &place)?;
    check_unchanged(layout, &place, then, &found)?;
    let files = || layout.files().iter().zip(&found);
    let states: Vec<_> = files()
        .map(|(file, found)| state(file, found.as_ref()))
        .collect();
    for (at, (file, state)) in layout.files().iter().zip(&states).enumerate() {
        if let FileState::WrongLength(found) = state {
            let ours = ours.get(at).copied().unwrap_or(false) && found.size < file.length;
            let ours = ours || is_unfinished(layout, &place, file, found.size);
            if !ours && !overwrite {
                return Err(in_the_way(layout, &place, &file.path));
            }
        }
    }
    let need = files()
        .map(|(file, found)| still_to_allocate(file, found.as_ref()))
        .sum();
    let free = place.free();
    if need > free {
        let path = layout.root().to_owned();
        return Err(DiskError::Full { path, need, free });
    }
    let mapped = mapped(&place);
    let many = Volume::is_worth(layout.files().len());
    let volume = many.then(|| Volume::of(&place)).flatten();
    let mut making = Making {
        layout,
        ours,
        place: &place,
        volume: volume.as_ref(),
        poisoned: fresh_marks(layout),
        mapped,
        locked: HashMap::new(),
        files: Vec::new(),
        folders: Vec::new(),
        unsynced: Unsynced::default(),
    };
    let made = making.make_all(&states, &found);
    let Making {
        poisoned,
        locked,
        files,
        folders,
        ..
    } = making;
    if let Err(error) = made {
        drop(locked);
        files.iter().for_each(|path| place.remove_file(path));
        place.remove_folders(&folders);
        return Err(error);
    }
    Ok(Ready {
        place,
        volume,
        locked,
        poisoned,
        states,
    })
}

/// Whether `file` is too short and holds nothing at all: a power cut leaves that of a file that was being made, and nobody loses
/// anything if it is made in full.
fn is_unfinished(layout: &Layout, place: &Place, file: &FileSpec, size: u64) -> bool {
    let blank = |file: File| is_blank(&file, size);
    let open = || place.open_file(layout.relative(&file.path), false);
    size < file.length && open().is_ok_and(blank)
}

/// Bytes that the disk must still provide for `file`.
fn still_to_allocate(file: &FileSpec, found: Option<&Metadata>) -> u64 {
    if file.kind != SpecKind::Payload {
        return 0;
    }
    let there = found.map_or(0, |found| found.blocks().saturating_mul(512));
    file.length.saturating_sub(there)
}

/// Files and folders on their way into being.
struct Making<'a> {
    layout: &'a Layout,
    /// Files that an earlier run made, and finished making.
    ours: &'a [bool],
    place: &'a Place,
    volume: Option<&'a Arc<Volume>>,
    poisoned: Vec<Arc<AtomicBool>>,
    mapped: bool,
    locked: HashMap<usize, Arc<OpenFile>>,
    /// Files and links that this call made, to be removed if it fails.
    files: Vec<PathBuf>,
    /// Folders that this call made, uppermost first.
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

impl Making<'_> {
    fn make_all(
        &mut self,
        states: &[FileState],
        found: &[Option<Metadata>],
    ) -> Result<(), DiskError> {
        let lock: BTreeSet<_> = to_lock(self.layout).into_iter().collect();
        for (at, spec) in self.layout.files().iter().enumerate() {
            match &spec.kind {
                SpecKind::Pad => {}
                SpecKind::Symlink { target } => self.make_link(spec, target)?,
                SpecKind::Payload => {
                    let file =
                        self.make_file(at, states[at], found[at].as_ref(), lock.contains(&at))?;
                    if lock.contains(&at) {
                        let file = self.opened(at, file);
                        self.locked.insert(at, Arc::new(file));
                    }
                }
            }
        }
        // Also the folders that were there: an earlier run may have made them and been killed before it could sync them. All entries of
        // a folder are there by now, so once for each is enough.
        for (_, spec) in self.layout.payload_files() {
            let above = self.layout.relative(&spec.path).ancestors().skip(1);
            self.unsynced.folders.extend(above.map(Path::to_owned));
        }
        self.sync_all()
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
    fn sync_all(&self) -> Result<(), DiskError> {
        let Unsynced {
            files,
            folders,
            elsewhere,
        } = &self.unsynced;
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

    fn make_file(
        &mut self,
        at: usize,
        state: FileState,
        found: Option<&Metadata>,
        lock: bool,
    ) -> Result<File, DiskError> {
        let spec = &self.layout.files()[at];
        let path = self.layout.relative(&spec.path);
        let file = match state {
            FileState::Missing => {
                self.make_parents(path)?;
                let file = self.place.create_file(path);
                let file = file.map_err(|error| match error.kind() {
                    // It was not there when we looked.
                    io::ErrorKind::AlreadyExists => in_the_way(self.layout, self.place, &spec.path),
                    _ => DiskError::creating(&spec.path, error, spec.length, self.place.free()),
                })?;
                self.files.push(path.to_owned());
                file
            }
            _ => self.place.open_file(path, true)?,
        };
        if lock {
            lock::hold(&file, &spec.path, Hold::Exclusive)?;
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
        if incomplete || !self.ours.get(at).copied().unwrap_or(false) {
            self.unsynced.files.push(at);
            let here = |volume: &Arc<Volume>| volume.holds(now.dev());
            self.unsynced.elsewhere |= !self.volume.is_some_and(here);
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

    fn make_link(&mut self, spec: &FileSpec, target: &Path) -> Result<(), DiskError> {
        let path = self.layout.relative(&spec.path);
        let text = text_of_link(path, self.layout.relative(target));
        self.make_parents(path)?;
        let made = self.place.make_link(path, &text);
        if made.map_err(|error| DiskError::creating(&spec.path, error, 0, 0))? {
            self.files.push(path.to_owned());
        }
        Ok(())
    }

    fn make_parents(&mut self, path: &Path) -> Result<(), DiskError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        // Already made, or found, for another file of this call.
        if !self.unsynced.folders.insert(parent.to_owned()) {
            return Ok(());
        }
        for folder in self.place.make_folders(parent)? {
            let above = folder.parent().unwrap_or(Path::new(""));
            self.unsynced.folders.insert(above.to_owned());
            self.folders.push(folder);
        }
        Ok(())
    }
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
