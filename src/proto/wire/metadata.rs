//! `ut_metadata`, by which peers pass on the info dictionary (BEP 9, "metadata").
//!
//! A message is a small bencoded dictionary, followed in one case by bytes of the info dictionary, which travels in
//! pieces of 16 KiB. What is read here is bounded by that; whether it is true only the info-hash can tell.

use crate::base::limits::METAINFO_MAX;
use crate::format::bencode::{Document, Writer};

use super::error::WireError;

/// Bytes of every piece of the metadata but the last.
pub const METADATA_PIECE_LEN: u32 = 16 << 10;

/// Most bytes of the dictionary at the head of a message; real ones stay below 60.
const HEAD_MAX: usize = 1 << 10;

const REQUEST: i64 = 0;
const DATA: i64 = 1;
const REJECT: i64 = 2;

/// A message of the extension; the bytes are borrowed from the connection's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataMessage<'a> {
    /// Asks for a piece.
    Request(u32),
    /// A piece.
    Data {
        /// Its number.
        piece: u32,
        /// Bytes of the whole metadata, if the sender says so sensibly.
        total_size: Option<u32>,
        /// The bytes, at most [`METADATA_PIECE_LEN`].
        bytes: &'a [u8],
    },
    /// This request will not be answered.
    Reject(u32),
}

/// Pieces of metadata of `size` bytes.
pub fn metadata_pieces(size: u32) -> u32 {
    size.div_ceil(METADATA_PIECE_LEN)
}

/// Bytes of a piece of metadata of `size` bytes; `None` if there is no such piece.
pub fn metadata_piece_len(size: u32, piece: u32) -> Option<u32> {
    let begin = piece.checked_mul(METADATA_PIECE_LEN)?;
    let left = size.checked_sub(begin).filter(|&left| left > 0)?;
    Some(left.min(METADATA_PIECE_LEN))
}

