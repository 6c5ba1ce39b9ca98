//! What a [`Session`](super::Session) tells its owner.

use crate::base::{Bitfield, BlockRange, PieceIndex};

use super::extension::ExtendedHandshake;

/// Something that happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer chokes us. What this loses follows as [`Event::Returned`] and [`Event::Run`].
    Choked,
    /// The peer answers requests now.
    Unchoked,
    /// The peer wants pieces of ours.
    Interested,
    /// The peer wants nothing of ours.
    NotInterested,
    /// All pieces that the peer has; replaces whatever was known before.
    Pieces(Bitfield),
    /// The peer has a piece that it had not.
    Have(PieceIndex),
    /// The peer lost a piece that it had.
    DontHave(PieceIndex),
    /// The peer would like us to request this piece.
    Suggested(PieceIndex),
    /// The peer lets us request this piece even while it chokes us.
    AllowedFast(PieceIndex),
    /// The peer's extension handshake: everything it said so far.
    Extended(ExtendedHandshake),
    /// The UDP port of the peer's DHT node, never 0; raised once.
    Port(u16),
    /// All blocks of a grant came, or of the part of it that will come.
    Run {
        /// Where the bytes belong.
        range: BlockRange,
        /// The bytes, exactly as many as the range has.
        data: Vec<u8>,
    },
    /// Granted blocks that will not come.
    Returned(BlockRange),
    /// The pipeline could take this many more blocks than are granted. Raised again only after the next grant that is
    /// taken, or the next unchoke.
    Hungry {
        /// How many.
        blocks: u32,
    },
    /// Nothing of what was asked came for [`SNUB_TIME`](crate::base::limits::SNUB_TIME). Raised once until a block comes.
    Snubbed,
    /// This many payload bytes came that nobody wanted any more, or ever.
    Wasted(u32),
}

/// Payload that passed over one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bytes received, the wasted ones included.
    pub downloaded: u64,
    /// Bytes sent.
    pub uploaded: u64,
    /// Bytes received that nobody wanted.
    pub wasted: u64,
    /// Bytes per second received, lately.
    pub down_rate: u64,
    /// Bytes per second sent, lately.
    pub up_rate: u64,
}
