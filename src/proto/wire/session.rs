//! One connection after BEP 3's handshake, as a state machine.
//!
//! The torrent's task gives orders (grants, chokes, haves); the connection's task feeds in bytes and writes out what is
//! due; what the torrent should know comes out of [`Session::poll`]. Per 16 KiB block there is parsing, a check
//! that it was asked for, and one copy; the torrent hears once per grant.
//!
//! Guarantees: every granted block comes back exactly once, in an [`Event::Run`] or [`Event::Returned`], at the latest after
//! [`Session::close`]. Nothing is served that `served` does not contain or that the peer may not have. What the peer
//! can make us hold is bounded: its requests, our answers to them (of metadata as well), and no buffer for blocks that were not granted.

mod receive;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::limits::{KEEP_ALIVE, PEER_SILENCE, REJECTS_PENDING_MAX, SNUB_TIME};
use crate::base::rate::Meter;
use crate::base::{Bitfield, BlockRange, Geometry, InfoHash, PieceIndex, SharedBitfield};
use crate::format::metainfo::Info;

use super::error::WireError;
use super::event::{Event, Tally};
use super::extension::{ExtendedHandshake, Extensions, HANDSHAKE_ID, METADATA_ID};
use super::framing::FrameLimits;
use super::message::{self, Message};
use super::offer::Offer;
use super::outgoing::Outgoing;
use super::pipeline::Pipeline;
use super::requests::Requests;
use super::uploads::Uploads;

/// Bytes of a reject.
const REJECT_BYTES: usize = 17;

/// What a connection is about and what was agreed on in the handshake.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The torrent's shape.
    pub geometry: Geometry,
    /// What we may upload, now and later.
    pub served: Arc<SharedBitfield>,
    /// Whether both sides speak the fast extension (BEP 6).
    pub fast: bool,
    /// Whether both sides speak the extension protocol (BEP 10).
    pub extended: bool,
    /// What we say of ourselves; [`Session::new`] fills in the extensions, `metadata_size`
    /// and, if it is missing, `yourip`.
    pub local: ExtendedHandshake,
    /// The metadata to serve (BEP 9), announced with its size; `None` for private torrents, of which nothing is served.
    pub metadata: Option<Arc<Info>>,
    /// The peer's address.
    pub remote_ip: IpAddr,
    /// The torrent.
    pub info_hash: InfoHash,
}

/// What the peer said of itself.
#[derive(Debug)]
struct Remote {
    choking: bool,
    interested: bool,
    pieces: Bitfield,
    /// Bitfield, have-all and have-none messages so far.
    bitfields: u32,
    /// Pieces that it lets us request while choking us.
    allowed_fast: Vec<PieceIndex>,
    suggested: usize,
    /// Whether it told the port of its DHT node.
    port_told: bool,
    handshake: ExtendedHandshake,
}

/// One connection. In the order of use:
///
/// - in: [`receive`](Self::receive), [`wanted`](Self::wanted), [`buffer_wanted`](Self::buffer_wanted),
///   [`recycle`](Self::recycle);
/// - orders: [`grant`](Self::grant), [`revoke`](Self::revoke), [`set_choke`](Self::set_choke),
///   [`set_interest`](Self::set_interest), [`announce_have`](Self::announce_have), [`retract`](Self::retract),
///   [`set_upload_only`](Self::set_upload_only), [`announce_dht_port`](Self::announce_dht_port), [`close`](Self::close);
/// - out: [`outgoing`](Self::outgoing) and [`sent`](Self::sent) for messages; [`next_uploads`](Self::next_uploads), then
///   [`piece_header`](Self::piece_header) and [`uploaded`](Self::uploaded) or [`read_failed`](Self::read_failed) for blocks;
/// - news: [`poll`](Self::poll), [`tally`](Self::tally);
/// - time: [`next_deadline`](Self::next_deadline), [`handle_timeout`](Self::handle_timeout), [`was_deaf`](Self::was_deaf).
///
/// An error is the peer's fault and final: [`close`](Self::close) the session, drain [`poll`](Self::poll), drop the connection.
#[derive(Debug)]
pub struct Session {
    geometry: Geometry,
    limits: FrameLimits,
    fast: bool,
    extended: bool,
    info_hash: InfoHash,
    remote_ip: IpAddr,
    local: ExtendedHandshake,
    remote: Remote,
    interested: bool,
    closed: bool,
    out: Outgoing,
    /// Rejects that wait in `out`, at most.
    rejects: u32,
    events: VecDeque<Event>,
    requests: Requests,
    pipeline: Pipeline,
    uploads: Uploads,
    /// The metadata, if it may be served.
    offer: Option<Offer>,
    /// Whether [`Event::Hungry`] was raised and not answered.
    hungry: bool,
    /// No hunger until then: the peer turns down what we ask.
    paused_until: Option<Instant>,
    snubbed: bool,
    last_received: Instant,
    last_sent: Instant,
    /// When a block came, or the first was asked for after none was.
    last_progress: Instant,
    unrequested: u32,
    down: Meter,
    up: Meter,
    wasted: u64,
    wanted: usize,
}

