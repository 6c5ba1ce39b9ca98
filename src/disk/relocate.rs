//! Moving a payload from one folder to another (R8): renamed where that is enough, else copied. It can be stopped anywhere and done again.
//!
//! Guarantees: a file that is not the payload's is neither moved, replaced nor removed. At every moment each file of the payload is whole
//! under its name in one of the two folders, or in both; what is under way has a name of its own. What arrived is on the medium, name
//! and all, before [`Disk::carry`] returns; nothing is removed before [`Disk::clear_away`], and that only where it has arrived.
//!
//! Who calls remembers the intent before the first step, and the new place between the two.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::ops::ControlFlow;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::copy::Copying;
use super::create::{text_of_link, to_lock};
use super::lock::{self, Hold};
use super::place::{Place, identity};
use super::{Disk, DiskError, FileSpec, Layout, SpecKind};
use crate::base::FileIdentity;

/// The steps in which filesystems count time, in nanoseconds: a copy may have lost what is finer.
const STEPS_NS: [i64; 6] = [
    2_000_000_000,
    1_000_000_000,
    10_000_000,
    1_000_000,
    1_000,
    100,
];

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

/// What there is to do about one entry of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Nothing,
    /// It is there; so is its original if it is a copy.
    Arrived,
    Rename,
    Copy,
    Link,
}

/// What there is to do about all of them.
struct Survey {
    ways: Vec<Way>,
    copy: u64,
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

    fn survey(&self, places: &Places) -> Result<Survey, DiskError> {
        let mut devices = BTreeMap::new();
        let mut ways = vec![Way::Nothing; self.from.files().len()];
        let mut copy = 0;
        for (at, spec, path) in self.entries() {
            ways[at] = match &spec.kind {
                SpecKind::Pad => Way::Nothing,
                SpecKind::Symlink { .. } => self.way_of_link(places, at, path)?,
                SpecKind::Payload => self.way_of_file(places, at, path, &mut devices)?,
            };
            if ways[at] == Way::Copy
                && let Some(from) = &places.from
                && let Some(here) = from.look(path)?
            {
                copy += here.len().min(here.blocks().saturating_mul(512));
            }
        }
        let free = places.to.free();
        if copy > free {
            let (path, need) = (self.to.root().to_owned(), copy);
            return Err(DiskError::Full { path, need, free });
        }
        Ok(Survey { ways, copy })
    }

