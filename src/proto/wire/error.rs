//! What a peer can do wrong on the wire. Every case is a reason to drop that peer and nobody else.

use crate::base::bitfield::InvalidBitfield;

use super::message::RawRange;

/// Why a connection must end. `Display` completes the sentence "the peer …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The first bytes are not those of BEP 3's handshake.
    #[error("does not begin with a BitTorrent handshake")]
    NotBitTorrent,
    /// The length prefix announces more than any message, or any of this kind, may have.
    #[error("announced a message of {len} bytes where at most {max} are allowed")]
    TooLong {
        /// Bytes announced.
        len: u32,
        /// Bytes allowed.
        max: u32,
    },
    /// The length is not that of messages with this id.
    #[error("sent a message with id {id} of {len} bytes, a length which that message cannot have")]
    WrongLength {
        /// The id.
        id: u8,
        /// Bytes announced, id included.
        len: u32,
    },
    /// The bitfield does not fit the torrent.
    #[error("sent {0}")]
    Bitfield(#[from] InvalidBitfield),
    /// It changed its mind about all of its pieces too often.
    #[error("sent too many bitfields")]
    TooManyBitfields,
    /// It has a piece that does not exist.
    #[error("claims piece {piece} of a torrent of {pieces} pieces")]
    NoSuchPiece {
        /// The number of the piece.
        piece: u32,
        /// Pieces of the torrent.
        pieces: u32,
    },
    /// It requested bytes that do not exist, none at all, or too many at once.
    #[error("requested {} bytes at {} of piece {}, which no request may ask for", .0.len, .0.begin, .0.piece)]
    BadRequest(RawRange),
    /// It keeps sending blocks that were not asked for.
    #[error("sent {0} blocks that nobody asked for")]
    Unrequested(u32),
    /// It uses a message of an extension that was not negotiated.
    #[error("sent a message with id {0} of an extension that was not agreed on")]
    NotNegotiated(u8),
    /// The extension handshake of BEP 10 is not a bencoded dictionary.
    #[error("sent an extension handshake that is not a dictionary")]
    BadExtendedHandshake,
    /// A message of `ut_metadata` (BEP 9) has no dictionary of the right form before it, or too much behind it.
    #[error("sent a metadata message that makes no sense")]
    BadMetadata,
    /// It sends requests without ever reading our answers.
    #[error("floods us with requests and does not read the answers")]
    RequestFlood,
    /// Nothing came for [`crate::base::limits::PEER_SILENCE`].
    #[error("was silent for too long")]
    Silent,
}
