//! Which peers announced which torrents to this node (BEP 5), and what it tells of them: peers, numbers (BEP 33) and names of
//! torrents (BEP 51).
//!
//! Memory is bounded for each torrent, for each host that announces, and in all. Where a bound is reached the entry that would
//! expire first makes room; a host at its own bound pushes out none but its own entries, and it takes hundreds of hosts to push
//! out anybody else's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::message::{Samples, Scrape};
use super::scope::{Scope, Source, scope};
use super::scrape::Filter;
use crate::base::InfoHash;
use crate::base::limits::{
    ANNOUNCED_MAX, ANNOUNCED_PER_ADDRESS_MAX, ANNOUNCED_PER_SOURCE_MAX, ANNOUNCED_PER_TORRENT_MAX,
    SAMPLES_MAX,
};
use crate::base::random::Random;

/// How long an announce holds: twice the quarter of an hour after which peers repeat it.
pub const LIFE: Duration = Duration::from_secs(30 * 60);
/// How long one sample of torrents is handed out: another one before would only serve those who collect them (BEP 51).
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// When an announce came, as a number that grows with each: the lowest expires first.
type Turn = u64;

/// The peers that announced themselves.
#[derive(Clone, Debug)]
pub struct Announced {
    /// The peers of each in the order in which they expire.
    torrents: BTreeMap<InfoHash, Vec<Peer>>,
    /// All announces in the order in which they expire.
    order: BTreeMap<Turn, Announce>,
    by_source: BTreeMap<Source, BTreeSet<Turn>>,
    turn: Turn,
    sample: Option<Sample>,
    random: Random,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    addr: SocketAddr,
    seed: bool,
    turn: Turn,
}

#[derive(Clone, Copy, Debug)]
struct Announce {
    info_hash: InfoHash,
    addr: SocketAddr,
    expires: Instant,
}

#[derive(Clone, Debug)]
struct Sample {
    until: Instant,
    hashes: Vec<InfoHash>,
}

