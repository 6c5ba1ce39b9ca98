//! By which path bytes get into a file: through a mapping or by `pwrite`.

use std::os::fd::AsFd;

/// How the caller wants bytes to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WritePath {
    /// Whatever is fast and safe: for now [`WritePath::Pwrite`] everywhere, because it cannot fault. A bare receiver of 2 GiB on two
    /// cores took 3.1 s with pwrite and 4.0 s copying into prefaulted pages; through this layer, three rounds of 1 GiB (dev profile) on a busy
    /// machine took 1.1 to 3.5 s and 0.9 to 2.2 s, which tells nothing. To be measured again on a quiet one.
    #[default]
    Auto,
    /// Through a shared mapping, on filesystems where that is safe; elsewhere as [`WritePath::Pwrite`].
    Mmap,
    /// With positioned writes.
    Pwrite,
}

impl WritePath {
    /// Whether files in `folder` are to be mapped.
    pub(super) fn maps(self, folder: impl AsFd) -> bool {
        self == Self::Mmap && is_safe_to_map(folder)
    }
}

/// Local filesystems whose pages stay coherent between mapping and `pwrite` and where a lost page is not an everyday event.
fn is_safe_to_map(folder: impl AsFd) -> bool {
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683e;
    const TMPFS: u64 = 0x0102_1994;
    // The type of `f_type` differs between architectures; the magics fit its low 32 bits.
    let magic = rustix::fs::fstatfs(folder).map(|found| found.f_type as u64 & 0xffff_ffff);
    matches!(magic, Ok(EXT4 | XFS | BTRFS | TMPFS))
}
