//! Bytes that wait to be written: appended at one end, consumed at the other.

use super::message::Message;

/// A buffer of encoded messages.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    /// Consumed bytes are only moved out of the way when there are this many.
    const COMPACT_AT: usize = 64 << 10;

    /// Appends a message.
    pub(super) fn push(&mut self, message: &Message<'_>) {
        message.encode(&mut self.bytes);
    }

    /// What is to be written next.
    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Forgets the first `n` pending bytes, or all if there are fewer.
    pub(super) fn consume(&mut self, n: usize) {
        self.sent = self.bytes.len().min(self.sent.saturating_add(n));
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        } else if self.sent >= Self::COMPACT_AT {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_consumed_in_parts_comes_out_in_order() {
        let (mut out, mut all, mut seen) = (Outgoing::default(), Vec::new(), Vec::new());
        for piece in 0..20_000 {
            let message = Message::Have(piece);
            message.encode(&mut all);
            out.push(&message);
            let part = out.pending().len().min(7);
            seen.extend_from_slice(&out.pending()[..part]);
            out.consume(part);
        }
        seen.extend_from_slice(out.pending());
        out.consume(usize::MAX / 2);
        assert!(out.pending().is_empty());
        assert_eq!(seen, all);
    }
}