impl Session {
    /// New requests are made when one in this many could be.
    const ASK_AT: u32 = 8;

    /// A connection whose handshake has just passed: choked, not interested, both ways. Queues the extension handshake
    /// and what pieces we have.
    pub fn new(now: Instant, config: SessionConfig) -> Self {
        let SessionConfig {
            geometry,
            served,
            fast,
            extended,
            mut local,
            metadata,
            remote_ip,
            info_hash,
        } = config;
        let offer = metadata.map(Offer::new);
        local.extensions = Extensions {
            metadata: offer.is_some().then_some(METADATA_ID),
            ..Extensions::ours()
        };
        local.metadata_size = offer.as_ref().map(Offer::size);
        local.yourip.get_or_insert(remote_ip);
        let have = served.snapshot(&geometry);
        let mut session = Self {
            geometry,
            limits: FrameLimits::new(geometry.pieces()),
            fast,
            extended,
            info_hash,
            remote_ip,
            local,
            remote: Remote::new(&geometry),
            interested: false,
            closed: false,
            out: Outgoing::default(),
            rejects: 0,
            events: VecDeque::new(),
            requests: Requests::new(geometry),
            pipeline: Pipeline::new(now),
            uploads: Uploads::new(served),
            offer,
            hungry: false,
            paused_until: None,
            snubbed: false,
            last_received: now,
            last_sent: now,
            last_progress: now,
            unrequested: 0,
            down: Meter::new(now),
            up: Meter::new(now),
            wasted: 0,
            wanted: 0,
        };
        session.send_extended_handshake();
        session.send_pieces(&have);
        session
    }

    /// Bytes of the message that begins at the bytes which the last [`receive`](Self::receive) left, if they tell; else 0. Never
    /// more than a message may have, so that the connection's buffer can be grown to it.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Lets the session request `range`, whole blocks of one piece, after what was granted before. What cannot be
    /// requested now (the peer chokes us, the range is not of whole blocks or above
    /// [`RUN_LEN_MAX`](crate::base::limits::RUN_LEN_MAX), the session is closed) is returned at once. Blocks that are open in
    /// an earlier grant should not be granted again: they would be requested twice.
    pub fn grant(&mut self, now: Instant, range: BlockRange) {
        let possible = !self.remote.choking || self.remote.allowed_fast.contains(&range.piece());
        if self.closed || !possible || !self.requests.accepts(range) {
            self.events.push_back(Event::Returned(range));
            return;
        }
        self.requests.push(range);
        self.hungry = false;
        self.ask(now);
    }

    /// Takes back what has not come of `range`, which is returned; requests of it are cancelled.
    pub fn revoke(&mut self, now: Instant, range: BlockRange) {
        let out = &mut self.out;
        self.requests.revoke(range, &mut self.events, |block| {
            out.push(&Message::Cancel(block.into()));
        });
        self.ask(now);
    }

    /// Chokes or unchokes the peer; a change is told to it, and requests choked away are rejected if it can be told so.
    pub fn set_choke(&mut self, now: Instant, choke: bool) {
        if choke == self.uploads.choking() {
            return;
        }
        self.last_sent = now;
        self.out.push(if choke {
            &Message::Choke
        } else {
            &Message::Unchoke
        });
        let mut refused = Vec::new();
        self.uploads.set_choking(choke, &mut refused);
        self.reject_all(&refused);
    }

