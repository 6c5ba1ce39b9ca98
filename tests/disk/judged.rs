//! Between the look at files, by which they are judged, and their opening to write.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use seedbank::base::FileIdentity;
use seedbank::disk::{Access, DiskError, Opened, WritePath};

use crate::rig::{Rig, block_on};

const FILES: &[(&str, u64)] = &[("t/a", 50_000), ("t/b", 60_000), ("c", 70_000)];

/// The first file is there, since long ago; the others are not.
fn begun() -> Rig {
    let rig = Rig::new(FILES);
    fs::create_dir_all(rig.root().join("t")).unwrap();
    fs::write(rig.path(0), rig.content(0)).unwrap();
    // Clocks of filesystems are coarse.
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    open(&rig.path(0)).set_modified(long_ago).unwrap();
    rig
}

fn open(path: &Path) -> File {
    File::options().write(true).open(path).unwrap()
}

fn look(rig: &Rig) -> Vec<Option<FileIdentity>> {
    block_on(rig.look()).unwrap().files
}

fn open_as_found(rig: &Rig, found: Vec<Option<FileIdentity>>) -> Result<Opened, DiskError> {
    let access = Access::Write {
        overwrite: true,
        ours: vec![true; FILES.len()],
        found,
    };
    block_on(rig.open_unseen(access, WritePath::Pwrite))
}

#[test]
fn a_file_that_is_not_what_was_judged_is_refused_and_nothing_is_made() {
    for harm in ["remove", "write", "cut", "replace"] {
        let rig = begun();
        let (found, path) = (look(&rig), rig.path(0));
        match harm {
            "remove" => fs::remove_file(&path).unwrap(),
            "write" => open(&path).write_all_at(b"damage", 9).unwrap(),
            "cut" => open(&path).set_len(9).unwrap(),
            _ => {
                fs::write(rig.root().join("new"), rig.content(0)).unwrap();
                fs::rename(rig.root().join("new"), &path).unwrap();
            }
        }
        let harmed = look(&rig);
        let error = open_as_found(&rig, found).unwrap_err();
        assert!(
            matches!(&error, DiskError::Vanished { path } if *path == rig.path(0)),
            "{harm}: {error}"
        );
        assert_eq!(look(&rig), harmed, "{harm}");
        open_as_found(&rig, harmed).unwrap();
    }
}

#[test]
fn a_file_that_came_after_the_judgement_is_not_taken() {
    let rig = begun();
    let found = look(&rig);
    fs::write(rig.path(1), rig.content(1)).unwrap();
    let come = look(&rig);
    let error = open_as_found(&rig, found.clone()).unwrap_err();
    assert!(
        matches!(&error, DiskError::Vanished { path } if *path == rig.path(1)),
        "{error}"
    );
    let holder = File::open(rig.path(1)).unwrap();
    fs2::FileExt::lock_exclusive(&holder).unwrap();
    let error = open_as_found(&rig, found).unwrap_err();
    assert!(matches!(error, DiskError::InUse { .. }), "{error}");
    assert_eq!(look(&rig), come);
}

#[test]
fn a_folder_that_went_with_its_files_is_not_made_anew() {
    let rig = begun();
    let found = look(&rig);
    fs::rename(rig.root(), rig.folder.path().join("away")).unwrap();
    let error = open_as_found(&rig, found.clone()).unwrap_err();
    assert!(matches!(error, DiskError::NotFound { .. }), "{error}");
    assert!(!rig.root().exists());
    // As a disk that is unmounted leaves it.
    fs::create_dir(rig.root()).unwrap();
    let error = open_as_found(&rig, found).unwrap_err();
    assert!(matches!(error, DiskError::Vanished { .. }), "{error}");
    assert_eq!(fs::read_dir(rig.root()).unwrap().count(), 0);
}
