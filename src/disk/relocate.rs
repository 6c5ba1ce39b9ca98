//! Moving a payload from one folder to another (R8): renamed where that is enough, else copied. It can be stopped anywhere and done again.
//!
//! Guarantees: a file that is not the payload's is neither moved, replaced nor removed. At every moment each file of the payload is whole
//! under its name in one of the two folders, or in both; what is under way has a name of its own. What arrived is on the medium, name
//! and all, before [`Disk::carry`] returns; nothing is removed before [`Disk::clear_away`], and that only where it has arrived.
//!
//! Who calls remembers the intent before the first step, and the new place between the two.

mod carry;
mod survey;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lock::{self, Hold};
use super::open::to_lock;
use super::place::Place;
use super::{Disk, DiskError, FileSpec, Layout, SpecKind};
use crate::base::FileIdentity;
use carry::Carrying;
use survey::{Survey, is_same, is_same_version, says};

/// A move of a payload.
#[derive(Clone, Debug)]
pub struct Relocation {
    /// Where the files were.
    pub from: Arc<Layout>,
    /// The same files where they are to be.
    pub to: Arc<Layout>,
    /// What each file was when its pieces were committed, by place in the layout.
    pub known: Vec<Option<FileIdentity>>,
    /// Tells unfinished copies of this payload from all other files: the info-hash.
    pub tag: String,
    /// Whether it may have been begun before: then what is at the new place may be ours.
    pub begun: bool,
}

/// What a move would take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlook {
    /// Both paths lead to the same folder.
    pub same_folder: bool,
    /// Bytes to copy, as the disk counts them; 0 if renaming does.
    pub copy: u64,
}

/// How one file got to the new place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// There is no such file: a pad, a link, an empty file that nobody made.
    Nothing,
    /// The file itself is there.
    Moved(FileIdentity),
    /// A copy is there, on the medium; the original is still at the old place.
    Copied {
        /// What the original is.
        was: FileIdentity,
        /// What the copy is.
        is: FileIdentity,
    },
}

/// What a move just did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It begins to copy about so many bytes.
    Copying(u64),
    /// So many more bytes are copied.
    Copied(u64),
    /// It begins to read so many bytes of the copies back.
    Checking(u64),
    /// So many more bytes are read back and right.
    Checked(u64),
    /// Something is done that is never half done.
    Done,
}

/// Hears of every step. `Break` ends the move right there, as a crash would: doing it again goes on.
pub type OnStep = dyn Fn(Step) -> ControlFlow<()> + Send + Sync;

impl Disk {
    /// Looks at both places and tells what there is to do. Changes nothing.
    ///
    /// # Errors
    /// [`DiskError::NotFound`] if the new folder or a file of the payload is not there, [`DiskError::NotOurs`] if something else has the name of a
    /// file at the new place, [`DiskError::Full`], [`DiskError::InUse`] if another process uses the payload, or what the disk says.
    pub async fn look_ahead(&self, relocation: Arc<Relocation>) -> Result<Outlook, DiskError> {
        self.run_slow(move || relocation.look_ahead()).await
    }

    /// Gets every file to the new place and says, by place in the layout, how it got there.
    ///
    /// # Errors
    /// As [`Disk::look_ahead`]; [`DiskError::Io`] and its kin; [`DiskError::Interrupted`] if `on_step` said so.
    pub async fn carry(
        &self,
        relocation: Arc<Relocation>,
        on_step: Arc<OnStep>,
    ) -> Result<Vec<Arrival>, DiskError> {
        self.run_slow(move || relocation.carry(&*on_step)).await
    }

    /// Removes from the old place what has arrived at the new one, and folders that are empty then. Says which files were left because they
    /// were changed since they were copied.
    ///
    /// # Errors
    /// [`DiskError::InUse`], [`DiskError::Io`], or [`DiskError::Interrupted`]; doing it again goes on.
    pub async fn clear_away(
        &self,
        relocation: Arc<Relocation>,
        on_step: Arc<OnStep>,
    ) -> Result<Vec<PathBuf>, DiskError> {
        self.run_slow(move || relocation.clear_away(&*on_step))
            .await
    }
}

/// The two folders of a move. The old one may be gone if nothing is left in it.
struct Places {
    from: Option<Place>,
    to: Place,
}

impl Places {
    fn is_one(&self) -> Result<bool, DiskError> {
        let Some(from) = &self.from else {
            return Ok(false);
        };
        Ok(inode(from, Path::new(""))? == inode(&self.to, Path::new(""))?)
    }
}

fn inode(place: &Place, path: &Path) -> Result<Option<(u64, u64)>, DiskError> {
    let found = place.named(path)?;
    Ok(found.map(|found| (found.dev(), found.ino())))
}

impl Relocation {
    fn open(&self) -> Result<Places, DiskError> {
        // Never made: an empty mount point is not the disk that was meant.
        let to = Place::open(self.to.root())?;
        let from = match Place::open(self.from.root()) {
            Err(DiskError::NotFound { .. }) => None,
            opened => Some(opened?),
        };
        Ok(Places { from, to })
    }

