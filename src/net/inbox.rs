//! Bytes from a socket that are not yet understood.
//!
//! A connection reads and understands in one go, so the room for a large read is needed by one connection of a thread at a time:
//! they share it, and it stays in the thread's cache however many they are. A connection keeps no more than the start of one
//! message, and an idle one nothing.

use std::cell::RefCell;
use std::io;

use crate::base::limits::READ_ROOM;

/// A message that is longer is collected in memory of its own: the shared room may not hold it, and copying what has come of it from
/// and to there costs the more the more has come.
const LONG: usize = READ_ROOM / 4;

thread_local! {
    /// Where this thread's connections read into.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The start of a message that has not come in full.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    /// The first `len` bytes; behind them, room for more of a long message.
    begun: Vec<u8>,
    len: usize,
}

impl Inbox {
    /// Reads once, at most `most` bytes, and has all that is there and not understood taken in by `understand`, which tells how many
    /// bytes of it were whole messages. `wanted` is the length of the message that has begun, if that is known, or else 0; it has been
    /// found to be within bounds. Returns what `read` returns: 0 at the end of the stream, and `None` if it would have to wait.
    ///
    /// # Errors
    /// Those of `read` and `understand`.
    pub(super) fn receive<E: From<io::Error>>(
        &mut self,
        wanted: usize,
        most: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
        understand: impl FnOnce(&[u8]) -> Result<usize, E>,
    ) -> Result<Option<usize>, E> {
        let read = |room: &mut [u8]| {
            let most = most.min(room.len());
            match read(&mut room[..most]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                other => other.map(Some),
            }
        };
        if wanted > LONG {
            self.collect(wanted, read, understand)
        } else {
            ROOM.with_borrow_mut(|room| self.pass(room, read, understand))
        }
    }

    /// Reads as much as there is into `room` and keeps what is not understood.
    fn pass<E: From<io::Error>>(
        &mut self,
        room: &mut Vec<u8>,
        read: impl FnOnce(&mut [u8]) -> io::Result<Option<usize>>,
        understand: impl FnOnce(&[u8]) -> Result<usize, E>,
    ) -> Result<Option<usize>, E> {
        // Only the first connection of a thread finds it shorter.
        room.resize(READ_ROOM, 0);
        room[..self.len].copy_from_slice(&self.begun[..self.len]);
        let got = read(&mut room[self.len..])?;
        if let Some(more @ 1..) = got {
            let came = &room[..self.len + more];
            let used = understand(came)?;
            self.keep(&came[used..]);
        }
        Ok(got)
    }

    /// Reads no further than the end of the message that has begun.
    fn collect<E: From<io::Error>>(
        &mut self,
        wanted: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<Option<usize>>,
        understand: impl FnOnce(&[u8]) -> Result<usize, E>,
    ) -> Result<Option<usize>, E> {
        self.begun.resize(wanted, 0);
        let got = read(&mut self.begun[self.len..])?;
        if let Some(more @ 1..) = got {
            self.len += more;
            let used = understand(&self.begun[..self.len])?;
            if used > 0 {
                let begun = std::mem::take(&mut self.begun);
                self.keep(&begun[used..self.len]);
            }
        }
        Ok(got)
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.len = bytes.len();
        if bytes.is_empty() {
            self.begun = Vec::new();
        } else {
            self.begun.clear();
            self.begun.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Understands messages that are a length, as four bytes, and as many bytes.
    fn messages(bytes: &[u8], all: &mut Vec<Vec<u8>>) -> (usize, usize) {
        let mut used = 0;
        loop {
            let Some((prefix, rest)) = bytes[used..].split_first_chunk() else {
                return (used, 0);
            };
            let len = u32::from_be_bytes(*prefix) as usize;
            let Some(message) = rest.get(..len) else {
                return (used, 4 + len);
            };
            all.push(message.to_vec());
            used += 4 + len;
        }
    }

    /// Passes `sent` through inboxes that share a room, in reads of so many bytes by turns, and tells what each understood.
    fn pass(sent: &[Vec<u8>], reads: &[usize]) -> Vec<Vec<Vec<u8>>> {
        let stream: Vec<u8> = sent
            .iter()
            .flat_map(|message| {
                let mut bytes = (message.len() as u32).to_be_bytes().to_vec();
                bytes.extend_from_slice(message);
                bytes
            })
            .collect();
        let mut ends = [(); 2].map(|()| (Inbox::default(), &stream[..], 0, Vec::new()));
        for &most in reads.iter().cycle() {
            for (inbox, left, wanted, all) in &mut ends {
                let (before, was) = (left.len(), *wanted);
                let read = |room: &mut [u8]| io::Read::read(left, room);
                let understand = |bytes: &[u8]| {
                    let (used, next) = messages(bytes, all);
                    *wanted = next;
                    Ok::<_, io::Error>(used)
                };
                let got = inbox.receive(was, most, read, understand).unwrap();
                assert_eq!(got, Some(before - left.len()));
                assert!(inbox.begun.capacity() <= (2 * READ_ROOM).max(2 * *wanted));
            }
            if ends.iter().all(|end| end.1.is_empty()) {
                break;
            }
        }
        assert!(ends.iter().all(|end| end.0.begun.capacity() == 0), "idle");
        ends.map(|end| end.3).into()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn connections_that_share_a_room_understand_all_that_came_to_each(
            lens in prop::collection::vec(
                prop_oneof![8 => 0..20_000usize, 1 => LONG - 10..LONG + 10, 1 => READ_ROOM - 9..2 * READ_ROOM], 1..20,
            ),
            reads in prop::collection::vec(prop_oneof![1..10usize, 1_000..100_000usize, Just(usize::MAX)], 1..10),
            seed: u8,
        ) {
            let reads: Vec<_> = reads.into_iter().chain([50_000]).collect();
            let fill = |(at, &len): (usize, &usize)| vec![seed.wrapping_add(at as u8); len];
            let sent: Vec<_> = lens.iter().enumerate().map(fill).collect();
            for understood in pass(&sent, &reads) {
                prop_assert_eq!(&understood, &sent);
            }
        }
    }

    #[test]
    fn what_has_begun_survives_a_read_that_brings_nothing() {
        let mut inbox = Inbox::default();
        let mut give = |wanted, bytes: Option<&[u8]>, expect: &[u8], used| {
            let read = |room: &mut [u8]| match bytes {
                Some(bytes) => {
                    room[..bytes.len()].copy_from_slice(bytes);
                    Ok(bytes.len())
                }
                None => {
                    room.fill(9);
                    Err(io::ErrorKind::WouldBlock.into())
                }
            };
            let understand = |bytes: &[u8]| {
                assert_eq!(bytes, expect);
                Ok::<_, io::Error>(used)
            };
            inbox.receive(wanted, usize::MAX, read, understand).unwrap()
        };
        assert_eq!(give(0, Some(b"hello"), b"hello", 2), Some(5));
        for wanted in [0, 4, LONG + 1] {
            assert_eq!(give(wanted, None, b"", 0), None);
        }
        assert_eq!(give(4, Some(b"p!"), b"llop!", 5), Some(2));
        assert_eq!(give(0, Some(b""), b"", 0), Some(0));
    }
}