    /// Says whether we want pieces of the peer's; a change is told to it.
    pub fn set_interest(&mut self, now: Instant, interested: bool) {
        if interested == self.interested {
            return;
        }
        self.interested = interested;
        self.last_sent = now;
        self.out.push(if interested {
            &Message::Interested
        } else {
            &Message::NotInterested
        });
    }

    /// Tells the peer that we have `pieces` now.
    pub fn announce_have(&mut self, pieces: &[PieceIndex]) {
        for piece in pieces {
            self.out.push(&Message::Have(piece.get()));
        }
    }

    /// Tells the peer, if it understands, that we do not have `piece` any more (BEP 54).
    pub fn retract(&mut self, piece: PieceIndex) {
        let id = self.remote.handshake.extensions.dont_have;
        if let (true, Some(id @ 1..)) = (self.extended, id) {
            let payload = &piece.get().to_be_bytes();
            self.out.push(&Message::Extended { id, payload });
        }
    }

    /// Tells the peer whether we want nothing more of anybody (BEP 21).
    pub fn set_upload_only(&mut self, upload_only: bool) {
        if self.local.upload_only.unwrap_or(false) != upload_only {
            self.local.upload_only = Some(upload_only);
            self.send_extended_handshake();
        }
    }

    /// Tells the peer where our DHT node listens (BEP 5); for peers whose handshake says that they have one.
    pub fn announce_dht_port(&mut self, port: u16) {
        self.out.push(&Message::Port(port));
    }

    /// The connection is ending: whatever was granted comes back, and nothing is granted or served any more.
    pub fn close(&mut self) {
        self.closed = true;
        self.requests.return_all(&mut self.events);
        self.uploads.clear();
    }

    /// Bytes of the first buffer that is lacking for blocks of `bytes` bytes, if the peer answers in order; `None` if none is.
    pub fn buffer_wanted(&self, bytes: usize) -> Option<usize> {
        self.requests.buffer_wanted(bytes)
    }

