//! When to look for which torrent's peers.
//!
//! Each search is a series of rounds: the first at once, the next when the node has found its place in the network, then less and
//! less often while nobody is found, and every 15 minutes when somebody is, as an announcement is forgotten after 30. A bounded
//! number of rounds run at a time; the others wait in the order in which they came due, so any number of torrents shares the
//! network fairly. Every operation takes logarithmic time, but for [`Searches::hurry`], which goes through all.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use crate::base::limits::SEARCHES_AT_ONCE;
use crate::base::{InfoHash, Random};

/// Names one search of a node, for as long as the node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SearchId(u64);

/// What to say of ourselves to the nodes that keep the peers of a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The TCP port where peers reach us.
    pub port: NonZeroU16,
    /// Whether we have all of the torrent (BEP 33).
    pub seed: bool,
}

/// What a search looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) info_hash: InfoHash,
    pub(super) announce: Option<Announce>,
    pub(super) once: bool,
}

/// Address families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) v4: bool,
    pub(super) v6: bool,
}

impl Families {
    fn or(self, other: Self) -> Self {
        Self {
            v4: self.v4 || other.v4,
            v6: self.v6 || other.v6,
        }
    }

    fn has_all(self, others: Self) -> bool {
        (self.v4 || !others.v4) && (self.v6 || !others.v6)
    }
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Peers other than ourselves were found.
    pub(super) found: bool,
    /// Nodes that were told of us.
    pub(super) announced: usize,
    /// The node knew its place when the round began.
    pub(super) ready: bool,
    /// It has found it meanwhile.
    pub(super) ready_now: bool,
    /// Where it had a place when the round began.
    pub(super) walked: Families,
    /// Where it has one now.
    pub(super) placed: Families,
}

#[derive(Debug)]
struct Search {
    wanted: Wanted,
    since: Instant,
    /// When the next round is due; `None` while one runs.
    due: Option<Instant>,
    /// Rounds in a row that came to nothing.
    vain: u32,
    /// Where a round was walked when the node had a place there.
    walked: Families,
}

/// All searches of a node.
#[derive(Debug)]
pub(super) struct Searches {
    random: Random,
    last: u64,
    all: HashMap<SearchId, Search>,
    due: BTreeSet<(Instant, SearchId)>,
    running: usize,
}

