//! When to re-read which piece of a payload that is shared: a pure decision. Every piece once in a period, evenly spread.
//!
//! A pass that was interrupted goes on where it was. One that fell behind, because the machine was off, catches up at a multiple
//! of its rate, not at once; and no pass reads faster than [`SCRUB_RATE_MAX`].

use std::time::{Duration, Instant};

use crate::base::limits::{SCRUB_RATE_MAX, SCRUB_RATE_MIN};
use crate::base::{Geometry, PieceIndex};
use crate::store::ScrubMark;

/// How many times faster than evenly a late pass may go.
const CATCH_UP: u64 = 4;

/// The passes over one torrent.
#[derive(Debug)]
pub(super) struct Scrub {
    geometry: Geometry,
    /// The period, in seconds; at least 1.
    every: i64,
    mark: ScrubMark,
    /// The same moment in both times.
    origin: (Instant, i64),
    due: Instant,
    /// The piece that comes next is being read.
    reading: bool,
}

/// A pass that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    /// Pieces that turned out bad.
    pub(super) bad: u32,
    /// Seconds from its beginning, interruptions included.
    pub(super) seconds: u64,
}

impl Scrub {
    /// Goes on from `mark`, or begins. `wall` is what time it is `now`, in seconds since 1970.
    pub(super) fn new(
        now: Instant,
        wall: i64,
        every: Duration,
        geometry: Geometry,
        mark: Option<ScrubMark>,
    ) -> Self {
        let every = i64::try_from(every.as_secs()).unwrap_or(i64::MAX).max(1);
        let fresh = ScrubMark {
            began: wall,
            ..ScrubMark::default()
        };
        let mut mark = mark.unwrap_or(fresh);
        if mark.next >= geometry.pieces() {
            mark = fresh;
        }
        // Under way it did begin, and to begin is never further off than a period: a clock was set, or the period was longer.
        let latest = match mark.next {
            0 => wall.saturating_add(every),
            _ => wall,
        };
        mark.began = mark.began.min(latest);
        let mut scrub = Self {
            geometry,
            every,
            mark,
            origin: (now, wall),
            due: now,
            reading: false,
        };
        scrub.due = scrub.begins(now);
        scrub
    }

    /// The piece to read now, if it is time. [`on_read`](Self::on_read) must follow before there is another.
    pub(super) fn poll(&mut self, now: Instant) -> Option<PieceIndex> {
        if self.reading || now < self.due {
            return None;
        }
        let piece = self.geometry.piece(self.mark.next)?;
        self.reading = true;
        let len = u64::from(self.geometry.len_of(piece));
        let rate = self.rate(now);
        self.due = now + Duration::from_nanos(len.saturating_mul(1_000_000_000) / rate);
        Some(piece)
    }

