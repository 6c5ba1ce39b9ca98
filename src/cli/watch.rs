//! How a run of torrents stands, shown while it is waited for: progress lines on a terminal, and now and then a word where
//! there is none.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use seedbank::base::InfoHash;
use seedbank::engine::{Engine, State, Status, Torrent};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::output::Output;
use super::progress::Board;
use super::source::Named;

/// How often the progress lines are drawn.
const TICK: Duration = Duration::from_millis(250);
/// Who waits for peers without a progress line is told so this often.
const REMINDER: Duration = Duration::from_secs(60);

/// Shows how the torrents of an engine stand.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    engine: &'a Engine,
    out: &'a Output,
    board: Board<'a>,
    /// Torrents whose metadata is being fetched, with what they are called.
    inquiries: Vec<(InfoHash, String)>,
    reminded: Instant,
}

impl<'a> Watch<'a> {
    /// Nothing is shown yet. `peers` is whether each peer has a line of its own.
    pub(crate) fn new(engine: &'a Engine, out: &'a Output, peers: bool) -> Self {
        Self {
            engine,
            out,
            board: Board::new(out, peers),
            inquiries: Vec::new(),
            reminded: Instant::now(),
        }
    }

    /// The metadata of a torrent is being fetched.
    pub(crate) fn inquire(&mut self, named: &Named) {
        let info_hash = named.info_hash;
        let name = named.magnet.name.clone();
        let name = name.unwrap_or_else(|| info_hash.to_string());
        self.out.name(info_hash, &name);
        if self.board.is_drawn() {
            self.board.inquire(info_hash, &name);
        } else {
            let line = format!("{name}: fetching metadata from peers");
            self.out.say(line);
        }
        self.inquiries.push((info_hash, name));
    }

    /// It is there, or given up.
    pub(crate) fn inquired(&mut self, named: &Named) {
        self.board.inquired(named.info_hash);
        self.inquiries
            .retain(|(info_hash, _)| *info_hash != named.info_hash);
    }

    /// Takes all lines away.
    pub(crate) fn clear(&mut self) {
        self.board.clear();
    }

    /// Waits for `work` and shows meanwhile how things stand.
    pub(crate) async fn over<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = tick.tick() => self.show(),
            }
        }
    }

    fn show(&mut self) {
        let drawn = self.board.is_drawn();
        let due = self.reminded.elapsed() >= REMINDER;
        if !drawn && !due {
            return;
        }
        let torrents = self.engine.torrents();
        let statuses: Vec<Status> = torrents.iter().map(Torrent::status).collect();
        if drawn {
            self.board.draw(&statuses);
        } else {
            self.reminded = Instant::now();
            self.remind(&statuses);
        }
    }

    /// A word for each torrent that waits for someone to have it.
    fn remind(&self, statuses: &[Status]) {
        for (_, name) in &self.inquiries {
            let line = format!("{name}: no peer has handed out the metadata yet; still looking");
            self.out.say(line);
        }
        let lonely = |status: &&Status| {
            matches!(status.state, State::Downloading) && status.peers.is_empty()
        };
        for status in statuses.iter().filter(lonely) {
            let line = format!("{}: no peers yet; still looking", status.name);
            self.out.say(line);
        }
    }
}
