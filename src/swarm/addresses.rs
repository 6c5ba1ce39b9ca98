//! Where peers may be found: what is known of each address, and when it may be dialled.
//!
//! Every address comes from somebody who may lie: the book is bounded, tries are spaced ever wider and end, and repeating an
//! address does not bring it forward. Only the user's own are tried for ever, every few seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::action::Source;
use super::bans::Bans;
use super::blame::Suspect;
use crate::base::limits::ADDRESSES_MAX;
use crate::base::{PeerId, Random};

/// What is known of one address, for the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The address.
    pub addr: SocketAddr,
    /// Who told of it; the most trusted, if several did.
    pub source: Source,
    /// Connections made to it, or by it, in this run.
    pub successes: u32,
    /// Failed tries since the last connection.
    pub failures: u32,
    /// There is a connection now.
    pub connected: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle { due: Instant },
    Dialling,
    Connected,
}

#[derive(Clone, Debug)]
struct Entry {
    source: Source,
    state: State,
    successes: u32,
    failures: u32,
    /// It had everything when we saw it last.
    seed: bool,
    /// Connections in a row that neither side had a use for.
    needless: u32,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// The peer has everything, or wants nothing more.
    Seed,
    /// We have everything, and the peer asked for nothing of it.
    Needless,
    /// Something was exchanged, or might have been.
    Useful,
    /// Nothing was exchanged.
    Useless,
}

/// The addresses of one torrent.
#[derive(Debug, Default)]
pub(super) struct AddressBook {
    entries: BTreeMap<SocketAddr, Entry>,
    own: BTreeSet<SocketAddr>,
    bans: Bans,
    dialling: usize,
}

/// Failed tries after which an address that is not the user's rests.
const TRIES: u32 = 6;
/// How long it rests before hearing of it again brings it back.
const REST: Duration = Duration::from_secs(1_800);

