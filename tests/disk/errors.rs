//! What opening refuses, and that it leaves nothing behind.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

use seedbank::base::Geometry;
use seedbank::disk::{Access, Disk, DiskError, FileSpec, FileState, Layout, SpecKind, WritePath};

use crate::rig::{Rig, block_on, is_root, past_forks, write};
use crate::small_disk::SmallDisk;

const FILES: &[(&str, u64)] = &[("t/a", 50_000), ("t/b", 60_000)];

#[test]
fn a_file_of_another_length_is_left_alone_unless_told_otherwise() {
    let rig = Rig::new(FILES);
    fs::create_dir_all(rig.root().join("t")).unwrap();
    fs::write(rig.path(1), "somebody's").unwrap();
    block_on(async {
        let error = rig.open_to_write().await.unwrap_err();
        assert!(
            matches!(&error, DiskError::NotOurs { path } if *path == rig.path(1)),
            "{error}"
        );
        assert!(!rig.path(0).exists(), "refused before anything was made");
        assert_eq!(fs::read(rig.path(1)).unwrap(), b"somebody's");
        let opened = rig
            .open(write(false, &[false, true]), WritePath::Auto)
            .await
            .unwrap();
        assert!(matches!(opened.states[1], FileState::WrongLength(found) if found.size == 10));
    });
    let grown = fs::read(rig.path(1)).unwrap();
    assert_eq!(grown.len(), 60_000);
    assert!(grown.starts_with(b"somebody's"), "ours was grown, not lost");
}

#[test]
fn an_empty_file_is_in_nobodys_way() {
    let rig = Rig::new(FILES);
    fs::create_dir_all(rig.root().join("t")).unwrap();
    fs::write(rig.path(1), "").unwrap();
    let opened = block_on(rig.open_to_write()).unwrap();
    assert!(matches!(opened.states[1], FileState::WrongLength(found) if found.size == 0));
    assert_eq!(fs::metadata(rig.path(1)).unwrap().len(), 60_000);
}

#[test]
fn a_file_that_is_too_long_is_cut_only_if_it_may_be_overwritten() {
    let rig = Rig::new(FILES);
    rig.fill();
    fs::write(rig.path(0), vec![1; 70_000]).unwrap();
    block_on(async {
        let error = rig
            .open(write(false, &[true, true]), WritePath::Auto)
            .await
            .unwrap_err();
        assert!(
            matches!(error, DiskError::NotOurs { .. }),
            "even if it was ours once"
        );
        assert_eq!(fs::metadata(rig.path(0)).unwrap().len(), 70_000);
        rig.open(write(true, &[]), WritePath::Auto).await.unwrap();
        assert_eq!(fs::metadata(rig.path(0)).unwrap().len(), 50_000);
    });
}

#[test]
fn a_file_of_the_right_length_is_kept() {
    let rig = Rig::new(FILES);
    rig.fill();
    block_on(async {
        let before = rig.disk.look(Arc::clone(&rig.layout)).await.unwrap();
        let opened = rig.open_to_write().await.unwrap();
        assert!(matches!(opened.states[0], FileState::Existing(_)));
        opened.payload.close().await.unwrap();
        assert_eq!(
            rig.disk.look(Arc::clone(&rig.layout)).await.unwrap(),
            before
        );
    });
    assert_eq!(fs::read(rig.path(0)).unwrap(), rig.content(0));
}

#[test]
fn a_folder_where_a_file_belongs_and_the_reverse_are_not_ours() {
    let rig = Rig::new(FILES);
    fs::create_dir_all(rig.path(1)).unwrap();
    let error = block_on(rig.open_to_write()).unwrap_err();
    assert!(matches!(error, DiskError::NotOurs { .. }), "{error}");
    let rig = Rig::new(FILES);
    fs::create_dir_all(rig.root()).unwrap();
    fs::write(rig.root().join("t"), "a file").unwrap();
    let error = block_on(rig.open_to_write()).unwrap_err();
    assert!(matches!(error, DiskError::NotOurs { .. }), "{error}");
}

