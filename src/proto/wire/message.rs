//! The messages of BEP 3, BEP 6 and BEP 10, and how they are written.

use crate::base::BlockRange;

/// A range as a message names it, before anyone checked that it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawRange {
    /// Number of the piece.
    pub piece: u32,
    /// Offset of the first byte within the piece.
    pub begin: u32,
    /// Number of bytes.
    pub len: u32,
}

impl From<BlockRange> for RawRange {
    fn from(range: BlockRange) -> Self {
        Self {
            piece: range.piece().get(),
            begin: range.begin(),
            len: range.len(),
        }
    }
}

/// One message; what it carries is borrowed from the connection's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Nothing, to show that the connection lives.
    KeepAlive,
    /// Requests are not answered from now on.
    Choke,
    /// Requests are answered from now on.
    Unchoke,
    /// The sender would request if it were unchoked.
    Interested,
    /// The sender has nothing to request.
    NotInterested,
    /// The sender has this piece now.
    Have(u32),
    /// The pieces that the sender has.
    Bitfield(&'a [u8]),
    /// Asks for a block.
    Request(RawRange),
    /// A block.
    Piece {
        /// Number of the piece.
        piece: u32,
        /// Offset of the block within it.
        begin: u32,
        /// The bytes.
        data: &'a [u8],
    },
    /// Takes a request back.
    Cancel(RawRange),
    /// The UDP port of the sender's DHT node (BEP 5).
    Port(u16),
    /// A piece that is cheap for the sender to serve (BEP 6).
    Suggest(u32),
    /// The sender has every piece (BEP 6).
    HaveAll,
    /// The sender has no piece (BEP 6).
    HaveNone,
    /// This request will not be answered (BEP 6).
    Reject(RawRange),
    /// This piece may be requested even while choked (BEP 6).
    AllowedFast(u32),
    /// A message of an extension (BEP 10).
    Extended {
        /// 0 for the extension handshake, else the number that the receiver gave the extension.
        id: u8,
        /// What it says.
        payload: &'a [u8],
    },
    /// A message that we do not know; to be ignored.
    Unknown(u8),
}

/// The numbers by which messages are known on the wire.
pub(super) mod ids {
    pub(in crate::proto::wire) const CHOKE: u8 = 0;
    pub(in crate::proto::wire) const UNCHOKE: u8 = 1;
    pub(in crate::proto::wire) const INTERESTED: u8 = 2;
    pub(in crate::proto::wire) const NOT_INTERESTED: u8 = 3;
    pub(in crate::proto::wire) const HAVE: u8 = 4;
    pub(in crate::proto::wire) const BITFIELD: u8 = 5;
    pub(in crate::proto::wire) const REQUEST: u8 = 6;
    pub(in crate::proto::wire) const PIECE: u8 = 7;
    pub(in crate::proto::wire) const CANCEL: u8 = 8;
    pub(in crate::proto::wire) const PORT: u8 = 9;
    pub(in crate::proto::wire) const SUGGEST: u8 = 13;
    pub(in crate::proto::wire) const HAVE_ALL: u8 = 14;
    pub(in crate::proto::wire) const HAVE_NONE: u8 = 15;
    pub(in crate::proto::wire) const REJECT: u8 = 16;
    pub(in crate::proto::wire) const ALLOWED_FAST: u8 = 17;
    pub(in crate::proto::wire) const EXTENDED: u8 = 20;
}

impl Message<'_> {
    /// Appends the message, length prefix and all, to `out`. An [`Message::Unknown`] is written without a payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::KeepAlive => out.extend_from_slice(&0u32.to_be_bytes()),
            Self::Choke => put(out, ids::CHOKE, &[]),
            Self::Unchoke => put(out, ids::UNCHOKE, &[]),
            Self::Interested => put(out, ids::INTERESTED, &[]),
            Self::NotInterested => put(out, ids::NOT_INTERESTED, &[]),
            Self::Have(piece) => put(out, ids::HAVE, &[&piece.to_be_bytes()]),
            Self::Bitfield(bits) => put(out, ids::BITFIELD, &[bits]),
            Self::Request(range) => put_range(out, ids::REQUEST, range),
            Self::Piece { piece, begin, data } => {
                let (piece, begin) = (piece.to_be_bytes(), begin.to_be_bytes());
                put(out, ids::PIECE, &[&piece, &begin, data]);
            }
            Self::Cancel(range) => put_range(out, ids::CANCEL, range),
            Self::Port(port) => put(out, ids::PORT, &[&port.to_be_bytes()]),
            Self::Suggest(piece) => put(out, ids::SUGGEST, &[&piece.to_be_bytes()]),
            Self::HaveAll => put(out, ids::HAVE_ALL, &[]),
            Self::HaveNone => put(out, ids::HAVE_NONE, &[]),
            Self::Reject(range) => put_range(out, ids::REJECT, range),
            Self::AllowedFast(piece) => put(out, ids::ALLOWED_FAST, &[&piece.to_be_bytes()]),
            Self::Extended { id, payload } => put(out, ids::EXTENDED, &[&[id], payload]),
            Self::Unknown(id) => put(out, id, &[]),
        }
    }
}

/// The 13 bytes that go before the data of a PIECE message.
pub fn piece_header(range: BlockRange) -> [u8; 13] {
    let mut header = [0; 13];
    header[..4].copy_from_slice(&(range.len() + 9).to_be_bytes());
    header[4] = ids::PIECE;
    header[5..9].copy_from_slice(&range.piece().get().to_be_bytes());
    header[9..].copy_from_slice(&range.begin().to_be_bytes());
    header
}

fn put(out: &mut Vec<u8>, id: u8, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let len = u32::try_from(len + 1).expect("no message of ours comes near 4 GiB");
    out.reserve(len as usize + 4);
    out.extend_from_slice(&len.to_be_bytes());
    out.push(id);
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn put_range(out: &mut Vec<u8>, id: u8, range: RawRange) {
    let mut bytes = [0; 17];
    bytes[..4].copy_from_slice(&13u32.to_be_bytes());
    bytes[4] = id;
    bytes[5..9].copy_from_slice(&range.piece.to_be_bytes());
    bytes[9..13].copy_from_slice(&range.begin.to_be_bytes());
    bytes[13..].copy_from_slice(&range.len.to_be_bytes());
    out.extend_from_slice(&bytes);
}
