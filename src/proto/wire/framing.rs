//! Where one message ends and the next begins (BEP 3: a four-byte length before each).
//!
//! A length is judged as soon as it is known: by the largest message of any kind at its fourth byte, by the kind's own
//! bounds at the fifth. So no buffer ever grows for a message that will not be accepted.

use crate::base::limits::{EXTENDED_LEN_MAX, REQUEST_LEN_MAX};

use super::error::WireError;
use super::message::{Message, RawRange, ids};

/// Largest block message: the id, piece and offset before the data.
const PIECE_MAX: u32 = REQUEST_LEN_MAX + 9;
/// Largest extended or unknown message.
const EXTENDED_MAX: u32 = EXTENDED_LEN_MAX as u32;

/// How long messages about a torrent may be.
#[derive(Clone, Copy, Debug)]
pub struct FrameLimits {
    bitfield: u32,
}

impl FrameLimits {
    /// For a torrent of `pieces` pieces.
    pub fn new(pieces: u32) -> Self {
        Self {
            bitfield: pieces.div_ceil(8) + 1,
        }
    }

    /// Bytes of the largest message that is accepted, prefix included: what a connection's buffer may grow to.
    pub fn largest(&self) -> usize {
        self.any() as usize + 4
    }

    fn any(&self) -> u32 {
        self.bitfield.max(PIECE_MAX).max(EXTENDED_MAX)
    }

    /// Judges a message by its length (id included) and id.
    fn check(&self, id: u8, len: u32) -> Result<(), WireError> {
        let (min, max) = match id {
            ids::CHOKE | ids::UNCHOKE | ids::INTERESTED | ids::NOT_INTERESTED => (1, 1),
            ids::HAVE_ALL | ids::HAVE_NONE => (1, 1),
            ids::HAVE | ids::SUGGEST | ids::ALLOWED_FAST => (5, 5),
            ids::REQUEST | ids::CANCEL | ids::REJECT => (13, 13),
            ids::PORT => (3, 3),
            ids::BITFIELD => (1, self.bitfield),
            ids::PIECE => (9, PIECE_MAX),
            ids::EXTENDED => (2, EXTENDED_MAX),
            _ => (1, EXTENDED_MAX),
        };
        if len < min || (min == max && len > max) {
            Err(WireError::WrongLength { id, len })
        } else if len > max {
            Err(WireError::TooLong { len, max })
        } else {
            Ok(())
        }
    }
}

/// Bytes of the message at the start of `buf`, prefix included, all of them there or not; `None` while unknown.
///
/// # Errors
/// If the message is longer than it may be, as soon as that can be told.
pub fn frame_len(buf: &[u8], limits: &FrameLimits) -> Result<Option<usize>, WireError> {
    let Some((&prefix, rest)) = buf.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(prefix);
    let max = limits.any();
    if len > max {
        return Err(WireError::TooLong { len, max });
    }
    if let (Some(&id), 1..) = (rest.first(), len) {
        limits.check(id, len)?;
    }
    Ok(Some(len as usize + 4))
}

/// Reads the message at the start of `buf` and tells how many bytes it took; `None` while more are due.
///
/// # Errors
/// If the message is longer or shorter than one of its kind may be.
pub fn decode<'a>(
    buf: &'a [u8],
    limits: &FrameLimits,
) -> Result<Option<(Message<'a>, usize)>, WireError> {
    let Some(len) = frame_len(buf, limits)? else {
        return Ok(None);
    };
    let Some(frame) = buf.get(4..len) else {
        return Ok(None);
    };
    let message = match frame.split_first() {
        None => Message::KeepAlive,
        Some((&id, body)) => parse(id, body).ok_or(WireError::WrongLength {
            id,
            len: len as u32 - 4,
        })?,
    };
    Ok(Some((message, len)))
}

fn parse(id: u8, body: &[u8]) -> Option<Message<'_>> {
    Some(match id {
        ids::CHOKE => Message::Choke,
        ids::UNCHOKE => Message::Unchoke,
        ids::INTERESTED => Message::Interested,
        ids::NOT_INTERESTED => Message::NotInterested,
        ids::HAVE => Message::Have(number(body)?.0),
        ids::BITFIELD => Message::Bitfield(body),
        ids::REQUEST => Message::Request(range(body)?),
        ids::PIECE => {
            let (piece, body) = number(body)?;
            let (begin, data) = number(body)?;
            Message::Piece { piece, begin, data }
        }
        ids::CANCEL => Message::Cancel(range(body)?),
        ids::PORT => Message::Port(u16::from_be_bytes(body.try_into().ok()?)),
        ids::SUGGEST => Message::Suggest(number(body)?.0),
        ids::HAVE_ALL => Message::HaveAll,
        ids::HAVE_NONE => Message::HaveNone,
        ids::REJECT => Message::Reject(range(body)?),
        ids::ALLOWED_FAST => Message::AllowedFast(number(body)?.0),
        ids::EXTENDED => {
            let (&id, payload) = body.split_first()?;
            Message::Extended { id, payload }
        }
        _ => Message::Unknown(id),
    })
}