#[test]
fn no_link_leads_out_of_the_destination() {
    let (rig, outside) = (Rig::new(FILES), tempfile::tempdir().unwrap());
    fs::create_dir_all(rig.root()).unwrap();
    symlink(outside.path(), rig.root().join("t")).unwrap();
    let error = block_on(rig.open_to_write()).unwrap_err();
    assert!(matches!(error, DiskError::Outside { .. }), "{error}");
    fs::remove_file(rig.root().join("t")).unwrap();
    fs::create_dir(rig.root().join("t")).unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, vec![9; 50_000]).unwrap();
    symlink(&victim, rig.path(0)).unwrap();
    for access in [Access::Read, write(true, &[])] {
        let error = block_on(rig.open(access, WritePath::Auto)).unwrap_err();
        assert!(matches!(error, DiskError::Outside { .. }), "{error}");
    }
    assert_eq!(fs::read(&victim).unwrap(), vec![9; 50_000]);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn links_of_the_torrent_are_made_relative_and_inside() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("dest");
    let spec = |name: &str, length, kind| FileSpec {
        path: root.join(name),
        length,
        kind,
    };
    let target = root.join("t/a");
    let files = vec![
        spec("t/a", 10, SpecKind::Payload),
        spec("t/x/y/l", 0, SpecKind::Symlink { target }),
    ];
    let layout = Layout::new(root.clone(), Geometry::new(10, 16).unwrap(), files).unwrap();
    let (layout, disk) = (Arc::new(layout), Disk::new(1));
    let open = async || {
        let found = disk.look(Arc::clone(&layout)).await?.files;
        let access = Access::Write {
            overwrite: false,
            ours: Vec::new(),
            found,
        };
        disk.open(Arc::clone(&layout), access, WritePath::Auto)
            .await
    };
    for _ in 0..2 {
        past_forks();
        block_on(open()).unwrap();
        assert_eq!(fs::read(root.join("t/x/y/l")).unwrap(), vec![0; 10]);
    }
    fs::remove_file(root.join("t/x/y/l")).unwrap();
    fs::write(root.join("t/x/y/l"), "a file").unwrap();
    let error = block_on(open()).unwrap_err();
    assert!(matches!(error, DiskError::NotOurs { .. }), "{error}");
}

#[test]
fn what_cannot_be_made_is_told() {
    let geometry = Geometry::new(10, 16).unwrap();
    let root = std::path::PathBuf::from("/proc/seedbank-test");
    let (path, kind) = (root.join("a"), SpecKind::Payload);
    let layout = Layout::new(
        root,
        geometry,
        vec![FileSpec {
            path,
            length: 10,
            kind,
        }],
    )
    .unwrap();
    let opened = block_on(Disk::new(1).open(Arc::new(layout), write(false, &[]), WritePath::Auto));
    assert!(
        matches!(opened, Err(DiskError::CannotCreate { .. })),
        "{opened:?}"
    );
}

#[test]
fn what_may_not_be_read_is_told() {
    if is_root() {
        return eprintln!("skipped: root reads everything");
    }
    let rig = Rig::new(FILES);
    rig.fill();
    fs::set_permissions(rig.path(0), fs::Permissions::from_mode(0o000)).unwrap();
    let error = block_on(rig.open(Access::Read, WritePath::Auto)).unwrap_err();
    assert!(matches!(error, DiskError::CannotOpen { .. }), "{error}");
}

#[test]
fn a_full_disk_is_told_before_any_byte_and_nothing_stays() {
    let Some(small) = SmallDisk::mount() else {
        return;
    };
    let rig = Rig::below(small.folder(), &[("t/a", 500_000), ("t/sub/b", 900_000)]);
    for path in [WritePath::Pwrite, WritePath::Mmap] {
        let error = block_on(rig.open(write(false, &[]), path)).unwrap_err();
        assert!(
            matches!(error, DiskError::Full { need: 1_400_000, free, .. } if free < 1_400_000),
            "{error}"
        );
        assert_eq!(fs::read_dir(rig.root()).unwrap().count(), 0);
    }
}

#[test]
fn when_a_later_file_fails_the_earlier_ones_are_removed() {
    let rig = Rig::new(&[("t/new/a", 50_000), ("t/locked", 60_000)]);
    fs::create_dir_all(rig.root().join("t")).unwrap();
    fs::write(rig.path(1), rig.content(1)).unwrap();
    let holder = fs::File::open(rig.path(1)).unwrap();
    fs2::FileExt::lock_exclusive(&holder).unwrap();
    let error = block_on(rig.open_to_write()).unwrap_err();
    assert!(matches!(error, DiskError::InUse { .. }), "{error}");
    assert!(!rig.root().join("t/new").exists());
    assert_eq!(fs::read(rig.path(1)).unwrap(), rig.content(1));
    assert!(rig.folder.path().exists());
}
