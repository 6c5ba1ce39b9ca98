//! Getting files to the new place, each in one step that is never half done.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::super::DiskError;
use super::super::copy::Copying;
use super::super::place::{Place, identity};
use super::survey::{Way, is_same};
use super::{Arrival, OnStep, Places, Relocation, Step, step};
use crate::base::FileIdentity;

/// Files on their way.
pub(super) struct Carrying<'a> {
    pub(super) relocation: &'a Relocation,
    pub(super) places: &'a Places,
    pub(super) on_step: &'a OnStep,
    /// Folders of the old place that lost an entry.
    pub(super) left: BTreeSet<PathBuf>,
    /// Folders of the new place that got one.
    pub(super) reached: BTreeSet<PathBuf>,
}

impl Carrying<'_> {
    pub(super) fn bring(&mut self, at: usize, path: &Path, way: Way) -> Result<Arrival, DiskError> {
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
    pub(super) fn sync_folders(&self) -> Result<(), DiskError> {
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
