//! Folders for what a run needs and nobody after it.

use std::fs;
use std::path::{Path, PathBuf};

use super::exit::Failure;

/// A folder for temporary files that is removed with everything in it.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes a new one; `what` goes into its name.
    ///
    /// # Errors
    /// If the system's folder for temporary files cannot be written.
    pub(crate) fn new(what: &str) -> Result<Self, Failure> {
        let name = format!("seedbank-{what}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).map_err(|error| Failure::create(&path, &error))?;
        Ok(Self(path))
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left for the system to clear away.
        let _ = fs::remove_dir_all(&self.0);
    }
}
