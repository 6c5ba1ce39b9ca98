//! How many datagrams are answered: for one source, and in all.
//!
//! The memory is fixed, whatever comes from however many forged addresses: sources share counters by a keyed hash. A source is
//! refused before it costs the others anything, and strangers cannot use up what is kept for good contacts.

use std::hash::Hasher;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::scope::Source;
use crate::base::limits::{
    QUOTA_BURST, QUOTA_COUNTERS, QUOTA_RATE, QUOTA_SOURCE_BURST, QUOTA_SOURCE_RATE,
};

/// Bytes of a datagram that count as one: larger ones count as several.
const UNIT: usize = 512;

/// Decides which datagrams are answered.
#[derive(Clone, Debug)]
pub struct Quota {
    start: Instant,
    seed: u64,
    sources: Vec<Counter>,
    strangers: Counter,
    contacts: Counter,
}

impl Quota {
    /// Nobody has asked yet. Which sources share counters depends on `seed`, which must be secret.
    pub fn new(now: Instant, seed: u64) -> Self {
        Self {
            start: now,
            seed,
            sources: vec![Counter(0); QUOTA_COUNTERS],
            strangers: Counter(0),
            contacts: Counter(0),
        }
    }

    /// Whether a datagram of `bytes` from the stranger at `from` may be answered.
    pub fn admit(&mut self, now: Instant, from: SocketAddr, bytes: usize) -> bool {
        self.decide(now, from, bytes, false)
    }

    /// Whether a datagram of `bytes` from `from` may be answered, where a good contact of ours is. Its own quota is no larger,
    /// but strangers do not eat into what all contacts share.
    pub fn admit_contact(&mut self, now: Instant, from: SocketAddr, bytes: usize) -> bool {
        self.decide(now, from, bytes, true)
    }

    fn decide(&mut self, now: Instant, from: SocketAddr, bytes: usize, contact: bool) -> bool {
        let elapsed = now.saturating_duration_since(self.start);
        let count = u32::try_from(bytes.div_ceil(UNIT))
            .unwrap_or(u32::MAX)
            .max(1);
        let counters = self.counters(from);
        let all = if contact {
            &mut self.contacts
        } else {
            &mut self.strangers
        };
        // Nobody is charged unless both let it pass: a flood that is refused here leaves no trace on those who share counters.
        if !counters
            .iter()
            .any(|&i| SOURCE.allows(self.sources[i], elapsed, count))
            || !ALL.allows(*all, elapsed, count)
        {
            return false;
        }
        ALL.charge(all, elapsed, count);
        for i in counters {
            SOURCE.charge(&mut self.sources[i], elapsed, count);
        }
        true
    }

    fn counters(&self, from: SocketAddr) -> [usize; 2] {
        use std::hash::{DefaultHasher, Hash};
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        Source::of(from).hash(&mut hasher);
        let hash = hasher.finish();
        [hash as u32, (hash >> 32) as u32].map(|half| half as usize % QUOTA_COUNTERS)
    }
}

/// What one source may send.
const SOURCE: Rate = Rate::new(QUOTA_SOURCE_RATE, QUOTA_SOURCE_BURST);
/// What all may.
const ALL: Rate = Rate::new(QUOTA_RATE, QUOTA_BURST);

/// A token bucket as a single number: when it will be full again, in nanoseconds since the start.
#[derive(Clone, Copy, Debug)]
struct Counter(u64);

/// How fast such buckets fill and how much they hold, both as times.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// Nanoseconds in which one more may pass.
    interval: u64,
    /// Nanoseconds in which an empty bucket fills.
    depth: u64,
}

impl Rate {
    const fn new(per_second: u32, burst: u32) -> Self {
        let interval = 1_000_000_000 / per_second as u64;
        Self {
            interval,
            depth: interval * burst as u64,
        }
    }

    fn allows(self, counter: Counter, elapsed: Duration, count: u32) -> bool {
        self.charged(counter, elapsed, count) <= nanos(elapsed).saturating_add(self.depth)
    }