impl Searches {
    /// Time between rounds of a search that found what it wanted, as BEP 5 has announcements renewed.
    pub(super) const PERIOD: Duration = Duration::from_secs(15 * 60);
    /// Time after the first round that came to nothing; doubled with each.
    const RETRY: Duration = Duration::from_secs(2);
    /// A search that is to run once waits this long for the node to find its place.
    const PATIENCE: Duration = Duration::from_secs(30);

    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            last: 0,
            all: HashMap::new(),
            due: BTreeSet::new(),
            running: 0,
        }
    }

    /// Begins a search, due at once.
    pub(super) fn add(&mut self, now: Instant, wanted: Wanted) -> SearchId {
        self.last += 1;
        let id = SearchId(self.last);
        let search = Search {
            wanted,
            since: now,
            due: Some(now),
            vain: 0,
            walked: Families::default(),
        };
        self.all.insert(id, search);
        self.due.insert((now, id));
        id
    }

    /// Ends a search; whether a round of it was running.
    pub(super) fn remove(&mut self, id: SearchId) -> bool {
        let Some(search) = self.all.remove(&id) else {
            return false;
        };
        if let Some(due) = search.due {
            self.due.remove(&(due, id));
            return false;
        }
        self.running -= 1;
        true
    }

    /// A search whose round is to begin now; [`finish`](Self::finish) must be told when it has ended.
    pub(super) fn poll_due(&mut self, now: Instant) -> Option<(SearchId, Wanted)> {
        let &(due, id) = self.due.first()?;
        if due > now || self.running >= SEARCHES_AT_ONCE {
            return None;
        }
        self.due.pop_first();
        self.running += 1;
        let search = self.all.get_mut(&id)?;
        search.due = None;
        Some((id, search.wanted))
    }

    /// A round has ended. True: and so has the search.
    pub(super) fn finish(&mut self, now: Instant, id: SearchId, outcome: Outcome) -> bool {
        let Some(search) = self.all.get_mut(&id) else {
            return false;
        };
        if search.due.is_some() {
            return false;
        }
        let tried = outcome.ready
            || outcome.found && !outcome.ready_now
            || now >= search.since + Self::PATIENCE;
        if search.wanted.once && tried {
            self.remove(id);
            return true;
        }
        let wants_nobody = search.wanted.announce.is_some_and(|announce| announce.seed);
        let satisfied = outcome.found || wants_nobody && outcome.announced > 0;
        // Before the node knows its place, those who should hear of us may be others.
        search.vain = if satisfied && outcome.ready {
            0
        } else {
            search.vain.saturating_add(1)
        };
        search.walked = search.walked.or(outcome.walked);
        let overtaken = !search.walked.has_all(outcome.placed);
        let pause = if overtaken {
            Duration::ZERO
        } else {
            pause(search.vain)
        };
        // Searches that began together do not stay together.
        let early = pause.mul_f64(self.random.below(1_000) as f64 / 10_000.0);
        let mut due = now + pause - early;
        if search.wanted.once {
            due = due.min(search.since + Self::PATIENCE);
        }
        search.due = Some(due);
        self.running -= 1;
        self.due.insert((due, id));
        false
    }

    /// The node has found a place, or found it again: whatever came to nothing is tried again now, and so is what was never
    /// walked in all the families where it has a place now. Takes time for every search.
    pub(super) fn hurry(&mut self, now: Instant, placed: Families) {
        let lacking = self
            .all
            .iter_mut()
            .filter(|(_, search)| search.vain > 0 || !search.walked.has_all(placed));
        for (&id, search) in lacking {
            if let Some(due) = search.due.filter(|due| *due > now) {
                self.due.remove(&(due, id));
                self.due.insert((now, id));
                search.due = Some(now);
                search.vain = 0;
            }
        }
    }

    /// When the next round is due; `None` also while as many run as may.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let room = self.running < SEARCHES_AT_ONCE;
        self.due.first().map(|&(due, _)| due).filter(|_| room)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}

