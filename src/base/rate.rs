//! How fast bytes flow ([`Meter`]) and how fast they may ([`TokenBucket`]). Time is an argument.

use std::time::{Duration, Instant};

/// Measures a flow in bytes per second: an exponential average over about [`Meter::WINDOW`].
#[derive(Clone, Debug)]
pub struct Meter {
    /// The average so far, of which `weight` has been filled in: a young meter is not diluted by the time before it began.
    rate: f64,
    weight: f64,
    pending: u64,
    total: u64,
    since: Instant,
}

impl Meter {
    /// The time over which the average forgets: long enough to be steady, short enough to follow a stall.
    pub const WINDOW: Duration = Duration::from_secs(5);
    /// Bytes are folded into the average at most this often.
    const STEP: Duration = Duration::from_millis(250);

    /// A meter that has seen nothing at `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            rate: 0.0,
            weight: 0.0,
            pending: 0,
            total: 0,
            since: now,
        }
    }

    /// Counts `bytes` that passed at `now`.
    pub fn add(&mut self, now: Instant, bytes: u64) {
        self.fold(now);
        self.pending += bytes;
        self.total += bytes;
    }

    /// Bytes per second as of `now`.
    pub fn rate(&mut self, now: Instant) -> u64 {
        self.fold(now);
        if self.weight == 0.0 {
            return 0;
        }
        (self.rate / self.weight) as u64
    }

    /// All bytes ever counted.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How much of the average is left after `time`.
    fn keep(time: Duration) -> f64 {
        (-time.as_secs_f64() / Self::WINDOW.as_secs_f64()).exp()
    }

    fn fold(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed < Self::STEP {
            return;
        }
        // All that is pending came within a step of `since`; what follows, if it is long, was silence.
        let busy = if elapsed > 2 * Self::STEP {
            Self::STEP
        } else {
            elapsed
        };
        let keep = Self::keep(busy);
        self.rate = self.rate * keep + self.pending as f64 / busy.as_secs_f64() * (1.0 - keep);
        self.rate *= Self::keep(elapsed - busy);
        self.weight = 1.0 - (1.0 - self.weight) * Self::keep(elapsed);
        self.pending = 0;
        self.since = now;
    }
}

/// Lets bytes through at a bounded rate, with bursts of up to a fifth of a second.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: u64,
    tokens: f64,
    since: Instant,
}

impl TokenBucket {
    /// How much unused time is saved up, in seconds.
    const BURST: f64 = 0.2;

    /// A full bucket for `rate` bytes per second (at least 1).
    pub fn new(now: Instant, rate: u64) -> Self {
        let rate = rate.max(1);
        Self {
            rate,
            tokens: rate as f64 * Self::BURST,
            since: now,
        }
    }

    /// Takes `bytes` out, going into debt if need be, and says how long to wait before they may pass.
    ///
    /// A debt, rather than a refusal, keeps one large message from starving behind many small ones.
    pub fn take(&mut self, now: Instant, bytes: u64) -> Duration {
        let elapsed = now.saturating_duration_since(self.since).as_secs_f64();
        self.since = self.since.max(now);
        let cap = self.rate as f64 * Self::BURST;
        self.tokens = (self.tokens + elapsed * self.rate as f64).min(cap) - bytes as f64;
        if self.tokens >= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(-self.tokens / self.rate as f64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flow_is_measured_within_five_percent() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        for tenth in 0..300 {
            meter.add(start + Duration::from_millis(tenth * 100), 100_000);
        }
        let rate = meter.rate(start + Duration::from_secs(30));
        assert!((950_000..=1_050_000).contains(&rate), "{rate}");
        assert_eq!(meter.total(), 30_000_000);
    }

    #[test]
    fn a_young_flow_is_measured_at_once() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        for tenth in 0..10 {
            meter.add(start + Duration::from_millis(tenth * 100), 100_000);
        }
        let rate = meter.rate(start + Duration::from_secs(1));
        assert!((900_000..=1_100_000).contains(&rate), "{rate}");
    }

    #[test]
    fn a_flow_that_stops_is_forgotten() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        meter.add(start, 10_000_000);
        assert!(meter.rate(start + Duration::from_secs(60)) < 1_000);
    }

    #[test]
    fn a_bucket_never_lets_more_through_than_its_rate_and_one_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(start, 1_000_000);
        let mut now = start;
        let mut passed = 0u64;
        while now < start + Duration::from_secs(10) {
            now += bucket.take(now, 16_384).max(Duration::from_micros(10));
            passed += 16_384;
        }
        assert!((9_900_000..=10_300_000).contains(&passed), "{passed}");
    }
}
