//! The global rate limits: one bucket that every connection of a direction draws from.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::base::rate::TokenBucket;

/// A limit on bytes per second, shared by many connections; without a limit it costs nothing.
#[derive(Debug)]
pub struct Throttle {
    bucket: Option<Mutex<TokenBucket>>,
}

impl Throttle {
    /// At most `rate` bytes per second, or no limit.
    pub fn new(now: Instant, rate: Option<u64>) -> Self {
        let bucket = rate.map(|rate| Mutex::new(TokenBucket::new(now, rate)));
        Self { bucket }
    }

    /// Takes `bytes` from the budget and says how long to wait before going on.
    pub fn take(&self, now: Instant, bytes: u64) -> Duration {
        self.bucket.as_ref().map_or(Duration::ZERO, |bucket| {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(now, bytes)
        })
    }
}