impl AddressBook {
    pub(super) fn new(own: Vec<SocketAddr>) -> Self {
        Self {
            own: own.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Somebody told of an address.
    pub(super) fn add(&mut self, now: Instant, source: Source, addr: SocketAddr) {
        if !is_dialable(addr) || self.own.contains(&addr) || self.is_banned(addr, None) {
            return;
        }
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.source = entry.source.min(source);
            let rested = matches!(entry.state, State::Idle { due } if due <= now);
            if entry.failures >= TRIES && rested {
                entry.failures = 0;
            }
            return;
        }
        if self.entries.len() >= ADDRESSES_MAX && !self.make_room(source) {
            return;
        }
        let entry = Entry {
            source,
            state: State::Idle { due: now },
            successes: 0,
            failures: 0,
            seed: false,
            needless: 0,
        };
        self.entries.insert(addr, entry);
    }

    /// The best address that may be dialled now; it counts as being dialled from here on.
    pub(super) fn dial(
        &mut self,
        now: Instant,
        random: &mut Random,
        seeding: bool,
    ) -> Option<SocketAddr> {
        let salt = random.next();
        let ready = self.entries.iter().filter(|(_, entry)| {
            entry.may_dial(seeding) && matches!(entry.state, State::Idle { due } if due <= now)
        });
        let best = ready.min_by_key(|(addr, entry)| {
            // Whoever was named and stays silent may not keep those waiting who might answer.
            let known = entry.successes > 0 || entry.source <= Source::Stored;
            let trusted = known && entry.failures == 0;
            (!trusted, entry.failures, entry.source, scramble(addr, salt))
        });
        let addr = *best?.0;
        self.set_state(addr, State::Dialling);
        Some(addr)
    }

    /// When the next address becomes ready, if there is one.
    pub(super) fn next_due(&self, seeding: bool) -> Option<Instant> {
        let entries = self.entries.values().filter(|e| e.may_dial(seeding));
        let due = entries.filter_map(|entry| match entry.state {
            State::Idle { due } => Some(due),
            State::Dialling | State::Connected => None,
        });
        due.min()
    }

    /// Connections being made.
    pub(super) fn dialling(&self) -> usize {
        self.dialling
    }

    /// No connection came about, or none that was of use.
    pub(super) fn failed(&mut self, now: Instant, addr: SocketAddr) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.failures = entry.failures.saturating_add(1);
            let due = now + back_off(entry.source, entry.failures);
            self.set_state(addr, State::Idle { due });
        }
    }

    /// The address answers, but we cannot or need not be connected to it for a while.
    pub(super) fn postpone(&mut self, now: Instant, addr: SocketAddr, by: Duration) {
        self.set_state(addr, State::Idle { due: now + by });
    }

    /// There is a connection.
    pub(super) fn connected(&mut self, addr: SocketAddr) {
        self.set_state(addr, State::Connected);
        if let Some(entry) = self.entries.get_mut(&addr) {
            entry.successes = entry.successes.saturating_add(1);
        }
    }

    /// The connection ended.
    pub(super) fn disconnected(&mut self, now: Instant, addr: SocketAddr, parting: Parting) {
        let Some(entry) = self.entries.get_mut(&addr) else {
            return;
        };
        entry.seed = parting == Parting::Seed;
        entry.needless = match parting {
            Parting::Needless => entry.needless.saturating_add(1),
            Parting::Seed | Parting::Useful | Parting::Useless => 0,
        };
        let wait = match parting {
            Parting::Useless => return self.failed(now, addr),
            Parting::Needless => needless_wait(entry.needless),
            Parting::Seed | Parting::Useful => back_off(entry.source, 1),
        };
        entry.failures = 0;
        self.set_state(addr, State::Idle { due: now + wait });
    }

    /// The address leads to ourselves.
    pub(super) fn is_ours(&mut self, addr: SocketAddr) {
        self.forget(addr);
        if self.own.len() < ADDRESSES_MAX {
            self.own.insert(addr);
        }
    }

    /// Never again. `shared`: others use the same IP address, so that only this endpoint and id are banned.
    pub(super) fn ban(&mut self, liar: &Suspect, shared: bool) {
        self.bans.add(liar, shared);
        let banned = self
            .entries
            .keys()
            .filter(|addr| self.is_banned(**addr, None));
        for addr in banned.copied().collect::<Vec<_>>() {
            self.forget(addr);
        }
    }

    /// Whether a peer at `addr`, with this id if it is known, is banned.
    pub(super) fn is_banned(&self, addr: SocketAddr, id: Option<PeerId>) -> bool {
        self.bans.cover(addr, id)
    }

    /// What is known of the addresses.
    pub(super) fn known(&self) -> impl Iterator<Item = Known> + '_ {
        self.entries.iter().map(|(&addr, entry)| Known {
            addr,
            source: entry.source,
            successes: entry.successes,
            failures: entry.failures,
            connected: entry.state == State::Connected,
        })
    }

    fn set_state(&mut self, addr: SocketAddr, state: State) {
        if let Some(entry) = self.entries.get_mut(&addr) {
            self.dialling -= usize::from(entry.state == State::Dialling);
            entry.state = state;
            self.dialling += usize::from(entry.state == State::Dialling);
        }
    }

    fn forget(&mut self, addr: SocketAddr) {
        if let Some(entry) = self.entries.remove(&addr) {
            self.dialling -= usize::from(entry.state == State::Dialling);
        }
    }

    /// Drops the worst address if it is worse than a new one from `source`.
    fn make_room(&mut self, source: Source) -> bool {
        let idle = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry.state, State::Idle { .. }) && entry.successes == 0);
        let worst = idle.max_by_key(|(_, entry)| (entry.failures, entry.source));
        let worst = worst.filter(|(_, entry)| entry.failures > 0 || entry.source > source);
        let Some(addr) = worst.map(|(addr, _)| *addr) else {
            return false;
        };
        self.forget(addr);
        true
    }
}

