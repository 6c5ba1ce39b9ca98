//! What a [`MetadataFetch`](super::MetadataFetch) wants done, and why.

use std::net::SocketAddr;

use super::super::action::PeerKey;

/// What a [`MetadataFetch`](super::MetadataFetch) wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataAction {
    /// Make a connection; answer with `on_connected`, `on_dial_failed` or `on_dial_postponed`.
    Dial(SocketAddr),
    /// Ask this peer for this piece.
    Request {
        /// Whom.
        key: PeerKey,
        /// What.
        piece: u32,
    },
    /// Close the connection; answer with `on_disconnected`.
    Close {
        /// Which.
        key: PeerKey,
        /// Why.
        reason: CloseReason,
    },
    /// The peer lied, and will not be dialled or let in again.
    Banned {
        /// Where it is.
        addr: SocketAddr,
        /// The proof.
        why: MetadataLie,
    },
    /// The info-hash is that of these bytes. Nothing follows.
    Found {
        /// The info dictionary.
        raw: Vec<u8>,
        /// Where those can be reached that sent parts of it.
        from: Vec<SocketAddr>,
    },
}

/// Why a connection about metadata is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// It does not have the metadata, or does not say so.
    HasNone,
    /// It does not answer.
    Silent,
    /// It turns down what we ask.
    Refuses,
    /// It contradicts itself.
    Contradiction,
    /// It lied.
    Banned,
    /// Others wait for its place, and it is slower than the rest.
    Slow,
}

impl CloseReason {
    /// The reason in a few words, for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HasNone => "it has no metadata",
            Self::Silent => "it does not answer",
            Self::Refuses => "it turns down requests for metadata",
            Self::Contradiction => "it contradicts itself about the metadata",
            Self::Banned => "banned: it sent metadata that is not the torrent's",
            Self::Slow => "it is slow and its place is needed",
        }
    }
}

/// What proved that a peer lied about metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum MetadataLie {
    /// It alone sent all of a copy whose hash did not match.
    #[error("it sent a whole copy of the metadata, which is not what the info-hash names")]
    WholeCopy,
    /// What it sent differs from the copy whose hash matched.
    #[error("parts of the metadata that it sent differ from those of the good copy")]
    Pieces,
    /// It sent metadata of another size than that of the copy whose hash matched.
    #[error("it sent metadata of another size than the good copy has")]
    Size,
}