impl<'a> MetadataMessage<'a> {
    /// The payload of the extended message.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, piece, total_size, bytes) = match *self {
            Self::Request(piece) => (REQUEST, piece, None, &[][..]),
            Self::Data {
                piece,
                total_size,
                bytes,
            } => (DATA, piece, total_size, bytes),
            Self::Reject(piece) => (REJECT, piece, None, &[][..]),
        };
        let mut writer = Writer::new();
        writer.dict(|dict| {
            dict.int("msg_type", kind);
            dict.int("piece", i64::from(piece));
            if let Some(size) = total_size {
                dict.int("total_size", i64::from(size));
            }
        });
        let mut payload = writer.finish();
        payload.extend_from_slice(bytes);
        payload
    }

    /// Reads the payload of an extended message; `None` if it is of a kind that is not known, which BEP 9 has ignored.
    ///
    /// # Errors
    /// [`WireError::BadMetadata`] if there is no dictionary of the right form, or more bytes than a piece has.
    pub fn decode(payload: &'a [u8]) -> Result<Option<Self>, WireError> {
        let head = &payload[..payload.len().min(HEAD_MAX)];
        let (document, used) = Document::parse_prefix(head).map_err(|_| WireError::BadMetadata)?;
        let dict = document.root();
        let int = |key: &[u8]| dict.get(key)?.as_int();
        let kind = int(b"msg_type").ok_or(WireError::BadMetadata)?;
        if !(REQUEST..=REJECT).contains(&kind) {
            return Ok(None);
        }
        let piece = int(b"piece").and_then(|piece| u32::try_from(piece).ok());
        let piece = piece.ok_or(WireError::BadMetadata)?;
        Ok(Some(match kind {
            REQUEST => Self::Request(piece),
            DATA => {
                let size = int(b"total_size").and_then(|size| u32::try_from(size).ok());
                let bytes = &payload[used..];
                if bytes.len() > METADATA_PIECE_LEN as usize {
                    return Err(WireError::BadMetadata);
                }
                Self::Data {
                    piece,
                    total_size: size.filter(|size| (1..=METAINFO_MAX as u32).contains(size)),
                    bytes,
                }
            }
            _ => Self::Reject(piece),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agrees_with_the_examples_of_bep_9() {
        let request = b"d8:msg_typei0e5:piecei0ee";
        assert_eq!(MetadataMessage::Request(0).encode(), request);
        let data = b"d8:msg_typei1e5:piecei0e10:total_sizei34256eexxxxxxxx";
        let expected = MetadataMessage::Data {
            piece: 0,
            total_size: Some(34256),
            bytes: b"xxxxxxxx",
        };
        assert_eq!(MetadataMessage::decode(data), Ok(Some(expected)));
        assert_eq!(expected.encode(), data);
        let reject = b"d8:msg_typei2e5:piecei0ee";
        let expected = MetadataMessage::Reject(0);
        assert_eq!(MetadataMessage::decode(reject), Ok(Some(expected)));
    }

    #[test]
    fn a_kind_that_is_not_known_is_ignored_and_malformed_ones_are_refused() {
        let unknown = b"d8:msg_typei7ee";
        assert_eq!(MetadataMessage::decode(unknown), Ok(None));
        for bad in [
            &b""[..],
            b"le",
            b"d8:msg_typei0ee",
            b"d5:piecei0ee",
            b"d8:msg_typei0e5:piecei-1ee",
            b"d8:msg_typei0e5:piecei4294967296ee",
            b"d8:msg_typei0e5:piece1:xe",
        ] {
            let decoded = MetadataMessage::decode(bad);
            assert_eq!(decoded, Err(WireError::BadMetadata), "{bad:?}");
        }
    }

    #[test]
    fn more_than_a_piece_is_refused_and_a_senseless_size_counts_as_not_mentioned() {
        let mut payload = b"d8:msg_typei1e5:piecei0e10:total_sizei-1ee".to_vec();
        payload.resize(payload.len() + METADATA_PIECE_LEN as usize, 7);
        let decoded = MetadataMessage::decode(&payload);
        assert!(matches!(
            decoded,
            Ok(Some(MetadataMessage::Data { total_size: None, bytes, .. })) if bytes.len() == 16 << 10
        ));
        payload.push(7);
        let decoded = MetadataMessage::decode(&payload);
        assert_eq!(decoded, Err(WireError::BadMetadata));
    }

    #[test]
    fn a_head_of_many_values_is_refused_unread() {
        let payload = [b"d1:al", &[b'l'; 200_000][..]].concat();
        let decoded = MetadataMessage::decode(&payload);
        assert_eq!(decoded, Err(WireError::BadMetadata));
    }

    proptest! {
        #[test]
        fn pieces_cover_the_metadata_end_to_end(size in 1u32..=METAINFO_MAX as u32) {
            let pieces = metadata_pieces(size);
            let lens = (0..pieces).map(|piece| metadata_piece_len(size, piece).unwrap());
            prop_assert_eq!(lens.map(u64::from).sum::<u64>(), u64::from(size));
            prop_assert_eq!(metadata_piece_len(size, pieces), None);
            prop_assert_eq!(metadata_piece_len(size, u32::MAX), None);
        }

        #[test]
        fn survives_the_round_trip(
            kind in 0u8..3, piece: u32, size in prop::option::of(1u32..=METAINFO_MAX as u32),
            bytes in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let message = match kind {
                0 => MetadataMessage::Request(piece),
                1 => MetadataMessage::Data { piece, total_size: size, bytes: &bytes },
                _ => MetadataMessage::Reject(piece),
            };
            let encoded = message.encode();
            prop_assert_eq!(MetadataMessage::decode(&encoded), Ok(Some(message)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = MetadataMessage::decode(&bytes);
            let mut dict = b"d8:msg_type".to_vec();
            dict.extend_from_slice(&bytes);
            let _ = MetadataMessage::decode(&dict);
        }
    }
}