fn pause(vain: u32) -> Duration {
    match vain {
        0 => Searches::PERIOD,
        _ => (Searches::RETRY * (1 << (vain - 1).min(10))).min(Searches::PERIOD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VAIN: Outcome = Outcome {
        found: false,
        announced: 0,
        ready: true,
        ready_now: true,
        walked: V4,
        placed: V4,
    };
    const V4: Families = Families {
        v4: true,
        v6: false,
    };
    const BOTH: Families = Families { v4: true, v6: true };

    fn wanted(once: bool) -> Wanted {
        Wanted {
            info_hash: InfoHash([7; 20]),
            announce: None,
            once,
        }
    }

    #[test]
    fn a_search_that_finds_nobody_is_repeated_less_and_less_often() {
        let start = Instant::now();
        let mut searches = Searches::new(1);
        let id = searches.add(start, wanted(false));
        let mut now = start;
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(searches.poll_due(now).map(|(id, _)| id), Some(id));
            assert!(searches.poll_due(now).is_none());
            assert!(!searches.finish(now, id, VAIN));
            let due = searches.next_deadline().unwrap();
            pauses.push((due - now).as_secs_f64());
            now = due;
        }
        println!("{pauses:?}");
        assert!((1.8..=2.0).contains(&pauses[0]));
        assert!((3.6..=4.0).contains(&pauses[1]));
        assert!((800.0..=900.0).contains(&pauses[11]));
    }

    #[test]
    fn what_was_found_or_announced_is_looked_up_again_before_announcements_expire() {
        let start = Instant::now();
        let mut searches = Searches::new(1);
        let announce = Announce {
            port: NonZeroU16::MIN,
            seed: true,
        };
        let seed = Wanted {
            announce: Some(announce),
            ..wanted(false)
        };
        for (wanted, found, announced) in [(wanted(false), true, 0), (seed, false, 8)] {
            let id = searches.add(start, wanted);
            searches.poll_due(start).unwrap();
            let outcome = Outcome {
                found,
                announced,
                ..VAIN
            };
            assert!(!searches.finish(start, id, outcome));
            let pause = searches.next_deadline().unwrap() - start;
            assert!(pause <= Searches::PERIOD && pause >= Searches::PERIOD * 8 / 10);
            assert!(!searches.remove(id));
        }
    }

    #[test]
    fn what_came_to_nothing_is_tried_again_as_soon_as_the_node_is_ready() {
        let start = Instant::now();
        let mut searches = Searches::new(1);
        let id = searches.add(start, wanted(true));
        searches.poll_due(start).unwrap();
        let unready = Outcome {
            ready: false,
            ready_now: false,
            walked: Families::default(),
            placed: Families::default(),
            ..VAIN
        };
        assert!(!searches.finish(start, id, unready));
        let now = start + Duration::from_millis(300);
        assert!(searches.poll_due(now).is_none());
        searches.hurry(now, V4);
        assert_eq!(searches.poll_due(now).map(|(id, _)| id), Some(id));
        assert!(searches.finish(now, id, VAIN), "it was to run once");
        assert_eq!(searches.len(), 0);
    }

    #[test]
    fn a_search_that_is_to_run_once_waits_no_longer_than_its_patience() {
        let start = Instant::now();
        let unready = Outcome {
            ready: false,
            ready_now: false,
            walked: Families::default(),
            placed: Families::default(),
            ..VAIN
        };
        let mut searches = Searches::new(1);
        let id = searches.add(start, wanted(true));
        let mut now = start;
        while searches.poll_due(now).is_some() && !searches.finish(now, id, unready) {
            now = searches.next_deadline().unwrap();
        }
        assert_eq!(searches.len(), 0);
        assert_eq!(now, start + Searches::PATIENCE);
    }

    #[test]
    fn what_was_found_in_one_family_is_looked_up_in_the_other_as_soon_as_there_is_a_place() {
        let start = Instant::now();
        let found = Outcome {
            found: true,
            ..VAIN
        };
        let mut searches = Searches::new(1);
        let (idle, running) = (
            searches.add(start, wanted(false)),
            searches.add(start, wanted(false)),
        );
        assert_eq!(searches.poll_due(start).map(|(id, _)| id), Some(idle));
        assert_eq!(searches.poll_due(start).map(|(id, _)| id), Some(running));
        assert!(!searches.finish(start, idle, found));
        let now = start + Duration::from_secs(1);
        searches.hurry(now, BOTH);
        let overtaken = Outcome {
            placed: BOTH,
            ..found
        };
        assert!(!searches.finish(now, running, overtaken));
        for _ in 0..2 {
            let (id, _) = searches.poll_due(now).expect("both are due");
            let walked = Outcome {
                walked: BOTH,
                ..overtaken
            };
            assert!(!searches.finish(now, id, walked));
        }
        searches.hurry(now, BOTH);
        assert!(searches.poll_due(now).is_none(), "nothing is lacking");
    }

    #[test]
    fn ten_thousand_searches_take_turns() {
        let start = Instant::now();
        let mut searches = Searches::new(1);
        for _ in 0..10_000 {
            searches.add(start, wanted(false));
        }
        let mut rounds = HashMap::new();
        let mut now = start;
        while rounds.len() < 10_000 {
            let mut running = Vec::new();
            while let Some((id, _)) = searches.poll_due(now) {
                running.push(id);
            }
            assert_eq!(running.len(), SEARCHES_AT_ONCE);
            now += Duration::from_millis(500);
            for id in running {
                *rounds.entry(id).or_insert(0) += 1;
                let found = Outcome {
                    found: true,
                    ..VAIN
                };
                searches.finish(now, id, found);
            }
        }
        assert!(rounds.values().all(|rounds| *rounds == 1));
    }
}
