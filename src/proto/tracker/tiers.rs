//! Which tracker of a torrent to announce to, and when (BEP 12).
//!
//! One announce is under way at a time. The tiers are tried in order and each tier's trackers in an order that begins at random;
//! one that answers moves to the front of its tier, and is the one that is told until it fails.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;

use crate::base::limits::TRACKERS_MAX;

use super::http::{AnnounceEvent, Reply};

/// Wait after a tracker's first failure; doubles with each further one.
const BACK_OFF_MIN: Duration = Duration::from_secs(15);
/// Longest wait after failures.
const BACK_OFF_MAX: Duration = Duration::from_secs(1800);
/// Pause between early announces where the tracker names no minimum.
const MIN_INTERVAL_UNTOLD: Duration = Duration::from_secs(300);

/// An announce that is to be made now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The announce address of the tracker, as the metainfo has it.
    pub url: String,
    /// What to tell.
    pub event: Option<AnnounceEvent>,
    /// What the tracker gave us to send back.
    pub tracker_id: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Tracker {
    url: String,
    id: Option<Vec<u8>>,
    /// Whether it may believe that we take part.
    joined: bool,
    /// Whether it answered since we joined, so that `started` is not said again.
    answered: bool,
    failures: u32,
    /// Not to be asked before, after a failure.
    retry_at: Option<Instant>,
}

/// The trackers of one torrent. `poll` until `None` when a deadline has passed or anything changed; make each announce and
/// tell its outcome by `on_reply` or `on_error`.
#[derive(Debug)]
pub struct Tiers {
    tiers: Vec<Vec<Tracker>>,
    /// The announce that is under way.
    asked: Option<(String, Option<AnnounceEvent>)>,
    /// When the next announce is due, failures aside.
    due: Instant,
    /// Before this no announce that only asks for more peers.
    early: Instant,
    completed: bool,
    stopped: bool,
}

impl Tiers {
    /// The first announce is due at once. Addresses other than of HTTP trackers are left out, and repeated ones; `seed`
    /// decides the order within tiers.
    pub fn new(now: Instant, tiers: Vec<Vec<String>>, seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut known: Vec<String> = Vec::new();
        let mut kept = Vec::new();
        for urls in tiers {
            let mut tier = Vec::new();
            for url in urls {
                if known.len() < TRACKERS_MAX && is_http(&url) && !known.contains(&url) {
                    known.push(url.clone());
                    tier.push(Tracker::new(url));
                }
            }
            tier.shuffle(&mut random);
            if !tier.is_empty() {
                kept.push(tier);
            }
        }
        Self {
            tiers: kept,
            asked: None,
            due: now,
            early: now,
            completed: false,
            stopped: false,
        }
    }

    /// Whether there is no tracker to ask at all.
    pub fn is_empty(&self) -> bool {
        self.tiers.is_empty()
    }

    /// The announce to make now, if one is due.
    pub fn poll(&mut self, now: Instant) -> Option<Announce> {
        if self.stopped || self.asked.is_some() || now < self.due {
            return None;
        }
        let completed = self.completed;
        let mut all = self.tiers.iter_mut().flatten();
        let tracker = all.find(|tracker| tracker.retry_at.is_none_or(|at| now >= at))?;
        let event = match (tracker.answered, completed) {
            (false, _) => Some(AnnounceEvent::Started),
            (true, true) => Some(AnnounceEvent::Completed),
            (true, false) => None,
        };
        tracker.joined = true;
        self.asked = Some((tracker.url.clone(), event));
        Some(tracker.announce(event))
    }

    /// The tracker at `url` answered. Answers that nobody waits for are ignored.
    pub fn on_reply(&mut self, now: Instant, url: &str, reply: &Reply) {
        let Some((_, event)) = self.asked.take_if(|(asked, _)| asked == url) else {
            return;
        };
        let Some((tier, at)) = self.find(url) else {
            return;
        };
        self.tiers[tier][..=at].rotate_right(1);
        let tracker = &mut self.tiers[tier][0];
        tracker.answered = true;
        tracker.failures = 0;
        tracker.retry_at = None;
        if reply.tracker_id.is_some() {
            tracker.id.clone_from(&reply.tracker_id);
        }
        self.completed &= event != Some(AnnounceEvent::Completed);
        let untold = MIN_INTERVAL_UNTOLD.min(reply.interval);
        self.early = now + reply.min_interval.unwrap_or(untold);
        self.due = if self.completed {
            now
        } else {
            now + reply.interval
        };
    }

    /// The announce to the tracker at `url` failed; the next one is asked at once.
    pub fn on_error(&mut self, now: Instant, url: &str) {
        if self.asked.take_if(|(asked, _)| asked == url).is_none() {
            return;
        }
        if let Some((tier, at)) = self.find(url) {
            let tracker = &mut self.tiers[tier][at];
            let doubled = BACK_OFF_MIN * 2u32.saturating_pow(tracker.failures.min(16));
            tracker.failures += 1;
            tracker.retry_at = Some(now + doubled.min(BACK_OFF_MAX));
        }
    }

