//! One task per connection: it moves bytes between a socket and a [`Session`], and words between the session and the
//! torrent's task. It decides nothing.
//!
//! What a peer sends is paid for from a shared byte budget before it is handed on, so a disk that falls behind makes every
//! connection stop reading, and TCP slows the senders down.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::batch::Batch;
use super::inbox::Inbox;
use super::reporter::Reporter;
use super::spare::Spare;
use super::throttle::Throttle;
use crate::base::{BlockRange, PieceIndex};
use crate::proto::wire::{Event, Session, Tally, WireError};
use crate::swarm::PeerKey;

/// Payload that is read from disk for one peer at once, if it asks for as much, in bytes: a block.
const BATCH_MIN: usize = 16 << 10;
/// Most payload that is read from disk for one peer at once, in bytes.
const BATCH_MAX: usize = 256 << 10;
/// A batch is no more than this much time's worth, so that small messages need not wait long behind it.
const BATCH_TIME: Duration = Duration::from_millis(250);

/// Waiting this long for the torrent's task or for the byte budget counts as having been deaf to the peer.
const AWAY: Duration = Duration::from_secs(1);

/// An order from the torrent's task.
#[derive(Debug)]
pub enum Command {
    /// Fetch these blocks.
    Grant(BlockRange),
    /// Do not fetch these blocks after all.
    Revoke(BlockRange),
    /// Refuse the peer's requests, or take them.
    Choke(bool),
    /// Tell the peer whether it has what we want.
    Interest(bool),
    /// These pieces are verified.
    Have(Arc<[PieceIndex]>),
    /// We want nothing any more.
    UploadOnly,
    /// Hang up.
    Close(String),
}

/// What a connection tells the torrent's task.
#[derive(Debug)]
pub enum Report {
    /// The session says so. A run of blocks comes with its share of the byte budget, to be held until it is stored.
    Event(Event, Option<OwnedSemaphorePermit>),
    /// Payload bytes of this piece went out.
    Uploaded(PieceIndex, u32),
    /// Rates and totals, now and then.
    Tally(Tally),
    /// The connection is ending: what it holds follows, and nothing more should be asked of it.
    Closing,
    /// The connection is over; nothing follows.
    Gone {
        /// Why, for people.
        reason: String,
        /// Whether the peer broke the protocol.
        violation: bool,
        /// Its final counts.
        tally: Tally,
    },
}

/// Where the bytes of uploads come from.
pub trait BlockSource: Clone + Send + Sync + 'static {
    /// The bytes of `ranges`, one after the other; `None` if they cannot be read.
    fn read(&self, ranges: Vec<BlockRange>) -> impl Future<Output = Option<Vec<u8>>> + Send;
}

