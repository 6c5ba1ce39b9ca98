//! How values are laid out in bytes: sealed with a tag and a checksum, read with bounds.
//!
//! A sealed value is `tag (1) · body · checksum (8)`. The tag is the first byte of the key, the checksum the first eight
//! bytes of BLAKE3 over key, tag and body, so that a value that was torn, flipped or put under another key is not read.
//! Numbers are big-endian.

use crate::base::limits::STORE_VALUE_MAX;

/// Bytes that [`seal`] adds to a body.
pub(super) const SEAL_LEN: usize = 1 + CHECKSUM_LEN;
const CHECKSUM_LEN: usize = 8;

/// The value to store under `key`.
pub(super) fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(body.len() + SEAL_LEN);
    value.push(tag_of(key));
    value.extend_from_slice(body);
    let checksum = checksum(key, &value);
    value.extend_from_slice(&checksum);
    debug_assert!(
        value.len() <= STORE_VALUE_MAX,
        "{} bytes under {}",
        value.len(),
        key.escape_ascii()
    );
    value
}

/// The body of a value found under `key`; `None` if it is not what was stored there.
pub(super) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    if value.len() > STORE_VALUE_MAX {
        return None;
    }
    let (tagged, found) = value.split_last_chunk::<CHECKSUM_LEN>()?;
    let (&tag, body) = tagged.split_first()?;
    (tag == tag_of(key) && *found == checksum(key, tagged)).then_some(body)
}

fn tag_of(key: &[u8]) -> u8 {
    key.first().copied().unwrap_or_default()
}

fn checksum(key: &[u8], tagged: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key);
    hasher.update(tagged);
    let mut checksum = [0; CHECKSUM_LEN];
    checksum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_LEN]);
    checksum
}

/// Reads numbers off the front of a body.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(head)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|bytes| bytes[0])
    }

    /// A byte that may be 0 or 1 only.
    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().copied().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().copied().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().copied().map(u64::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().copied().map(i64::from_be_bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `value`, if nothing is left over.
    pub(super) fn end<T>(self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sealed_value_is_read_back_and_any_change_is_seen(
            key in prop::collection::vec(any::<u8>(), 1..40),
            body in prop::collection::vec(any::<u8>(), 0..=STORE_VALUE_MAX - SEAL_LEN),
            at: prop::sample::Index,
            bit in 0u8..8,
        ) {
            let mut value = seal(&key, &body);
            prop_assert!(value.len() <= STORE_VALUE_MAX);
            prop_assert_eq!(unseal(&key, &value), Some(&body[..]));
            prop_assert_eq!(unseal(&key, &value[..at.index(value.len())]), None);
            let at = at.index(value.len());
            value[at] ^= 1 << bit;
            prop_assert_eq!(unseal(&key, &value), None);
        }
    }

    #[test]
    fn a_value_under_another_key_is_not_read() {
        assert_eq!(unseal(b"h/b", &seal(b"h/a", b"body")), None);
    }
}
