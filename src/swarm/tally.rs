//! Payload bytes of this run.

use std::time::Instant;

use crate::base::rate::Meter;

/// Payload bytes of this run, as of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes that came.
    pub downloaded: u64,
    /// Bytes that went out.
    pub uploaded: u64,
    /// Of those that came, how many were thrown away.
    pub wasted: u64,
    /// Bytes per second that come in.
    pub down_rate: u64,
    /// Bytes per second that go out.
    pub up_rate: u64,
}

/// Counts payload bytes in both directions.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    down: Meter,
    up: Meter,
    wasted: u64,
}

impl Tally {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            down: Meter::new(now),
            up: Meter::new(now),
            wasted: 0,
        }
    }

    pub(super) fn down(&mut self, now: Instant, bytes: u64) {
        self.down.add(now, bytes);
    }

    pub(super) fn up(&mut self, now: Instant, bytes: u64) {
        self.up.add(now, bytes);
    }

    /// Some of the bytes that came were for nothing.
    pub(super) fn wasted(&mut self, bytes: u64) {
        self.wasted += bytes;
    }

    pub(super) fn downloaded(&self) -> u64 {
        self.down.total()
    }

    pub(super) fn uploaded(&self) -> u64 {
        self.up.total()
    }

    pub(super) fn totals(&self, now: Instant) -> Totals {
        Totals {
            downloaded: self.down.total(),
            uploaded: self.up.total(),
            wasted: self.wasted,
            down_rate: self.down.clone().rate(now),
            up_rate: self.up.clone().rate(now),
        }
    }
}