    fn way_of_file<'a>(
        &'a self,
        places: &Places,
        at: usize,
        path: &'a Path,
        devices: &mut BTreeMap<&'a Path, u64>,
    ) -> Result<Way, DiskError> {
        let there = places.to.named(path)?;
        let here = match &places.from {
            Some(from) => from.look(path)?,
            None => None,
        };
        match (here, there) {
            (None, None) if self.from.files()[at].length == 0 => Ok(Way::Nothing),
            (None, None) => Err(DiskError::NotFound {
                path: self.from.files()[at].path.clone(),
            }),
            (None, Some(there)) if there.is_file() && self.may_be_ours(at, &there) => {
                Ok(Way::Arrived)
            }
            (Some(here), Some(there)) if is_same(&here, &there) => Ok(Way::Arrived),
            (Some(here), Some(there)) if self.begun && self.is_copy(at, &here, &there) => {
                Ok(Way::Arrived)
            }
            (_, Some(_)) => Err(self.in_the_way(at)),
            (Some(here), None) => {
                let device = self.device_of_parent(&places.to, path, devices)?;
                // A link that the user put in place of a file may not lead anywhere from the new place.
                let from = places.from.as_ref();
                let named = from.map(|from| from.named(path)).transpose()?.flatten();
                let is_link = named.is_none_or(|named| !named.is_file());
                let way = if here.dev() == device && !is_link {
                    Way::Rename
                } else {
                    Way::Copy
                };
                Ok(way)
            }
        }
    }

    /// Whether a file that is only at the new place may be the one that the store knows: moved by an earlier run or by hand.
    fn may_be_ours(&self, at: usize, there: &Metadata) -> bool {
        let known = self.known.get(at).copied().flatten();
        known.is_none_or(|known| known.is_same_file(&identity(there)))
    }

    /// Whether `there` is a finished copy of `here`, or the other way round: a copy gets its name only when it is whole.
    fn is_copy(&self, at: usize, here: &Metadata, there: &Metadata) -> bool {
        there.is_file() && (self.is_unchanged(at, there) || is_same_version(here, there))
    }

    fn is_unchanged(&self, at: usize, found: &Metadata) -> bool {
        let known = self.known.get(at).copied().flatten();
        known.is_some_and(|known| known.is_unchanged(&identity(found)))
    }

    fn in_the_way(&self, at: usize) -> DiskError {
        DiskError::NotOurs {
            path: self.to.files()[at].path.clone(),
        }
    }

    /// The device that a file at `path` will be on; its folder need not exist yet.
    fn device_of_parent<'a>(
        &self,
        to: &Place,
        path: &'a Path,
        devices: &mut BTreeMap<&'a Path, u64>,
    ) -> Result<u64, DiskError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        if let Some(&device) = devices.get(parent) {
            return Ok(device);
        }
        for above in path.ancestors().skip(1) {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            match to.open_below(above, flags, Mode::empty()) {
                Ok(folder) => {
                    let found = rustix::fs::fstat(&folder);
                    let found = found.map_err(|error| {
                        DiskError::io(&self.to.root().join(above), "look at", error)
                    })?;
                    devices.insert(parent, found.st_dev);
                    return Ok(found.st_dev);
                }
                Err(Errno::NOENT) => {}
                Err(Errno::NOTDIR) => {
                    let path = self.to.root().join(above);
                    return Err(DiskError::NotOurs { path });
                }
                Err(error) => return Err(DiskError::opening(&self.to.root().join(above), error)),
            }
        }
        Err(DiskError::NotFound {
            path: self.to.root().to_owned(),
        })
    }

    /// What the link of the old place says, or has to say at the new one; `None` if there is no such link.
    fn text_of_link(&self, from: Option<&Place>, at: usize, path: &Path) -> Option<PathBuf> {
        let SpecKind::Symlink { target } = &self.from.files()[at].kind else {
            return None;
        };
        let text = PathBuf::from(OsString::from_vec(from?.text_of_link(path)?));
        Some(if text.is_relative() {
            text
        } else {
            text_of_link(path, self.from.relative(target))
        })
    }

    fn way_of_link(&self, places: &Places, at: usize, path: &Path) -> Result<Way, DiskError> {
        let Some(text) = self.text_of_link(places.from.as_ref(), at, path) else {
            return Ok(Way::Nothing);
        };
        match places.to.named(path)? {
            None => Ok(Way::Link),
            Some(_) if says(&places.to, path, &text) => Ok(Way::Arrived),
            Some(_) => Err(self.in_the_way(at)),
        }
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
        let folders = self.folders();
        for folder in &folders {
            from.remove_file(&folder.join(self.unfinished()));
        }
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

/// Whether `path` is a link with this text.
fn says(place: &Place, path: &Path, text: &Path) -> bool {
    let found = place.text_of_link(path);
    found.is_some_and(|found| found == text.as_os_str().as_bytes())
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Whether two files have the length and the time of the last change of one another, as far as filesystems keep that.
fn is_same_version(one: &Metadata, other: &Metadata) -> bool {
    let (one, other) = (identity(one), identity(other));
    let (early, late) = (
        one.mtime_ns.min(other.mtime_ns),
        one.mtime_ns.max(other.mtime_ns),
    );
    let cut_off = |&step: &i64| early % step == 0 && late.saturating_sub(early) < step;
    one.size == other.size && (early == late || STEPS_NS.iter().any(cut_off))
}

fn step(on_step: &OnStep, step: Step) -> Result<(), DiskError> {
    match on_step(step) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(DiskError::Interrupted),
    }
}

/// Files on their way.
struct Carrying<'a> {
    relocation: &'a Relocation,
    places: &'a Places,
    on_step: &'a OnStep,
    /// Folders of the old place that lost an entry.
    left: BTreeSet<PathBuf>,
    /// Folders of the new place that got one.
    reached: BTreeSet<PathBuf>,
}

