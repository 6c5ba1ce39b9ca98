//! What a move has to do about each file, judged from what lies at both places. Changes nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::super::create::text_of_link;
use super::super::place::{Place, identity};
use super::super::{DiskError, SpecKind};
use super::{Places, Relocation};

/// The steps in which filesystems count time, in nanoseconds: a copy may have lost what is finer.
const STEPS_NS: [i64; 6] = [
    2_000_000_000,
    1_000_000_000,
    10_000_000,
    1_000_000,
    1_000,
    100,
];

/// What there is to do about one entry of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Nothing,
    /// It is there; so is its original if it is a copy.
    Arrived,
    Rename,
    Copy,
    Link,
}

/// What there is to do about all of them.
pub(super) struct Survey {
    pub(super) ways: Vec<Way>,
    pub(super) copy: u64,
}

impl Relocation {
    pub(super) fn survey(&self, places: &Places) -> Result<Survey, DiskError> {
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
        let free = places.to.free().saturating_add(self.left_over(&places.to));
        if copy > free {
            let (path, need) = (self.to.root().to_owned(), copy);
            return Err(DiskError::Full { path, need, free });
        }
        Ok(Survey { ways, copy })
    }

    /// Bytes that unfinished copies of an earlier run take: they are removed before anything is copied.
    fn left_over(&self, to: &Place) -> u64 {
        let unfinished = self.unfinished();
        let folders = self.folders().into_iter();
        let found = folders.filter_map(|folder| to.named(&folder.join(&unfinished)).ok().flatten());
        // One with a second name keeps its bytes.
        let ours = found.filter(|found| found.is_file() && found.nlink() == 1);
        ours.map(|found| found.blocks().saturating_mul(512)).sum()
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

    pub(super) fn is_unchanged(&self, at: usize, found: &Metadata) -> bool {
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
    pub(super) fn text_of_link(
        &self,
        from: Option<&Place>,
        at: usize,
        path: &Path,
    ) -> Option<PathBuf> {
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
}

/// Whether `path` is a link with this text.
pub(super) fn says(place: &Place, path: &Path, text: &Path) -> bool {
    let found = place.text_of_link(path);
    found.is_some_and(|found| found == text.as_os_str().as_bytes())
}

pub(super) fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Whether two files have the length and the time of the last change of one another, as far as filesystems keep that.
pub(super) fn is_same_version(one: &Metadata, other: &Metadata) -> bool {
    let (one, other) = (identity(one), identity(other));
    let (early, late) = (
        one.mtime_ns.min(other.mtime_ns),
        one.mtime_ns.max(other.mtime_ns),
    );
    let cut_off = |&step: &i64| early % step == 0 && late.saturating_sub(early) < step;
    one.size == other.size && (early == late || STEPS_NS.iter().any(cut_off))
}
