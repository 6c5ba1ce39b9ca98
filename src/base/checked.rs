//! What hashing a piece brought to light: what `disk` finds and `swarm` draws conclusions from.

/// The outcome of hashing a piece. Digests are the BLAKE3 of each 16 KiB block, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Its SHA-1 is the expected one.
    Good {
        /// The digests, if they were asked for.
        digests: Option<Vec<[u8; 32]>>,
    },
    /// It is not.
    Bad {
        /// The digests, to tell who sent which bad block once the good ones are known.
        digests: Vec<[u8; 32]>,
    },
}