    /// More peers are wanted: announces as soon as the tracker allows.
    pub fn want_more(&mut self, now: Instant) {
        self.due = self.due.min(self.early.max(now));
    }

    /// The download became complete in this session: that is announced at once.
    pub fn completed(&mut self, now: Instant) {
        self.completed = true;
        self.due = self.due.min(now);
    }

    /// The session ends: the announces to make, one to each tracker that may believe that we take part. After it
    /// nothing is due any more.
    pub fn stop(&mut self) -> Vec<Announce> {
        self.stopped = true;
        self.asked = None;
        let mut last = Vec::new();
        for tracker in self.tiers.iter_mut().flatten() {
            if std::mem::take(&mut tracker.joined) {
                last.push(tracker.announce(Some(AnnounceEvent::Stopped)));
            }
        }
        last
    }

    /// When [`poll`](Self::poll) will have something; `None` while an announce is under way or after the end.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.stopped || self.asked.is_some() {
            return None;
        }
        let all = self.tiers.iter().flatten();
        let first = all.map(|tracker| tracker.retry_at.unwrap_or(self.due));
        first.min().map(|ready| ready.max(self.due))
    }

    fn find(&self, url: &str) -> Option<(usize, usize)> {
        let mut tiers = self.tiers.iter().enumerate();
        tiers.find_map(|(number, tier)| {
            let at = tier.iter().position(|tracker| tracker.url == url)?;
            Some((number, at))
        })
    }
}

impl Tracker {
    fn new(url: String) -> Self {
        Self {
            url,
            id: None,
            joined: false,
            answered: false,
            failures: 0,
            retry_at: None,
        }
    }

    fn announce(&self, event: Option<AnnounceEvent>) -> Announce {
        Announce {
            url: self.url.clone(),
            event,
            tracker_id: self.id.clone(),
        }
    }
}

