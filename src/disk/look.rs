//! What lies in a destination folder, before anything is touched.

use std::fs::Metadata;

use super::place::{Place, identity};
use super::{DiskError, FileSpec, Layout, SpecKind};
use crate::base::FileIdentity;

/// What was found under the name of a file, before anything was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// A pad or a link: there is nothing to find.
    Virtual,
    /// Nothing. Opened to write, the file exists now.
    Missing,
    /// A file of the right length.
    Existing(FileIdentity),
    /// A file of another length. Opened to write, it has the right one now.
    WrongLength(FileIdentity),
}

/// What lies in a destination folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The device that holds the folder; `None` if the folder does not exist. If the recorded files were on another device, a mount
    /// is missing.
    pub device: Option<u64>,
    /// For each file of the layout, what it is; `None` if it is not there (as for pads and links).
    pub files: Vec<Option<FileIdentity>>,
}

/// Looks at what is there and changes nothing.
pub(super) fn look(layout: &Layout) -> Result<Found, DiskError> {
    let place = match Place::open(layout.root()) {
        Ok(place) => place,
        Err(DiskError::NotFound { .. }) => {
            let files = vec![None; layout.files().len()];
            return Ok(Found {
                device: None,
                files,
            });
        }
        Err(error) => return Err(error),
    };
    let device = rustix::fs::fstat(place.folder())
        .map_err(|error| DiskError::io(layout.root(), "look at", error))?;
    let found = survey(layout, &place)?;
    let files = found
        .into_iter()
        .map(|found| found.map(|found| identity(&found)));
    Ok(Found {
        device: Some(device.st_dev),
        files: files.collect(),
    })
}

/// What lies under the name of each file of the layout; nothing under those of pads and links.
pub(super) fn survey(layout: &Layout, place: &Place) -> Result<Vec<Option<Metadata>>, DiskError> {
    let look = |file: &FileSpec| match file.kind {
        SpecKind::Payload => place.look(layout.relative(&file.path)),
        SpecKind::Pad | SpecKind::Symlink { .. } => Ok(None),
    };
    layout.files().iter().map(look).collect()
}

/// What that means for `file`.
pub(super) fn state(file: &FileSpec, found: Option<&Metadata>) -> FileState {
    match found {
        _ if file.kind != SpecKind::Payload => FileState::Virtual,
        None => FileState::Missing,
        Some(found) if found.len() == file.length => FileState::Existing(identity(found)),
        Some(found) => FileState::WrongLength(identity(found)),
    }
}
