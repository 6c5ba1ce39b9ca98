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