fn is_http(url: &str) -> bool {
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|s| s.eq_ignore_ascii_case("http") || s.eq_ignore_ascii_case("https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiers(now: Instant, list: &[&[&str]]) -> Tiers {
        let url = |name: &&str| format!("http://{name}/");
        let list = list.iter().map(|tier| tier.iter().map(url).collect());
        Tiers::new(now, list.collect(), 1)
    }

    fn reply(interval: u64, min: Option<u64>) -> Reply {
        Reply {
            interval: Duration::from_secs(interval),
            min_interval: min.map(Duration::from_secs),
            peers: Vec::new(),
            complete: None,
            incomplete: None,
            warning: None,
            tracker_id: None,
        }
    }

    const START: Option<AnnounceEvent> = Some(AnnounceEvent::Started);

    /// Polls, which must give an announce.
    fn asked(tiers: &mut Tiers, now: Instant) -> (String, Option<AnnounceEvent>) {
        let announce = tiers.poll(now).unwrap();
        assert_eq!(tiers.poll(now), None, "one at a time");
        assert_eq!(tiers.next_deadline(), None);
        (announce.url, announce.event)
    }

    #[test]
    fn trackers_that_fail_are_passed_over_and_one_that_works_is_kept() {
        let now = Instant::now();
        let mut tiers = tiers(now, &[&["a", "b", "c"], &["d"]]);
        let mut tried = Vec::new();
        for _ in 0..3 {
            let (url, event) = asked(&mut tiers, now);
            assert_eq!(event, START);
            tiers.on_error(now, &url);
            tried.push(url);
        }
        let (url, _) = asked(&mut tiers, now);
        assert_eq!(url, "http://d/");
        tiers.on_reply(now, &url, &reply(60, None));
        tried.sort();
        assert_eq!(tried, ["http://a/", "http://b/", "http://c/"]);
        // The first tier is tried again first, and who answers comes first from then on.
        let now = now + Duration::from_secs(60);
        assert_eq!(tiers.next_deadline(), Some(now));
        let (failing, _) = asked(&mut tiers, now);
        tiers.on_error(now, &failing);
        let (working, event) = asked(&mut tiers, now);
        assert_eq!(event, START);
        tiers.on_reply(now, &working, &reply(60, None));
        for round in 1..5 {
            let now = now + Duration::from_secs(60 * round);
            assert_eq!(asked(&mut tiers, now), (working.clone(), None));
            tiers.on_reply(now, &working, &reply(60, None));
        }
    }

    #[test]
    fn the_order_within_a_tier_depends_on_the_seed_and_tiers_keep_theirs() {
        let now = Instant::now();
        let first = |seed| {
            let tier = ["http://a/", "http://b/", "http://c/"].map(String::from);
            let last = vec!["http://z/".to_owned()];
            let mut tiers = Tiers::new(now, vec![tier.to_vec(), last], seed);
            tiers.poll(now).unwrap().url
        };
        let mut seen: Vec<_> = (0..50).map(first).collect();
        assert_eq!(seen[7], first(7));
        seen.sort();
        seen.dedup();
        assert_eq!(seen, ["http://a/", "http://b/", "http://c/"]);
    }

    #[test]
    fn failures_double_the_wait_up_to_half_an_hour() {
        let mut now = Instant::now();
        let mut tiers = tiers(now, &[&["a"]]);
        let mut waits = Vec::new();
        for _ in 0..40 {
            let (url, _) = asked(&mut tiers, now);
            tiers.on_error(now, &url);
            assert_eq!(tiers.poll(now), None);
            let next = tiers.next_deadline().unwrap();
            waits.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(waits[..4], [15, 30, 60, 120]);
        assert_eq!(waits[39], 1_800);
    }

    #[test]
    fn completion_is_announced_at_once_and_until_it_is_heard() {
        let now = Instant::now();
        let mut tiers = tiers(now, &[&["a"]]);
        let (url, _) = asked(&mut tiers, now);
        tiers.completed(now);
        tiers.on_reply(now, &url, &reply(600, Some(600)));
        let done = Some(AnnounceEvent::Completed);
        assert_eq!(asked(&mut tiers, now), (url.clone(), done));
        tiers.on_error(now, &url);
        let now = tiers.next_deadline().unwrap();
        assert_eq!(asked(&mut tiers, now), (url.clone(), done));
        tiers.on_reply(now, &url, &reply(600, None));
        let now = now + Duration::from_secs(600);
        assert_eq!(tiers.next_deadline(), Some(now));
        assert_eq!(asked(&mut tiers, now), (url, None));
    }

    #[test]
    fn more_peers_are_asked_for_no_sooner_than_the_tracker_allows() {
        let now = Instant::now();
        let mut tiers = tiers(now, &[&["a"]]);
        let (url, _) = asked(&mut tiers, now);
        tiers.on_reply(now, &url, &reply(1_800, Some(60)));
        tiers.want_more(now);
        let allowed = now + Duration::from_secs(60);
        assert_eq!(tiers.next_deadline(), Some(allowed));
        asked(&mut tiers, allowed);
        tiers.on_reply(allowed, &url, &reply(1_800, None));
        tiers.want_more(allowed);
        let later = allowed + MIN_INTERVAL_UNTOLD;
        assert_eq!(tiers.next_deadline(), Some(later));
    }

    #[test]
    fn whoever_may_have_heard_of_us_hears_that_we_stop() {
        let now = Instant::now();
        let mut tiers = tiers(now, &[&["a"], &["b"], &["c"]]);
        tiers.poll(now).unwrap();
        tiers.on_error(now, "http://a/");
        tiers.poll(now).unwrap();
        let given = Reply {
            tracker_id: Some(b"id".to_vec()),
            ..reply(60, None)
        };
        tiers.on_reply(now, "http://b/", &given);
        tiers.completed(now);
        let stops: Vec<_> = tiers.stop();
        let urls: Vec<_> = stops.iter().map(|stop| stop.url.as_str()).collect();
        assert_eq!(urls, ["http://a/", "http://b/"]);
        assert!(
            stops
                .iter()
                .all(|s| s.event == Some(AnnounceEvent::Stopped))
        );
        assert_eq!(stops[1].tracker_id.as_deref(), Some(&b"id"[..]));
        assert_eq!((tiers.poll(now), tiers.next_deadline()), (None, None));
        assert_eq!(tiers.stop(), []);
    }

    #[test]
    fn repeated_and_unknown_kinds_of_trackers_are_left_out() {
        let now = Instant::now();
        let list = ["udp://a/", "HTTP://b/", "", "dht://x", "HTTP://b/"];
        let list = vec![list.map(String::from).to_vec(), Vec::new()];
        let mut tiers = Tiers::new(now, list, 0);
        assert_eq!(tiers.poll(now).unwrap().url, "HTTP://b/");
        tiers.on_error(now, "HTTP://b/");
        assert_eq!(tiers.poll(now), None);
        assert!(Tiers::new(now, Vec::new(), 0).is_empty());
        assert_eq!(Tiers::new(now, Vec::new(), 0).next_deadline(), None);
    }

    #[test]
    fn answers_that_nobody_waits_for_change_nothing() {
        let now = Instant::now();
        let mut tiers = tiers(now, &[&["a"]]);
        tiers.on_reply(now, "http://a/", &reply(60, None));
        tiers.on_error(now, "http://b/");
        assert_eq!(asked(&mut tiers, now).1, START);
    }
}