    fn charge(self, counter: &mut Counter, elapsed: Duration, count: u32) {
        // A counter shared with a flooder may be overdrawn by others; it never owes more than a full bucket.
        let most = nanos(elapsed).saturating_add(self.depth);
        counter.0 = self.charged(*counter, elapsed, count).min(most);
    }

    fn charged(self, counter: Counter, elapsed: Duration, count: u32) -> u64 {
        let since = counter.0.max(nanos(elapsed));
        since.saturating_add(self.interval.saturating_mul(u64::from(count)))
    }
}

fn nanos(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(a: u32, port: u16) -> SocketAddr {
        SocketAddr::new((0x0800_0000u32 + a).to_be_bytes().into(), port)
    }

    fn admitted(quota: &mut Quota, now: Instant, from: SocketAddr, tries: u32) -> u32 {
        (0..tries)
            .map(|_| u32::from(quota.admit(now, from, 100)))
            .sum()
    }

    #[test]
    fn one_source_gets_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut quota = Quota::new(start, 1);
        assert_eq!(
            admitted(&mut quota, start, addr(1, 1), 1_000),
            QUOTA_SOURCE_BURST
        );
        let later = start + Duration::from_secs(3);
        assert_eq!(
            admitted(&mut quota, later, addr(1, 2), 1_000),
            3 * QUOTA_SOURCE_RATE,
            "another port is no other source"
        );
        let much_later = start + Duration::from_secs(3_600);
        assert_eq!(
            admitted(&mut quota, much_later, addr(1, 1), 1_000),
            QUOTA_SOURCE_BURST
        );
    }

    #[test]
    fn large_datagrams_count_as_several() {
        let start = Instant::now();
        let mut quota = Quota::new(start, 1);
        let large = (0..1_000)
            .filter(|_| quota.admit(start, addr(1, 1), 1_400))
            .count();
        assert_eq!(large as u32, QUOTA_SOURCE_BURST / 3);
        assert!(!quota.admit(start, addr(2, 1), usize::MAX));
    }

    #[test]
    fn a_flooder_takes_nothing_from_others() {
        let start = Instant::now();
        let mut quota = Quota::new(start, 7);
        let mut refused = 0;
        for tick in 0..10_000u32 {
            let now = start + Duration::from_millis(u64::from(tick));
            admitted(&mut quota, now, addr(1, 1), 20);
            refused += u32::from(!quota.admit(now, addr(2 + tick % 1_000, 1), 100));
        }
        assert_eq!(refused, 0);
    }

    #[test]
    fn a_flood_from_forged_addresses_is_bounded_and_spares_good_contacts() {
        let start = Instant::now();
        let mut quota = Quota::new(start, 7);
        let (mut passed, mut contacts) = (0, 0);
        for tick in 0..200_000u32 {
            let now = start + Duration::from_micros(u64::from(tick) * 50);
            passed += u32::from(quota.admit(now, addr(tick, 1), 100));
            if tick % 100 == 0 {
                contacts +=
                    u32::from(quota.admit_contact(now, addr(u32::MAX / 4 + tick % 1_000, 1), 100));
            }
        }
        assert!(passed <= QUOTA_BURST + 10 * QUOTA_RATE, "{passed}");
        assert_eq!(contacts, 2_000, "none of them was refused");
    }

    #[test]
    fn a_network_on_one_machine_is_not_one_source() {
        let start = Instant::now();
        let mut quota = Quota::new(start, 3);
        for port in 1..=1_000 {
            assert!(
                quota.admit(start, SocketAddr::from(([127, 0, 0, 1], port)), 100),
                "{port}"
            );
        }
    }

    #[test]
    fn time_that_stands_still_or_goes_back_does_no_harm() {
        let start = Instant::now() + Duration::from_secs(100);
        let mut quota = Quota::new(start, 1);
        let before = start.checked_sub(Duration::from_secs(50)).unwrap_or(start);
        assert_eq!(
            admitted(&mut quota, before, addr(1, 1), 1_000),
            QUOTA_SOURCE_BURST
        );
    }
}
