//! Folders for what a run needs and nobody after it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::exit::Failure;

/// Names that are tried: one may be left from a process of the same number that was killed.
const NAMES: u32 = 100;

/// A folder for temporary files that is removed with everything in it.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes a new one; `what` goes into its name.
    ///
    /// # Errors
    /// If the system's folder for temporary files cannot be written.
    pub(crate) fn new(what: &str) -> Result<Self, Failure> {
        let stem = format!("seedbank-{what}-{}", std::process::id());
        let mut path = std::env::temp_dir().join(&stem);
        let mut tried = 1;
        loop {
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tried < NAMES => {
                    path.set_file_name(format!("{stem}-{tried}"));
                    tried += 1;
                }
                Err(error) => return Err(Failure::create(&path, &error)),
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_was_left_behind_is_in_nobodys_way() {
        let left = Folder::new("test").unwrap();
        fs::write(left.join("something"), "of its own").unwrap();
        let folder = Folder::new("test").unwrap();
        assert_ne!(folder.path(), left.path());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        drop(folder);
        assert!(left.join("something").exists());
    }
}
