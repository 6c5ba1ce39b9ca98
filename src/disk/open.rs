//! Opening a payload: what is there, and whether it may be used as it is or made complete.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::create::{Made, Making, still_to_allocate};
use super::file::{OpenFile, is_blank};
use super::lock::{self, Hold};
use super::look::{FileState, state, survey};
use super::place::{Place, identity};
use super::volume::Volume;
use super::{DiskError, FileSpec, Layout, Medium, Payload};
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
pub(super) fn in_the_way(layout: &Layout, place: &Place, path: &Path) -> DiskError {
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
            // Somebody may be making them all, and has locked the first.
            let locked = to_lock(layout).into_iter();
            let mut probed = locked.chain([at]).map(|at| &layout.files()[at].path);
            let error = probed.find_map(|path| in_use(layout, place, path));
            return Err(error.unwrap_or_else(|| DiskError::vanished(path)));
        }
    }
    Ok(())
}

/// Opens for writing, by R0: every file and folder exists in full and durably when this returns. If it fails, what it made is removed,
/// but for a file that somebody else was quicker to lock.
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
    let poisoned = fresh_marks(layout);
    let mut made = Made::default();
    let making = Making {
        layout,
        ours,
        found: &found,
        place: &place,
        volume: volume.as_ref(),
        poisoned: &poisoned,
        mapped,
    };
    if let Err(error) = making.make_all(&mut made) {
        made.remove(&place);
        return Err(error);
    }
    Ok(Ready {
        locked: made.locked,
        place,
        volume,
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
