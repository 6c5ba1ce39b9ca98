//! What the catalog of a state folder knows of a torrent.

use std::future::Future;
use std::path::{Path, PathBuf};

use seedbank::base::InfoHash;
use seedbank::store::{CatalogEntry, Store, StoreError};

use super::exit::{Exit, Failure};

/// A torrent that an earlier run was given.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The metainfo, byte by byte as it was given.
    pub(crate) metainfo: Vec<u8>,
    /// The folder that its payload is in.
    pub(crate) dest: PathBuf,
}

impl From<CatalogEntry> for Known {
    fn from(entry: CatalogEntry) -> Self {
        Self {
            metainfo: entry.metainfo,
            dest: entry.choices.dest,
        }
    }
}

/// Looks `info_hash` up in the catalog of the folder `state`, which is not made if it is not there.
///
/// # Errors
/// If the folder is in use or cannot be read.
pub(crate) fn find(state: &Path, info_hash: InfoHash) -> Result<Option<Known>, Failure> {
    if !state.exists() {
        return Ok(None);
    }
    run(async {
        let store = Store::open(state.to_owned()).await?.store;
        let catalog = store.catalog().await;
        store.close().await?;
        let mut entries = catalog?.entries.into_iter();
        Ok(entries
            .find(|entry| entry.info_hash == info_hash)
            .map(Known::from))
    })
}

/// Runs a short errand at the store to its end.
///
/// # Errors
/// What the errand fails with.
pub(crate) fn run<T>(errand: impl Future<Output = Result<T, StoreError>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::Unknown, format!("cannot start a task: {error}")))?;
    runtime.block_on(errand).map_err(|error| of_store(&error))
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