impl Announced {
    /// Nobody yet. What is chosen at random follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            torrents: BTreeMap::new(),
            order: BTreeMap::new(),
            by_source: BTreeMap::new(),
            turn: 0,
            sample: None,
            random: Random::new(seed),
        }
    }

    /// Remembers that the peer at `addr` has `info_hash`, all of it if it is a `seed`, for half an hour from now.
    ///
    /// An address without a port, or where no peer can be, is left out. Whoever announces must have proved to be at the address.
    pub fn insert(&mut self, now: Instant, info_hash: InfoHash, addr: SocketAddr, seed: bool) {
        self.handle_timeout(now);
        let Some(scope) = scope(addr.ip()).filter(|_| addr.port() != 0) else {
            return;
        };
        self.remove(info_hash, addr);
        self.make_room(info_hash, addr, scope);
        let turn = self.turn;
        self.turn += 1;
        let peer = Peer { addr, seed, turn };
        self.torrents.entry(info_hash).or_default().push(peer);
        self.by_source
            .entry(Source::site(addr))
            .or_default()
            .insert(turn);
        let expires = now + LIFE;
        self.order.insert(
            turn,
            Announce {
                info_hash,
                addr,
                expires,
            },
        );
    }

    /// Up to `count` random peers that announced `info_hash` and for whose addresses `fits` holds; without those that have all
    /// of it if the asker has `no_seeds` in mind (BEP 33).
    pub fn peers(
        &mut self,
        now: Instant,
        info_hash: InfoHash,
        count: usize,
        no_seeds: bool,
        fits: impl Fn(SocketAddr) -> bool,
    ) -> Vec<SocketAddr> {
        self.handle_timeout(now);
        let peers = self.torrents.get(&info_hash).map_or(&[][..], Vec::as_slice);
        let mut chosen: Vec<_> = peers
            .iter()
            .filter(|peer| !(no_seeds && peer.seed) && fits(peer.addr))
            .map(|peer| peer.addr)
            .collect();
        for i in 0..count.min(chosen.len()) {
            let other = i + self.random.below(chosen.len() - i);
            chosen.swap(i, other);
        }
        chosen.truncate(count);
        chosen
    }

    /// How many announced `info_hash`, as filters that others can add up (BEP 33). `None` if nobody did.
    pub fn scrape(&mut self, now: Instant, info_hash: InfoHash) -> Option<Scrape> {
        self.handle_timeout(now);
        let (mut seeds, mut leechers) = (Filter::EMPTY, Filter::EMPTY);
        for peer in self.torrents.get(&info_hash)? {
            let filter = if peer.seed { &mut seeds } else { &mut leechers };
            filter.insert(peer.addr.ip());
        }
        Some(Scrape {
            seeds: seeds.into(),
            leechers: leechers.into(),
        })
    }

    /// Up to [`SAMPLES_MAX`] of the torrents announced here, the same ones until the interval is over (BEP 51).
    pub fn sample(&mut self, now: Instant) -> Samples {
        self.handle_timeout(now);
        let sample = match self.sample.take().filter(|sample| now < sample.until) {
            Some(sample) => sample,
            None => self.draw(now),
        };
        let left = sample.until.saturating_duration_since(now);
        let samples = Samples {
            interval: u32::try_from(left.as_secs()).unwrap_or(u32::MAX),
            total: u32::try_from(self.torrents.len()).unwrap_or(u32::MAX),
            hashes: sample.hashes.clone(),
        };
        self.sample = Some(sample);
        samples
    }

    /// Announces held.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nobody announced anything.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Torrents that somebody announced.
    pub fn torrents(&self) -> usize {
        self.torrents.len()
    }

    /// When the next announce expires. Nothing goes wrong if nobody calls then: what has expired is never told.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.order.first_key_value().map(|(_, first)| first.expires)
    }

    /// Forgets what has expired.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, first)) = self.order.first_key_value()
            && first.expires <= now
        {
            self.remove(first.info_hash, first.addr);
        }
    }

    fn draw(&mut self, now: Instant) -> Sample {
        let mut hashes: Vec<_> = self.torrents.keys().copied().collect();
        for i in 0..SAMPLES_MAX.min(hashes.len()) {
            let other = i + self.random.below(hashes.len() - i);
            hashes.swap(i, other);
        }
        hashes.truncate(SAMPLES_MAX);
        let until = now + SAMPLE_INTERVAL;
        Sample { until, hashes }
    }

    /// Drops what stands in the way of one more announce, the narrowest bound first.
    fn make_room(&mut self, info_hash: InfoHash, addr: SocketAddr, scope: Scope) {
        if scope == Scope::Global {
            let here = |peer: &Peer| peer.addr.ip() == addr.ip();
            self.keep_below(info_hash, ANNOUNCED_PER_ADDRESS_MAX, here);
        }
        if let Some(turns) = self.by_source.get(&Source::site(addr))
            && turns.len() >= ANNOUNCED_PER_SOURCE_MAX
            && let Some(&first) = turns.first()
        {
            self.remove_turn(first);
        }
        self.keep_below(info_hash, ANNOUNCED_PER_TORRENT_MAX, |_| true);
        if self.order.len() >= ANNOUNCED_MAX
            && let Some((&first, _)) = self.order.first_key_value()
        {
            self.remove_turn(first);
        }
    }

    /// Of the peers of a torrent that `count_in` picks, drops the one that expires first if there are `max`.
    fn keep_below(&mut self, info_hash: InfoHash, max: usize, count_in: impl Fn(&Peer) -> bool) {
        let Some(peers) = self.torrents.get(&info_hash) else {
            return;
        };
        let mut turns = peers
            .iter()
            .filter(|peer| count_in(peer))
            .map(|peer| peer.turn);
        if let Some(first) = turns.next()
            && 1 + turns.count() >= max
        {
            self.remove_turn(first);
        }
    }

    fn remove_turn(&mut self, turn: Turn) {
        if let Some(&Announce {
            info_hash, addr, ..
        }) = self.order.get(&turn)
        {
            self.remove(info_hash, addr);
        }
    }

    fn remove(&mut self, info_hash: InfoHash, addr: SocketAddr) {
        let Some(peers) = self.torrents.get_mut(&info_hash) else {
            return;
        };
        let Some(index) = peers.iter().position(|peer| peer.addr == addr) else {
            return;
        };
        let Peer { turn, .. } = peers.remove(index);
        if peers.is_empty() {
            self.torrents.remove(&info_hash);
        }
        self.order.remove(&turn);
        let source = Source::site(addr);
        if let Some(turns) = self.by_source.get_mut(&source) {
            turns.remove(&turn);
            if turns.is_empty() {
                self.by_source.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests;
