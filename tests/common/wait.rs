//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// How long to wait for what should take a moment, on a machine that does much else.
pub const SOON: Duration = Duration::from_secs(20);

/// How long to wait for a whole transfer.
pub const TRANSFER: Duration = Duration::from_secs(400);

/// Asks `probe` again and again until it answers, or panics after `limit` saying what was awaited.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    within(limit, &mut probe).unwrap_or_else(|| panic!("{what}: not within {limit:?}"))
}

/// Asks `probe` again and again until it answers or `limit` is over.
pub fn within<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
