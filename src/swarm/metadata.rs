//! Decisions while a torrent is known by name only: whom to ask for which piece of its metadata (BEP 9), and whom to believe.
//!
//! A machine like [`Swarm`](super::Swarm): `on_*`, then [`MetadataFetch::poll`] until `None`, then
//! [`MetadataFetch::next_deadline`]. What peers say of the size is a claim; pieces are gathered per claim from all who make it.
//! The first mix that is whole is hashed. If it is wrong, somebody lied, and every sender is asked for the rest of a copy of his
//! own: a wrong copy convicts its one sender, a right one all who sent anything else.
//!
//! What it guarantees, whatever peers do:
//! - The only metadata that comes out is the one that the info-hash names. It comes out as soon as one honest peer, or several
//!   together, have sent it.
//! - A peer is banned on proof only. Silence, rejects and slowness cost it its place when somebody else waits.
//! - A peer that has sent nothing for seconds holds up no piece, and the one that is furthest from being done holds no place
//!   for long: a majority of liars can delay an honest peer, not keep it out.
//! - Memory is bounded over all claims ([`METADATA_BYTES_MAX`]), and is taken as bytes come, never as they are claimed.

mod action;
mod claim;
mod memory;
mod peer;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::action::{PeerInfo, PeerKey, Refusal, Source};
use super::addresses::{AddressBook, Known, Parting};
use super::blame::Suspect;
use crate::base::limits::{
    DIALS_PER_TORRENT, HANDSHAKE_TIME, METADATA_BYTES_MAX, METADATA_INCOMING_MAX,
    METADATA_PEERS_MAX, SNUB_TIME,
};
use crate::base::random::Random;
use crate::base::{InfoHash, PeerId};
use crate::proto::wire::metadata::{metadata_piece_len, metadata_pieces};
pub use action::{CloseReason, MetadataAction, MetadataLie};
use claim::{Claim, Judgement};
use memory::to_usize;
use peer::{Peer, STALLED};

/// Pipelines rejected in a row after which a peer is left alone.
const REJECTS: u32 = 3;
/// After a reject a peer is not asked for this long.
const REJECT_PAUSE: Duration = Duration::from_secs(1);
/// When all connections that we may have are in use, it is tried again after this long.
const NO_PLACE: Duration = Duration::from_secs(2);
/// How often peers without work are looked at again.
const TICK: Duration = Duration::from_millis(250);
/// The search for one torrent's metadata.
#[derive(Debug)]
pub struct MetadataFetch {
    info_hash: InfoHash,
    id: PeerId,
    random: Random,
    addresses: AddressBook,
    peers: BTreeMap<PeerKey, Peer>,
    claims: BTreeMap<u32, Claim>,
    actions: VecDeque<MetadataAction>,
    keys: u64,
    tick: Option<Instant>,
    /// Nobody is dialled before.
    dial_again: Option<Instant>,
    /// Somebody who dialled us found no place.
    turned_away: bool,
    done: bool,
}

impl MetadataFetch {
    /// A search without peers. `id` is our own peer id; the same seed and calls give the same actions.
    pub fn new(info_hash: InfoHash, id: PeerId, seed: u64) -> Self {
        Self {
            info_hash,
            id,
            random: Random::new(seed),
            addresses: AddressBook::new(Vec::new()),
            peers: BTreeMap::new(),
            claims: BTreeMap::new(),
            actions: VecDeque::new(),
            keys: 0,
            tick: None,
            dial_again: None,
            turned_away: false,
            done: false,
        }
    }

