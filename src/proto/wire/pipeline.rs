//! How many requests to keep outstanding at one peer.
//!
//! Too few leave the link idle for part of each round trip; too many bind blocks to a peer that may choke us. So the
//! depth doubles every round trip while that makes the peer faster, and from then on it is what the peer sends in a
//! round trip and one second.

use std::time::{Duration, Instant};

use crate::base::BLOCK_LEN;
use crate::base::limits::{PIPELINE_MAX, PIPELINE_MIN, PIPELINE_START, PIPELINE_UNTOLD};

/// The depth of one connection's pipeline, in blocks.
#[derive(Debug)]
pub(super) struct Pipeline {
    depth: u32,
    cap: u32,
    slow_start: bool,
    rate: f64,
    min_rtt: Option<Duration>,
    window_start: Instant,
    window_bytes: u64,
}

impl Pipeline {
    /// How long the rate is measured before it is judged.
    const WINDOW: Duration = Duration::from_secs(1);
    /// The time for which requests are held at the peer on top of a round trip.
    const SLACK: Duration = Duration::from_secs(1);
    /// Assumed until a round trip was measured.
    const RTT_UNKNOWN: Duration = Duration::from_millis(100);
    /// Slow start ends when a window is not faster than the one before by this factor.
    const GROWTH: f64 = 1.1;

    pub(super) fn new(now: Instant) -> Self {
        Self {
            depth: PIPELINE_START as u32,
            cap: PIPELINE_UNTOLD as u32,
            slow_start: true,
            rate: 0.0,
            min_rtt: None,
            window_start: now,
            window_bytes: 0,
        }
    }

    /// Blocks that may be outstanding.
    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    /// Takes note of the `reqq` of BEP 10: requests beyond it would be dropped.
    pub(super) fn set_cap(&mut self, reqq: u32) {
        self.cap = reqq.clamp(1, PIPELINE_MAX as u32);
        self.depth = self.bounded(self.depth);
    }

    /// The pipeline was empty and is being filled again: time without requests says nothing of the peer.
    pub(super) fn restart(&mut self, now: Instant) {
        self.window_start = now;
        self.window_bytes = 0;
    }

    /// A block of `bytes` came that was asked for; `rtt` if its travel was timed.
    pub(super) fn on_block(&mut self, now: Instant, bytes: u32, rtt: Option<Duration>) {
        self.min_rtt = match (self.min_rtt, rtt) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if self.slow_start {
            self.depth = self.bounded(self.depth + 1);
        }
        self.window_bytes += u64::from(bytes);
        if now.saturating_duration_since(self.window_start) >= Self::WINDOW {
            self.judge(now);
        }
    }

    /// The peer cannot or will not take this many: back to few.
    pub(super) fn shrink(&mut self) {
        self.slow_start = false;
        self.depth = self.bounded(self.depth / 2);
    }

    fn judge(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.window_start);
        let measured = self.window_bytes as f64 / elapsed.as_secs_f64();
        if self.slow_start {
            self.slow_start = measured > self.rate * Self::GROWTH;
            self.rate = measured;
        } else {
            self.rate = (self.rate + measured) / 2.0;
        }
        if !self.slow_start {
            let held = self.min_rtt.unwrap_or(Self::RTT_UNKNOWN) + Self::SLACK;
            let blocks = self.rate * held.as_secs_f64() / f64::from(BLOCK_LEN);
            self.depth = self.bounded(blocks.ceil() as u32);
        }
        self.restart(now);
    }

    fn bounded(&self, depth: u32) -> u32 {
        depth.clamp((PIPELINE_MIN as u32).min(self.cap), self.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds blocks at `rate` bytes per second for `seconds`.
    fn feed(pipeline: &mut Pipeline, from: Instant, rate: u32, seconds: u32) -> Instant {
        let blocks = rate / BLOCK_LEN;
        for block in 1..=blocks * seconds {
            let at = from + Duration::from_secs(1) * block / blocks;
            pipeline.on_block(at, BLOCK_LEN, Some(Duration::from_millis(100)));
        }
        from + Duration::from_secs(u64::from(seconds))
    }

    #[test]
    fn starts_small_and_grows_by_every_block() {
        let now = Instant::now();
        let mut pipeline = Pipeline::new(now);
        assert_eq!(pipeline.depth(), 16);
        for _ in 0..20 {
            pipeline.on_block(now, BLOCK_LEN, None);
        }
        assert_eq!(pipeline.depth(), 36);
    }

    #[test]
    fn settles_at_what_comes_in_a_round_trip_and_a_second() {
        let now = Instant::now();
        let mut pipeline = Pipeline::new(now);
        let now = feed(&mut pipeline, now, 100 * BLOCK_LEN, 20);
        assert!((108..=114).contains(&pipeline.depth()), "{pipeline:?}");
        feed(&mut pipeline, now, 2 * BLOCK_LEN, 60);
        assert_eq!(pipeline.depth(), 8);
    }

    #[test]
    fn never_exceeds_what_the_peer_takes_nor_our_own_bound() {
        let now = Instant::now();
        let mut pipeline = Pipeline::new(now);
        feed(&mut pipeline, now, 5_000 * BLOCK_LEN, 3);
        assert_eq!(pipeline.depth(), 500);
        pipeline.set_cap(3);
        assert_eq!(pipeline.depth(), 3);
        pipeline.set_cap(u32::MAX);
        feed(
            &mut pipeline,
            now + Duration::from_secs(3),
            5_000 * BLOCK_LEN,
            3,
        );
        assert_eq!(pipeline.depth(), 1_000);
        pipeline.shrink();
        assert_eq!(pipeline.depth(), 500);
    }
}
