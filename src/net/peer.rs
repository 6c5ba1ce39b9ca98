//! One task per connection: it moves bytes between a socket and a [`Session`], and words between the session and the
//! torrent's task. It decides nothing.
//!
//! What a peer sends is paid for from a shared byte budget before it is handed on, so a disk that falls behind makes every
//! connection stop reading, and TCP slows the senders down.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::inbox::Inbox;
pub use super::outbox::{Attempt, BlockSource};
use super::outbox::{Outbox, Turn};
use super::reporter::Reporter;
use super::spare::Spare;
use super::throttle::Throttle;
use crate::base::{BlockRange, PieceIndex};
use crate::proto::wire::{Event, Session, Tally, WireError};
use crate::swarm::PeerKey;

/// Waiting this long for the torrent's task or for the byte budget counts as having been deaf to the peer.
const AWAY: Duration = Duration::from_secs(1);

/// Whoever read this much at once lets the torrent's task go on before reading more, so that the peer is asked for more while it still
/// has something to send.
const LARGE: usize = 64 << 10;

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
    /// So many payload bytes of these pieces went out.
    Uploaded(Vec<(PieceIndex, u32)>),
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
        inbox: Inbox::default(),
        read_at: now,
        outbox: Outbox::default(),
        tally_at: now,
    };
    connection.run().await;
}

struct Connection<S> {
    session: Session,
    ties: Ties<S>,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    inbox: Inbox,
    /// The rate limit lets us read again.
    read_at: Instant,
    outbox: Outbox,
    tally_at: Instant,
    reporter: Reporter,
}

impl<S: BlockSource> Connection<S> {
    async fn run(mut self) {
        let Err(gone) = self.serve().await;
        self.session.close();
        // If the torrent's task is gone as well, nobody is left to tell.
        if let Some(sent) = self.outbox.tell_all() {
            let _ = self.reporter.send(Report::Uploaded(sent)).await;
        }
        let _ = self.reporter.send(Report::Closing).await;
        let _ = self.deliver().await;
        let tally = self.session.tally(Instant::now());
        self.reporter.tell_gone(&gone, tally).await;
    }

    async fn serve(&mut self) -> Result<Infallible, Gone> {
        loop {
            let before = Instant::now();
            self.deliver().await?;
            let now = Instant::now();
            self.choose_uploads(now);
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
                    if self.receive()? == Turn::Used {
                        tokio::task::yield_now().await;
                    }
                }
                ready = self.writer.writable(), if may_write => {
                    ready?;
                    if self.transmit()? == Turn::Used {
                        tokio::task::yield_now().await;
                    }
                }
                () = self.outbox.come(&mut self.session) => {}
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.session.handle_timeout(Instant::now())?;
                }
            }
        }
    }

    /// Hands on what the session has to say.
    async fn deliver(&mut self) -> Result<(), Gone> {
        while let Some(event) = self.session.poll() {
            match event {
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
        let now = Instant::now();
        if let Some(sent) = self.outbox.tell(now) {
            self.reporter.send(Report::Uploaded(sent)).await?;
        }
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
        let write = self.outbox.deadline(now);
        let tally = self.tally_changes(now).then_some(self.tally_at);
        let idle = now + Duration::from_secs(60);
        [session, read, write, tally]
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

    fn receive(&mut self) -> Result<Turn, Gone> {
        let Self { session, ties, .. } = self;
        let wanted = session.wanted();
        let read = |room: &mut [u8]| self.reader.try_read(room);
        let mut now = Instant::now();
        let understand = |bytes: &[u8]| {
            now = Instant::now();
            find_buffers(session, &ties.spare, bytes.len());
            Ok::<_, Gone>(session.receive(now, bytes)?)
        };
        let most = ties.down.quantum();
        let got = match self.inbox.receive(wanted, most, read, understand)? {
            Some(0) => return Err(Gone::HungUp),
            Some(got) => got,
            None => return Ok(Turn::Over),
        };
        let wait = self.ties.down.take(now, got as u64);
        self.read_at = now + wait;
        if !wait.is_zero() {
            self.session.was_deaf(wait);
        }
        Ok(if got >= LARGE { Turn::Used } else { Turn::Over })
    }

    fn choose_uploads(&mut self, now: Instant) {
        let Ties { source, up, .. } = &self.ties;
        self.outbox.choose(now, &mut self.session, source, up);
    }

    fn has_output(&self, now: Instant) -> bool {
        !self.session.outgoing().is_empty() || self.outbox.has_output(now)
    }

    fn transmit(&mut self) -> io::Result<Turn> {
        let (now, writer) = (Instant::now(), &self.writer);
        let Ties { source, up, .. } = &self.ties;
        let write = |bytes: &[u8]| writer.try_write(bytes);
        self.outbox
            .transmit(now, &mut self.session, source, up, write)
    }
}

/// Gives the session memory for blocks of `bytes` bytes, as far as some is to be had.
fn find_buffers(session: &mut Session, spare: &Spare, bytes: usize) {
    while let Some(len) = session.buffer_wanted(bytes)
        && let Some(buffer) = spare.take(len)
    {
        session.recycle(buffer);
    }
}