    /// The next thing to do, until there is none.
    pub fn poll(&mut self) -> Option<MetadataAction> {
        self.actions.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); earlier or later does no harm.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.done {
            return None;
        }
        let tick = self.tick.filter(|_| !self.peers.is_empty());
        let due = self.addresses.next_due(false);
        let due = due.filter(|_| self.has_room());
        let dial = due.map(|due| self.dial_again.map_or(due, |again| due.max(again)));
        [tick, dial].into_iter().flatten().min()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.tick.is_none_or(|tick| now >= tick) {
            self.tick = Some(now + TICK);
            self.close_silent(now);
            self.make_room(now);
            self.ask_all(now);
        }
        self.dial(now);
    }

    /// Somebody told of addresses.
    pub fn on_addresses(&mut self, now: Instant, source: Source, addrs: &[SocketAddr]) {
        for &addr in addrs {
            self.addresses.add(now, source, addr);
        }
        self.dial(now);
    }

    /// No connection came about after [`MetadataAction::Dial`], or with a peer that does not speak the extension protocol.
    pub fn on_dial_failed(&mut self, now: Instant, addr: SocketAddr) {
        self.addresses.failed(now, addr);
        self.dial(now);
    }

    /// [`MetadataAction::Dial`] was not carried out, because on our side there was no place for the connection.
    pub fn on_dial_postponed(&mut self, now: Instant, addr: SocketAddr) {
        self.addresses.postpone(now, addr, NO_PLACE);
        self.dial_again = Some(now + NO_PLACE);
    }

    /// A connection passed its handshake. On refusal close it; nothing more is to be said about it.
    ///
    /// # Errors
    /// If the peer is banned or ourselves, or there is no room.
    pub fn on_connected(&mut self, now: Instant, info: PeerInfo) -> Result<PeerKey, Refusal> {
        if let Err(refusal) = self.admit(&info) {
            match refusal {
                _ if info.incoming => self.turned_away |= refusal == Refusal::Full,
                Refusal::Ourselves => self.addresses.is_ours(info.addr),
                _ => self.addresses.postpone(now, info.addr, NO_PLACE),
            }
            return Err(refusal);
        }
        if !info.incoming {
            self.addresses.connected(info.addr);
        }
        self.keys += 1;
        let key = PeerKey(self.keys);
        let peer = Peer::new(now, info);
        self.peers.insert(key, peer);
        self.tick.get_or_insert(now + TICK);
        Ok(key)
    }

    /// A connection ended.
    pub fn on_disconnected(&mut self, now: Instant, key: PeerKey) {
        let Some(peer) = self.peers.remove(&key) else {
            return;
        };
        if !peer.info.incoming {
            // However much it brought, the search is not over: others come first now.
            let addr = peer.info.addr;
            self.addresses.disconnected(now, addr, Parting::Useless);
        }
        self.bound_memory(0);
        self.judge(now);
        self.admit_claims(now);
        self.ask_all(now);
        self.dial(now);
    }

    /// The peer told on which port it takes connections (BEP 10 `p`).
    pub fn on_listen_port(&mut self, key: PeerKey, port: u16) {
        if let Some(peer) = self.peers.get_mut(&key)
            && peer.info.incoming
            && port != 0
        {
            peer.info.listen = Some(SocketAddr::new(peer.info.addr.ip(), port));
        }
    }

    /// The peer said how many bytes the metadata has; `None` if it does not say, or does not pass metadata on.
    pub fn on_size(&mut self, now: Instant, key: PeerKey, size: Option<u32>) {
        let Some(peer) = self.open_peer(key) else {
            return;
        };
        match (peer.claim, size) {
            (None, None) => return self.close(now, key, CloseReason::HasNone),
            (Some(before), Some(size)) if before != size => {
                return self.close(now, key, CloseReason::Contradiction);
            }
            (Some(_), _) => return,
            (None, Some(size)) => peer.claim = Some(size),
        }
        peer.progress = now;
        let claim = size.unwrap_or(0);
        self.claims
            .entry(claim)
            .or_insert_with(|| Claim::new(claim));
        // Peers begin at different pieces, so that they seldom bring the same.
        let next = self.random.below(metadata_pieces(claim).max(1) as usize) as u32;
        if let Some(peer) = self.open_peer(key) {
            peer.next = next;
        }
        self.admit_claims(now);
        self.ask(now, key);
    }

    /// A piece came that was asked for; `total_size` is what the peer now says of the whole.
    pub fn on_data(
        &mut self,
        now: Instant,
        key: PeerKey,
        piece: u32,
        total_size: Option<u32>,
        bytes: Vec<u8>,
    ) {
        let Some(peer) = self.open_peer(key) else {
            return;
        };
        let Some(size) = peer.claim.filter(|_| peer.owes(piece).is_some()) else {
            return;
        };
        let whole = metadata_piece_len(size, piece) == Some(bytes.len() as u32);
        if !whole || total_size.is_some_and(|total| total != size) {
            return self.close(now, key, CloseReason::Contradiction);
        }
        peer.progress = now;
        peer.rejects = 0;
        peer.bytes += bytes.len() as u64;
        let who = peer.suspect(key);
        self.bound_memory(bytes.len());
        let claim = self.claims.entry(size);
        let claim = claim.or_insert_with(|| Claim::new(size));
        let was_disproved = claim.is_disproved();
        claim.take(&who, piece, bytes);
        self.judge(now);
        if self.done {
            return;
        }
        let disproved = self.claims.get(&size).is_some_and(Claim::is_disproved);
        if disproved == was_disproved {
            self.ask(now, key);
        } else {
            self.ask_all(now);
        }
    }

    /// The peer does not answer a request.
    pub fn on_rejected(&mut self, now: Instant, key: PeerKey, piece: u32) {
        let Some(peer) = self.open_peer(key) else {
            return;
        };
        let Some(asked) = peer.owes(piece) else {
            return;
        };
        // A pipeline that is turned down is one refusal: nothing was asked since the first of it.
        let again = peer.paused_until.is_none_or(|until| asked >= until);
        peer.rejects += u32::from(again);
        peer.paused_until = Some(now + REJECT_PAUSE);
        if peer.rejects >= REJECTS {
            return self.close(now, key, CloseReason::Refuses);
        }
        self.ask_all(now);
    }

    /// The addresses that are known.
    pub fn addresses(&self) -> impl Iterator<Item = Known> + '_ {
        self.addresses.known()
    }

    /// Connections that passed their handshake and are not about to be closed.
    pub fn len(&self) -> usize {
        let open = self.peers.values().filter(|peer| peer.closing.is_none());
        open.count()
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of metadata held, true or not.
    pub fn held(&self) -> usize {
        self.claims.values().map(Claim::held).sum()
    }

    fn admit(&self, info: &PeerInfo) -> Result<(), Refusal> {
        if info.id == self.id {
            return Err(Refusal::Ourselves);
        }
        // Not by id: whoever takes the id of another would have that one banned.
        if self.addresses.is_banned(info.addr, None) {
            return Err(Refusal::Banned);
        }
        let incoming = self.peers.values().filter(|peer| peer.info.incoming);
        let crowded = info.incoming && incoming.count() >= METADATA_INCOMING_MAX;
        if self.done || crowded || self.peers.len() >= METADATA_PEERS_MAX {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    fn open_peer(&mut self, key: PeerKey) -> Option<&mut Peer> {
        let peer = self.peers.get_mut(&key);
        peer.filter(|peer| peer.closing.is_none() && !self.done)
    }

    fn has_room(&self) -> bool {
        let dialling = self.addresses.dialling();
        dialling < DIALS_PER_TORRENT && self.peers.len() + dialling < METADATA_PEERS_MAX
    }

    fn dial(&mut self, now: Instant) {
        if self.done || self.dial_again.is_some_and(|again| now < again) {
            return;
        }
        self.dial_again = None;
        while self.has_room() {
            let Some(addr) = self.addresses.dial(now, &mut self.random, false) else {
                return;
            };
            self.actions.push_back(MetadataAction::Dial(addr));
        }
    }

    /// Draws all conclusions from what came, or was forgotten.
    fn judge(&mut self, now: Instant) {
        let mut sizes: Vec<u32> = self.claims.keys().copied().collect();
        while let Some(&size) = sizes.last() {
            let claim = self.claims.get_mut(&size);
            match claim.map(|claim| claim.judge(&self.info_hash)) {
                Some(Judgement::True(raw)) => return self.finish(now, raw),
                Some(Judgement::Lied(who)) => {
                    self.convict(now, &who, MetadataLie::WholeCopy);
                    // It may have had a part in other claims, too.
                    sizes = self.claims.keys().copied().collect();
                }
                Some(Judgement::Open) | None => drop(sizes.pop()),
            }
        }
    }

    /// Bans a liar and forgets what it sent.
    fn convict(&mut self, now: Instant, who: &Suspect, why: MetadataLie) {
        let ip = who.addr.ip().to_canonical();
        let here = self.peers.values().map(|peer| peer.info.addr);
        let known = self.addresses.known().map(|known| known.addr);
        let shared = here.chain(known).any(|addr| {
            let himself = addr == who.addr || Some(addr) == who.listen;
            !himself && addr.ip().to_canonical() == ip
        });
        self.addresses.ban(who, shared);
        let addr = who.addr;
        self.actions.push_back(MetadataAction::Banned { addr, why });
        self.claims
            .values_mut()
            .for_each(|claim| claim.forget(&addr));
        let here = self.peers.iter().filter(|(_, peer)| peer.info.addr == addr);
        for key in here.map(|(&key, _)| key).collect::<Vec<_>>() {
            self.close(now, key, CloseReason::Banned);
        }
    }

    /// The truth is there: whoever said otherwise is a liar.
    fn finish(&mut self, now: Instant, raw: Vec<u8>) {
        let mut liars = Vec::new();
        for (&size, claim) in &self.claims {
            if size as usize == raw.len() {
                let wrong = claim.liars(&raw).into_iter();
                liars.extend(wrong.map(|who| (who, MetadataLie::Pieces)));
            } else {
                liars.extend(claim.senders().map(|&who| (who, MetadataLie::Size)));
            }
        }
        for (who, why) in liars {
            self.convict(now, &who, why);
        }
        let claim = self.claims.get(&(raw.len() as u32));
        let from = claim.into_iter().flat_map(Claim::senders);
        let from = from.filter_map(|sender| sender.listen).collect();
        self.actions.push_back(MetadataAction::Found { raw, from });
        self.done = true;
    }

    fn close(&mut self, now: Instant, key: PeerKey, reason: CloseReason) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.closing.replace(reason).is_none() {
            peer.asked.clear();
            peer.admitted = false;
            self.actions
                .push_back(MetadataAction::Close { key, reason });
            self.admit_claims(now);
            self.ask_all(now);
        }
    }

    fn close_silent(&mut self, now: Instant) {
        let silent = |peer: &Peer| match peer.claim {
            None => now >= peer.since + HANDSHAKE_TIME,
            Some(_) => peer.is_stalled(now, SNUB_TIME),
        };
        let silent = self.peers.iter().filter(|(_, peer)| silent(peer));
        for key in silent.map(|(&key, _)| key).collect::<Vec<_>>() {
            self.close(now, key, CloseReason::Silent);
        }
    }

    /// If somebody waits for a place, or for memory, one peer gives way: one that stalls, or after a while the one
    /// that is furthest from being done.
    fn make_room(&mut self, now: Instant) {
        let turned_away = std::mem::take(&mut self.turned_away);
        let due = self.addresses.next_due(false);
        let full = self.len() + self.addresses.dialling() >= METADATA_PEERS_MAX;
        let dial = full && due.is_some_and(|due| due <= now);
        let short = self
            .first_waiting()
            .map(|(_, size)| (self.set_aside() + size).saturating_sub(METADATA_BYTES_MAX));
        // Whoever leaves has to leave what is waited for.
        let of_use = |peer: &Peer| {
            let claim = peer.claim.filter(|_| peer.admitted).map(to_usize);
            let memory = short
                .zip(claim)
                .is_some_and(|(short, claim)| claim >= short);
            dial || memory || turned_away && peer.info.incoming
        };
        let open = self.peers.iter().filter(|(_, peer)| peer.closing.is_none());
        let worst = open
            .filter(|(_, peer)| of_use(peer) && peer.gives_way(now))
            .max_by_key(|(_, peer)| (peer.is_stalled(now, STALLED), peer.remaining(now)));
        if let Some(key) = worst.map(|(&key, _)| key) {
            self.close(now, key, CloseReason::Slow);
        }
    }
}
