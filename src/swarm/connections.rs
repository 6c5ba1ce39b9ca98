//! Connections: whom to dial, whom to let in, whom to let go.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Swarm;
use super::action::{Action, BanReason, DropReason, PeerInfo, PeerKey, Refusal, Source};
use super::addresses::Parting;
use super::blame::Suspect;
use super::peers::Peer;
use crate::base::BLOCK_LEN;
use crate::base::limits::DIALS_PER_TORRENT;

/// A connection over which nothing passed for this long makes room for a new one.
const IDLE: Duration = Duration::from_secs(60);
/// Two connections between the same two peers that come about within this time are both sides dialling at once.
const CROSSING: Duration = Duration::from_secs(10);
/// An address that we need not or cannot use now is looked at again after this long.
const LATER: Duration = Duration::from_secs(120);
/// When all connections that we may have are in use, it is tried again after this long.
const NO_PLACE: Duration = Duration::from_secs(10);

impl Swarm {
    /// Somebody told of addresses.
    pub fn on_addresses(&mut self, now: Instant, source: Source, addrs: &[SocketAddr]) {
        for &addr in addrs {
            self.addresses.add(now, source, addr);
        }
        self.dial(now);
    }

    /// No connection came about after [`Action::Dial`].
    pub fn on_dial_failed(&mut self, now: Instant, addr: SocketAddr) {
        self.addresses.failed(now, addr);
        self.dial(now);
    }

    /// [`Action::Dial`] was not carried out, because on our side there was no place for the connection. That says nothing of the
    /// address, and nobody is dialled for a while: there is no place for others either.
    pub fn on_dial_postponed(&mut self, now: Instant, addr: SocketAddr) {
        self.addresses.postpone(now, addr, NO_PLACE);
        self.dial_again = Some(now + NO_PLACE);
    }

    /// A connection passed its handshake. On refusal close it; nothing more is to be said about it.
    ///
    /// When both sides dialled at once, the connection that the greater peer id made is kept, on both sides.
    ///
    /// # Errors
    /// If the peer is banned, connected already or ourselves, or there is no room.
    pub fn on_connected(&mut self, now: Instant, info: PeerInfo) -> Result<PeerKey, Refusal> {
        let dialled = (!info.incoming).then_some(info.addr);
        if let Err(refusal) = self.admit(now, &info) {
            if let Some(addr) = dialled {
                match refusal {
                    Refusal::Ourselves => self.addresses.is_ours(addr),
                    Refusal::Banned | Refusal::Duplicate | Refusal::Full => {
                        self.addresses.postpone(now, addr, LATER);
                    }
                }
                self.dial(now);
            }
            return Err(refusal);
        }
        let peer = Peer::new(now, info);
        if let Some(addr) = peer.dialable() {
            if info.incoming {
                self.addresses.add(now, Source::Incoming, addr);
            }
            self.addresses.connected(addr);
        }
        Ok(self.peers.insert(peer))
    }

    /// The connection is about to end: nothing more is asked of the peer. Optional, before what it was asked for comes back, so
    /// that this is not granted to it once more.
    pub fn on_closing(&mut self, key: PeerKey) {
        self.peers.close(key);
        self.starved.remove(&key);
    }

    /// A connection ended. Everything granted has come back before; what has not is taken back here. `clean`: neither side
    /// broke the protocol.
    pub fn on_disconnected(&mut self, now: Instant, key: PeerKey, clean: bool) {
        let Some(peer) = self.peers.remove(key) else {
            return;
        };
        for grant in self.requests.take_all(key) {
            self.give_back(grant.piece, grant.blocks);
        }
        self.starved.remove(&key);
        self.forget_have(&peer.have);
        self.lures.remove(key, peer.lure);
        if let Some(addr) = peer.dialable() {
            let totals = peer.tally.downloaded() + peer.tally.uploaded();
            let lasted = now.saturating_duration_since(peer.since) > IDLE;
            let seed = peer.have.is_all() || peer.upload_only;
            // A seed may hang up on a seed before it says that it is one.
            let needless = self.is_complete() && totals == 0 && !peer.interested;
            let parting = if seed {
                Parting::Seed
            } else if needless && clean {
                Parting::Needless
            } else if clean && (totals > 0 || lasted) {
                Parting::Useful
            } else {
                Parting::Useless
            };
            self.addresses.disconnected(now, addr, parting);
        }
        self.settle(now);
        self.dial(now);
    }

    /// The peer told on which port it takes connections (BEP 10 `p`).
    pub fn on_listen_port(&mut self, now: Instant, key: PeerKey, port: u16) {
        let Some(peer) = self.peers.get_mut(key) else {
            return;
        };
        if !peer.info.incoming || peer.info.listen.is_some() || port == 0 {
            return;
        }
        let addr = SocketAddr::new(peer.info.addr.ip(), port);
        peer.info.listen = Some(addr);
        self.addresses.add(now, Source::Incoming, addr);
        self.addresses.connected(addr);
    }