impl Entry {
    fn may_dial(&self, seeding: bool) -> bool {
        let fresh = self.failures < TRIES || self.source == Source::User;
        let of_use = !seeding || !self.seed;
        fresh && of_use
    }
}

/// Time to wait after `failures` tries in a row.
fn back_off(source: Source, failures: u32) -> Duration {
    if source == Source::User {
        return Duration::from_secs(u64::from(failures.clamp(1, 5)));
    }
    if failures >= TRIES {
        return REST;
    }
    Duration::from_secs(15 << (failures.saturating_sub(1)))
}

/// Time to wait after `times` connections in a row that neither side had a use for: seconds at first, since the other may only
/// have been busy, ten minutes in the end.
fn needless_wait(times: u32) -> Duration {
    Duration::from_secs(5 << times.min(8)).min(Duration::from_secs(600))
}

fn is_dialable(addr: SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// Puts equally good addresses in an order that nobody outside can foresee.
fn scramble(addr: &SocketAddr, salt: u64) -> u64 {
    let bits = match addr.ip() {
        IpAddr::V4(ip) => u128::from(ip.to_bits()),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let folded =
        (bits as u64) ^ ((bits >> 64) as u64).rotate_left(17) ^ (u64::from(addr.port()) << 40);
    Random::new(folded ^ salt).next()
}

#[cfg(test)]
mod tests {
    use super::super::action::PeerKey;
    use super::*;

    fn addr(n: u8) -> SocketAddr {
        ([10, 0, 0, n], 6881).into()
    }

    #[test]
    fn who_is_banned_is_forgotten_with_all_at_the_same_ip_if_that_is_banned() {
        let now = Instant::now();
        let mut book = AddressBook::new(vec![]);
        let liar = |port, listen| Suspect {
            key: PeerKey(1),
            addr: ([10, 0, 0, 1], port).into(),
            listen,
            id: PeerId([7; 20]),
        };
        for port in 1..=4 {
            book.add(now, Source::Tracker, ([10, 0, 0, 1], port).into());
        }
        book.add(now, Source::Tracker, addr(2));
        book.ban(&liar(1, Some(([10, 0, 0, 1], 2).into())), true);
        assert_eq!(book.known().count(), 3);
        book.ban(&liar(3, None), false);
        assert_eq!(
            book.known().map(|known| known.addr).collect::<Vec<_>>(),
            [addr(2)]
        );
    }

    /// Tries `addr` whenever it is due and fails each time; returns the waits in seconds.
    fn waits(book: &mut AddressBook, start: Instant, tries: usize) -> Vec<u64> {
        let mut random = Random::new(1);
        let mut now = start;
        let mut waits = Vec::new();
        for _ in 0..tries {
            let Some(due) = book.next_due(false) else {
                break;
            };
            waits.push((due - now).as_secs());
            now = due;
            let addr = book.dial(now, &mut random, false).unwrap();
            book.failed(now, addr);
        }
        waits
    }

    #[test]
    fn a_dead_address_is_tried_ever_less_and_then_rests() {
        let now = Instant::now();
        let mut book = AddressBook::new(vec![]);
        book.add(now, Source::Tracker, addr(1));
        assert_eq!(waits(&mut book, now, 99), [0, 15, 30, 60, 120, 240]);
        let mut later = now + Duration::from_secs(600);
        book.add(later, Source::Tracker, addr(1));
        assert_eq!(book.next_due(false), None, "it was heard of too soon");
        later += REST;
        book.add(later, Source::Tracker, addr(1));
        assert!(book.dial(later, &mut Random::new(1), false).is_some());
    }

    #[test]
    fn the_users_address_is_tried_every_few_seconds_for_ever() {
        let now = Instant::now();
        let mut book = AddressBook::new(vec![]);
        book.add(now, Source::User, addr(1));
        let waits = waits(&mut book, now, 50);
        assert_eq!(waits.len(), 50);
        assert!(waits.iter().all(|&wait| wait <= 5), "{waits:?}");
    }

    #[test]
    fn the_users_and_known_good_addresses_come_first() {
        let now = Instant::now();
        let mut book = AddressBook::new(vec![]);
        for n in 10..30 {
            book.add(now, Source::Pex, addr(n));
        }
        book.add(now, Source::Stored, addr(2));
        book.add(now, Source::User, addr(1));
        let mut random = Random::new(3);
        let order: Vec<_> = (0..3).map(|_| book.dial(now, &mut random, false)).collect();
        assert_eq!(order[..2], [Some(addr(1)), Some(addr(2))]);
        assert_eq!(book.dialling(), 3);
    }

    #[test]
    fn silent_addresses_of_the_user_do_not_keep_another_waiting() {
        let mut now = Instant::now();
        let mut book = AddressBook::new(vec![]);
        for n in 1..=24 {
            book.add(now, Source::User, addr(n));
        }
        book.add(now, Source::Dht, addr(99));
        let mut random = Random::new(5);
        let mut dialled = Vec::new();
        for _ in 0..3 {
            let slots = (0..15).map_while(|_| book.dial(now, &mut random, false));
            let slots: Vec<_> = slots.collect();
            now += Duration::from_secs(10);
            slots.iter().for_each(|&addr| book.failed(now, addr));
            dialled.extend(slots);
            now += Duration::from_secs(10);
        }
        let at = dialled.iter().position(|&dialled| dialled == addr(99));
        assert_eq!(at, Some(24), "it comes right after those not tried yet");
    }

    #[test]
    fn nobody_dials_himself_or_an_address_that_cannot_be() {
        let now = Instant::now();
        let mut book = AddressBook::new(vec![addr(1)]);
        book.add(now, Source::Pex, addr(1));
        book.add(now, Source::Pex, ([10, 0, 0, 2], 0).into());
        book.add(now, Source::Pex, ([0, 0, 0, 0], 1).into());
        book.add(now, Source::Pex, ([224, 0, 0, 1], 1).into());
        book.add(now, Source::Pex, ([255, 255, 255, 255], 1).into());
        book.add(now, Source::Pex, addr(3));
        book.is_ours(addr(3));
        book.add(now, Source::User, addr(3));
        assert_eq!(book.known().count(), 0);
    }

    #[test]
    fn a_flood_of_addresses_displaces_only_worse_ones() {
        let now = Instant::now();
        let mut book = AddressBook::new(vec![]);
        let many = |n: usize| SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 1));
        for n in 0..ADDRESSES_MAX {
            book.add(now, Source::Tracker, many(n));
        }
        for n in 0..ADDRESSES_MAX {
            book.add(now, Source::Pex, many(n + 10_000));
        }
        assert!(book.known().all(|known| known.source == Source::Tracker));
        book.add(now, Source::User, addr(1));
        assert_eq!(book.known().count(), ADDRESSES_MAX);
        assert!(book.known().any(|known| known.source == Source::User));
    }

    #[test]
    fn a_seed_is_not_dialled_by_a_seed() {
        let now = Instant::now();
        let mut book = AddressBook::new(vec![]);
        book.add(now, Source::Tracker, addr(1));
        book.connected(addr(1));
        book.disconnected(now, addr(1), Parting::Seed);
        assert_eq!(book.next_due(true), None);
        assert!(book.next_due(false).is_some());
    }

    #[test]
    fn who_wants_nothing_of_a_seed_is_dialled_ever_less_even_at_the_users_wish() {
        let mut now = Instant::now();
        let mut book = AddressBook::new(vec![]);
        book.add(now, Source::User, addr(1));
        let mut waits = Vec::new();
        for _ in 0..9 {
            book.connected(addr(1));
            book.disconnected(now, addr(1), Parting::Needless);
            let due = book.next_due(true).unwrap();
            waits.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        book.connected(addr(1));
        book.disconnected(now, addr(1), Parting::Useful);
        assert!(book.next_due(true).unwrap() <= now + Duration::from_secs(5));
    }
}
