//! Blocks on their way to a socket.

use std::io::IoSlice;
use std::time::Instant;

use crate::base::BlockRange;
use crate::proto::wire::Session;

/// What goes before the bytes of a block: length, message id, piece and offset (BEP 3).
const PIECE_HEADER_LEN: usize = 13;

/// Blocks on their way out: for each a header and its share of `data`, written with as few calls as the socket allows.
pub(super) struct Batch {
    pub(super) ranges: Vec<BlockRange>,
    headers: Vec<[u8; PIECE_HEADER_LEN]>,
    data: Vec<u8>,
    /// Bytes written so far, headers included.
    pub(super) at: usize,
    /// The rate limit lets it go.
    pub(super) not_before: Instant,
}

impl Batch {
    pub(super) fn new(ranges: Vec<BlockRange>, data: Vec<u8>, not_before: Instant) -> Self {
        let headers = ranges
            .iter()
            .map(|&range| Session::piece_header(range))
            .collect();
        Self {
            ranges,
            headers,
            data,
            at: 0,
            not_before,
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.at > 0
    }

    pub(super) fn is_done(&self) -> bool {
        self.at == self.headers.len() * PIECE_HEADER_LEN + self.data.len()
    }

    /// What is left to write.
    pub(super) fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut skip = self.at;
        let mut data = &self.data[..];
        let mut slices = Vec::with_capacity(2 * self.ranges.len());
        for (range, header) in self.ranges.iter().zip(&self.headers) {
            let (block, rest) = data.split_at(range.len() as usize);
            data = rest;
            for part in [&header[..], block] {
                let skipped = skip.min(part.len());
                skip -= skipped;
                if skipped < part.len() {
                    slices.push(IoSlice::new(&part[skipped..]));
                }
            }
        }
        slices
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Geometry;

    #[test]
    fn a_batch_written_in_bits_is_the_same_as_in_one() {
        let geometry = Geometry::new(100_000, 65_536).unwrap();
        let ranges = vec![
            geometry.range(0, 0, 16_384).unwrap(),
            geometry.range(1, 16_384, 100).unwrap(),
        ];
        let data: Vec<u8> = (0..16_484u32).map(|n| (n % 251) as u8).collect();
        let whole: Vec<u8> = Batch::new(ranges.clone(), data.clone(), Instant::now())
            .slices()
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect();
        assert_eq!(whole.len(), 2 * PIECE_HEADER_LEN + data.len());
        for step in [1, 7, 13, 16_397, 20_000] {
            let mut batch = Batch::new(ranges.clone(), data.clone(), Instant::now());
            let mut written = Vec::new();
            while !batch.is_done() {
                let next: Vec<u8> = batch
                    .slices()
                    .iter()
                    .flat_map(|s| s.to_vec())
                    .take(step)
                    .collect();
                batch.at += next.len();
                written.extend(next);
            }
            assert!(written == whole, "step {step}");
        }
    }
}
