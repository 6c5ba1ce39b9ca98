//! What tells one state of a file from another without reading it.

/// Enough of a file's metadata to know that nobody wrote to it: compared at start, a match is trusted and a mismatch
/// re-hashed. Taken after the file was synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// The device that holds the file.
    pub device: u64,
    /// Its number on that device.
    pub inode: u64,
    /// Its length in bytes.
    pub size: u64,
    /// When its content last changed, in nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl FileIdentity {
    /// Whether this is the same file, though it may have been written to.
    ///
    /// The device is left out of it: loop devices, LVM and btrfs number theirs anew at every mount, and the path is the
    /// same already.
    pub fn is_same_file(&self, other: &Self) -> bool {
        self.inode == other.inode && self.size == other.size
    }

    /// Whether nobody wrote to the file in between.
    pub fn is_unchanged(&self, other: &Self) -> bool {
        self.is_same_file(other) && self.mtime_ns == other.mtime_ns
    }
}
