//! What to ask of a peer whose pipeline has room: a piece that would convict a liar, else one that is under way, else a new
//! one, else, in the end game, blocks that somebody else is late with.
//!
//! A grant is a whole piece as a rule, so that its bytes are hashed in one go and its sender answers for all of it. A peer
//! that would take longer than [`PATIENCE`] gets a run that it can do in that time, and others continue the piece.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::Swarm;
use super::action::{Action, PeerKey};
use super::peers::Peer;
use super::picker;
use super::pieces::Partial;
use super::requests::Grant;
use crate::base::limits::RUN_LEN_MAX;
use crate::base::{BLOCK_LEN, PieceIndex};

/// A peer that takes longer than this for a piece gets part of it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Blocks that a peer gets of one piece before its speed is known.
const FIRST_RUN: u32 = 16;
/// Pieces that are taken at random before rarity counts.
const RANDOM_PIECES: u32 = 4;
/// Seeds for each other peer from which on neighbouring pieces are fetched together. Thirty leechers around one seed took half as long again
/// when they did, for they fetched the same pieces and had nothing to trade; two around two a tenth longer; two around eight as long as
/// with pieces at random.
const SEEDS_PER_LEECHER: usize = 4;
/// Pieces under way that are looked at to find one to continue: many slow peers may have begun thousands.
const OPEN_LOOKS: usize = 64;
/// Grants made at one time: a bound on the work for one call.
const GRANTS_AT_ONCE: usize = 1_024;

impl Swarm {
    /// Grants blocks to the peer until its pipeline is full or nothing is left for it.
    pub(super) fn feed(&mut self, now: Instant, key: PeerKey) {
        self.starved.remove(&key);
        for _ in 0..GRANTS_AT_ONCE {
            let Some((piece, blocks)) = self.choose(now, key) else {
                break;
            };
            self.grant(now, key, piece, blocks);
        }
        let idle = |peer: &Peer| peer.hungry > 0 && !peer.closing;
        if !self.is_complete() && self.peers.get(key).is_some_and(idle) {
            self.starved.insert(key);
        }
    }

    /// Feeds every starved peer, fastest first. Where the allowance was short each gets its part before anybody gets more, and
    /// those come first who hold least and have waited longest.
    pub(super) fn feed_starved(&mut self, now: Instant) {
        let mut keys: Vec<_> = self.starved.iter().copied().collect();
        if self.allowance.is_short() {
            let last = |key| self.peers.get(key).map(|peer| peer.service.last());
            keys.sort_by_key(|&key| (self.requests.blocks_of(key), last(key)));
            self.allowance.share_out(keys.len());
            for &key in &keys {
                self.feed(now, key);
            }
            self.allowance.shared_out();
            keys.retain(|key| self.starved.contains(key));
        } else {
            let rate = |key: &PeerKey| self.peers.get(*key).map_or(0.0, |p| p.service.rate());
            keys.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
        }
        for key in keys {
            self.feed(now, key);
        }
    }

    /// Whether every missing block is asked of somebody.
    pub(super) fn is_end_game(&self) -> bool {
        self.availability.pickable().count() == 0 && self.pieces.open().is_empty()
    }

    fn choose(&mut self, now: Instant, key: PeerKey) -> Option<(PieceIndex, Range<u32>)> {
        let peer = self.peers.get(key)?;
        let idle = self.requests.blocks_of(key) == 0;
        let may = peer.our_interest && !peer.closing && (!peer.snubbed || idle);
        if peer.hungry == 0 || self.paused || !may {
            return None;
        }
        if peer.choking && peer.allowed.is_empty() {
            return None;
        }
        if self.must_wait(key) {
            return self.late(now, key);
        }
        let Some(piece) = self.evidence(key).or_else(|| self.next_piece(key)) else {
            return self.late(now, key);
        };
        let begun = self.begin(piece);
        let most = self.run_len(key, piece);
        let blocks = self.pieces.free_run(piece, most)?;
        if !self.is_allowed(piece, blocks.len() as u32) {
            self.pieces.abandon(piece);
            self.refresh(piece);
            return self.late(now, key);
        }
        if begun {
            self.extents.begun(piece);
        }
        Some((piece, blocks))
    }

    fn grant(&mut self, now: Instant, key: PeerKey, piece: PieceIndex, blocks: Range<u32>) {
        let Some(range) = self.config.geometry.run(piece, blocks.clone()) else {
            return;
        };
        self.pieces.ask(piece, blocks.clone());
        self.refresh(piece);
        if let Some(peer) = self.peers.get_mut(key) {
            peer.hungry = peer.hungry.saturating_sub(blocks.len() as u32);
        }
        let at = now;
        self.requests.add(key, Grant { piece, blocks, at });
        self.actions.push_back(Action::Grant { key, range });
    }

    /// Puts a missing piece under way; false if it was. Peers may hold blocks of it from before its bits were taken back.
    fn begin(&mut self, piece: PieceIndex) -> bool {
        let begun = self.pieces.begin(piece);
        if begun {
            let held: Vec<_> = self
                .requests
                .of_piece(piece)
                .map(|(_, g)| g.blocks.clone())
                .collect();
            for blocks in held {
                self.pieces.ask(piece, blocks);
            }
            self.refresh(piece);
        }
        begun
    }

