//! The global rate limits: one bucket that every connection of a direction draws from.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::rate::TokenBucket;

/// A limit on bytes per second, shared by many connections; without a limit it costs nothing.
#[derive(Debug)]
pub struct Throttle {
    bucket: Option<Mutex<TokenBucket>>,
    quantum: usize,
}

impl Throttle {
    /// Turns that connections get per second, in all, if the rate allows.
    const TURNS: u64 = 50;
    /// Bytes of the smallest turn: less costs more for the call than for the bytes.
    const QUANTUM_MIN: usize = 1 << 10;
    /// Bytes of the largest turn: more would not make the calls cheaper.
    const QUANTUM_MAX: usize = 64 << 10;

    /// At most `rate` bytes per second, or no limit.
    pub fn new(now: Instant, rate: Option<u64>) -> Self {
        let bucket = rate.map(|rate| Mutex::new(TokenBucket::new(now, rate)));
        let quantum = rate.map_or(usize::MAX, |rate| {
            let share = usize::try_from(rate / Self::TURNS).unwrap_or(usize::MAX);
            share.clamp(Self::QUANTUM_MIN, Self::QUANTUM_MAX)
        });
        Self { bucket, quantum }
    }

    /// The most bytes that one connection should take at once, so that all get their turn soon; no bound without a limit.
    pub fn quantum(&self) -> usize {
        self.quantum
    }

    /// Takes `bytes` from the budget and says how long to wait before going on.
    pub fn take(&self, now: Instant, bytes: u64) -> Duration {
        self.bucket.as_ref().map_or(Duration::ZERO, |bucket| {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(now, bytes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest that one of `peers` connections, all with bytes waiting, waits for its turn; and the bytes of each.
    fn crowd(rate: u64, peers: usize, seconds: u64) -> (Duration, Vec<u64>) {
        let start = Instant::now();
        let throttle = Throttle::new(start, Some(rate));
        let mut read_at = vec![start; peers];
        let mut bytes = vec![0; peers];
        let mut longest = Duration::ZERO;
        loop {
            let next = (0..peers).min_by_key(|&peer| read_at[peer]).unwrap();
            let now = read_at[next];
            if now >= start + Duration::from_secs(seconds) {
                return (longest, bytes);
            }
            let wait = throttle.take(now, throttle.quantum() as u64);
            // A wait of no time would let one connection spin in this model.
            read_at[next] = now + wait.max(Duration::from_micros(10));
            bytes[next] += throttle.quantum() as u64;
            longest = longest.max(wait);
        }
    }

    #[test]
    fn a_crowd_under_a_low_limit_gets_its_turns_soon_and_fairly() {
        for (rate, peers) in [(50_000, 20), (50_000, 40), (5_000, 40), (10_000_000, 80)] {
            let (longest, bytes) = crowd(rate, peers, 60);
            assert!(
                longest < Duration::from_secs(10),
                "{rate} {peers}: {longest:?}"
            );
            let (least, most) = (bytes.iter().min().unwrap(), bytes.iter().max().unwrap());
            let turn = Throttle::new(Instant::now(), Some(rate)).quantum() as u64;
            // A burst, before there is any debt, goes to whoever comes first.
            assert!(
                most - least <= rate / 5 + 2 * turn,
                "{rate} {peers}: {bytes:?}"
            );
            let all: u64 = bytes.iter().sum();
            let most = rate * 61 + peers as u64 * turn;
            assert!((rate * 59..most).contains(&all), "{rate} {peers}: {all}");
        }
    }

    #[test]
    fn without_a_limit_nobody_waits_and_nothing_is_cut() {
        let now = Instant::now();
        let throttle = Throttle::new(now, None);
        assert_eq!(throttle.quantum(), usize::MAX);
        assert_eq!(throttle.take(now, u64::MAX), Duration::ZERO);
    }
}
