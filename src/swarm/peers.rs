//! The connected peers: what each has, wants and does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::action::{PeerInfo, PeerKey};
use super::blame::Suspect;
use super::interest::Wants;
use super::tally::{Tally, Totals};
use crate::base::limits::HINTS_PER_PEER;
use crate::base::{BLOCK_LEN, Bitfield, PeerId, PieceIndex};

/// The pieces that a peer has. Most peers have nothing or everything, which take no memory; a peer that ever lost a piece
/// keeps its bitfield, be it empty or full.
#[derive(Clone, Debug)]
pub(super) enum Have {
    None,
    Some(Bitfield),
    All,
}

impl From<Bitfield> for Have {
    fn from(bits: Bitfield) -> Self {
        if bits.count() == 0 {
            Self::None
        } else if bits.is_full() {
            Self::All
        } else {
            Self::Some(bits)
        }
    }
}

impl Have {
    pub(super) fn contains(&self, piece: PieceIndex) -> bool {
        match self {
            Self::None => false,
            Self::Some(bits) => bits.contains(piece),
            Self::All => true,
        }
    }

    pub(super) fn is_all(&self) -> bool {
        match self {
            Self::None => false,
            Self::Some(bits) => bits.is_full(),
            Self::All => true,
        }
    }

    /// The 64 pieces from `64 * at` on, the first in the highest bit; bits past the last piece may be set.
    pub(super) fn word(&self, at: usize) -> u64 {
        match self {
            Self::None => 0,
            Self::Some(bits) => bits.word(at),
            Self::All => u64::MAX,
        }
    }

    /// Pieces in the set, of `len`.
    pub(super) fn count(&self, len: u32) -> u32 {
        match self {
            Self::None => 0,
            Self::Some(bits) => bits.count(),
            Self::All => len,
        }
    }
}

/// How fast a peer serves what it was asked for, learned from whole runs: a run took from when it was asked for, or from
/// when the run before it came, until it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    /// Bytes per second.
    rate: Option<f64>,
    /// When the last run came.
    last: Instant,
}

impl Service {
    /// Taken for a peer that has not delivered yet, in bytes per second.
    const UNKNOWN: f64 = 64.0 * 1024.0;

    fn new(now: Instant) -> Self {
        Self {
            rate: None,
            last: now,
        }
    }

    pub(super) fn delivered(&mut self, now: Instant, asked: Instant, blocks: u32) {
        let since = asked.max(self.last);
        let took = now.saturating_duration_since(since);
        let took = took.as_secs_f64().max(0.000_1);
        let rate = f64::from(blocks) * f64::from(BLOCK_LEN) / took;
        self.rate = Some(self.rate.map_or(rate, |old| 0.7 * old + 0.3 * rate));
        self.last = now;
    }

    /// Blocks that it serves in `time`, if it has delivered before.
    pub(super) fn blocks_in(&self, time: Duration) -> Option<u32> {
        let bytes = self.rate? * time.as_secs_f64();
        Some((bytes / f64::from(BLOCK_LEN)) as u32)
    }

    /// Time that it takes for `blocks`.
    pub(super) fn time_for(&self, blocks: u32) -> Duration {
        let rate = self.rate.unwrap_or(Self::UNKNOWN).max(1.0);
        let seconds = f64::from(blocks) * f64::from(BLOCK_LEN) / rate;
        Duration::from_secs_f64(seconds.min(3_600.0))
    }

    /// When it delivered last.
    pub(super) fn last(&self) -> Instant {
        self.last
    }

    /// Whether it has delivered anything.
    pub(super) fn is_known(&self) -> bool {
        self.rate.is_some()
    }

    /// Bytes per second; 0 if it has not delivered yet.
    pub(super) fn rate(&self) -> f64 {
        self.rate.unwrap_or(0.0)
    }
}

/// One connected peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) info: PeerInfo,
    pub(super) since: Instant,
    pub(super) have: Have,
    /// A piece that it has and we have not verified; `None` if there is no such piece.
    pub(super) lure: Option<PieceIndex>,
    pub(super) wants: Wants,
    /// It does not let us request.
    pub(super) choking: bool,
    /// It wants something of us.
    pub(super) interested: bool,
    /// We told it that we want something.
    pub(super) our_interest: bool,
    /// We told it that it may request.
    pub(super) unchoked: bool,
    /// When we last changed our mind about that.
    pub(super) choke_changed: Instant,
    pub(super) snubbed: bool,
    pub(super) upload_only: bool,
    /// It told of a piece that it has no longer.
    pub(super) loses: bool,
    /// We asked for the connection to be closed.
    pub(super) closing: bool,
    /// Blocks that its pipeline has room for.
    pub(super) hungry: u32,
    pub(super) allowed: Vec<PieceIndex>,
    pub(super) suggested: Vec<PieceIndex>,
    pub(super) service: Service,
    pub(super) tally: Tally,
    /// Bytes received and sent as of the last two times that chokes were decided.
    marks: [(u64, u64); 2],
    pub(super) last_payload: Instant,
}

