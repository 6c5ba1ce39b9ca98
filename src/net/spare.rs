//! Memory of runs that are stored, for the runs that come next.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::limits::SPARE_BYTES;

/// Empty buffers that all connections share: at most [`SPARE_BYTES`] of them, the oldest leave first.
#[derive(Debug, Default)]
pub struct Spare {
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    buffers: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Spare {
    /// A buffer may have this many times the capacity that is asked for.
    const LOOSE: usize = 4;

    /// Smaller buffers are cheap to make anew, and would be many.
    const SMALLEST: usize = 4 << 10;

    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a buffer whose bytes are where they belong.
    pub fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        if buffer.capacity() < Self::SMALLEST {
            return;
        }
        self.with(|shelf| {
            shelf.bytes += buffer.capacity();
            shelf.buffers.push_back(buffer);
            while shelf.bytes > SPARE_BYTES {
                shelf.remove(0);
            }
        });
    }

    /// An empty buffer with room for `len` bytes, and not for many more, if there is one.
    pub fn take(&self, len: usize) -> Option<Vec<u8>> {
        self.with(|shelf| {
            let fits = len..=len.saturating_mul(Self::LOOSE);
            let fitting = |buffer: &Vec<u8>| fits.contains(&buffer.capacity());
            let at = shelf.buffers.iter().rposition(fitting)?;
            shelf.remove(at)
        })
    }

    /// Wraps bytes so that their buffer comes back by itself when they are dropped, wherever that is.
    pub fn lend(self: &Arc<Self>, data: Vec<u8>) -> Lent {
        let home = Arc::clone(self);
        Lent { data, home }
    }

    /// Frees all buffers: nothing more is expected to come.
    pub fn clear(&self) {
        self.with(|shelf| *shelf = Shelf::default());
    }

    fn with<T>(&self, work: impl FnOnce(&mut Shelf) -> T) -> T {
        work(&mut self.shelf.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shelf {
    fn remove(&mut self, at: usize) -> Option<Vec<u8>> {
        let buffer = self.buffers.remove(at)?;
        self.bytes -= buffer.capacity();
        Some(buffer)
    }
}

/// Bytes in a buffer that goes back to its [`Spare`] when they are dropped.
#[derive(Debug)]
pub struct Lent {
    data: Vec<u8>,
    home: Arc<Spare>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.give(std::mem::take(&mut self.data));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(spare: &Spare) -> usize {
        spare.with(|shelf| {
            let sum: usize = shelf.buffers.iter().map(Vec::capacity).sum();
            assert_eq!(sum, shelf.bytes);
            sum
        })
    }

    #[test]
    fn a_buffer_comes_back_empty_and_is_found_by_its_size() {
        let spare = Arc::new(Spare::new());
        let lent = spare.lend(vec![7; 100_000]);
        assert_eq!(lent.as_ref(), [7; 100_000]);
        drop(lent);
        assert_eq!(spare.take(100_001), None);
        assert_eq!(spare.take(1_000), None, "too much for so little");
        let buffer = spare.take(50_000).unwrap();
        assert!(buffer.is_empty() && buffer.capacity() >= 100_000);
        assert_eq!(spare.take(50_000), None);
        assert_eq!(kept(&spare), 0);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_leaves_first() {
        let spare = Spare::new();
        spare.give(Vec::with_capacity(SPARE_BYTES + 1));
        assert_eq!(kept(&spare), 0);
        spare.give(Vec::with_capacity(Spare::SMALLEST - 1));
        assert_eq!(kept(&spare), 0);
        spare.give(Vec::with_capacity(10_000));
        for _ in 0..40 {
            spare.give(Vec::with_capacity(1 << 20));
            assert!(kept(&spare) <= SPARE_BYTES);
        }
        assert_eq!(spare.take(10_000), None);
        assert!(spare.take(1 << 20).is_some());
        spare.clear();
        assert_eq!(kept(&spare), 0);
    }
}
