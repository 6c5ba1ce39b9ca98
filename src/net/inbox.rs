//! Bytes from a socket that are not yet understood.

/// The read buffer of a fresh connection, in bytes; it doubles while reads fill it.
const SMALL: usize = 16 << 10;
/// The read buffer of a fast connection, in bytes: larger ones fall out of the second-level cache.
const LARGE: usize = 256 << 10;

/// Bytes that came and are not yet understood: `buf[start..end]`.
pub(super) struct Inbox {
    buf: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            buf: vec![0; SMALL],
            start: 0,
            end: 0,
        }
    }

    /// Room to read into, enough for a message of `wanted` bytes, which the session has found to be within bounds.
    pub(super) fn space(&mut self, wanted: usize) -> &mut [u8] {
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let full = self.end == self.buf.len();
        if wanted > self.buf.len() || full {
            let size = wanted.max(self.buf.len() * 2);
            self.buf.resize(size, 0);
        }
        &mut self.buf[self.end..]
    }

    pub(super) fn filled(&mut self, bytes: usize) {
        let room = self.buf.len() - self.end;
        self.end += bytes;
        if bytes == room && self.buf.len() < LARGE {
            self.buf.resize(self.buf.len() * 2, 0);
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inbox_keeps_what_is_not_consumed() {
        let mut inbox = Inbox::new();
        inbox.space(0)[..5].copy_from_slice(b"hello");
        inbox.filled(5);
        inbox.consume(2);
        let space = inbox.space(100_000);
        assert!(space.len() >= 100_000 - 5);
        space[..2].copy_from_slice(b"p!");
        inbox.filled(2);
        assert_eq!(inbox.bytes(), b"llop!");
    }
}