    /// Dials as long as there is room and somebody to dial.
    pub(super) fn dial(&mut self, now: Instant) {
        if self.dial_again.is_some_and(|again| now < again) {
            return;
        }
        self.dial_again = None;
        while self.may_dial() {
            let seeding = self.is_complete();
            let Some(addr) = self.addresses.dial(now, &mut self.random, seeding) else {
                return;
            };
            self.actions.push_back(Action::Dial(addr));
        }
    }

    /// When somebody can be dialled next.
    pub(super) fn next_dial(&self) -> Option<Instant> {
        let due = self
            .may_dial()
            .then(|| self.addresses.next_due(self.is_complete()))
            .flatten()?;
        Some(self.dial_again.map_or(due, |again| due.max(again)))
    }

    fn may_dial(&self) -> bool {
        let dialling = self.addresses.dialling();
        let room = self.peers.staying() + dialling < self.config.max_peers;
        !self.paused && room && dialling < DIALS_PER_TORRENT
    }

    fn admit(&mut self, now: Instant, info: &PeerInfo) -> Result<(), Refusal> {
        if info.id == self.config.id {
            return Err(Refusal::Ourselves);
        }
        let listen = info.listen.unwrap_or(info.addr);
        if self.addresses.is_banned(info.addr, Some(info.id))
            || self.addresses.is_banned(listen, None)
        {
            return Err(Refusal::Banned);
        }
        let twin = self
            .peers
            .iter()
            .find(|(_, peer)| peer.info.id == info.id && !peer.closing);
        if let Some((twin, peer)) = twin {
            if !self.supersedes(now, info, peer) {
                return Err(Refusal::Duplicate);
            }
            self.disconnect(twin, DropReason::Duplicate);
        }
        if self.peers.staying() < self.config.max_peers {
            return Ok(());
        }
        let idle = self.idlest(now).ok_or(Refusal::Full)?;
        self.disconnect(idle, DropReason::Idle);
        Ok(())
    }

    /// Whether a new connection is to be kept rather than the one to the same peer that there is.
    fn supersedes(&self, now: Instant, new: &PeerInfo, old: &Peer) -> bool {
        let crossed = new.incoming != old.info.incoming
            && new.addr.ip() == old.info.addr.ip()
            && now.saturating_duration_since(old.since) < CROSSING;
        let they_are_greater = new.id > self.config.id;
        crossed && new.incoming == they_are_greater
    }

    /// The connection over which nothing passed for longest, if that is long.
    fn idlest(&self, now: Instant) -> Option<PeerKey> {
        let staying = self.peers.iter().filter(|(_, peer)| !peer.closing);
        let (key, peer) = staying.min_by_key(|(_, peer)| peer.last_payload)?;
        (now.saturating_duration_since(peer.last_payload) > IDLE).then_some(key)
    }

    /// Asks for a connection to be closed, once.
    pub(super) fn disconnect(&mut self, key: PeerKey, reason: DropReason) {
        if self.peers.close(key) {
            self.starved.remove(&key);
            self.actions.push_back(Action::Disconnect { key, reason });
        }
    }

    /// Lets go of a peer that has no use for us nor we for it.
    pub(super) fn part_if_both_seed(&mut self, key: PeerKey) {
        let done = self.is_complete();
        let seed = |peer: &Peer| peer.have.is_all() || peer.upload_only;
        if done && self.peers.get(key).is_some_and(seed) {
            self.disconnect(key, DropReason::BothSeeds);
        }
    }

    /// A peer was proven to lie: it goes, and so does what it sent of unfinished pieces.
    pub(super) fn ban(&mut self, liar: &Suspect, why: BanReason) {
        let ip = liar.addr.ip();
        let shares = |peer: &Peer| peer.info.addr.ip() == ip && peer.info.id != liar.id;
        let shared = self.peers.iter().any(|(_, peer)| shares(peer));
        self.addresses.ban(liar, shared);
        let addr = liar.listen.unwrap_or(liar.addr);
        self.actions.push_back(Action::Banned { addr, why });
        for (piece, blocks) in self.pieces.disown(liar.key) {
            self.tally.wasted(u64::from(blocks) * u64::from(BLOCK_LEN));
            self.refresh(piece);
            self.freed = true;
        }
        for key in self.peers.keys() {
            let same =
                |p: &Peer| key == liar.key || (p.info.id == liar.id && p.info.addr.ip() == ip);
            if self.peers.get(key).is_some_and(same) {
                self.disconnect(key, DropReason::Banned);
            }
        }
    }
}
