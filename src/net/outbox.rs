//! Blocks on their way from the payload to a socket.
//!
//! Nothing is read before the socket takes bytes. What the page cache has is then read by the connection's own task, into memory
//! that all connections on its thread share, each block behind its header, and handed to the socket in one call: per batch, two
//! system calls and one copy on either side of a buffer that never leaves the processor's cache. (Measured: `sendfile` with
//! headers before each block costs more, being two calls a block; writing from a mapping costs a tenth less, but then what is
//! sent need not be what was looked at.) Only what the socket leaves behind is kept. What is not in the page cache comes from a
//! disk thread, one batch ahead.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::time::{Duration, Instant};

use super::throttle::Throttle;
use crate::base::{BlockRange, PieceIndex};
use crate::proto::wire::Session;

/// What goes before the bytes of a block: length, message id, piece and offset (BEP 3).
const PIECE_HEADER_LEN: usize = 13;

/// Payload that is sent to one peer at once, if it asks for as much, in bytes: a block.
const BATCH_MIN: usize = 16 << 10;
/// Most payload that is sent to one peer at once, in bytes: larger ones save nothing more and do not stay in the processor's
/// cache.
const BATCH_MAX: usize = 128 << 10;
/// A batch is no more than this much time's worth, so that small messages need not wait long behind it.
const BATCH_TIME: Duration = Duration::from_millis(250);
/// Bytes after which others get their turn.
const TURN: usize = 512 << 10;
/// So many batches come from the disk, each read while the one before it is written, before the page cache is asked again.
const COLD_BATCHES: u32 = 8;
/// The torrent's task hears at least so often of what went out.
const TELL_TIME: Duration = Duration::from_millis(50);
/// Pieces of which it hears at once at most.
const TELL_PIECES: usize = 64;

thread_local! {
    /// Where batches are put together; at most [`BATCH_MAX`] and their headers.
    static DESK: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What became of a read that must not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The bytes are there.
    Read,
    /// It would have waited for the disk, or might have.
    WouldWait,
    /// They cannot be read.
    Failed,
}

/// Where the bytes of uploads come from.
pub trait BlockSource: Clone + Send + Sync + 'static {
    /// Fills `blocks` with the bytes of `ranges`, of which it has one each and as long, if that can be done without waiting for a
    /// disk. Unless it says that it did, their content is of no meaning.
    fn read_now(&self, ranges: &[BlockRange], blocks: &mut [IoSliceMut<'_>]) -> Attempt;

    /// The bytes of `ranges`, one after the other; `None` if they cannot be read.
    fn read(&self, ranges: Vec<BlockRange>) -> impl Future<Output = Option<Vec<u8>>> + Send;
}

type Reading = Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send>>;

/// The uploads of one connection.
#[derive(Default)]
pub(super) struct Outbox {
    /// Payload on its way to the socket.
    writing: Option<Writing>,
    /// What goes next.
    next: Option<Batch>,
    /// Batches that will be read ahead from the disk.
    cold: u32,
    sent: Sent,
}

/// Blocks that are to be sent together.
struct Batch {
    ranges: Vec<BlockRange>,
    /// The rate limit lets it go.
    not_before: Instant,
    bytes: Bytes,
}

enum Bytes {
    /// To be read when they can be written.
    Unread,
    /// On their way from the disk.
    Coming(Reading),
    Here(Vec<u8>),
}

/// A batch, of which `bytes[at..]` is left to write.
struct Writing {
    ranges: Vec<BlockRange>,
    bytes: Vec<u8>,
    at: usize,
}

/// What went out and was not told yet.
#[derive(Default)]
struct Sent {
    pieces: Vec<(PieceIndex, u32)>,
    since: Option<Instant>,
}

/// How a turn of reading or writing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is nothing to move, or the socket has or takes no more.
    Over,
    /// It would go on, but others wait too.
    Used,
}

