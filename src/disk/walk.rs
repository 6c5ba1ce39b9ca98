//! Which files a folder holds, in the order in which they become a torrent.

use std::io;
use std::path::Path;
use std::sync::Arc;

use walkdir::WalkDir;

use super::DiskError;
use super::place::Place;

/// The files below the folder `path` with their lengths in bytes, each as the names on the way to it, ordered by the bytes of the whole path.
///
/// Hidden and empty files belong to it, and links stand for what they point to, as mktorrent and libtorrent have it: the same folder gives
/// the same torrent. A file by itself gives one entry without names.
///
/// # Errors
/// [`DiskError::NotUtf8`] for a name that a torrent cannot carry, [`DiskError::Outside`] for a link that leads out of the folder,
/// [`DiskError::CannotOpen`] for what cannot be read, is neither file nor folder, or is a circle of links, [`DiskError::NotFound`] for a
/// link that leads nowhere.
pub fn walk(path: &Path) -> Result<Vec<(Vec<String>, u64)>, DiskError> {
    let found = std::fs::metadata(path).map_err(|error| DiskError::opening(path, error))?;
    if found.is_file() {
        return Ok(vec![(Vec::new(), found.len())]);
    }
    let place = Place::open(path)?;
    let mut files = Vec::new();
    for entry in WalkDir::new(path).follow_links(true) {
        let entry = entry.map_err(|error| refused(path, error))?;
        if entry.file_type().is_dir() {
            continue;
        }
        if !entry.file_type().is_file() {
            let source = Arc::new(io::Error::other("it is neither a file nor a folder"));
            let path = entry.into_path();
            return Err(DiskError::CannotOpen { path, source });
        }
        let below = entry.path().strip_prefix(path);
        let below = below.expect("a walk yields paths below its start");
        let names = below.iter().map(|name| name.to_str().map(str::to_owned));
        let names: Option<Vec<_>> = names.collect();
        let names = names.ok_or_else(|| DiskError::NotUtf8 {
            path: entry.path().to_owned(),
        })?;
        let found = place.look(below)?.ok_or_else(|| DiskError::NotFound {
            path: entry.path().to_owned(),
        })?;
        files.push((names, found.len()));
    }
    files.sort_by_cached_key(|(names, _)| names.join("/"));
    Ok(files)
}

fn refused(root: &Path, error: walkdir::Error) -> DiskError {
    let path = error.path().unwrap_or(root).to_owned();
    let what = error.to_string();
    let source = error
        .into_io_error()
        .unwrap_or_else(|| io::Error::other(what));
    DiskError::opening(&path, source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    fn names(path: &Path) -> Vec<String> {
        walk(path)
            .unwrap()
            .into_iter()
            .map(|(names, _)| names.join("/"))
            .collect()
    }

    #[test]
    fn files_come_in_byte_order_of_the_whole_path_with_hidden_and_empty_ones() {
        let folder = folder(&[
            "a/x", "a-b", "a.txt", "B/z", "Ab", ".dot", ".hid/in", "a/sub/q", "tail~",
        ]);
        fs::write(folder.path().join("empty"), "").unwrap();
        fs::create_dir(folder.path().join("bare")).unwrap();
        let order = [
            ".dot", ".hid/in", "Ab", "B/z", "a-b", "a.txt", "a/sub/q", "a/x", "empty", "tail~",
        ];
        assert_eq!(names(folder.path()), order);
        assert_eq!(walk(&folder.path().join("a-b")).unwrap(), [(vec![], 3)]);
        assert_eq!(
            walk(folder.path()).unwrap()[8],
            (vec!["empty".to_owned()], 0)
        );
    }

    #[test]
    fn links_stand_for_what_they_point_to_unless_it_lies_outside() {
        let folder = folder(&["d/f", "g"]);
        symlink("d", folder.path().join("l")).unwrap();
        symlink("../g", folder.path().join("d/up")).unwrap();
        assert_eq!(names(folder.path()), ["d/f", "d/up", "g", "l/f", "l/up"]);
        symlink("/etc/hostname", folder.path().join("out")).unwrap();
        fs::write(folder.path().join("d/f"), "").unwrap();
        assert!(matches!(
            walk(folder.path()),
            Err(DiskError::Outside { .. } | DiskError::NotFound { .. })
        ));
    }

    #[test]
    fn links_to_nowhere_and_circles_are_refused() {
        let one = folder(&["a"]);
        symlink("nowhere", one.path().join("l")).unwrap();
        assert!(matches!(walk(one.path()), Err(DiskError::NotFound { .. })));
        let two = folder(&["d/a"]);
        symlink("../d", two.path().join("d/again")).unwrap();
        assert!(walk(two.path()).is_err());
        assert!(matches!(
            walk(&two.path().join("no")),
            Err(DiskError::NotFound { .. })
        ));
    }

    #[test]
    fn a_name_that_is_not_utf8_is_refused() {
        let folder = folder(&[]);
        let name = std::ffi::OsStr::from_bytes(b"a\xff");
        if fs::write(folder.path().join(name), "x").is_err() {
            return eprintln!("skipped: this filesystem refuses such names");
        }
        assert!(matches!(
            walk(folder.path()),
            Err(DiskError::NotUtf8 { .. })
        ));
    }
}
