//! Plain files that survive a power cut: written beside, synced, renamed into place, folder synced. Everything in the state
//! folder that has to survive one goes through [`sync`], so that the tests can tell what would.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::error::StoreError;

/// What a file that is being written is called besides its name.
const UNFINISHED: &str = "tmp";

/// Makes what was written to `file`, which is the file or folder at `path`, survive a power cut.
pub(super) fn sync(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    #[cfg(test)]
    super::tests::crash::witness(path);
    // Only the tests look at which one it was.
    let _ = path;
    Ok(())
}

/// Puts `bytes` into the file `path`, whose name is durable once its folder is synced. Whatever happens, the file is either
/// what it was or all of `bytes`.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let beside = beside(path);
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        sync(&file, &beside)
    });
    if let Err(error) = written.and_then(|()| fs::rename(&beside, path)) {
        // It would only take space; the error that counts is the first one.
        let _ = fs::remove_file(&beside);
        return Err(StoreError::create(path, error));
    }
    Ok(())
}

/// Removes the file `path`, if it is there; for good once its folder is synced.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io(path, error)),
        _ => Ok(()),
    }
}

/// Makes the names in `folder` survive a power cut.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder)
        .and_then(|handle| sync(&handle, folder))
        .map_err(|error| StoreError::io(folder, error))
}

/// Makes every file in `folder`, and its name, survive a power cut.
pub(super) fn sync_content(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        sync(&File::open(&path)?, &path)?;
    }
    sync(&File::open(folder)?, folder)
}

/// Makes `folder` and those above it that are missing, for good.
pub(super) fn create_folder(folder: &Path) -> Result<(), StoreError> {
    let above = parent(folder);
    if folder.is_dir() {
        // An earlier run may have made it and been killed before this. Whether we may do it if not is beside the point.
        let _ = sync_folder(above);
        return Ok(());
    }
    create_folder(above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(StoreError::create(folder, error))
        }
        _ => sync_folder(above),
    }
}

/// The content of the file `path`, which may have at most `max` bytes.
pub(super) fn read(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let bound = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(bound).read_to_end(&mut bytes)?;
    if bytes.len() > max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {max} bytes"),
        ));
    }
    Ok(bytes)
}

/// Removes what a crash left of files that were being written in `folder`.
pub(super) fn sweep(folder: &Path) -> Result<(), StoreError> {
    for path in list(folder)? {
        if path.extension().is_some_and(|end| end == UNFINISHED) {
            fs::remove_file(&path).map_err(|error| StoreError::io(&path, error))?;
        }
    }
    Ok(())
}

/// Paths of what is in `folder`, sorted; none if it does not exist.
pub(super) fn list(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io(folder, error)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(|error| StoreError::io(folder, error))?;
    paths.sort();
    Ok(paths)
}

/// Where the next content of `path` is written.
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(UNFINISHED);
    PathBuf::from(name)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(above) if above != Path::new("") => above,
        Some(_) => Path::new("."),
        None => path,
    }
}
