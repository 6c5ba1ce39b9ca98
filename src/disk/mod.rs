//! Payload files: where a torrent's bytes lie, how they get there, and what must happen before they count as safe.
//!
//! This layer acts and decides nothing. It guarantees:
//!
//! - a file is made in full (length, space, folder entry) before its first byte is written, or not at all;
//! - a file that was there is never shortened or grown unless the caller says that it is ours or may be overwritten;
//! - nothing outside the destination folder is ever opened, whatever links lie in it;
//! - `sync` succeeds only if every byte written so far to the files it names is on the medium; a file that failed to
//!   sync once is never trusted again by that [`Payload`];
//! - a file cut short under a mapping costs its torrent an error, not the process its life.
//!
//! [`Layout`] and [`Checkpoint`] are pure. Everything that blocks runs on the threads of [`Disk`], or on
//! some that one of these starts and waits for.

mod arrival;
mod batch;
mod checkpoint;
mod copy;
mod create;
mod device;
mod error;
mod file;
mod files;
mod folders;
mod handles;
mod hash;
mod lane;
mod layout;
mod lock;
mod look;
mod map;
mod medium;
mod open;
mod payload;
mod place;
mod pool;
mod reader;
mod recheck;
mod relocate;
mod scrub;
mod serving;
mod sha1x2;
mod sigbus;
mod subtree;
mod uncached;
mod verify;
mod volume;
mod walk;
mod write;

pub use checkpoint::{Checkpoint, Pace};
pub use error::DiskError;
pub use hash::{Hashed, block_digests, hash_payload, sha1};
pub use layout::{FileSpec, Layout, Span, SpecKind};
pub use look::{FileState, Found};
pub use medium::{Kernel, Medium};
pub use open::{Access, Opened};
pub use payload::Payload;
pub use pool::Disk;
pub use relocate::{Arrival, OnStep, Outlook, Relocation, Step};
pub use scrub::Scrubbed;
pub use sha1x2::{Streams, sha1_of_each};
pub use subtree::Subtree;
pub use verify::{Finding, PieceState, Verification, digest, identities};
pub use walk::walk;
pub use write::WritePath;
