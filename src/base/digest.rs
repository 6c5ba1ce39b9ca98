//! What a piece is known by once it was verified: [`PieceDigest`].

/// The first 128 bits of a piece's BLAKE3.
///
/// It is compared only with what the same piece once was, to find bits that rotted: whoever wants to put other bytes in place
/// is met by SHA-1 and the metainfo elsewhere. Of random damage one case in 2^128 goes unseen, which is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceDigest(pub [u8; Self::LEN]);

impl PieceDigest {
    /// Its length in bytes.
    pub const LEN: usize = 16;

    /// The digest of a piece with this BLAKE3.
    pub fn of(blake3: &[u8; 32]) -> Self {
        let mut digest = [0; Self::LEN];
        digest.copy_from_slice(&blake3[..Self::LEN]);
        Self(digest)
    }
}
