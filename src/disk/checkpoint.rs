//! When to make verified pieces durable. Pure: time is an argument.
//!
//! Rule R2 (group commit) in one machine: pieces gather, a set of them is frozen and synced, pieces that come meanwhile join
//! the next set. Gathered and frozen pieces together never exceed the window of the [`Pace`] if no more is asked for
//! than [`Checkpoint::room`] has place for, with all that is still on its way.

use std::time::{Duration, Instant};

use crate::base::{PieceIndex, limits};

/// When what is verified is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Shortest time that pieces gather, unless they are many or it is forced.
    ///
    /// What gathers is what a power cut costs: with half a second, 12 MB a cut at 30 MB/s. On a disk that syncs in 20 ms half of that takes no
    /// more than a tenth of the time either.
    pub shortest: Duration,
    /// Longest time that pieces gather.
    pub longest: Duration,
    /// Most bytes that are verified and not durable. A part of that is synced without waiting, so that the rest does not fill before the disk
    /// is done: half, and of a disk that is quick a quarter, for what is asked for and on its way counts as well.
    pub window: u64,
}

impl Default for Pace {
    /// What suits every disk.
    fn default() -> Self {
        Self {
            shortest: Duration::from_millis(250),
            longest: Duration::from_secs(5),
            window: limits::CHECKPOINT_BYTES,
        }
    }
}

/// Decides when the pieces verified so far are to be synced and committed.
#[derive(Debug)]
pub struct Checkpoint {
    pace: Pace,
    interval: Duration,
    /// What the last sync took.
    took: Duration,
    gathered: Set,
    /// When the first piece of `gathered` came.
    since: Instant,
    frozen: Option<Set>,
    forced: bool,
}

#[derive(Debug, Default)]
struct Set {
    pieces: Vec<PieceIndex>,
    bytes: u64,
}

impl Checkpoint {
    /// Syncing should take at most one part in so many of the time.
    const SHARE: u32 = 10;

    /// Nothing verified yet.
    pub fn new(now: Instant, pace: Pace) -> Self {
        Self {
            pace,
            interval: pace.shortest,
            took: Duration::ZERO,
            gathered: Set::default(),
            since: now,
            frozen: None,
            forced: false,
        }
    }

    /// `piece`, of `len` bytes, was verified and written.
    pub fn on_verified(&mut self, now: Instant, piece: PieceIndex, len: u32) {
        if self.gathered.pieces.is_empty() {
            self.since = now;
        }
        self.gathered.pieces.push(piece);
        self.gathered.bytes += u64::from(len);
    }

    /// Asks for a checkpoint of all that is gathered as soon as none is under way: at completion, pause and exit.
    pub fn force(&mut self) {
        self.forced = true;
    }

    /// Whether to [`begin`](Self::begin) now.
    pub fn due(&self, now: Instant) -> bool {
        self.next_deadline().is_some_and(|deadline| deadline <= now)
    }

