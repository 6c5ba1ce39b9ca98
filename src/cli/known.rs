//! What the catalog of a state folder knows of a torrent.

use std::future::Future;
use std::path::{Path, PathBuf};

use seedbank::base::InfoHash;
use seedbank::format::metainfo::Metainfo;
use seedbank::store::{self, Choices, Moving, StoreError};

use super::exit::{Exit, Failure};

/// A torrent that an earlier run was given.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// What it is.
    pub(crate) metainfo: Metainfo,
    /// The folder that its payload is in, or on its way to; `None` if nothing was made of it yet.
    pub(crate) dest: Option<PathBuf>,
}

/// Looks `info_hash` up in the catalog of the folder `state`, which may be in use or not exist. What is damaged is unknown.
pub(crate) fn find(state: &Path, info_hash: InfoHash) -> Option<Known> {
    let entry = store::glance(state, info_hash)?;
    Some(Known {
        metainfo: parse(info_hash, &entry.metainfo)?,
        dest: begun_at(entry.choices),
    })
}

/// The folder that the payload of `info_hash` is in, as far as the catalog of the folder `state` knows.
pub(crate) fn place(state: &Path, info_hash: InfoHash) -> Option<PathBuf> {
    store::glance_choices(state, info_hash).and_then(begun_at)
}

fn begun_at(choices: Choices) -> Option<PathBuf> {
    match choices.moving {
        _ if choices.unbegun => None,
        Some(Moving::To(folder)) => Some(folder),
        Some(Moving::From(_)) | None => Some(choices.dest),
    }
}

/// The metainfo of `info_hash`, unless these bytes are not that.
pub(crate) fn parse(info_hash: InfoHash, bytes: &[u8]) -> Option<Metainfo> {
    let metainfo = Metainfo::parse(bytes).ok()?;
    (metainfo.info.info_hash() == info_hash).then_some(metainfo)
}

/// Runs an errand at the store to its end.
///
/// # Errors
/// What the errand fails with.
pub(crate) fn run<T, E: Into<Failure>>(
    errand: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::Unknown, format!("cannot start a task: {error}")))?;
    runtime.block_on(errand).map_err(Into::into)
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        of_store(&error)
    }
}

/// A trouble of the store with its exit status.
pub(crate) fn of_store(error: &StoreError) -> Failure {
    let exit = match error {
        StoreError::InUse { .. } => Exit::CannotOpen,
        StoreError::CannotCreate { .. } => Exit::CannotCreate,
        StoreError::Full { .. } => Exit::DiskFull,
        StoreError::Io { .. } => Exit::Io,
        StoreError::Missing { .. } => Exit::NotFound,
        _ => Exit::Unknown,
    };
    Failure::new(exit, error.to_string())
}