    /// The entries of the layout with their paths below both folders.
    fn entries(&self) -> impl DoubleEndedIterator<Item = (usize, &FileSpec, &Path)> {
        let files = self.from.files().iter().enumerate();
        let named = files.filter(|(_, spec)| spec.kind != SpecKind::Pad);
        named.map(|(at, spec)| (at, spec, self.from.relative(&spec.path)))
    }

    fn look_ahead(&self) -> Result<Outlook, DiskError> {
        let places = self.open()?;
        if places.is_one()? {
            return Ok(Outlook {
                same_folder: true,
                copy: 0,
            });
        }
        let Survey { copy, .. } = self.survey(&places)?;
        drop(self.hold(places.from.as_ref())?);
        Ok(Outlook {
            same_folder: false,
            copy,
        })
    }

    /// Locks what is at the old place against everybody.
    fn hold(&self, from: Option<&Place>) -> Result<HashMap<usize, File>, DiskError> {
        let mut held = HashMap::new();
        let Some(from) = from else {
            return Ok(held);
        };
        for at in to_lock(&self.from) {
            let path = &self.from.files()[at].path;
            if from.look(self.from.relative(path))?.is_some() {
                let file = from.open_file(self.from.relative(path), false)?;
                lock::hold(&file, path, Hold::Exclusive)?;
                held.insert(at, file);
            }
        }
        Ok(held)
    }

    fn carry(&self, on_step: &OnStep) -> Result<Vec<Arrival>, DiskError> {
        let places = self.open()?;
        let Survey { ways, copy } = self.survey(&places)?;
        // Held to the end: nobody writes to what is being copied.
        let held = self.hold(places.from.as_ref())?;
        self.remove_unfinished(&places.to);
        if copy > 0 {
            step(on_step, Step::Copying(copy))?;
        }
        let mut carrying = Carrying {
            relocation: self,
            places: &places,
            on_step,
            left: BTreeSet::new(),
            reached: BTreeSet::new(),
        };
        let mut arrivals = vec![Arrival::Nothing; ways.len()];
        for (at, _, path) in self.entries() {
            arrivals[at] = carrying.bring(at, path, ways[at])?;
        }
        carrying.sync_folders()?;
        drop(held);
        Ok(arrivals)
    }

    fn clear_away(&self, on_step: &OnStep) -> Result<Vec<PathBuf>, DiskError> {
        let places = self.open()?;
        let same_folder = places.is_one()?;
        let Some(from) = places.from.filter(|_| !same_folder) else {
            return Ok(Vec::new());
        };
        let held = self.hold(Some(&from))?;
        let mut left = Vec::new();
        for (at, spec, path) in self.entries() {
            match self.fate(&from, &places.to, at, path) {
                Ok(Fate::Remove) => {
                    from.unlink(path)?;
                    step(on_step, Step::Done)?;
                }
                Ok(Fate::Leave) => {}
                Ok(Fate::Changed) | Err(_) => left.push(spec.path.clone()),
            }
        }
        drop(held);
        self.remove_unfinished(&from);
        let folders = self.folders();
        let below_root = folders.iter().filter(|path| !path.as_os_str().is_empty());
        let below_root: Vec<PathBuf> = below_root.map(|&path| path.to_owned()).collect();
        from.remove_folders(&below_root);
        for folder in folders.iter().rev() {
            if from.named(folder)?.is_some_and(|found| found.is_dir()) {
                from.sync_folder(folder)?;
            }
        }
        step(on_step, Step::Done)?;
        Ok(left)
    }

    /// What becomes of what is left at the old place.
    fn fate(&self, from: &Place, to: &Place, at: usize, path: &Path) -> Result<Fate, DiskError> {
        if self.from.files()[at].kind != SpecKind::Payload {
            let text = self.text_of_link(Some(from), at, path);
            let arrived = text.is_some_and(|text| says(to, path, &text));
            return Ok(if arrived { Fate::Remove } else { Fate::Leave });
        }
        let Some(here) = from.look(path)? else {
            return Ok(Fate::Leave);
        };
        Ok(match to.look(path)? {
            // One file under two paths, as by a mount that shows a folder twice.
            Some(there) if is_same(&here, &there) => Fate::Leave,
            Some(there) if is_same_version(&here, &there) => Fate::Remove,
            _ => Fate::Changed,
        })
    }

    /// The folders of the payload, that which holds it all first, each before those in it.
    fn folders(&self) -> BTreeSet<&Path> {
        let above = |(_, _, path): (usize, &FileSpec, _)| Path::ancestors(path).skip(1);
        self.entries().flat_map(above).collect()
    }

    /// Removes what an earlier run that was stopped left of its copies in `place`.
    fn remove_unfinished(&self, place: &Place) {
        let unfinished = self.unfinished();
        for folder in self.folders() {
            place.remove_file(&folder.join(&unfinished));
        }
    }

    /// What a file is called while it is copied.
    fn unfinished(&self) -> String {
        format!(".{}.moving", self.tag)
    }
}

/// What becomes of a file at the old place.
enum Fate {
    /// It has arrived.
    Remove,
    /// It is not there, or must stay.
    Leave,
    /// It is not what arrived.
    Changed,
}

fn step(on_step: &OnStep, step: Step) -> Result<(), DiskError> {
    match on_step(step) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(DiskError::Interrupted),
    }
}
