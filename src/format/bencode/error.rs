//! Why bytes are not bencode.

use crate::base::limits::{BENCODE_DEPTH_MAX, BENCODE_VALUES_MAX, METAINFO_MAX};

/// Why bytes are not a bencoded document that we read. `at` is the offset, in bytes, where reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BencodeError {
    /// The input is longer than [`METAINFO_MAX`].
    #[error("{len} bytes are too many: at most {METAINFO_MAX} are read")]
    TooLarge {
        /// Bytes of the input.
        len: usize,
    },
    /// The input ends within a value.
    #[error("the data ends too early, at byte {at}: it was cut short")]
    Truncated {
        /// Where.
        at: usize,
    },
    /// No value begins with this byte.
    #[error("byte {at} begins no bencoded value")]
    InvalidByte {
        /// Where.
        at: usize,
    },
    /// An integer without digits, with other characters in it, or with a zero after its minus.
    #[error("the integer at byte {at} is malformed")]
    InvalidInteger {
        /// Where.
        at: usize,
    },
    /// An integer that 64 bits do not hold.
    #[error("the integer at byte {at} is too large")]
    IntegerOverflow {
        /// Where.
        at: usize,
    },
    /// A string whose length is malformed or more than there is data.
    #[error("the string at byte {at} has a malformed length or is longer than the data")]
    InvalidString {
        /// Where.
        at: usize,
    },
    /// A dictionary key that is no string.
    #[error("the dictionary key at byte {at} is not a string")]
    KeyNotString {
        /// Where.
        at: usize,
    },
    /// A dictionary that ends after a key.
    #[error("the dictionary that ends at byte {at} has a key without a value")]
    MissingValue {
        /// Where.
        at: usize,
    },
    /// Lists and dictionaries nest deeper than [`BENCODE_DEPTH_MAX`].
    #[error("lists and dictionaries nest deeper than {BENCODE_DEPTH_MAX} at byte {at}")]
    TooDeep {
        /// Where.
        at: usize,
    },
    /// More values than [`BENCODE_VALUES_MAX`].
    #[error("there are more than {BENCODE_VALUES_MAX} values")]
    TooManyValues,
    /// Data follows after the value.
    #[error("there is other data after the end of the value, from byte {at}")]
    TrailingBytes {
        /// Where.
        at: usize,
    },
}