    /// When to poll again; never while a piece is being read.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        (!self.reading).then_some(self.due)
    }

    /// The piece was read, and was `good` or not. The pass, if that was its last one.
    pub(super) fn on_read(&mut self, now: Instant, good: bool) -> Option<Pass> {
        self.reading = false;
        self.mark.next += 1;
        self.mark.bad += u32::from(!good);
        if self.mark.next < self.geometry.pieces() {
            return None;
        }
        let wall = self.wall(now);
        let pass = Pass {
            bad: self.mark.bad,
            seconds: wall.saturating_sub(self.mark.began).max(0).unsigned_abs(),
        };
        self.mark = ScrubMark {
            next: 0,
            bad: 0,
            began: self.mark.began.saturating_add(self.every).max(wall),
            finished: wall,
        };
        self.due = self.begins(now);
        Some(pass)
    }

    /// What to remember, to go on from here.
    pub(super) fn mark(&self) -> ScrubMark {
        self.mark
    }

    fn wall(&self, now: Instant) -> i64 {
        let (origin, wall) = self.origin;
        let since = now.saturating_duration_since(origin).as_secs();
        wall.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
    }

    /// When the pass began or begins; now, if that is over.
    fn begins(&self, now: Instant) -> Instant {
        let (origin, wall) = self.origin;
        let wait = self.mark.began.saturating_sub(wall).max(0);
        // At most some periods, which may be more than the clock can count.
        origin
            .checked_add(Duration::from_secs(wait.unsigned_abs()))
            .map_or(now + Duration::from_secs(365 * 24 * 3_600), |at| {
                at.max(now)
            })
    }

    /// Bytes per second that the rest of the pass takes to be over in time.
    fn rate(&self, now: Instant) -> u64 {
        let next = self.geometry.piece(self.mark.next);
        let done = next.map_or(0, |piece| self.geometry.offset_of(piece));
        let total = self.geometry.total();
        let end = self.mark.began.saturating_add(self.every);
        let left = end.saturating_sub(self.wall(now)).max(0).unsigned_abs();
        let even = total / self.every.unsigned_abs();
        let hurry = even.saturating_mul(CATCH_UP);
        let needed = (total - done).checked_div(left).unwrap_or(hurry);
        needed
            .clamp(even, hurry)
            .clamp(SCRUB_RATE_MIN, SCRUB_RATE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;
    const WALL: i64 = 1_700_000_000;
    const DAY: Duration = Duration::from_secs(24 * 3_600);

    fn geometry(pieces: u64) -> Geometry {
        Geometry::new(pieces * MIB, MIB as u32).unwrap()
    }

    fn scrub(
        now: Instant,
        wall: i64,
        every: Duration,
        pieces: u64,
        mark: Option<ScrubMark>,
    ) -> Scrub {
        Scrub::new(now, wall, every, geometry(pieces), mark)
    }

    /// Reads `pieces` pieces as they come due, all of them good; the time after, and the passes that ended.
    fn read(scrub: &mut Scrub, mut now: Instant, pieces: u32) -> (Instant, Vec<Pass>) {
        let mut passes = Vec::new();
        for _ in 0..pieces {
            now = now.max(scrub.next_deadline().unwrap());
            let next = scrub.mark().next;
            assert_eq!(scrub.poll(now).unwrap().get(), next);
            assert_eq!(scrub.poll(now + DAY), None, "one at a time");
            assert_eq!(scrub.next_deadline(), None);
            passes.extend(scrub.on_read(now, true));
        }
        (now, passes)
    }

    fn seconds(from: Instant, to: Instant) -> u64 {
        (to - from).as_secs()
    }

    #[test]
    fn a_pass_is_spread_evenly_over_its_period_and_the_next_follows() {
        let start = Instant::now();
        let mut scrub = scrub(start, WALL, Duration::from_secs(1_000), 8_000, None);
        let (half, none) = read(&mut scrub, start, 4_000);
        assert_eq!(none, []);
        assert!(
            (490..=510).contains(&seconds(start, half)),
            "{:?}",
            half - start
        );
        let (end, passes) = read(&mut scrub, half, 4_000);
        assert!(
            (980..=1_001).contains(&seconds(start, end)),
            "{:?}",
            end - start
        );
        assert_eq!((passes.len(), passes[0].bad), (1, 0));
        assert_eq!(scrub.mark().next, 0);
        assert_eq!(seconds(start, scrub.next_deadline().unwrap()), 1_000);
    }

    #[test]
    fn a_small_library_is_done_early_and_a_huge_one_is_not_read_at_full_speed() {
        let start = Instant::now();
        let mut small = scrub(start, WALL, DAY, 60, None);
        let (end, _) = read(&mut small, start, 60);
        assert_eq!(seconds(start, end), 59, "at the least rate");
        assert_eq!(small.next_deadline().unwrap(), start + DAY);
        let mut huge = scrub(start, WALL, Duration::from_secs(1), 3_200, None);
        let (end, _) = read(&mut huge, start, 3_200);
        assert_eq!(seconds(start, end), 99, "at the highest");
    }

    #[test]
    fn a_restart_goes_on_where_the_pass_was_and_hurries_within_bounds() {
        let start = Instant::now();
        let every = Duration::from_secs(1_000);
        let mut before = scrub(start, WALL, every, 4_000, None);
        read(&mut before, start, 1_000);
        let mark = before.mark();
        assert_eq!((mark.next, mark.began), (1_000, WALL));
        // Off until the period was long over.
        let mut after = scrub(start, WALL + 90_000, every, 4_000, Some(mark));
        let (end, passes) = read(&mut after, start, 3_000);
        assert_eq!(
            seconds(start, end),
            187,
            "16 MiB a second, four times the even rate"
        );
        assert_eq!(passes[0].seconds, 90_187);
        assert_eq!(
            after.next_deadline().unwrap(),
            end,
            "the next one is due already"
        );
    }

    #[test]
    fn what_was_bad_is_counted_across_restarts() {
        let start = Instant::now();
        let mut first = scrub(start, WALL, DAY, 3, None);
        first.poll(start).unwrap();
        assert_eq!(first.on_read(start, false), None);
        let mut second = scrub(start, WALL + 9, DAY, 3, Some(first.mark()));
        let (_, passes) = read(&mut second, start, 2);
        assert_eq!((passes[0].bad, passes[0].seconds), (1, 10));
        assert_eq!(second.mark().bad, 0);
        assert!(second.mark().finished > WALL);
    }

    #[test]
    fn a_clock_that_was_set_back_puts_it_off_by_a_period_at_most() {
        let start = Instant::now();
        let mark = |next, began| ScrubMark {
            next,
            began,
            bad: 0,
            finished: 5,
        };
        let waits = scrub(start, WALL, DAY, 3, Some(mark(0, i64::MAX)));
        assert_eq!(waits.next_deadline().unwrap(), start + DAY);
        for mark in [
            mark(2, i64::MAX),
            mark(2, i64::MIN),
            mark(0, i64::MIN),
            mark(9, 0),
        ] {
            let goes_on = scrub(start, WALL, DAY, 3, Some(mark));
            assert_eq!(goes_on.next_deadline().unwrap(), start, "{mark:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_remembered_each_pass_reads_every_piece_once_and_no_faster_than_it_may(
            next: u32, bad in 0u32..9, began: i64, finished: i64,
            every in 0u64..100_000_000_000, pieces in 1u64..50,
        ) {
            let start = Instant::now();
            let mark = ScrubMark { next, bad, began, finished };
            let mut scrub = scrub(start, WALL, Duration::from_secs(every), pieces, Some(mark));
            let first = scrub.mark().next;
            let begins = scrub.next_deadline().unwrap();
            let rest = pieces as u32 - first;
            let (end, passes) = read(&mut scrub, start, rest);
            prop_assert_eq!(passes.len(), 1);
            let least = u64::from(rest - 1) * 1_000_000_000 / 32;
            prop_assert!((end - begins).as_nanos() >= u128::from(least));
            let (_, passes) = read(&mut scrub, end, pieces as u32);
            prop_assert_eq!(passes.len(), 1);
        }
    }
}
