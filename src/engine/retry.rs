//! When a torrent that failed is tried again. Pure: time is an argument.
//!
//! A trouble that may pass without anybody touching the torrent (a full disk, a mount that went, a cable) is tried again for as
//! long as the torrent is in the engine, at intervals that double up to a minute. The rest waits to be resumed.

use std::time::{Duration, Instant};

use super::error::EngineError;

/// Between the first failure and the next attempt.
const SHORTEST: Duration = Duration::from_secs(1);
/// Between two attempts at most: how long somebody who made room may have to wait.
const LONGEST: Duration = Duration::from_secs(60);
/// A torrent that ran for this long, and for as long as it had to wait before, starts from the shortest interval again.
const STEADY: Duration = Duration::from_secs(10);

/// What is to come of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// When to try again; `None` if only a person can mend it.
    pub(super) at: Option<Instant>,
    /// Whether it has not been told since the torrent last ran.
    pub(super) is_news: bool,
}

/// The failures of one torrent.
#[derive(Debug, Default)]
pub(super) struct Retry {
    /// How long the last attempt was waited for.
    waited: Option<Duration>,
    /// Since when it runs; `None` while it does not.
    runs: Option<Instant>,
    /// The failure that was told since it last ran.
    told: Option<EngineError>,
    /// When it was last prepared anew because a file had changed.
    changed: Option<Instant>,
}

impl Retry {
    /// Its files are open and it goes on.
    pub(super) fn on_running(&mut self, now: Instant) {
        self.runs = Some(now);
        self.told = None;
    }

    /// It failed.
    pub(super) fn on_failed(&mut self, now: Instant, error: &EngineError) -> Verdict {
        let ran = self.runs.take();
        let ran = ran.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let waited = self.waited.filter(|&waited| ran < waited.max(STEADY));
        let wait = waited.map_or(SHORTEST, |waited| (waited * 2).min(LONGEST));
        self.waited = Some(wait);
        let told = self.told.replace(error.clone());
        Verdict {
            at: error.is_passing().then(|| now + wait),
            is_news: told.is_none_or(|told| !told.is_same_trouble(error)),
        }
    }

    /// A file that was only read has changed; true if it may be prepared anew at once. A file that changes again and again is a
    /// failure, so that hashing it does not become all that is done.
    pub(super) fn on_changed(&mut self, now: Instant) -> bool {
        let before = self.changed.replace(now);
        before.is_none_or(|before| now.saturating_duration_since(before) >= STEADY)
    }

    /// A person asked for it to go on: whatever was before is forgotten.
    pub(super) fn on_resumed(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::InfoHash;
    use crate::disk::DiskError;

    fn full(free: u64) -> EngineError {
        let path = "/payload".into();
        DiskError::Full {
            path,
            need: 9,
            free,
        }
        .into()
    }

    fn missing() -> EngineError {
        EngineError::Missing {
            path: "/payload".into(),
            info_hash: InfoHash([1; 20]),
        }
    }

    #[test]
    fn attempts_come_at_doubling_intervals_up_to_a_minute() {
        let (mut retry, mut now) = (Retry::default(), Instant::now());
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            let at = retry.on_failed(now, &full(3)).at.unwrap();
            assert_eq!(at - now, Duration::from_secs(wait));
            now = at + Duration::from_millis(10);
        }
    }

    #[test]
    fn a_torrent_that_ran_well_is_tried_soon_and_one_that_fell_at_once_is_not() {
        let (mut retry, mut now) = (Retry::default(), Instant::now());
        for ran in [0, 9, 9, 11, 11] {
            retry.on_running(now);
            now += Duration::from_secs(ran);
            now = retry.on_failed(now, &full(3)).at.unwrap();
        }
        assert_eq!(retry.waited, Some(SHORTEST));
        for wait in [2, 4, 8, 16] {
            retry.on_running(now);
            now += Duration::from_secs(1);
            let at = retry.on_failed(now, &full(3)).at.unwrap();
            assert_eq!(at - now, Duration::from_secs(wait));
            now = at;
        }
        retry.on_running(now);
        now += Duration::from_secs(12);
        retry.on_failed(now, &full(3));
        assert_eq!(
            retry.waited,
            Some(Duration::from_secs(32)),
            "twelve seconds are less than it had waited"
        );
    }

    #[test]
    fn a_trouble_is_told_once_until_it_passes_or_becomes_another() {
        let (mut retry, now) = (Retry::default(), Instant::now());
        let mut is_news = |error: &EngineError| retry.on_failed(now, error).is_news;
        assert!(is_news(&full(3)));
        assert!(!is_news(&full(2)), "the same with other figures");
        assert!(is_news(&missing()));
        assert!(is_news(&full(2)));
        retry.on_running(now);
        assert!(retry.on_failed(now, &full(2)).is_news);
    }

    #[test]
    fn what_only_a_person_can_mend_is_not_tried_again() {
        let path = || "/payload".into();
        let mut retry = Retry::default();
        let hopeless = [
            EngineError::NotThisTorrent { path: path() },
            EngineError::Digest { path: path() },
            EngineError::Defect("a panic".into()),
            DiskError::NotOurs { path: path() }.into(),
            DiskError::Outside { path: path() }.into(),
        ];
        for error in hopeless {
            assert_eq!(retry.on_failed(Instant::now(), &error).at, None, "{error}");
        }
        assert!(retry.on_failed(Instant::now(), &missing()).at.is_some());
    }

    #[test]
    fn resuming_forgets_what_was_before() {
        let (mut retry, now) = (Retry::default(), Instant::now());
        for _ in 0..5 {
            retry.on_failed(now, &full(3));
        }
        retry.on_resumed();
        let verdict = retry.on_failed(now, &full(3));
        assert_eq!(verdict.at, Some(now + SHORTEST));
        assert!(verdict.is_news);
    }

    #[test]
    fn a_file_that_keeps_changing_is_not_hashed_without_end() {
        let (mut retry, now) = (Retry::default(), Instant::now());
        assert!(retry.on_changed(now));
        assert!(!retry.on_changed(now + Duration::from_secs(1)));
        assert!(retry.on_changed(now + Duration::from_secs(12)));
    }
}
