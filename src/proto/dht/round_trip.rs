//! How long answers take here, and so how long to wait for one.
//!
//! A fixed time-out makes every dead node cost seconds; one that follows the measured round trips costs little more than a live
//! node would (the estimator of RFC 6298, applied to a whole network instead of one connection).

use std::time::Duration;

/// When to stop waiting for an answer, in three stages counted from the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Somebody else may be asked as well; the answer is still expected.
    pub stall: Duration,
    /// Nothing waits for the answer any more; it still counts if it comes.
    pub give_up: Duration,
    /// The node has failed to answer.
    pub expire: Duration,
}

/// The mean of round trips and how much they scatter.
#[derive(Clone, Copy, Debug)]
pub struct RoundTrip {
    mean: Duration,
    scatter: Duration,
    measured: bool,
}

impl RoundTrip {
    /// The shortest wait before others are asked: below it the scheduling of a busy machine looks like loss.
    pub const STALL_MIN: Duration = Duration::from_millis(100);
    /// The longest: nobody waits for a slower node while there are others.
    pub const STALL_MAX: Duration = Duration::from_secs(1);
    /// The shortest wait before a node counts as failed: one lost burst on a busy link must not empty the table.
    pub const EXPIRE_MIN: Duration = Duration::from_secs(2);
    /// The longest: nothing is remembered of a question after this.
    pub const EXPIRE_MAX: Duration = Duration::from_secs(5);
    /// A longer round trip is a delayed duplicate or a lie, and is counted as this.
    const SAMPLE_MAX: Duration = Duration::from_secs(5);

    /// What holds before anything was measured: a stall after 400 ms.
    pub fn unknown() -> Self {
        Self {
            mean: Duration::from_millis(200),
            scatter: Duration::from_millis(50),
            measured: false,
        }
    }

    /// Takes one measured round trip into account.
    pub fn add(&mut self, sample: Duration) {
        let sample = sample.min(Self::SAMPLE_MAX);
        if !self.measured {
            self.measured = true;
            self.mean = sample;
            self.scatter = sample / 2;
            return;
        }
        self.scatter = (self.scatter * 3 + self.mean.abs_diff(sample)) / 4;
        self.mean = (self.mean * 7 + sample) / 8;
    }

    /// The average of late.
    pub fn mean(&self) -> Duration {
        self.mean
    }

    /// How long to wait for a node of which at most its own last round trip is known.
    pub fn patience(&self, known: Option<Duration>) -> Patience {
        let expected = known.unwrap_or(self.mean);
        let stall = (expected + self.scatter * 4).clamp(Self::STALL_MIN, Self::STALL_MAX);
        Patience {
            stall,
            give_up: stall * 2,
            expire: (stall * 5).clamp(Self::EXPIRE_MIN, Self::EXPIRE_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;

    #[test]
    fn the_wait_follows_what_was_measured() {
        let mut round_trip = RoundTrip::unknown();
        for _ in 0..50 {
            round_trip.add(Duration::from_millis(2));
        }
        assert_eq!(round_trip.patience(None).stall, RoundTrip::STALL_MIN);
        for _ in 0..50 {
            round_trip.add(Duration::from_millis(300));
        }
        let patience = round_trip.patience(None);
        assert!(patience.stall >= Duration::from_millis(299));
        assert!(patience.stall <= Duration::from_millis(400));
    }

    #[test]
    fn stages_come_in_order_and_within_bounds_whatever_is_measured() {
        let mut random = Random::new(11);
        let mut round_trip = RoundTrip::unknown();
        for _ in 0..10_000 {
            round_trip.add(Duration::from_micros(
                random.next() >> (random.below(50) + 8),
            ));
            let known = Duration::from_micros(random.next() >> 20);
            for known in [None, Some(known)] {
                let patience = round_trip.patience(known);
                assert!((RoundTrip::STALL_MIN..=RoundTrip::STALL_MAX).contains(&patience.stall));
                assert!(patience.stall < patience.give_up);
                assert!(patience.give_up <= patience.expire);
                assert!(patience.expire <= RoundTrip::EXPIRE_MAX);
            }
        }
    }
}
