//! Paths that a stranger chose, made safe.
//!
//! A [`SafePath`] is relative, and each of its components is a plain name: not empty, not `.` or `..`, no separator, no control
//! character, no invisible or direction-changing one, no name that Windows reserves, at most [`NAME_LEN_MAX`] bytes. So joined
//! to a folder it cannot leave it. [`make_unique`] sees to it that the files of one torrent do not fall on one another, whatever
//! the filesystem thinks of letter case.
//!
//! [`NAME_LEN_MAX`]: crate::base::limits::NAME_LEN_MAX

mod sanitise;
mod unique;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::base::limits::{PATH_DEPTH_MAX, PATH_LEN_MAX};

pub use sanitise::sanitise;
pub use unique::{TooManyCollisions, make_unique};

/// A relative path of one or more plain names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SafePath {
    /// The names with `/` between.
    text: String,
}

/// The path has too many components or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a path has more than {PATH_LEN_MAX} bytes or {PATH_DEPTH_MAX} levels of folders")]
pub struct PathTooLong;

impl SafePath {
    /// The path of one component: `name` made safe, `_` if nothing of it can stay.
    pub fn new(name: &[u8]) -> Self {
        let text = sanitise(name).unwrap_or_else(|| "_".to_owned());
        Self { text }
    }

    /// This path with `names` after it, each made safe.
    ///
    /// # Errors
    /// If the whole goes past [`PATH_LEN_MAX`] or [`PATH_DEPTH_MAX`].
    pub fn join<'n>(&self, names: impl IntoIterator<Item = &'n [u8]>) -> Result<Self, PathTooLong> {
        let mut text = self.text.clone();
        let mut depth = self.components().count() - 1;
        for name in names {
            text.push('/');
            text.push_str(sanitise(name).as_deref().unwrap_or("_"));
            depth += 1;
            if text.len() > PATH_LEN_MAX || depth > PATH_DEPTH_MAX {
                return Err(PathTooLong);
            }
        }
        Ok(Self { text })
    }

    /// The names with `/` between.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names, outermost first; at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.text.split('/')
    }

    /// The last name.
    pub fn file_name(&self) -> &str {
        self.text.rsplit('/').next().unwrap_or(&self.text)
    }

    /// Where it lies in `folder`.
    pub fn under(&self, folder: &Path) -> PathBuf {
        let mut path = folder.to_owned();
        path.extend(self.components());
        path
    }

    /// Replaces the last name; the caller answers for `name` being safe.
    fn set_file_name(&mut self, name: &str) {
        let parent = self.text.len() - self.file_name().len();
        self.text.truncate(parent);
        self.text.push_str(name);
    }
}

impl AsRef<Path> for SafePath {
    fn as_ref(&self) -> &Path {
        Path::new(&self.text)
    }
}

impl fmt::Display for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests;