impl Outbox {
    /// Takes the requests that are served next, if it is time for that.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        session: &mut Session,
        source: &impl BlockSource,
        up: &Throttle,
    ) {
        // While a batch from the page cache is written, its successors may still be cancelled.
        if self.next.is_some() || (self.writing.is_some() && self.cold == 0) {
            return;
        }
        if !session.has_uploads() {
            return;
        }
        let rate = session.tally(now).up_rate as f64;
        let worth = (rate * BATCH_TIME.as_secs_f64()) as usize;
        let most = up.quantum().clamp(BATCH_MIN, BATCH_MAX);
        let ranges = session.next_uploads(worth.clamp(BATCH_MIN, most));
        if ranges.is_empty() {
            return;
        }
        let delay = up.take(now, ranges.iter().map(|range| u64::from(range.len())).sum());
        let mut batch = Batch {
            ranges,
            not_before: now + delay,
            bytes: Bytes::Unread,
        };
        if let Some(left) = self.cold.checked_sub(1) {
            self.cold = left;
            batch.fetch(source);
        }
        self.next = Some(batch);
    }

    /// Whether there is payload to write.
    pub(super) fn has_output(&self, now: Instant) -> bool {
        let due = |next: &Batch| next.is_here() && next.not_before <= now;
        self.writing.is_some() || self.next.as_ref().is_some_and(due)
    }

    /// When there is something to do that only time brings.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let next = self.next.as_ref().filter(|next| next.is_here());
        let next = next.map(|next| next.not_before).filter(|&at| at > now);
        let tell = self.sent.since.map(|since| since + TELL_TIME);
        [next, tell].into_iter().flatten().min()
    }

    /// What went out since the last time that it was told, by piece, if it is time to tell it.
    pub(super) fn tell(&mut self, now: Instant) -> Option<Vec<(PieceIndex, u32)>> {
        let due = |since: Instant| now >= since + TELL_TIME;
        let due = self.sent.since.is_some_and(due) || self.sent.pieces.len() >= TELL_PIECES;
        due.then(|| self.tell_all()).flatten()
    }

    /// What went out since the last time that it was told, by piece.
    pub(super) fn tell_all(&mut self) -> Option<Vec<(PieceIndex, u32)>> {
        let sent = std::mem::take(&mut self.sent);
        (!sent.pieces.is_empty()).then_some(sent.pieces)
    }

    /// Waits until bytes come from the disk; for ever if none are on their way.
    pub(super) async fn come(&mut self, session: &mut Session) {
        let Some(batch) = &mut self.next else {
            return std::future::pending().await;
        };
        let Bytes::Coming(reading) = &mut batch.bytes else {
            return std::future::pending().await;
        };
        match reading.await {
            Some(data) => batch.bytes = Bytes::Here(data),
            None => {
                let ranges = self.next.take().map(|batch| batch.ranges);
                refuse(session, &ranges.unwrap_or_default());
            }
        }
    }

    /// Writes messages and blocks, as many as `write` takes; it gives what it took, as a socket does. A batch begins only between
    /// two messages, and the other way round.
    ///
    /// # Errors
    /// Those of `write`, but that it takes nothing now is none.
    pub(super) fn transmit(
        &mut self,
        now: Instant,
        session: &mut Session,
        source: &impl BlockSource,
        up: &Throttle,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<Turn> {
        let mut left = TURN;
        while left > 0 {
            let (given, taken) = if let Some(writing) = &mut self.writing {
                let rest = &writing.bytes[writing.at..];
                let (given, taken) = (rest.len(), taken(write(rest))?);
                writing.at += taken;
                if let Some(done) = self.writing.take_if(|writing| writing.is_done()) {
                    self.account(now, session, &done.ranges);
                }
                (given, taken)
            } else if !session.outgoing().is_empty() {
                let given = session.outgoing().len();
                let taken = taken(write(session.outgoing()))?;
                session.sent(taken);
                (given, taken)
            } else {
                self.choose(now, session, source, up);
                let due = |next: &mut Batch| next.is_here() && next.not_before <= now;
                let Some(batch) = self.next.take_if(due) else {
                    return Ok(Turn::Over);
                };
                self.begin(now, session, source, batch, &mut write)?
            };
            if taken < given {
                return Ok(Turn::Over);
            }
            left = left.saturating_sub(taken);
        }
        Ok(Turn::Used)
    }

    /// Begins to write a batch. Gives the bytes that there were and those that were taken.
    fn begin(
        &mut self,
        now: Instant,
        session: &mut Session,
        source: &impl BlockSource,
        mut batch: Batch,
        write: &mut impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<(usize, usize)> {
        // A piece that was found to be rotten since it was chosen.
        if !batch
            .ranges
            .iter()
            .all(|range| session.serves(range.piece()))
        {
            refuse(session, &batch.ranges);
            return Ok((0, 0));
        }
        if let Bytes::Here(data) = &batch.bytes {
            let (mut bytes, mut rest) = (Vec::new(), &data[..]);
            for block in &mut frame(&mut bytes, &batch.ranges) {
                let (data, later) = rest.split_at(block.len());
                block.copy_from_slice(data);
                rest = later;
            }
            let ranges = batch.ranges;
            self.writing = Some(Writing {
                ranges,
                bytes,
                at: 0,
            });
            return Ok((0, 0));
        }
        DESK.with_borrow_mut(|desk| {
            let attempt = source.read_now(&batch.ranges, &mut frame(desk, &batch.ranges));
            match attempt {
                Attempt::Read => {}
                Attempt::WouldWait => {
                    self.cold = COLD_BATCHES;
                    batch.fetch(source);
                    self.next = Some(batch);
                    return Ok((0, 0));
                }
                Attempt::Failed => {
                    refuse(session, &batch.ranges);
                    return Ok((0, 0));
                }
            }
            let given = framed_len(&batch.ranges);
            let taken = taken(write(&desk[..given]))?;
            let ranges = batch.ranges;
            if taken == given {
                self.account(now, session, &ranges);
            } else {
                let bytes = desk[taken..given].to_vec();
                self.writing = Some(Writing {
                    ranges,
                    bytes,
                    at: 0,
                });
            }
            Ok((given, taken))
        })
    }

    fn account(&mut self, now: Instant, session: &mut Session, ranges: &[BlockRange]) {
        for &range in ranges {
            session.uploaded(now, range);
            match self.sent.pieces.last_mut() {
                Some((piece, bytes)) if *piece == range.piece() => {
                    *bytes = bytes.saturating_add(range.len());
                }
                _ => self.sent.pieces.push((range.piece(), range.len())),
            }
        }
        self.sent.since.get_or_insert(now);
    }
}

impl Batch {
    fn fetch(&mut self, source: &impl BlockSource) {
        let (source, ranges) = (source.clone(), self.ranges.clone());
        let read = async move { source.read(ranges).await };
        self.bytes = Bytes::Coming(Box::pin(read));
    }

    fn is_here(&self) -> bool {
        !matches!(self.bytes, Bytes::Coming(_))
    }
}

impl Writing {
    fn is_done(&self) -> bool {
        self.at == self.bytes.len()
    }
}

/// The bytes of `ranges` with their headers.
fn framed_len(ranges: &[BlockRange]) -> usize {
    let len = |range: &BlockRange| PIECE_HEADER_LEN + range.len() as usize;
    ranges.iter().map(len).sum()
}

/// Writes the headers of `ranges` to the beginning of `bytes`, which becomes longer if it must; gives the places of the blocks.
fn frame<'a>(bytes: &'a mut Vec<u8>, ranges: &[BlockRange]) -> Vec<IoSliceMut<'a>> {
    let len = framed_len(ranges);
    if bytes.len() < len {
        bytes.resize(len, 0);
    }
    let mut rest = &mut bytes[..];
    let places = ranges.iter().map(|&range| {
        let (header, later) = std::mem::take(&mut rest).split_at_mut(PIECE_HEADER_LEN);
        header.copy_from_slice(&Session::piece_header(range));
        let (block, later) = later.split_at_mut(range.len() as usize);
        rest = later;
        IoSliceMut::new(block)
    });
    places.collect()
}

/// Rejects what cannot be read.
fn refuse(session: &mut Session, ranges: &[BlockRange]) {
    for &range in ranges {
        session.read_failed(range);
    }
}

/// What a socket took: nothing, if it says that it would have to wait.
fn taken(written: io::Result<usize>) -> io::Result<usize> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        written => written,
    }
}

#[cfg(test)]
mod tests;