fn number(body: &[u8]) -> Option<(u32, &[u8])> {
    let (&bytes, rest) = body.split_first_chunk()?;
    Some((u32::from_be_bytes(bytes), rest))
}

fn range(body: &[u8]) -> Option<RawRange> {
    let (piece, body) = number(body)?;
    let (begin, body) = number(body)?;
    let (len, _) = number(body)?;
    Some(RawRange { piece, begin, len })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits() -> FrameLimits {
        FrameLimits::new(1_000)
    }

    #[test]
    fn a_prefix_of_four_gibibytes_is_an_error_at_its_fourth_byte() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 0x07];
        assert_eq!(frame_len(&bytes[..3], &limits()), Ok(None));
        let too_long = WireError::TooLong {
            len: u32::MAX,
            max: EXTENDED_LEN_MAX as u32,
        };
        assert_eq!(decode(&bytes[..4], &limits()), Err(too_long));
        assert_eq!(decode(&bytes, &limits()), Err(too_long));
    }

    #[test]
    fn each_kind_is_bounded_as_soon_as_its_id_is_known() {
        for (id, len) in [
            (ids::BITFIELD, 127),
            (ids::PIECE, REQUEST_LEN_MAX + 10),
            (ids::PIECE, 8),
            (ids::CHOKE, 2),
            (ids::HAVE, 4),
            (ids::REQUEST, 14),
            (ids::EXTENDED, 1),
        ] {
            let mut bytes = len.to_be_bytes().to_vec();
            assert_eq!(decode(&bytes, &limits()), Ok(None), "{id}");
            bytes.push(id);
            assert!(decode(&bytes, &limits()).is_err(), "{id}");
        }
    }

    #[test]
    fn the_bound_on_bitfields_grows_with_the_torrent() {
        let mut bytes = Vec::new();
        Message::Bitfield(&[0; 300_000]).encode(&mut bytes);
        assert!(decode(&bytes, &limits()).is_err());
        let large = FrameLimits::new(2_400_000);
        assert_eq!(decode(&bytes, &large).unwrap().unwrap().1, bytes.len());
        assert_eq!(large.largest(), 300_005);
    }

    fn any_range() -> impl Strategy<Value = RawRange> {
        any::<(u32, u32, u32)>().prop_map(|(piece, begin, len)| RawRange { piece, begin, len })
    }

    proptest! {
        #[test]
        fn every_message_survives_the_round_trip(
            kind in 0u8..18, range in any_range(), port: u16, ext: u8,
            data in prop::collection::vec(any::<u8>(), 0..126),
        ) {
            let message = match kind {
                0 => Message::KeepAlive,
                1 => Message::Choke,
                2 => Message::Unchoke,
                3 => Message::Interested,
                4 => Message::NotInterested,
                5 => Message::Have(range.piece),
                6 => Message::Bitfield(&data),
                7 => Message::Request(range),
                8 => Message::Piece { piece: range.piece, begin: range.begin, data: &data },
                9 => Message::Cancel(range),
                10 => Message::Port(port),
                11 => Message::Suggest(range.piece),
                12 => Message::HaveAll,
                13 => Message::HaveNone,
                14 => Message::Reject(range),
                15 => Message::AllowedFast(range.piece),
                16 => Message::Extended { id: ext, payload: &data },
                _ => Message::Unknown(200),
            };
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            for cut in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..cut], &limits()), Ok(None));
            }
            let len = bytes.len();
            bytes.push(0xff);
            prop_assert_eq!(decode(&bytes, &limits()), Ok(Some((message, len))));
        }

        #[test]
        fn any_bytes_decode_to_a_message_within_them_or_to_an_error(
            len in 0u32..2_000, bytes in prop::collection::vec(any::<u8>(), 0..300), framed: bool,
        ) {
            let mut input = if framed { len.to_be_bytes().to_vec() } else { Vec::new() };
            input.extend_from_slice(&bytes);
            if let Ok(Some((_, used))) = decode(&input, &limits()) {
                prop_assert!((4..=input.len()).contains(&used));
            }
            if let Ok(Some(wanted)) = frame_len(&input, &limits()) {
                prop_assert!(wanted <= limits().largest());
            }
        }
    }
}