    /// When a checkpoint is due, unless more happens; a time in the past means now. `None` while one is under way or there is nothing
    /// to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.frozen.is_some() || self.gathered.pieces.is_empty() {
            return None;
        }
        let now = self.forced || self.gathered.bytes >= self.enough();
        Some(if now {
            self.since
        } else {
            self.since + self.interval
        })
    }

    /// Bytes that are synced without waiting.
    fn enough(&self) -> u64 {
        let quick = self.took < self.pace.shortest;
        self.pace.window / if quick { 4 } else { 2 }
    }

    /// Freezes what is gathered and says what it is: sync these, commit their bits, then call [`finished`](Self::finished) or
    /// [`failed`](Self::failed).
    ///
    /// # Panics
    /// If a checkpoint is under way.
    pub fn begin(&mut self) -> Vec<PieceIndex> {
        assert!(self.frozen.is_none(), "one checkpoint at a time");
        let set = std::mem::take(&mut self.gathered);
        let pieces = set.pieces.clone();
        self.frozen = Some(set);
        self.forced = false;
        pieces
    }

    /// The frozen set is durable, which took `took`; gives the set back.
    pub fn finished(&mut self, took: Duration) -> Vec<PieceIndex> {
        self.took = took;
        // One slow sync is believed at once, a quick one only by and by: a disk that stalls now and then is a slow disk.
        let wish = took.saturating_mul(Self::SHARE).max(self.interval / 2);
        self.interval = wish.clamp(self.pace.shortest, self.pace.longest);
        self.frozen.take().unwrap_or_default().pieces
    }

    /// The frozen set failed to become durable; gives everything that can no longer be trusted.
    ///
    /// That includes pieces gathered since: a failed sync marks *all* dirty pages of a file clean (R6).
    pub fn failed(&mut self) -> Vec<PieceIndex> {
        let mut lost = self.frozen.take().unwrap_or_default().pieces;
        lost.append(&mut std::mem::take(&mut self.gathered).pieces);
        self.forced = false;
        lost
    }

    /// Bytes that are verified and not durable, be they gathered or frozen.
    pub fn at_stake(&self) -> u64 {
        self.gathered.bytes + self.frozen.as_ref().map_or(0, |set| set.bytes)
    }

    /// Bytes that may yet be verified before the [window](Pace::window) is full. Whoever fetches keeps to it with
    /// what is asked for and not yet verified as well; with nothing at stake or asked for, one piece of any length may pass.
    pub fn room(&self) -> u64 {
        self.pace.window.saturating_sub(self.at_stake())
    }

    /// Whether nothing more may be granted.
    pub fn is_full(&self) -> bool {
        self.room() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Geometry;
    use proptest::prelude::*;

    const MIB: u32 = 1 << 20;

    fn piece(index: u32) -> PieceIndex {
        let geometry = Geometry::new(u64::from(u32::MAX), 1).unwrap();
        geometry.piece(index).unwrap()
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_lone_piece_waits_for_the_interval() {
        let start = Instant::now();
        let mut checkpoint = Checkpoint::new(start, Pace::default());
        assert_eq!(checkpoint.next_deadline(), None);
        let came = start + ms(9_000);
        checkpoint.on_verified(came, piece(7), MIB);
        assert!(!checkpoint.due(came + ms(249)));
        assert!(checkpoint.due(came + ms(250)));
        assert_eq!(checkpoint.begin(), [piece(7)]);
        assert_eq!(checkpoint.next_deadline(), None);
    }

    #[test]
    fn many_bytes_or_force_do_not_wait() {
        let start = Instant::now();
        let mut checkpoint = Checkpoint::new(start, Pace::default());
        for index in 0..15 {
            checkpoint.on_verified(start, piece(index), MIB);
        }
        assert!(!checkpoint.due(start));
        checkpoint.on_verified(start, piece(15), MIB);
        assert!(checkpoint.due(start));
        checkpoint.begin();
        checkpoint.on_verified(start, piece(16), MIB);
        checkpoint.force();
        assert!(!checkpoint.due(start), "one at a time");
        assert_eq!(checkpoint.finished(ms(1)).len(), 16);
        assert!(
            checkpoint.due(start),
            "the wish outlives the checkpoint under way"
        );
    }

    #[test]
    fn a_slow_disk_is_given_more_at_once() {
        let start = Instant::now();
        let mut checkpoint = Checkpoint::new(start, Pace::default());
        checkpoint.on_verified(start, piece(0), 16 * MIB);
        assert!(checkpoint.due(start));
        checkpoint.begin();
        checkpoint.finished(ms(250));
        checkpoint.on_verified(start, piece(1), 31 * MIB);
        assert!(!checkpoint.due(start));
        checkpoint.on_verified(start, piece(2), MIB);
        assert!(checkpoint.due(start));
    }

    #[test]
    fn syncing_takes_at_most_a_tenth_of_the_time_within_bounds() {
        for (took, interval) in [(1, 250), (80, 800), (300, 3_000), (2_000, 5_000)] {
            let start = Instant::now();
            let mut checkpoint = Checkpoint::new(start, Pace::default());
            checkpoint.on_verified(start, piece(0), MIB);
            checkpoint.begin();
            checkpoint.finished(ms(took));
            checkpoint.on_verified(start, piece(1), MIB);
            assert_eq!(checkpoint.next_deadline(), Some(start + ms(interval)));
        }
    }

    #[test]
    fn a_failed_sync_drops_pieces_that_came_after_it_began() {
        let start = Instant::now();
        let mut checkpoint = Checkpoint::new(start, Pace::default());
        checkpoint.on_verified(start, piece(0), MIB);
        checkpoint.begin();
        checkpoint.on_verified(start, piece(1), MIB);
        assert_eq!(checkpoint.failed(), [piece(0), piece(1)]);
        assert_eq!(checkpoint.at_stake(), 0);
        assert_eq!(checkpoint.next_deadline(), None);
    }

    proptest! {
        /// A downloader that keeps to `room`, and a disk of any speed: the bound holds, nothing is lost or reported twice.
        #[test]
        fn never_more_at_stake_than_the_bound(steps in prop::collection::vec((0u64..400, 1u32..8, 0u64..3_000), 1..200)) {
            let mut now = Instant::now();
            let mut checkpoint = Checkpoint::new(now, Pace::default());
            let mut busy: Option<Instant> = None;
            let (mut given, mut durable) = (0u32, Vec::new());
            for (wait, mib, took) in steps {
                now += ms(wait);
                if u64::from(mib * MIB) <= checkpoint.room() {
                    checkpoint.on_verified(now, piece(given), mib * MIB);
                    given += 1;
                }
                prop_assert!(checkpoint.at_stake() <= limits::CHECKPOINT_BYTES);
                if busy.is_some_and(|end| end <= now) {
                    busy = None;
                    durable.extend(checkpoint.finished(ms(took)));
                }
                if checkpoint.due(now) {
                    checkpoint.begin();
                    busy = Some(now + ms(took));
                }
            }
            durable.extend(checkpoint.finished(ms(0)));
            durable.extend(checkpoint.begin());
            prop_assert_eq!(durable, (0..given).map(piece).collect::<Vec<_>>());
        }

        /// Any order of events, failures among them: each piece is given back once, by the checkpoint that took it or by a failure; a
        /// failure takes all that came before it.
        #[test]
        fn whatever_happens_each_piece_comes_back_once(events in prop::collection::vec((0u8..5, 0u64..700), 1..300)) {
            let mut now = Instant::now();
            let pace = Pace { window: 8 * u64::from(MIB), ..Pace::default() };
            let mut checkpoint = Checkpoint::new(now, pace);
            // The model: pieces that gather, and those of the checkpoint under way.
            let (mut gathered, mut frozen) = (Vec::new(), None::<Vec<PieceIndex>>);
            let (mut given, mut forced, mut since) = (0, false, now);
            for (event, wait) in events {
                now += ms(wait);
                match event {
                    0 | 1 if checkpoint.room() >= u64::from(MIB) => {
                        if gathered.is_empty() {
                            since = now;
                        }
                        checkpoint.on_verified(now, piece(given), MIB);
                        gathered.push(piece(given));
                        given += 1;
                    }
                    2 => {
                        checkpoint.force();
                        forced = true;
                    }
                    3 => {
                        let back = checkpoint.finished(ms(wait));
                        prop_assert_eq!(back, frozen.take().unwrap_or_default());
                    }
                    4 if wait < 70 => {
                        let mut lost = frozen.take().unwrap_or_default();
                        lost.append(&mut gathered);
                        prop_assert_eq!(checkpoint.failed(), lost);
                        forced = false;
                    }
                    _ => {}
                }
                let held = gathered.len() + frozen.as_ref().map_or(0, Vec::len);
                prop_assert_eq!(checkpoint.at_stake(), held as u64 * u64::from(MIB));
                prop_assert_eq!(checkpoint.is_full(), held == 8);
                let due = checkpoint.due(now);
                let may = frozen.is_none() && !gathered.is_empty();
                prop_assert!(may || !due, "nothing to do, or one is under way");
                let waited = now - since;
                let must = forced || gathered.len() >= 4 || waited >= pace.longest;
                prop_assert!(due || !(may && must));
                prop_assert!(!due || must || gathered.len() >= 2 || waited >= pace.shortest);
                if due {
                    prop_assert_eq!(checkpoint.begin(), gathered.clone());
                    frozen = Some(std::mem::take(&mut gathered));
                    forced = false;
                }
            }
        }
    }
}
