//! The destination folder, as a descriptor below which everything is opened: no link in it can lead out of it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::{DiskError, Kernel, Medium, folders};
use crate::base::FileIdentity;

/// An open destination folder.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    /// Shared by all payloads in it.
    folder: Arc<OwnedFd>,
    /// By which everything below it is changed.
    medium: Arc<dyn Medium>,
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);
/// A named pipe must not stall us, nor a terminal adopt us.
const CAREFUL: OFlags = OFlags::CLOEXEC
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

impl Place {
    /// Opens the folder `root`, which may itself be reached through links, to look at it.
    ///
    /// # Errors
    /// [`DiskError::NotFound`] or [`DiskError::CannotOpen`].
    pub(super) fn open(root: &Path) -> Result<Self, DiskError> {
        let kernel: Arc<dyn Medium> = Arc::new(Kernel);
        Self::on(&kernel, root)
    }

    /// As [`Place::open`], with all changes by way of `medium`.
    pub(super) fn on(medium: &Arc<dyn Medium>, root: &Path) -> Result<Self, DiskError> {
        let folder = rustix::fs::openat(CWD, root, FOLDER, Mode::empty())
            .map_err(|error| DiskError::opening(root, error))?;
        let folder = folders::share(folder);
        let (root, medium) = (root.to_owned(), Arc::clone(medium));
        Ok(Self {
            root,
            folder,
            medium,
        })
    }

