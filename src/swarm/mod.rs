//! Decisions for one torrent: what to ask of whom, whom to serve, whom to dial, what is verified and what is durable.
//!
//! [`Swarm`] owns every such decision and nothing else: it opens no file or socket and reads no clock. Each call to an `on_*` method
//! changes it once; then [`Swarm::poll`] is drained until it answers `None`, and [`Swarm::next_deadline`] says when to call
//! [`Swarm::handle_timeout`]. The same seed and the same calls give the same actions.
//!
//! Before the metadata is there, [`MetadataFetch`] decides in its place.
//!
//! What it guarantees, whatever peers do:
//! - A block is asked of nobody once it is received, and of at most three peers before; only in the end game of more than one.
//! - No more is asked for than may be verified and not durable at a time.
//! - What is verified, or being hashed, is never written again.
//! - A peer is banned on proof only: bytes that differ from those whose hash matched. Suspicion only decides who is asked next.
//! - Addresses, hints, grants per peer and records are bounded by `base::limits`.
//!
//! The calls by topic:
//! - connections: [`on_addresses`](Swarm::on_addresses), [`on_dial_failed`](Swarm::on_dial_failed),
//!   [`on_dial_postponed`](Swarm::on_dial_postponed), [`on_connected`](Swarm::on_connected), [`on_disconnected`](Swarm::on_disconnected), [`on_listen_port`](Swarm::on_listen_port)
//! - what a peer says: [`on_choked`](Swarm::on_choked) … [`on_upload_only`](Swarm::on_upload_only)
//! - the download: [`on_hungry`](Swarm::on_hungry), [`on_run`](Swarm::on_run), [`on_written`](Swarm::on_written),
//!   [`on_checked`](Swarm::on_checked), [`on_durable`](Swarm::on_durable), [`on_lost`](Swarm::on_lost), [`on_found`](Swarm::on_found)
//! - what may be at stake: [`set_allowance`](Swarm::set_allowance)
//! - the upload: [`on_uploaded`](Swarm::on_uploaded)

mod action;
mod addresses;
mod allowance;
mod availability;
mod bans;
mod blame;
mod choker;
mod connections;
mod download;
mod extent;
mod grants;
mod interest;
mod late;
mod messages;
mod metadata;
mod peers;
mod picker;
mod pieces;
mod requests;
mod tally;
#[cfg(test)]
mod tests;
mod upload;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

pub use action::{
    Action, BanReason, Config, DropReason, PeerInfo, PeerKey, Refusal, Source, Start, Verdict,
};
pub use addresses::Known;
pub use metadata::{CloseReason, MetadataAction, MetadataFetch, MetadataLie};
pub use peers::PeerView;
pub use tally::Totals;

use addresses::AddressBook;
use allowance::Allowance;
use availability::Availability;
use blame::Blame;
use choker::Choker;
use extent::Extents;
use interest::Lures;
use late::Late;
use peers::Peers;
use pieces::PieceMap;
use requests::Requests;
use tally::Tally;

use crate::base::{Bitfield, BlockRange, Geometry, PieceIndex, Random};

/// How often peers without work are looked at again in the end game: late blocks are asked of somebody else then.
const END_GAME_TICK: Duration = Duration::from_millis(250);
/// The same while other work is left.
const IDLE_TICK: Duration = Duration::from_secs(2);

/// One torrent's decisions.
#[derive(Debug)]
pub struct Swarm {
    config: Config,
    random: Random,
    pieces: PieceMap,
    availability: Availability,
    extents: Extents,
    lures: Lures,
    late: Late,
    requests: Requests,
    blame: Blame,
    allowance: Allowance,
    peers: Peers,
    addresses: AddressBook,
    choker: Choker,
    tally: Tally,
    actions: VecDeque<Action>,
    paused: bool,
    /// Peers whose pipelines have room that nothing was found for.
    starved: BTreeSet<PeerKey>,
    /// Blocks became free since starved peers were looked at.
    freed: bool,
    /// When starved peers are looked at again in any case.
    tick: Option<Instant>,
    /// Nobody is dialled before.
    dial_again: Option<Instant>,
}

impl Swarm {
    /// A swarm without peers.
    ///
    /// # Panics
    /// If the bitfields of `start` are not of this geometry.
    pub fn new(now: Instant, config: Config, start: Start) -> Self {
        let geometry = config.geometry;
        assert_eq!(start.verified.len(), geometry.pieces(), "verified pieces");
        assert_eq!(start.durable.len(), geometry.pieces(), "durable pieces");
        let open = start.verified.complement();
        let mut swarm = Self {
            random: Random::new(config.seed),
            pieces: PieceMap::new(geometry, start),
            availability: Availability::new(geometry, open),
            extents: Extents::new(&geometry),
            lures: Lures::default(),
            late: Late::default(),
            requests: Requests::default(),
            blame: Blame::default(),
            allowance: Allowance::unbounded(),
            peers: Peers::default(),
            addresses: AddressBook::new(config.own.clone()),
            choker: Choker::new(now, config.upload_slots),
            tally: Tally::new(now),
            actions: VecDeque::new(),
            paused: false,
            starved: BTreeSet::new(),
            freed: false,
            tick: None,
            dial_again: None,
            config,
        };
        for piece in swarm.pieces.under_way().collect::<Vec<_>>() {
            swarm.refresh(piece);
            swarm.check_if_stored(piece);
        }
        swarm
    }