    /// Gives the blocks for which a buffer [is wanted](Self::buffer_wanted) that of an earlier [`Event::Run`], whose bytes are where
    /// they belong. Optional, and worth much: fresh memory costs more than the copy into it.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.requests.recycle(buffer);
    }

    /// What the peer sent was not read for `time`, up to now or from now on: that long its silence says nothing of it.
    pub fn was_deaf(&mut self, time: Duration) {
        self.last_received += time;
        self.last_progress += time;
        self.requests.was_deaf(time);
    }

    /// Messages to write next. Blocks may go between the calls, but a message must not be torn apart by one: a block
    /// may follow when all that was pending at some time is written.
    pub fn outgoing(&self) -> &[u8] {
        self.out.pending()
    }

    /// The first `n` bytes of [`outgoing`](Self::outgoing) were written.
    pub fn sent(&mut self, n: usize) {
        self.out.consume(n);
        let unread = self.out.pending().len() / REJECT_BYTES;
        self.rejects = self.rejects.min(unread as u32);
    }

    /// Whether the peer waits for blocks.
    pub fn has_uploads(&self) -> bool {
        !self.uploads.is_empty()
    }

    /// Requests to serve now, oldest first, as many as fit `max_bytes` but at least one if there is any. Each must be
    /// answered by [`uploaded`](Self::uploaded) or [`read_failed`](Self::read_failed).
    pub fn next_uploads(&mut self, max_bytes: usize) -> Vec<BlockRange> {
        let mut refused = Vec::new();
        let next = self.uploads.next(max_bytes, &mut refused);
        self.reject_all(&refused);
        next
    }

    /// Whether blocks of `piece` may go out at all.
    pub fn serves(&self, piece: PieceIndex) -> bool {
        self.uploads.serves(piece)
    }

    /// What goes before the bytes of `range`.
    pub fn piece_header(range: BlockRange) -> [u8; 13] {
        message::piece_header(range)
    }

    /// The block was written to the connection.
    pub fn uploaded(&mut self, now: Instant, range: BlockRange) {
        self.last_sent = now;
        self.up.add(now, u64::from(range.len()));
    }

    /// The block could not be read, or will not be sent for another reason: the request is rejected, or dropped if the peer
    /// cannot be told.
    pub fn read_failed(&mut self, range: BlockRange) {
        self.reject_all(&[range]);
    }

    /// The next thing that happened; to be called until `None` after every other call.
    pub fn poll(&mut self) -> Option<Event> {
        self.events.pop_front().or_else(|| self.hunger())
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let silence = self.last_received + PEER_SILENCE;
        let keep_alive = self.last_sent + KEEP_ALIVE;
        let others = [
            self.snub_due(),
            self.requests.overdue_at(),
            self.paused_until,
        ];
        let others = others.into_iter().flatten();
        others.chain([silence, keep_alive]).min()
    }

    /// Does what time asks for: keeps the connection alive, notices that the peer snubs us, gives up requests that it
    /// must have dropped.
    ///
    /// # Errors
    /// [`WireError::Silent`] if nothing came for too long.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), WireError> {
        if now >= self.last_received + PEER_SILENCE {
            return Err(WireError::Silent);
        }
        if now >= self.last_sent + KEEP_ALIVE {
            self.last_sent = now;
            self.out.push(&Message::KeepAlive);
        }
        if self.snub_due().is_some_and(|due| now >= due) {
            self.snubbed = true;
            self.pipeline.shrink();
            self.events.push_back(Event::Snubbed);
        }
        if let Some(range) = self.requests.overdue(now) {
            self.revoke(now, range);
        }
        self.paused_until = self.paused_until.filter(|&until| now < until);
        Ok(())
    }

    /// Payload that passed so far, and how fast as of `now`.
    pub fn tally(&self, now: Instant) -> Tally {
        Tally {
            downloaded: self.down.total(),
            uploaded: self.up.total(),
            wasted: self.wasted,
            down_rate: self.down.clone().rate(now),
            up_rate: self.up.clone().rate(now),
        }
    }

    /// Requests as many granted blocks as the pipeline takes, in batches of some size to save writes.
    fn ask(&mut self, now: Instant) {
        if self.requests.asked() == 0 {
            self.pipeline.restart(now);
            self.last_progress = now;
        }
        let depth = self.pipeline.depth();
        if depth.saturating_sub(self.requests.asked()) < depth / Self::ASK_AT {
            return;
        }
        while self.requests.asked() < depth {
            let Some(block) = self.requests.next(now) else {
                break;
            };
            self.out.push(&Message::Request(block.into()));
            self.last_sent = now;
        }
    }

    /// Raised when a quarter of the pipeline is free, so that work comes in batches.
    fn hunger(&mut self) -> Option<Event> {
        let possible = !self.remote.choking || !self.remote.allowed_fast.is_empty();
        let due = self.interested && possible && !self.hungry && !self.closed;
        if !due || self.paused_until.is_some() {
            return None;
        }
        let depth = self.pipeline.depth();
        let blocks = depth.saturating_sub(self.requests.open());
        if blocks < depth.div_ceil(4) {
            return None;
        }
        self.hungry = true;
        Some(Event::Hungry { blocks })
    }

    fn snub_due(&self) -> Option<Instant> {
        let owed = self.requests.asked() > 0 && !self.snubbed;
        owed.then(|| self.last_progress + SNUB_TIME)
    }

    fn reject_all(&mut self, refused: &[BlockRange]) {
        if self.fast {
            self.rejects += refused.len() as u32;
            for &range in refused {
                self.out.push(&Message::Reject(range.into()));
            }
        }
    }

    /// Whether the peer makes us answer without reading the answers.
    fn check_flood(&self) -> Result<(), WireError> {
        if self.rejects > REJECTS_PENDING_MAX {
            return Err(WireError::RequestFlood);
        }
        Ok(())
    }

    fn send_extended_handshake(&mut self) {
        if self.extended {
            let (id, payload) = (HANDSHAKE_ID, &self.local.encode()[..]);
            self.out.push(&Message::Extended { id, payload });
        }
    }

    fn send_pieces(&mut self, have: &Bitfield) {
        let bitfield = Message::Bitfield(have.as_bytes());
        match (self.fast, have.count()) {
            (true, 0) => self.out.push(&Message::HaveNone),
            (true, _) if have.is_full() => self.out.push(&Message::HaveAll),
            (false, 0) => (),
            _ => self.out.push(&bitfield),
        }
    }
}

impl Remote {
    fn new(geometry: &Geometry) -> Self {
        Self {
            choking: true,
            interested: false,
            pieces: Bitfield::new(geometry.pieces()),
            bitfields: 0,
            allowed_fast: Vec::new(),
            suggested: 0,
            port_told: false,
            handshake: ExtendedHandshake::default(),
        }
    }
}
