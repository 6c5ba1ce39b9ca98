//! How a node finds its place among the others, and finds it again: routers, and lookups of its own id.
//!
//! Routers are asked when they are named and whenever no node that answers is left, with growing pauses. The own id is looked up
//! as soon as anybody answers and then again, quickly as long as new neighbours turn up, rarely when they stay the same. A node
//! that knows no router and that nobody answers waits for others to find it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::base::NodeId;
use crate::base::limits::ROUTERS_MAX;

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask every router who is close to us.
    AskRouters,
    /// Look up the own id. [`Bootstrap::on_neighbours`] must be told how it ended.
    LookUpSelf,
}

/// How long to wait after `vain` times that everybody known was asked in vain, before all are asked once more.
pub(super) fn pause(vain: u32) -> Duration {
    (Bootstrap::RETRY * (1 << vain.min(9))).min(Bootstrap::RETRY_MAX)
}

/// The state of one address family.
#[derive(Debug)]
pub(super) struct Bootstrap {
    routers: Vec<SocketAddr>,
    ask: Option<Instant>,
    /// Times that all routers were asked in vain.
    vain: u32,
    look_up: Option<Instant>,
    looking: bool,
    pause: Duration,
    neighbours: Vec<NodeId>,
    /// Somebody has answered since nobody did.
    connected: bool,
    placed: bool,
}

impl Bootstrap {
    /// Pause after routers were asked in vain; doubled each time.
    const RETRY: Duration = Duration::from_secs(1);
    /// The longest such pause.
    const RETRY_MAX: Duration = Duration::from_secs(5 * 60);
    /// Pause after the first lookup of the own id: others that began together with us are known by then.
    const SETTLE: Duration = Duration::from_millis(500);
    /// The longest such pause: buckets are refreshed as often (BEP 5).
    const SETTLE_MAX: Duration = Duration::from_secs(15 * 60);

    pub(super) fn new() -> Self {
        Self {
            routers: Vec::new(),
            ask: None,
            vain: 0,
            look_up: None,
            looking: false,
            pause: Self::SETTLE,
            neighbours: Vec::new(),
            connected: false,
            placed: false,
        }
    }

    /// Names a router; it is asked at once.
    pub(super) fn add_router(&mut self, now: Instant, addr: SocketAddr) {
        if self.routers.len() < ROUTERS_MAX && !self.routers.contains(&addr) {
            self.routers.push(addr);
            self.ask = Some(now);
            self.vain = 0;
        }
    }

    /// The routers, in the order in which they were named.
    pub(super) fn routers(&self) -> &[SocketAddr] {
        &self.routers
    }

    /// A node has answered.
    pub(super) fn on_answer(&mut self, now: Instant) {
        if !self.connected {
            self.connected = true;
            self.restart(now);
        }
    }

    /// Nobody is left that answers; whether somebody was.
    pub(super) fn on_dark(&mut self, now: Instant) -> bool {
        let before = self.connected;
        if before {
            self.connected = false;
            self.placed = false;
            self.vain = 0;
            self.ask = Some(now);
        }
        before
    }

    /// The own id is another one now.
    pub(super) fn restart(&mut self, now: Instant) {
        self.vain = 0;
        self.pause = Self::SETTLE;
        self.look_up = Some(now);
    }