impl Carrying<'_> {
    fn bring(&mut self, at: usize, path: &Path, way: Way) -> Result<Arrival, DiskError> {
        // An earlier run may have been stopped before it could sync them.
        if way != Way::Nothing {
            self.note_folders(path);
        }
        match way {
            Way::Nothing => Ok(Arrival::Nothing),
            Way::Arrived => self.arrived(at, path),
            Way::Link => self.make_link(at, path),
            Way::Rename => self.rename(at, path),
            Way::Copy => self.copy(at, path),
        }
    }

    fn note_folders(&mut self, path: &Path) {
        let above = || path.ancestors().skip(1).map(Path::to_owned);
        self.reached.extend(above());
        self.left.extend(above());
    }

    fn arrived(&self, at: usize, path: &Path) -> Result<Arrival, DiskError> {
        let relocation = self.relocation;
        let there = self.places.to.named(path)?;
        let Some(there) = there.filter(Metadata::is_file) else {
            return Ok(Arrival::Nothing);
        };
        let is = identity(&there);
        let here = match &self.places.from {
            Some(from) => from.look(path)?,
            None => None,
        };
        Ok(match here {
            Some(here) if !is_same(&here, &there) && !relocation.is_unchanged(at, &there) => {
                Arrival::Copied {
                    was: identity(&here),
                    is,
                }
            }
            _ => Arrival::Moved(is),
        })
    }

    fn make_link(&self, at: usize, path: &Path) -> Result<Arrival, DiskError> {
        let from = self.places.from.as_ref();
        let Some(text) = self.relocation.text_of_link(from, at, path) else {
            return Ok(Arrival::Nothing);
        };
        self.make_folders(path)?;
        let spec = &self.relocation.to.files()[at];
        let made = self.places.to.make_link(path, &text);
        made.map_err(|error| DiskError::creating(&spec.path, error, 0, 0))?;
        self.done()?;
        Ok(Arrival::Nothing)
    }

    fn rename(&mut self, at: usize, path: &Path) -> Result<Arrival, DiskError> {
        self.make_folders(path)?;
        let (from, to) = (self.from(at)?, &self.places.to);
        match from.rename(path, to, path) {
            Ok(()) => {}
            // Two mounts of one filesystem look like one until this.
            Err(Errno::XDEV) => return self.copy(at, path),
            Err(error) => return Err(self.cannot_create(at, error)),
        }
        self.done()?;
        let there = to.look(path)?;
        let there =
            there.ok_or_else(|| DiskError::vanished(&self.relocation.to.files()[at].path))?;
        Ok(Arrival::Moved(identity(&there)))
    }

    fn copy(&self, at: usize, path: &Path) -> Result<Arrival, DiskError> {
        self.make_folders(path)?;
        let to = &self.places.to;
        let unfinished = path.with_file_name(self.relocation.unfinished());
        // What an earlier run left.
        to.remove_file(&unfinished);
        let target = to.create_file(&unfinished);
        let target = target.map_err(|error| self.cannot_create(at, error))?;
        let copied = self.copy_to(at, path, &target).and_then(|was| {
            to.rename(&unfinished, to, path)
                .map_err(|error| self.cannot_create(at, error))?;
            Ok(was)
        });
        match copied {
            Ok(was) => {
                self.done()?;
                let path = &self.relocation.to.files()[at].path;
                let is = target
                    .metadata()
                    .map_err(|error| DiskError::io(path, "look at", error))?;
                let is = identity(&is);
                Ok(Arrival::Copied { was, is })
            }
            Err(DiskError::Interrupted) => Err(DiskError::Interrupted),
            Err(error) => {
                to.remove_file(&unfinished);
                Err(error)
            }
        }
    }

    fn copy_to(&self, at: usize, path: &Path, target: &File) -> Result<FileIdentity, DiskError> {
        let source = self.from(at)?.open_file(path, false)?;
        let copying = Copying {
            source: &source,
            from: &self.relocation.from.files()[at].path,
            target,
            to: &self.relocation.to.files()[at].path,
        };
        copying.run(&|bytes| step(self.on_step, Step::Copied(bytes)))
    }

    fn from(&self, at: usize) -> Result<&Place, DiskError> {
        let from = self.places.from.as_ref();
        from.ok_or_else(|| DiskError::NotFound {
            path: self.relocation.from.files()[at].path.clone(),
        })
    }

    fn cannot_create(&self, at: usize, error: impl Into<std::io::Error>) -> DiskError {
        let path = &self.relocation.to.files()[at].path;
        DiskError::creating(path, error, 0, self.places.to.free())
    }

    fn make_folders(&self, path: &Path) -> Result<(), DiskError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let made = self.places.to.make_folders(parent)?;
        if made.is_empty() { Ok(()) } else { self.done() }
    }

    /// R8: the new names first, then that the old ones are gone.
    fn sync_folders(&self) -> Result<(), DiskError> {
        let to = &self.places.to;
        for folder in self.reached.iter().rev() {
            to.sync_folder(folder)?;
        }
        for folder in self.left.iter().rev() {
            if let Some(from) = &self.places.from
                && from.named(folder)?.is_some_and(|found| found.is_dir())
            {
                from.sync_folder(folder)?;
            }
        }
        self.done()
    }

    fn done(&self) -> Result<(), DiskError> {
        step(self.on_step, Step::Done)
    }
}