    /// The next thing to do, until there is none.
    pub fn poll(&mut self) -> Option<Action> {
        let action = self.actions.pop_front();
        if let Some(Action::Verified { piece, .. }) = action {
            self.allowance.told(self.config.geometry.len_of(piece));
        }
        action
    }

    /// When to call [`Swarm::handle_timeout`]; earlier or later does no harm.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.paused {
            return None;
        }
        let rechoke = (!self.peers.is_empty()).then(|| self.choker.next());
        let tick = self.tick.filter(|_| !self.starved.is_empty());
        let dial = self.next_dial();
        [rechoke, tick, dial].into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.paused {
            return;
        }
        if now >= self.choker.next() {
            self.rechoke(now);
        }
        if self.tick.is_some_and(|tick| now >= tick) {
            self.tick = None;
            self.feed_starved(now);
        }
        self.settle(now);
        self.dial(now);
    }

    /// Stops or resumes everything: while paused nothing is asked for, nobody served, nobody dialled. Connections stay.
    pub fn set_paused(&mut self, now: Instant, paused: bool) {
        if self.paused == paused {
            return;
        }
        self.paused = paused;
        for key in self.peers.keys() {
            if paused {
                self.revoke_all(key);
                self.set_choke(now, key, true);
            }
            self.refresh_interest(key);
        }
        if paused {
            return;
        }
        self.rechoke(now);
        self.freed = true;
        self.settle(now);
        self.dial(now);
    }

    /// How the payload is cut.
    pub fn geometry(&self) -> &Geometry {
        &self.config.geometry
    }

    /// Pieces whose hash matched.
    pub fn verified(&self) -> &Bitfield {
        self.pieces.verified()
    }

    /// Bytes of the pieces whose hash matched.
    pub fn bytes_verified(&self) -> u64 {
        let geometry = &self.config.geometry;
        let verified = self.pieces.verified();
        let whole = u64::from(verified.count()) * u64::from(geometry.piece_len());
        // Only the last piece may be shorter.
        let last = geometry
            .all_pieces()
            .next_back()
            .filter(|&last| verified.contains(last));
        let short = last.map_or(0, |last| geometry.piece_len() - geometry.len_of(last));
        whole - u64::from(short)
    }

    /// Pieces that survive a power cut.
    pub fn durable(&self) -> &Bitfield {
        self.pieces.durable()
    }

    /// Whether every piece is verified.
    pub fn is_complete(&self) -> bool {
        self.pieces.verified().is_full()
    }

    /// Whole blocks that are stored of unfinished pieces: what an orderly stop keeps for [`Start::partial`].
    pub fn stored_blocks(&self) -> impl Iterator<Item = BlockRange> + '_ {
        self.pieces
            .stored_runs()
            .filter_map(|(piece, blocks)| self.config.geometry.run(piece, blocks))
    }

    /// Payload bytes of this run and rates as of `now`.
    pub fn tally(&self, now: Instant) -> Totals {
        self.tally.totals(now)
    }

    /// The connections as of `now`.
    pub fn peers(&self, now: Instant) -> impl Iterator<Item = PeerView> + '_ {
        let pieces = self.config.geometry.pieces();
        self.peers.iter().map(move |(key, peer)| PeerView {
            key,
            addr: peer.info.addr,
            listen: peer.dialable(),
            id: peer.info.id,
            incoming: peer.info.incoming,
            pieces: peer.have.count(pieces),
            unchoked_us: !peer.choking,
            interested: peer.interested,
            unchoked: peer.unchoked,
            our_interest: peer.our_interest,
            snubbed: peer.snubbed,
            totals: peer.tally.totals(now),
        })
    }

    /// The addresses that are known, for the database.
    pub fn addresses(&self) -> impl Iterator<Item = Known> + '_ {
        self.addresses.known()
    }

    /// Connected peers that have `piece`.
    pub fn copies(&self, piece: PieceIndex) -> u32 {
        self.availability.count(piece)
    }

    /// Feeds starved peers if blocks became free, and says when to look again.
    fn settle(&mut self, now: Instant) {
        if std::mem::take(&mut self.freed) {
            self.feed_starved(now);
        }
        let hopeless = self.requests.is_empty() && !self.allowance.is_short();
        if self.starved.is_empty() || hopeless {
            self.tick = None;
        } else {
            let wait = if self.is_end_game() {
                END_GAME_TICK
            } else {
                IDLE_TICK
            };
            let at = now + wait;
            self.tick = Some(self.tick.map_or(at, |tick| tick.min(at)));
        }
    }

    /// Brings the list of pieces that may be begun up to date with the state of `piece`.
    fn refresh(&mut self, piece: PieceIndex) {
        // A piece that is evidence is begun with chosen peers only, not by rarity.
        let open = self.pieces.is_missing(piece) && !self.blame.is_pending(piece);
        self.availability.set_pickable(piece, open);
    }
}
