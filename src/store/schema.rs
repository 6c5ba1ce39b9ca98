//! The layout of the database, version [`SCHEMA_VERSION`]: one tree, so that one batch is atomic over everything.
//!
//! `ih` is an info-hash of 20 bytes; numbers are big-endian, so that keys sort as they count. Every value is sealed
//! ([`super::codec`]) and at most [`STORE_VALUE_MAX`](crate::base::limits::STORE_VALUE_MAX) bytes long.
//!
//! | key | body of the value |
//! |---|---|
//! | `m/version` | schema version u32. This row keeps its layout in every version |
//! | `m/sequence` | number of commits u64 |
//! | `m/epoch` | 16 random bytes, drawn when the database was made; binds the notes to it |
//! | `t/` ih | pieces u32 · files u32 · finished (0 or 1) · clean (0 or 1): nothing was written to its files since the last commit |
//! | `h/` ih · page u32 | sequence u64 · 4,096 bits of durable pieces. A page without a bit is absent; so are all when finished |
//! | `f/` ih · page u32 | 20 file identities, each 0 (unknown), or 1 · device u64 · inode u64 · size u64 · mtime i64 |
//! | `b/` ih · piece u32 · chunk u16 | runs of blocks of an unfinished piece, each first u32 · end u32; at most 100 |
//! | `g/` ih | next piece to re-read u32 · bad ones in this pass u32 · its beginning i64 · end of the last one i64, 0: none (both seconds since 1970) |
//! | `g/` ih · row u32 | 60 digests of pieces of 16 bytes each, zeros: unknown |
//! | `s/` ih | bytes downloaded u64 · bytes uploaded u64 |
//! | `p/` ih · address | last seen i64 (seconds since 1970) · failures u8 |
//! | `d/` node id · address | dialects u8 · last answer i64 (seconds since 1970) · round trip u32 (ms) · failures u8 |
//! | `i/` our IP, or nothing | our own DHT node id there, 20 bytes · last used i64 (seconds since 1970, 0: unknown) |
//!
//! An address is 4 or 16 bytes of IP and a port u16. Rows `p/`, `d/`, `i/` and `g/` are a cache: one that is damaged is passed
//! over and costs nothing else. Anything that changes this table is a new version and a step in `migrations/`.

use crate::base::InfoHash;

/// The version that this program writes.
pub const SCHEMA_VERSION: u32 = 3;

pub(super) const VERSION: &[u8] = b"m/version";
pub(super) const SEQUENCE: &[u8] = b"m/sequence";
pub(super) const EPOCH: &[u8] = b"m/epoch";
pub(super) const PEERS: &[u8] = b"p/";
pub(super) const NODES: &[u8] = b"d/";
pub(super) const IDENTITIES: &[u8] = b"i/";
pub(super) const DIGESTS: &[u8] = b"g/";

/// Whether the row can be missed: what it says is learned again.
pub(super) fn is_cache(key: &[u8]) -> bool {
    [PEERS, NODES, IDENTITIES, DIGESTS]
        .iter()
        .any(|cache| key.starts_with(cache))
}

/// Kinds of rows that belong to one torrent; the value is the first letter of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Row {
    Torrent = b't',
    Page = b'h',
    Files = b'f',
    Partial = b'b',
    Digests = b'g',
    Totals = b's',
    Peer = b'p',
}

impl Row {
    /// What says which pieces are where.
    pub(super) const PROGRESS: [Self; 5] = [
        Self::Torrent,
        Self::Page,
        Self::Files,
        Self::Partial,
        Self::Digests,
    ];
    /// All that is known of a torrent.
    pub(super) const ALL: [Self; 7] = [
        Self::Torrent,
        Self::Page,
        Self::Files,
        Self::Partial,
        Self::Digests,
        Self::Totals,
        Self::Peer,
    ];

    /// The key of this torrent's only such row, or what the keys of its rows start with.
    pub(super) fn of(self, info_hash: &InfoHash) -> Vec<u8> {
        let mut key = Vec::with_capacity(40);
        key.extend_from_slice(&[self as u8, b'/']);
        key.extend_from_slice(info_hash.as_bytes());
        key
    }

    /// The key of this torrent's row number `number`.
    pub(super) fn numbered(self, info_hash: &InfoHash, number: u32) -> Vec<u8> {
        let mut key = self.of(info_hash);
        key.extend_from_slice(&number.to_be_bytes());
        key
    }
}

/// Length of what [`Row::of`] gives.
pub(super) const TORRENT_KEY_LEN: usize = 22;

/// What [`Row::numbered`] was given.
pub(super) fn number_of(key: &[u8]) -> Option<u32> {
    let (number, _) = key.get(TORRENT_KEY_LEN..)?.split_first_chunk()?;
    Some(u32::from_be_bytes(*number))
}