    /// Makes the folder `root` and those above it as needed, each durable before it is used, and opens it.
    ///
    /// # Errors
    /// [`DiskError::CannotCreate`] and its kin.
    pub(super) fn make(medium: &Arc<dyn Medium>, root: &Path) -> Result<Self, DiskError> {
        match Self::keep(medium, root) {
            Err(DiskError::NotFound { .. }) => {}
            opened => return opened,
        }
        let above = above(root);
        if above != Path::new(".") && above != root {
            Self::make(medium, above)?;
        }
        let create = |name| medium.create_folder(File::open(above)?.as_fd(), name);
        // A path that ends in `..` names nothing that could be made.
        match root.file_name().map_or(Ok(()), create) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(DiskError::creating(root, error, 0, 0));
            }
            _ => {}
        }
        sync_above(medium, root).map_err(|error| DiskError::io(above, "sync", error))?;
        Self::on(medium, root)
    }

    /// Opens the folder `root`, which must be there, to change what is in it.
    ///
    /// # Errors
    /// As [`Place::open`].
    pub(super) fn keep(medium: &Arc<dyn Medium>, root: &Path) -> Result<Self, DiskError> {
        let place = Self::on(medium, root)?;
        // An earlier run may have made it and been killed before this. Whether we may do it if not is beside the point.
        let _ = sync_above(medium, root);
        Ok(place)
    }

    /// By which it is changed.
    pub(super) fn medium(&self) -> &Arc<dyn Medium> {
        &self.medium
    }

    /// The descriptor.
    pub(super) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// Opens `path`, relative to the folder, without leaving the folder.
    pub(super) fn open_below(
        &self,
        path: &Path,
        flags: OFlags,
        mode: Mode,
    ) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        // O_PATH takes no other flags, and opens nothing that could stall.
        let careful = if flags.contains(OFlags::PATH) {
            OFlags::CLOEXEC
        } else {
            CAREFUL
        };
        let flags = flags | careful;
        match rustix::fs::openat2(&self.folder, path, flags, mode, resolve) {
            // Kernels before 5.6 and old sandboxes.
            Err(Errno::NOSYS | Errno::PERM) => self.open_by_steps(path, flags, mode),
            // A rename elsewhere raced with `..` in a link.
            Err(Errno::AGAIN) => rustix::fs::openat2(&self.folder, path, flags, mode, resolve),
            other => other,
        }
    }

    fn open_by_steps(&self, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let mut at = rustix::io::dup(&self.folder)?;
        let mut steps = path.components().peekable();
        while let Some(step) = steps.next() {
            let last = steps.peek().is_none();
            let (flags, mode) = if last {
                (flags, mode)
            } else {
                (FOLDER, Mode::empty())
            };
            let name: &Path = step.as_ref();
            at = rustix::fs::openat(&at, name, flags | OFlags::NOFOLLOW, mode)?;
        }
        Ok(at)
    }

    /// Opens the regular file `path` for reading, or also for writing.
    ///
    /// # Errors
    /// As [`DiskError::opening`]; [`DiskError::NotOurs`] if it is something other than a file.
    pub(super) fn open_file(&self, path: &Path, write: bool) -> Result<File, DiskError> {
        let flags = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let absolute = self.root.join(path);
        let file = match self.open_below(path, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ISDIR | Errno::NXIO) => return Err(DiskError::NotOurs { path: absolute }),
            Err(error) => return Err(DiskError::opening(&absolute, error)),
        };
        let found = file
            .metadata()
            .map_err(|error| DiskError::io(&absolute, "look at", error))?;
        if !found.is_file() {
            return Err(DiskError::NotOurs { path: absolute });
        }
        Ok(file)
    }

    /// Makes the file `path`, which must not exist.
    pub(super) fn create_file(&self, path: &Path) -> io::Result<File> {
        let (folder, name) = self.parent(path)?;
        self.medium.create_file(folder.as_fd(), name)
    }

    /// What lies at `path`: `None` if nothing does.
    ///
    /// # Errors
    /// If that cannot be told, or it is reached through a link that leads outside, or is not a regular file.
    pub(super) fn look(&self, path: &Path) -> Result<Option<std::fs::Metadata>, DiskError> {
        let absolute = self.root.join(path);
        let found = match self.open_below(path, OFlags::PATH, Mode::empty()) {
            Ok(found) => File::from(found),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(DiskError::opening(&absolute, error)),
        };
        let found = found
            .metadata()
            .map_err(|error| DiskError::io(&absolute, "look at", error))?;
        if !found.is_file() {
            return Err(DiskError::NotOurs { path: absolute });
        }
        Ok(Some(found))
    }

    /// Makes the folders `path` and above as needed; gives those that were made, the uppermost first.
    pub(super) fn make_folders(&self, path: &Path) -> Result<Vec<PathBuf>, DiskError> {
        let mut made = Vec::new();
        let mut so_far = PathBuf::new();
        for step in path.components() {
            let above = so_far.clone();
            so_far.push(step);
            match self.make_folder(&above, step.as_os_str()) {
                Ok(true) => made.push(so_far.clone()),
                Ok(false) => {}
                Err(error) => {
                    self.remove_folders(&made);
                    return Err(DiskError::creating(&self.root.join(&so_far), error, 0, 0));
                }
            }
        }
        Ok(made)
    }

    fn make_folder(&self, above: &Path, name: &OsStr) -> io::Result<bool> {
        match self.open_below(
            &above.join(name),
            OFlags::PATH | OFlags::DIRECTORY,
            Mode::empty(),
        ) {
            Ok(_) => return Ok(false),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let above = self.open_below(above, FOLDER, Mode::empty())?;
        match self.medium.create_folder(above.as_fd(), name) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes `path` a symbolic link with the text `target`; true unless it is that link already.
    pub(super) fn make_link(&self, path: &Path, target: &Path) -> io::Result<bool> {
        let (folder, name) = self.parent(path)?;
        match self.medium.create_link(folder.as_fd(), name, target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let text = rustix::fs::readlinkat(&folder, name, Vec::new()).ok();
                let same = text
                    .is_some_and(|text| text.as_bytes() == target.as_os_str().as_encoded_bytes());
                if same { Ok(false) } else { Err(error) }
            }
            other => other.map(|()| true),
        }
    }

    /// What has the name `path`, a link as itself; `None` if nothing has, or no folder leads there.
    ///
    /// # Errors
    /// If that cannot be told, or the way there leads outside.
    pub(super) fn named(&self, path: &Path) -> Result<Option<std::fs::Metadata>, DiskError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let absolute = self.root.join(path);
        match self.open_below(path, flags, Mode::empty()) {
            Ok(found) => File::from(found)
                .metadata()
                .map(Some)
                .map_err(|error| DiskError::io(&absolute, "look at", error)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(DiskError::opening(&absolute, error)),
        }
    }

    /// The text of the symbolic link `path`; `None` if it is none.
    pub(super) fn text_of_link(&self, path: &Path) -> Option<Vec<u8>> {
        let (folder, name) = self.parent(path).ok()?;
        let text = rustix::fs::readlinkat(&folder, name, Vec::new()).ok()?;
        Some(text.into_bytes())
    }

    /// Gives the file `path` the name `new` in `to`, which must be free.
    ///
    /// # Errors
    /// `EEXIST` if it is not, `EXDEV` if it is on another filesystem.
    pub(super) fn rename(&self, path: &Path, to: &Self, new: &Path) -> Result<(), Errno> {
        let (folder, name) = self.parent(path)?;
        let (new_folder, new_name) = to.parent(new)?;
        match rustix::fs::renameat_with(
            &folder,
            name,
            &new_folder,
            new_name,
            RenameFlags::NOREPLACE,
        ) {
            // Filesystems that cannot promise it: nobody else is expected there in this moment.
            Err(Errno::INVAL | Errno::NOSYS) => {
                match rustix::fs::statat(&new_folder, new_name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => Err(Errno::EXIST),
                    Err(Errno::NOENT) => rustix::fs::renameat(&folder, name, &new_folder, new_name),
                    Err(error) => Err(error),
                }
            }
            renamed => renamed,
        }
    }

    /// Removes the file or link `path`.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn unlink(&self, path: &Path) -> Result<(), DiskError> {
        let removed = self
            .parent(path)
            .and_then(|(folder, name)| rustix::fs::unlinkat(&folder, name, AtFlags::empty()));
        removed.map_err(|error| DiskError::io(&self.root.join(path), "remove", error))
    }

    /// Removes a file or link that this process made; best effort, the caller has a worse error to tell.
    pub(super) fn remove_file(&self, path: &Path) {
        if let Ok((folder, name)) = self.parent(path) {
            let _ = self.medium.remove_file(folder.as_fd(), name);
        }
    }

    /// Removes folders that this process made, the last first, as far as they are empty.
    pub(super) fn remove_folders(&self, paths: &[PathBuf]) {
        for path in paths.iter().rev() {
            if let Ok((folder, name)) = self.parent(path) {
                let _ = self.medium.remove_folder(folder.as_fd(), name);
            }
        }
    }

    fn parent<'a>(&self, path: &'a Path) -> Result<(OwnedFd, &'a OsStr), Errno> {
        let above = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().ok_or(Errno::INVAL)?;
        Ok((self.open_below(above, FOLDER, Mode::empty())?, name))
    }

    /// Makes the entries of the folder `path` durable.
    pub(super) fn sync_folder(&self, path: &Path) -> Result<(), DiskError> {
        self.open_below(path, FOLDER, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|folder| self.medium.sync_folder(folder.as_fd()))
            .map_err(|error| DiskError::io(&self.root.join(path), "sync", error))
    }

    /// Whether the path of the folder still leads to it.
    pub(super) fn is_there(&self) -> bool {
        let (held, named) = (
            rustix::fs::fstat(&self.folder),
            rustix::fs::stat(&self.root),
        );
        match (held, named) {
            (Ok(held), Ok(named)) => (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino),
            _ => false,
        }
    }

    /// Bytes that are free to us.
    pub(super) fn free(&self) -> u64 {
        free(&self.folder)
    }
}

/// The folder that holds `root`.
fn above(root: &Path) -> &Path {
    let above = root.parent().unwrap_or(root);
    if above.as_os_str().is_empty() {
        return Path::new(".");
    }
    above
}

/// Makes the name of `root` durable.
fn sync_above(medium: &Arc<dyn Medium>, root: &Path) -> io::Result<()> {
    medium.sync_folder(File::open(above(root))?.as_fd())
}

/// Bytes that are free to us on the disk of an open file or folder; as many as one likes if that cannot be told.
pub(super) fn free(at: impl AsFd) -> u64 {
    rustix::fs::fstatvfs(at).map_or(u64::MAX, |found| {
        found.f_bavail.saturating_mul(found.f_frsize)
    })
}

/// The identity in a file's metadata.
pub(super) fn identity(found: &std::fs::Metadata) -> FileIdentity {
    let seconds = found.mtime().saturating_mul(1_000_000_000);
    FileIdentity {
        device: found.dev(),
        inode: found.ino(),
        size: found.len(),
        mtime_ns: seconds.saturating_add(found.mtime_nsec()),
    }
}