/// What a connection is tied to.
#[derive(Debug)]
pub struct Ties<S> {
    /// How the torrent's task calls this peer.
    pub key: PeerKey,
    /// Orders come from here; when it closes, the connection ends.
    pub commands: mpsc::Receiver<Command>,
    /// Reports go there.
    pub reports: mpsc::Sender<(PeerKey, Report)>,
    /// Payload to send.
    pub source: S,
    /// Bytes received and not yet stored, over all torrents.
    pub budget: Arc<Semaphore>,
    /// The limit on what goes out.
    pub up: Arc<Throttle>,
    /// The limit on what comes in.
    pub down: Arc<Throttle>,
    /// Buffers of runs that are stored.
    pub spare: Arc<Spare>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Gone {
    #[error("the peer hung up")]
    HungUp,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Violation(#[from] WireError),
    #[error("{0}")]
    Ordered(String),
    #[error("the torrent stopped")]
    Orphaned,
}

/// Runs a connection that has passed the handshake until it ends, then surrenders what it holds and reports that it is gone.
/// That it is gone is reported even if this panics or is dropped.
pub async fn run<S: BlockSource>(stream: TcpStream, session: Session, ties: Ties<S>) {
    let (reader, writer) = stream.into_split();
    let now = Instant::now();
    let connection = Connection {
        session,
        reporter: Reporter::new(ties.key, ties.reports.clone()),
        ties,
        reader,
        writer,
        inbox: Inbox::new(),
        read_at: now,
        reading: None,
        ahead: None,
        batch: None,
        tally_at: now,
    };
    connection.run().await;
}

type Reading = Pin<Box<dyn Future<Output = (Vec<BlockRange>, Option<Vec<u8>>)> + Send>>;

struct Connection<S> {
    session: Session,
    ties: Ties<S>,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    inbox: Inbox,
    /// The rate limit lets us read again.
    read_at: Instant,
    /// Payload on its way from the disk.
    reading: Option<Reading>,
    /// Payload read while the batch before it is written.
    ahead: Option<(Vec<BlockRange>, Vec<u8>)>,
    /// Payload on its way to the socket.
    batch: Option<Batch>,
    tally_at: Instant,
    reporter: Reporter,
}

impl<S: BlockSource> Connection<S> {
    async fn run(mut self) {
        let Err(gone) = self.serve().await;
        self.session.close();
        // If the torrent's task is gone as well, nobody is left to tell.
        let _ = self.reporter.send(Report::Closing).await;
        let _ = self.deliver().await;
        let tally = self.session.tally(Instant::now());
        self.reporter.tell_gone(&gone, tally).await;
    }

    async fn serve(&mut self) -> Result<Infallible, Gone> {
        loop {
            let before = Instant::now();
            self.deliver().await?;
            self.fetch_upload();
            let now = Instant::now();
            let away = now.saturating_duration_since(before);
            if away > AWAY {
                self.session.was_deaf(away);
            }
            let deadline = self.next_deadline(now);
            let may_read = now >= self.read_at;
            let may_write = self.has_output(now);
            tokio::select! {
                command = self.ties.commands.recv() => self.obey_all(command)?,
                ready = self.reader.readable(), if may_read => {
                    ready?;
                    self.receive()?;
                }
                ready = self.writer.writable(), if may_write => {
                    ready?;
                    self.transmit()?;
                }
                (ranges, data) = pending(&mut self.reading) => {
                    self.reading = None;
                    self.on_read(ranges, data);
                }
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.session.handle_timeout(Instant::now())?;
                }
            }
        }
    }

    /// Hands on what the session has to say.
    async fn deliver(&mut self) -> Result<(), Gone> {
        let mut uploaded: Option<(PieceIndex, u32)> = None;
        while let Some(event) = self.session.poll() {
            match event {
                Event::Uploaded(range) => match &mut uploaded {
                    Some((piece, bytes)) if *piece == range.piece() => *bytes += range.len(),
                    _ => {
                        if let Some((piece, bytes)) = uploaded.replace((range.piece(), range.len()))
                        {
                            self.reporter.send(Report::Uploaded(piece, bytes)).await?;
                        }
                    }
                },
                Event::Run { ref data, .. } => {
                    let share = u32::try_from(data.len()).expect("a run is at most RUN_LEN_MAX");
                    let budget = Arc::clone(&self.ties.budget);
                    let share = budget.acquire_many_owned(share).await;
                    let share = share.map_err(|_| Gone::Orphaned)?;
                    self.reporter
                        .send(Report::Event(event, Some(share)))
                        .await?;
                }
                event => self.reporter.send(Report::Event(event, None)).await?,
            }
        }
        if let Some((piece, bytes)) = uploaded {
            self.reporter.send(Report::Uploaded(piece, bytes)).await?;
        }
        let now = Instant::now();
        if now >= self.tally_at {
            self.tally_at = now + Duration::from_secs(1);
            let tally = self.session.tally(now);
            self.reporter.tell_tally(tally).await?;
        }
        Ok(())
    }

    fn next_deadline(&self, now: Instant) -> Instant {
        let session = self.session.next_deadline();
        let read = (self.read_at > now).then_some(self.read_at);
        let write = self.batch.as_ref().map(|batch| batch.not_before);
        let tally = self.tally_changes(now).then_some(self.tally_at);
        let idle = now + Duration::from_secs(60);
        [session, read, write.filter(|&at| at > now), tally]
            .into_iter()
            .flatten()
            .fold(idle, Instant::min)
    }

    /// Whether what was told of rates and totals is not true any more, or will not be for long.
    fn tally_changes(&self, now: Instant) -> bool {
        let told = self.reporter.told();
        told.down_rate > 0 || told.up_rate > 0 || {
            let tally = self.session.tally(now);
            tally.downloaded != told.downloaded || tally.uploaded != told.uploaded
        }
    }

    fn obey_all(&mut self, first: Option<Command>) -> Result<(), Gone> {
        self.obey(first.ok_or(Gone::Orphaned)?)?;
        while let Ok(command) = self.ties.commands.try_recv() {
            self.obey(command)?;
        }
        Ok(())
    }

    fn obey(&mut self, command: Command) -> Result<(), Gone> {
        let now = Instant::now();
        match command {
            Command::Grant(range) => self.session.grant(now, range),
            Command::Revoke(range) => self.session.revoke(now, range),
            Command::Choke(on) => self.session.set_choke(now, on),
            Command::Interest(on) => self.session.set_interest(now, on),
            Command::Have(pieces) => self.session.announce_have(&pieces),
            Command::UploadOnly => self.session.set_upload_only(true),
            Command::Close(reason) => return Err(Gone::Ordered(reason)),
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Gone> {
        let space = self.inbox.space(self.session.wanted());
        let turn = space.len().min(self.ties.down.quantum());
        let got = match self.reader.try_read(&mut space[..turn]) {
            Ok(0) => return Err(Gone::HungUp),
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let now = Instant::now();
        self.inbox.filled(got);
        self.find_buffer();
        let used = self.session.receive(now, self.inbox.bytes())?;
        self.inbox.consume(used);
        let wait = self.ties.down.take(now, got as u64);
        self.read_at = now + wait;
        if !wait.is_zero() {
            self.session.was_deaf(wait);
        }
        Ok(())
    }

    /// Gives the session memory for the blocks that come next.
    fn find_buffer(&mut self) {
        if let Some(len) = self.session.buffer_wanted()
            && let Some(buffer) = self.ties.spare.take(len)
        {
            self.session.recycle(buffer);
        }
    }

    /// Starts to read what the peer has asked for, one batch ahead of the one that is being written.
    fn fetch_upload(&mut self) {
        if self.reading.is_some() || self.ahead.is_some() {
            return;
        }
        let rate = self.session.tally(Instant::now()).up_rate as f64;
        let worth = (rate * BATCH_TIME.as_secs_f64()) as usize;
        let most = self.ties.up.quantum().clamp(BATCH_MIN, BATCH_MAX);
        let ranges = self.session.next_uploads(worth.clamp(BATCH_MIN, most));
        if ranges.is_empty() {
            return;
        }
        let source = self.ties.source.clone();
        self.reading = Some(Box::pin(async move {
            let data = source.read(ranges.clone()).await;
            (ranges, data)
        }));
    }

    fn on_read(&mut self, ranges: Vec<BlockRange>, data: Option<Vec<u8>>) {
        match data {
            Some(data) => {
                self.ahead = Some((ranges, data));
                self.start_batch();
            }
            None => ranges
                .iter()
                .for_each(|&range| self.session.read_failed(range)),
        }
    }

    /// Makes what was read ahead the batch to write, if there is no other.
    fn start_batch(&mut self) {
        if self.batch.is_none()
            && let Some((ranges, data)) = self.ahead.take()
        {
            let now = Instant::now();
            let delay = self.ties.up.take(now, data.len() as u64);
            self.batch = Some(Batch::new(ranges, data, now + delay));
        }
    }

    fn has_output(&self, now: Instant) -> bool {
        !self.session.outgoing().is_empty()
            || self
                .batch
                .as_ref()
                .is_some_and(|batch| batch.not_before <= now)
    }

    /// Writes as much as the socket takes. A batch may only begin between two small messages, and the other way round.
    fn transmit(&mut self) -> Result<(), Gone> {
        let now = Instant::now();
        loop {
            let written = match &mut self.batch {
                Some(batch)
                    if batch.has_begun()
                        || (self.session.outgoing().is_empty() && batch.not_before <= now) =>
                {
                    self.writer
                        .try_write_vectored(&batch.slices())
                        .map(|n| batch.at += n)
                }
                _ if self.session.outgoing().is_empty() => return Ok(()),
                _ => {
                    let written = self.writer.try_write(self.session.outgoing());
                    written.map(|n| self.session.sent(n))
                }
            };
            match written {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if let Some(batch) = self.batch.take_if(|batch| batch.is_done()) {
                for &range in &batch.ranges {
                    self.session.uploaded(now, range);
                }
                // Let another batch be fetched before this one is written.
                self.start_batch();
                return Ok(());
            }
        }
    }
}

/// Waits for the future in `slot`; for ever if there is none.
async fn pending<T>(slot: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match slot {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