    /// What to do at `now`.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Step> {
        if self.ask.is_some_and(|at| at <= now) {
            self.ask = None;
            if !self.connected && !self.routers.is_empty() {
                self.ask = Some(now + pause(self.vain));
                self.vain += 1;
            }
            return Some(Step::AskRouters);
        }
        if !self.looking && self.look_up.is_some_and(|at| at <= now) {
            self.look_up = None;
            self.looking = true;
            return Some(Step::LookUpSelf);
        }
        None
    }

    /// A lookup of the own id has ended with these neighbours, closest first. True: this is the first since the node was
    /// connected, so it has found its place.
    pub(super) fn on_neighbours(&mut self, now: Instant, neighbours: Vec<NodeId>) -> bool {
        self.looking = false;
        if neighbours.is_empty() {
            // Whoever had answered is gone again; the next to answer begins anew.
            self.connected &= self.placed;
            if !self.connected {
                self.ask.get_or_insert(now + Self::RETRY);
            }
        }
        let changed = neighbours != self.neighbours;
        if self.look_up.is_none() && self.connected {
            self.look_up = Some(now + self.pause);
            let growth = if changed { 2 } else { 4 };
            self.pause = (self.pause * growth).min(Self::SETTLE_MAX);
        }
        self.neighbours = neighbours;
        let first = !self.placed && !self.neighbours.is_empty();
        self.placed |= first;
        first
    }

    /// The closest nodes that the last lookup of the own id found, closest first.
    pub(super) fn neighbours(&self) -> &[NodeId] {
        &self.neighbours
    }

    /// When [`poll`](Self::poll) has something to say.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let look_up = self.look_up.filter(|_| !self.looking);
        self.ask.into_iter().chain(look_up).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> SocketAddr {
        ([10, 0, 0, 1], 6881).into()
    }

    #[test]
    fn routers_are_asked_less_and_less_often_while_nobody_answers() {
        let start = Instant::now();
        let mut bootstrap = Bootstrap::new();
        bootstrap.add_router(start, router());
        let mut asked = Vec::new();
        while asked.len() < 14 {
            let now = bootstrap.next_deadline().unwrap();
            assert_eq!(bootstrap.poll(now), Some(Step::AskRouters));
            asked.push((now - start).as_secs());
        }
        assert_eq!(asked[..6], [0, 1, 3, 7, 15, 31]);
        assert_eq!(asked[13] - asked[12], 300);
    }

    #[test]
    fn a_node_that_knows_nobody_waits() {
        let start = Instant::now();
        let mut bootstrap = Bootstrap::new();
        assert_eq!(bootstrap.next_deadline(), None);
        bootstrap.on_dark(start);
        assert_eq!(bootstrap.poll(start), None);
        bootstrap.on_answer(start);
        assert_eq!(bootstrap.poll(start), Some(Step::LookUpSelf));
        assert_eq!(bootstrap.poll(start), None, "one lookup at a time");
        assert!(bootstrap.on_neighbours(start, vec![NodeId([1; 20])]));
        assert!(!bootstrap.on_neighbours(start, vec![NodeId([1; 20])]));
    }

    #[test]
    fn the_own_id_is_looked_up_until_the_neighbours_stay_the_same_and_rarely_then() {
        let start = Instant::now();
        let mut bootstrap = Bootstrap::new();
        bootstrap.on_answer(start);
        let mut times = Vec::new();
        for round in 0..12u8 {
            let now = bootstrap.next_deadline().unwrap();
            times.push((now - start).as_millis());
            assert_eq!(bootstrap.poll(now), Some(Step::LookUpSelf));
            bootstrap.on_neighbours(now, vec![NodeId([round.min(4); 20])]);
        }
        assert_eq!(times[..5], [0, 500, 1_500, 3_500, 7_500]);
        assert_eq!(times[11] - times[10], 900_000);
    }

    #[test]
    fn routers_are_asked_again_when_the_last_node_is_gone() {
        let start = Instant::now();
        let mut bootstrap = Bootstrap::new();
        bootstrap.add_router(start, router());
        assert_eq!(bootstrap.poll(start), Some(Step::AskRouters));
        bootstrap.on_answer(start);
        assert_eq!(bootstrap.poll(start), Some(Step::LookUpSelf));
        bootstrap.on_neighbours(start, vec![NodeId([1; 20])]);
        assert!(bootstrap.placed);
        let later = start + Duration::from_secs(1_000);
        bootstrap.on_dark(later);
        assert!(!bootstrap.placed);
        assert_eq!(bootstrap.poll(later), Some(Step::AskRouters));
    }
}
