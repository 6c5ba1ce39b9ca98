//! The first 68 bytes of a connection (BEP 3, "peer protocol") and the reserved bits in them.

use crate::base::{InfoHash, PeerId};

use super::error::WireError;

/// Bytes of a handshake.
pub const HANDSHAKE_LEN: usize = 68;

/// What every handshake begins with: the length of the protocol's name, and the name.
const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
/// Where the info-hash begins.
const INFO_HASH_AT: usize = 28;
/// Where the peer id begins.
const PEER_ID_AT: usize = 48;

/// The eight reserved bytes, which say what extensions a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// What we speak: the extension protocol, the fast extension and, if `dht`, the DHT.
    pub fn ours(dht: bool) -> Self {
        Self([0, 0, 0, 0, 0, 0x10, 0, 0x04 | u8::from(dht)])
    }

    /// Whether the extension protocol is spoken (BEP 10).
    pub fn extended(self) -> bool {
        self.0[5] & 0x10 != 0
    }

    /// Whether the fast extension is spoken (BEP 6).
    pub fn fast(self) -> bool {
        self.0[7] & 0x04 != 0
    }

    /// Whether the client runs a DHT node (BEP 5).
    pub fn dht(self) -> bool {
        self.0[7] & 0x01 != 0
    }
}

/// A handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Extensions spoken.
    pub reserved: Reserved,
    /// The torrent that the connection is about.
    pub info_hash: InfoHash,
    /// How the sender calls itself.
    pub peer_id: PeerId,
}

impl Handshake {
    /// The bytes to send.
    pub fn encode(&self) -> [u8; HANDSHAKE_LEN] {
        let mut bytes = [0; HANDSHAKE_LEN];
        bytes[..20].copy_from_slice(PROTOCOL);
        bytes[20..INFO_HASH_AT].copy_from_slice(&self.reserved.0);
        bytes[INFO_HASH_AT..PEER_ID_AT].copy_from_slice(self.info_hash.as_bytes());
        bytes[PEER_ID_AT..].copy_from_slice(self.peer_id.as_bytes());
        bytes
    }

    /// Reads a handshake from the first bytes of a connection; `None` while more are due.
    ///
    /// # Errors
    /// [`WireError::NotBitTorrent`] at the first byte that is not the protocol's.
    pub fn decode(buf: &[u8]) -> Result<Option<Self>, WireError> {
        let Some((reserved, info_hash)) = Self::decode_head(buf)? else {
            return Ok(None);
        };
        Ok(array_at(buf, PEER_ID_AT).map(|id| Self {
            reserved,
            info_hash,
            peer_id: PeerId(id),
        }))
    }

    /// Reads all but the peer id, which some clients hold back until they are answered; `None` while more are due.
    ///
    /// # Errors
    /// As [`Handshake::decode`].
    pub fn decode_head(buf: &[u8]) -> Result<Option<(Reserved, InfoHash)>, WireError> {
        let known = buf.len().min(PROTOCOL.len());
        if buf[..known] != PROTOCOL[..known] {
            return Err(WireError::NotBitTorrent);
        }
        let head = array_at(buf, 20).zip(array_at(buf, INFO_HASH_AT));
        Ok(head.map(|(reserved, hash)| (Reserved(reserved), InfoHash(hash))))
    }
}

fn array_at<const N: usize>(buf: &[u8], at: usize) -> Option<[u8; N]> {
    buf.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn our_reserved_bits_say_what_we_speak() {
        let bits = Reserved::ours(true);
        assert!(bits.extended() && bits.fast() && bits.dht());
        assert!(!Reserved::ours(false).dht());
        assert!(!Reserved::default().extended() && !Reserved::default().fast());
    }

    #[test]
    fn another_protocol_is_refused_at_its_first_byte() {
        assert_eq!(Handshake::decode(b"G"), Err(WireError::NotBitTorrent));
        assert_eq!(
            Handshake::decode(b"\x13BitTorrent protocoL"),
            Err(WireError::NotBitTorrent)
        );
        assert_eq!(Handshake::decode(b""), Ok(None));
    }

    proptest! {
        #[test]
        fn survives_the_round_trip_and_waits_for_every_byte(reserved: [u8; 8], hash: [u8; 20], id: [u8; 20], cut in 0usize..68) {
            let handshake = Handshake { reserved: Reserved(reserved), info_hash: InfoHash(hash), peer_id: PeerId(id) };
            let bytes = handshake.encode();
            prop_assert_eq!(Handshake::decode(&bytes), Ok(Some(handshake)));
            prop_assert_eq!(Handshake::decode(&bytes[..cut]), Ok(None));
            prop_assert_eq!(Handshake::decode_head(&bytes[..cut]).unwrap().is_some(), cut >= 48);
        }
    }
}
