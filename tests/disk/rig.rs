//! A payload in a temporary folder with known bytes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, PoisonError, RwLock};
use std::{fs, io};

use seedbank::base::{Geometry, PieceIndex};
use seedbank::disk::{
    Access, Disk, DiskError, FileSpec, Found, Layout, Opened, SpecKind, WritePath, sha1,
};
use tempfile::TempDir;

pub(crate) const PIECE: u32 = 32 << 10;

/// A folder to come, its layout and the bytes that belong in it.
pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    pub(crate) layout: Arc<Layout>,
    pub(crate) bytes: Arc<Vec<u8>>,
    pub(crate) disk: Disk,
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// Held while a child is made. Until it has become its command, it shares the locks of this process, also those that are given up.
static FORKING: RwLock<()> = RwLock::new(());

/// Makes a child behind which nobody finds a payload in use that was just closed.
pub(crate) fn fork(command: &mut Command) -> io::Result<Child> {
    let _forking = FORKING.write().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// Waits until no child that was made before is about to become its command.
pub(crate) fn past_forks() {
    drop(FORKING.read());
}

/// Bytes that differ from place to place and are the same in every run.
pub(crate) fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

impl Rig {
    /// Files as (name, length); a name that starts with `.pad` is a pad.
    pub(crate) fn new(files: &[(&str, u64)]) -> Self {
        Self::below(tempfile::tempdir().unwrap(), files)
    }

    pub(crate) fn below(folder: TempDir, files: &[(&str, u64)]) -> Self {
        let root = folder.path().join("dest");
        let mut bytes = Vec::new();
        let mut specs = Vec::new();
        for (at, (name, length)) in files.iter().enumerate() {
            let pad = name.starts_with(".pad");
            bytes.extend(if pad {
                vec![0; *length as usize]
            } else {
                noise(*length as usize, at as u32)
            });
            specs.push(FileSpec {
                path: root.join(name),
                length: *length,
                kind: if pad {
                    SpecKind::Pad
                } else {
                    SpecKind::Payload
                },
            });
        }
        let geometry = Geometry::new(bytes.len() as u64, PIECE).unwrap();
        let layout = Layout::new(root, geometry, specs).unwrap();
        Self {
            folder,
            layout: Arc::new(layout),
            bytes: Arc::new(bytes),
            disk: Disk::new(2),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        self.layout.root()
    }

    pub(crate) fn path(&self, file: usize) -> PathBuf {
        self.layout.files()[file].path.clone()
    }

    pub(crate) fn pieces(&self) -> Vec<PieceIndex> {
        self.layout.geometry().all_pieces().collect()
    }

    pub(crate) fn data(&self, piece: PieceIndex) -> Vec<u8> {
        let geometry = self.layout.geometry();
        let start = geometry.offset_of(piece) as usize;
        self.bytes[start..start + geometry.len_of(piece) as usize].to_vec()
    }

    pub(crate) fn hash(&self, piece: PieceIndex) -> [u8; 20] {
        sha1(&self.data(piece))
    }

    /// The bytes that belong in a file.
    pub(crate) fn content(&self, file: usize) -> &[u8] {
        let start: u64 = self.layout.files()[..file]
            .iter()
            .map(|file| file.length)
            .sum();
        let length = self.layout.files()[file].length;
        &self.bytes[start as usize..(start + length) as usize]
    }

    /// Puts all files there as another program would.
    pub(crate) fn fill(&self) {
        for (at, file) in self.layout.payload_files() {
            fs::create_dir_all(file.path.parent().unwrap()).unwrap();
            fs::write(&file.path, self.content(at)).unwrap();
        }
    }

    /// Opens what is there now.
    pub(crate) async fn open(&self, access: Access, path: WritePath) -> Result<Opened, DiskError> {
        let access = match access {
            Access::Write {
                overwrite, ours, ..
            } => Access::Write {
                overwrite,
                ours,
                found: self.look().await?.files,
            },
            Access::Read => Access::Read,
        };
        self.open_unseen(access, path).await
    }

    /// Opens with what `access` says was found.
    pub(crate) async fn open_unseen(
        &self,
        access: Access,
        path: WritePath,
    ) -> Result<Opened, DiskError> {
        past_forks();
        self.disk.open(Arc::clone(&self.layout), access, path).await
    }

    pub(crate) async fn look(&self) -> Result<Found, DiskError> {
        self.disk.look(Arc::clone(&self.layout)).await
    }

    pub(crate) async fn open_to_write(&self) -> Result<Opened, DiskError> {
        self.open(write(false, &[]), WritePath::Pwrite).await
    }
}

/// To write to where nothing is; [`Rig::open`] looks first.
pub(crate) fn write(overwrite: bool, ours: &[bool]) -> Access {
    Access::Write {
        overwrite,
        ours: ours.to_vec(),
        found: Vec::new(),
    }
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
