//! What goes into a [`Swarm`](super::Swarm) and what comes out of it, as plain values.

use std::net::SocketAddr;

use crate::base::{Bitfield, BlockRange, Geometry, PeerId, PieceIndex};

/// The name of one connection for as long as the swarm lives; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub(super) u64);

impl PeerKey {
    /// The key as a number, for logs.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// What a swarm is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// How the payload is cut.
    pub geometry: Geometry,
    /// Where the swarm's randomness comes from: same seed and inputs, same decisions.
    pub seed: u64,
    /// Our own peer id: a connection with it is a connection to ourselves.
    pub id: PeerId,
    /// Most connections to hold.
    pub max_peers: usize,
    /// Peers that may request from us at once while we download; twice as many once we are complete.
    pub upload_slots: usize,
    /// Addresses under which others reach us: never dialled.
    pub own: Vec<SocketAddr>,
}

/// What is on disk when the swarm starts.
#[derive(Clone, Debug)]
pub struct Start {
    /// Pieces whose hash matched.
    pub verified: Bitfield,
    /// Those of them that survive a power cut.
    pub durable: Bitfield,
    /// Whole blocks of other pieces that were stored earlier. Nobody knows who sent them, and nobody is blamed for them.
    pub partial: Vec<BlockRange>,
}

impl Start {
    /// Nothing is there.
    pub fn empty(geometry: &Geometry) -> Self {
        Self {
            verified: Bitfield::new(geometry.pieces()),
            durable: Bitfield::new(geometry.pieces()),
            partial: Vec::new(),
        }
    }

    /// Everything is there and durable.
    pub fn complete(geometry: &Geometry) -> Self {
        Self {
            verified: Bitfield::full(geometry.pieces()),
            durable: Bitfield::full(geometry.pieces()),
            partial: Vec::new(),
        }
    }
}

/// Who told of an address. The order is the order of trust: earlier ones are dialled first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The user.
    User,
    /// The database: we were connected to it in an earlier run.
    Stored,
    /// A tracker.
    Tracker,
    /// The peer itself, which dialled us and told where it listens.
    Incoming,
    /// The distributed hash table.
    Dht,
    /// Another peer (BEP 11).
    Pex,
}

/// A connection that passed its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// The other end of the connection.
    pub addr: SocketAddr,
    /// Where the peer takes connections, if it is known and differs from `addr`.
    pub listen: Option<SocketAddr>,
    /// How the peer calls itself.
    pub id: PeerId,
    /// Whether the peer dialled us.
    pub incoming: bool,
    /// Whether both sides speak the fast extension (BEP 6).
    pub fast: bool,
}

/// Why a new connection is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The peer lied earlier.
    #[error("the peer is banned")]
    Banned,
    /// There is a connection to this peer.
    #[error("there is a connection to this peer already")]
    Duplicate,
    /// No room, and nobody here is worse.
    #[error("the torrent has as many connections as it may hold")]
    Full,
    /// The other end is ourselves.
    #[error("the connection leads to ourselves")]
    Ourselves,
}

/// Why a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The peer lied.
    Banned,
    /// Both sides are complete.
    BothSeeds,
    /// A newer connection to the same peer is kept instead: both sides dialled at once.
    Duplicate,
    /// Nothing was exchanged for long and somebody else wants the place.
    Idle,
}

impl DropReason {
    /// The reason in a few words, for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Banned => "banned: it sent data that is not the torrent's",
            Self::BothSeeds => "both sides are complete",
            Self::Duplicate => "both sides dialled; the other connection is kept",
            Self::Idle => "nothing was exchanged and the place is needed",
        }
    }
}

/// What proved that a peer lied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BanReason {
    /// It alone sent all of a piece whose hash did not match.
    #[error("it sent all of piece {0}, which is not what the metainfo says")]
    WholePiece(PieceIndex),
    /// Its blocks of this piece differ from those of the copy whose hash matched.
    #[error("blocks that it sent of piece {0} differ from those of the good copy")]
    Blocks(PieceIndex),
}

/// What to do with bytes that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Throw them away; they were counted as wasted.
    Discard,
    /// They are a whole piece: hash them in memory, store them if the hash matches, and answer with `on_checked`.
    Check {
        /// Whether the answer must carry the digests of the blocks even if the hash matches.
        digests: bool,
    },
    /// Store these parts of them and answer with `on_written` for each.
    Write(Vec<BlockRange>),
}

/// What the swarm wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make a connection; answer with `on_connected` or `on_dial_failed`.
    Dial(SocketAddr),
    /// Close the connection; answer with `on_disconnected`, after everything granted has come back.
    Disconnect {
        /// Which.
        key: PeerKey,
        /// Why.
        reason: DropReason,
    },
    /// Tell the peer whether we want something of it.
    Interest {
        /// Which peer.
        key: PeerKey,
        /// Whether we do.
        on: bool,
    },
    /// Tell the peer whether it may request.
    Choke {
        /// Which peer.
        key: PeerKey,
        /// `true`: it may not.
        on: bool,
    },
    /// Request these blocks of the peer. Each comes back once, in `on_run` or `on_returned`.
    Grant {
        /// Which peer.
        key: PeerKey,
        /// Whole blocks.
        range: BlockRange,
    },
    /// Cancel what is outstanding of these blocks; they come back in `on_returned`, or in `on_run` if it is too late.
    Revoke {
        /// Which peer.
        key: PeerKey,
        /// Whole blocks.
        range: BlockRange,
    },
    /// Every block of the piece is stored: read it back, hash it and answer with `on_checked`.
    Check {
        /// Which piece.
        piece: PieceIndex,
        /// Whether the answer must carry the digests of the blocks even if the hash matches.
        digests: bool,
    },
    /// The hash of the piece matched: tell everyone, serve it, and make it durable.
    Verified {
        /// Which piece.
        piece: PieceIndex,
        /// Who sent its first block, if anybody did in this run.
        from: Option<SocketAddr>,
    },
    /// The hash of the piece did not match; it will be fetched again.
    HashFailed {
        /// Which piece.
        piece: PieceIndex,
        /// Who sent parts of it.
        peers: Vec<SocketAddr>,
    },
    /// The peer lied, and will not be dialled or let in again.
    Banned {
        /// Where it is.
        addr: SocketAddr,
        /// The proof.
        why: BanReason,
    },
    /// Every piece is verified. Said when the last piece is, never for a payload that was complete at the start.
    Complete,
}
