//! Twenty-byte names: of a torrent ([`InfoHash`], BEP 3), of a peer ([`PeerId`], BEP 20) and of a DHT node ([`NodeId`], BEP 5).

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER_PERMISSIVE;

/// How this program calls itself to peers (BEP 10, `v`) and to HTTP servers: name and version.
pub const CLIENT: &str = concat!("seedbank/", env!("CARGO_PKG_VERSION"));

/// The SHA-1 of a bencoded info dictionary: the name of a torrent (BEP 3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash(pub [u8; 20]);

impl InfoHash {
    /// The raw bytes as they travel on the wire.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER_PERMISSIVE.encode(&self.0))
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 40 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an info-hash is 40 hexadecimal digits")]
pub struct InvalidInfoHash;

impl FromStr for InfoHash {
    type Err = InvalidInfoHash;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 40 {
            return Err(InvalidInfoHash);
        }
        let bytes = HEXLOWER_PERMISSIVE
            .decode(text.as_bytes())
            .map_err(|_| InvalidInfoHash)?;
        bytes.try_into().map(Self).map_err(|_| InvalidInfoHash)
    }
}

/// How a peer calls itself; ours follow the Azureus style of BEP 20.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 20]);

impl PeerId {
    /// The prefix that names this client and its version (BEP 20).
    pub const PREFIX: &'static [u8; 8] = b"-SB0100-";

    /// Our own id: [`PeerId::PREFIX`] followed by twelve characters made from `random`.
    pub fn ours(random: [u8; 12]) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut id = [0; 20];
        id[..8].copy_from_slice(Self::PREFIX);
        for (slot, byte) in id[8..].iter_mut().zip(random) {
            *slot = ALPHABET[usize::from(byte % 32)];
        }
        Self(id)
    }

    /// The raw bytes as they travel on the wire.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of a DHT node, and any other point of its space, info-hashes included (BEP 5).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 20]);

impl NodeId {
    /// Bits of an id.
    pub const BITS: u32 = 160;

    /// How far apart two points are, by the XOR metric.
    pub fn distance(&self, other: &Self) -> Distance {
        let mut distance = self.0;
        for (byte, other) in distance.iter_mut().zip(other.0) {
            *byte ^= other;
        }
        Distance(distance)
    }

    /// The raw bytes as they travel on the wire.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl From<InfoHash> for NodeId {
    fn from(info_hash: InfoHash) -> Self {
        Self(info_hash.0)
    }
}

impl From<NodeId> for InfoHash {
    fn from(id: NodeId) -> Self {
        Self(id.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER_PERMISSIVE.encode(&self.0))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The XOR of two points of the DHT's space: the larger, the farther apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance(pub [u8; 20]);

impl Distance {
    /// Leading bits that the two points share, up to 160.
    pub fn shared_bits(&self) -> u32 {
        let mut bits = 0;
        for byte in self.0 {
            bits += byte.leading_zeros();
            if byte != 0 {
                break;
            }
        }
        bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_hash_survives_the_round_trip_through_text() {
        let hash = InfoHash(*b"\x00\x01\xfe\xffabcdefghijklmnop");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string().to_uppercase().parse(), Ok(hash));
    }

    #[test]
    fn info_hash_of_another_length_or_alphabet_is_refused() {
        for text in ["", "00", &"g".repeat(40), &"0".repeat(41), &"é".repeat(20)] {
            assert_eq!(text.parse::<InfoHash>(), Err(InvalidInfoHash));
        }
    }

    #[test]
    fn distance_is_symmetric_and_counts_the_bits_shared() {
        let (zero, mut other) = (NodeId([0; 20]), NodeId([0; 20]));
        assert_eq!(zero.distance(&other).shared_bits(), NodeId::BITS);
        other.0[2] = 0b0001_0000;
        assert_eq!(zero.distance(&other), other.distance(&zero));
        assert_eq!(zero.distance(&other).shared_bits(), 19);
    }

    #[test]
    fn our_peer_id_is_printable() {
        let id = PeerId::ours([0, 255, 31, 32, 7, 9, 100, 200, 1, 2, 3, 4]);
        assert!(id.0.iter().all(u8::is_ascii_graphic));
        assert!(id.0.starts_with(PeerId::PREFIX));
    }
}