impl Peer {
    pub(super) fn new(now: Instant, info: PeerInfo) -> Self {
        Self {
            info,
            since: now,
            have: Have::None,
            lure: None,
            wants: Wants::nothing(),
            choking: true,
            interested: false,
            our_interest: false,
            unchoked: false,
            choke_changed: now,
            snubbed: false,
            upload_only: false,
            loses: false,
            closing: false,
            hungry: 0,
            allowed: Vec::new(),
            suggested: Vec::new(),
            service: Service::new(now),
            tally: Tally::new(now),
            marks: [(0, 0); 2],
            last_payload: now,
        }
    }

    /// Where the peer takes connections, as far as known.
    pub(super) fn dialable(&self) -> Option<SocketAddr> {
        self.info
            .listen
            .or((!self.info.incoming).then_some(self.info.addr))
    }

    pub(super) fn suspect(&self, key: PeerKey) -> Suspect {
        Suspect {
            key,
            addr: self.info.addr,
            listen: self.dialable(),
            id: self.info.id,
        }
    }

    /// Whether it takes part in sharing out our upload.
    pub(super) fn needs_slot(&self) -> bool {
        self.interested && !self.closing && !self.upload_only && !self.have.is_all()
    }

    /// Whether we may ask it for `piece` now.
    pub(super) fn serves(&self, piece: PieceIndex) -> bool {
        self.have.contains(piece) && (!self.choking || self.allowed.contains(&piece))
    }

    /// Bytes received and sent since the last but one time that chokes were decided.
    pub(super) fn recent(&self) -> (u64, u64) {
        let (down, up) = self.marks[0];
        (self.tally.downloaded() - down, self.tally.uploaded() - up)
    }

    /// Chokes were decided.
    pub(super) fn mark(&mut self) {
        let totals = (self.tally.downloaded(), self.tally.uploaded());
        self.marks = [self.marks[1], totals];
    }

    /// Remembers a hint about `piece`, up to a bound; the oldest goes.
    pub(super) fn hint(hints: &mut Vec<PieceIndex>, piece: PieceIndex) {
        if hints.contains(&piece) {
            return;
        }
        if hints.len() >= HINTS_PER_PEER {
            hints.remove(0);
        }
        hints.push(piece);
    }
}

/// A snapshot of one connection, for people.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeerView {
    /// Its name within the swarm.
    pub key: PeerKey,
    /// The other end.
    pub addr: SocketAddr,
    /// Where it takes connections, if known.
    pub listen: Option<SocketAddr>,
    /// How it calls itself.
    pub id: PeerId,
    /// Whether it dialled us.
    pub incoming: bool,
    /// Pieces that it has.
    pub pieces: u32,
    /// It lets us request.
    pub unchoked_us: bool,
    /// It wants something of us.
    pub interested: bool,
    /// We let it request.
    pub unchoked: bool,
    /// We want something of it.
    pub our_interest: bool,
    /// It does not deliver what was asked of it.
    pub snubbed: bool,
    /// Payload bytes and rates.
    pub totals: Totals,
}

/// All connected peers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    map: BTreeMap<PeerKey, Peer>,
    next: u64,
    /// How many of them are being closed.
    closing: usize,
}

impl Peers {
    pub(super) fn insert(&mut self, peer: Peer) -> PeerKey {
        let key = PeerKey(self.next);
        self.next += 1;
        self.map.insert(key, peer);
        key
    }

    pub(super) fn remove(&mut self, key: PeerKey) -> Option<Peer> {
        let peer = self.map.remove(&key);
        self.closing -= usize::from(peer.as_ref().is_some_and(|peer| peer.closing));
        peer
    }

    /// The connection is to be closed: nothing more is asked of the peer. True if it was not to be before.
    pub(super) fn close(&mut self, key: PeerKey) -> bool {
        let Some(peer) = self.map.get_mut(&key).filter(|peer| !peer.closing) else {
            return false;
        };
        peer.closing = true;
        peer.hungry = 0;
        self.closing += 1;
        true
    }

    pub(super) fn get(&self, key: PeerKey) -> Option<&Peer> {
        self.map.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: PeerKey) -> Option<&mut Peer> {
        self.map.get_mut(&key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PeerKey, &Peer)> {
        self.map.iter().map(|(&key, peer)| (key, peer))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (PeerKey, &mut Peer)> {
        self.map.iter_mut().map(|(&key, peer)| (key, peer))
    }

    pub(super) fn keys(&self) -> Vec<PeerKey> {
        self.map.keys().copied().collect()
    }

    /// Connections that are not being closed.
    pub(super) fn staying(&self) -> usize {
        self.map.len() - self.closing
    }

    /// Connections, with those that are being closed.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}