    /// A piece of which a good copy would convict a liar, if this peer is the one to ask for it.
    fn evidence(&mut self, key: PeerKey) -> Option<PieceIndex> {
        let pending: Vec<_> = self.blame.pending().collect();
        let piece = pending.into_iter().find(|&piece| {
            let free = self.pieces.open().contains(&piece) || self.pieces.is_missing(piece);
            let serves = self.peers.get(key).is_some_and(|peer| peer.serves(piece));
            free && serves && self.is_trusted_with(key, piece)
        })?;
        self.begin(piece);
        self.pieces.open().contains(&piece).then_some(piece)
    }

    /// Whether the peer may be asked for this piece: one that failed is asked of one peer at a time, and of one that had no
    /// part in the failure while there is any.
    fn is_trusted_with(&self, key: PeerKey, piece: PieceIndex) -> bool {
        if !self.blame.is_pending(piece) {
            return true;
        }
        if self
            .requests
            .holders(piece)
            .iter()
            .any(|&holder| holder != key)
        {
            return false;
        }
        let clean = |other: PeerKey, peer: &Peer| {
            peer.serves(piece)
                && !peer.closing
                && !peer.snubbed
                && !self.blame.suspects(piece, other)
        };
        !self.blame.suspects(piece, key) || !self.peers.iter().any(|(k, p)| clean(k, p))
    }

    /// The piece under way to continue with this peer, or the one to begin. A piece under way goes first, unless others can
    /// continue it and this peer has a rarer one: the upload of a lone seed is for what only the seed has.
    fn next_piece(&mut self, key: PeerKey) -> Option<PieceIndex> {
        let unfinished = self.unfinished(key);
        let Some(piece) = unfinished else {
            return self.fresh(key);
        };
        let copies = self.availability.count(piece);
        if copies < 2 || self.pieces.open().len() > self.peers.staying() {
            return unfinished;
        }
        let rarer = self.fresh(key);
        let rarer = rarer.filter(|&fresh| self.availability.count(fresh) < copies);
        rarer.or(unfinished)
    }

    /// The piece under way that this peer can continue and that is nearest to its end; of very many, of some.
    fn unfinished(&mut self, key: PeerKey) -> Option<PieceIndex> {
        let all = self.pieces.open();
        let start = match all.len() > OPEN_LOOKS {
            true => self.random.below(self.config.geometry.pieces() as usize),
            false => 0,
        };
        let start = self.config.geometry.piece(start as u32)?;
        let peer = self.peers.get(key)?;
        let open = all.range(start..).chain(all.range(..start)).copied();
        // Counted are those that it can continue, so that none of them is missed if there are few.
        let open = open
            .filter(|&p| peer.serves(p) && self.is_trusted_with(key, p))
            .take(OPEN_LOOKS);
        open.min_by_key(|&piece| {
            let free = self.pieces.partial(piece).map_or(0, Partial::free);
            (self.availability.count(piece), free)
        })
    }

    /// The piece to begin with this peer.
    fn fresh(&mut self, key: PeerKey) -> Option<PieceIndex> {
        if self.availability.pickable().count() == 0 {
            return None;
        }
        let peer = self.peers.get(key)?;
        let geometry = &self.config.geometry;
        let extents = self.is_plentiful().then_some(&self.extents);
        let (availability, random) = (&mut self.availability, &mut self.random);
        let pickable = availability.pickable();
        let ready = |&piece: &PieceIndex| pickable.contains(piece) && peer.serves(piece);
        if peer.choking {
            let allowed = peer.allowed.iter().copied().filter(ready);
            allowed.min_by_key(|&piece| availability.count(piece))
        } else if let Some(piece) = peer.suggested.iter().copied().find(ready) {
            Some(piece)
        } else if self.pieces.verified().count() < RANDOM_PIECES {
            picker::at_random(random, availability, geometry, &peer.have)
        } else {
            picker::rarest(random, availability, extents, geometry, &peer.have)
        }
    }

    /// Whether nearly all of our peers have everything: then it makes next to no difference to the others which pieces we fetch first.
    fn is_plentiful(&self) -> bool {
        let seeds = self.availability.seeds() as usize;
        let others = self.peers.len().saturating_sub(seeds);
        seeds >= SEEDS_PER_LEECHER * others
    }

    /// Most blocks of `piece` to ask of the peer at once.
    fn run_len(&self, key: PeerKey, piece: PieceIndex) -> u32 {
        let whole = self.config.geometry.blocks_in(piece);
        let cap = whole.min(RUN_LEN_MAX / BLOCK_LEN);
        let Some(peer) = self.peers.get(key) else {
            return 1;
        };
        if peer.snubbed {
            return 1;
        }
        let partial = self.pieces.partial(piece);
        let begins = partial.is_none_or(|partial| partial.free() == whole);
        // Pieces that nobody can finish at once must not pile up, nor may evidence be mixed.
        let crowded = self.pieces.open().len() > 8 + 2 * self.peers.staying();
        if self.blame.is_pending(piece) || (begins && crowded) {
            return cap;
        }
        let able = peer.service.blocks_in(PATIENCE).unwrap_or(FIRST_RUN);
        if able >= cap {
            return cap;
        }
        1 << able.max(1).ilog2()
    }
}
