//! The processes of the demo and what each of them said so far.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};
use serde_json::Value;

use super::child::{Child, Line};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::signals::Stop;

/// Lines that wait to be looked at; a child that says more waits.
const LINES: usize = 16_384;
/// How often the progress is told and the user's wish to stop is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often it is told where there is no terminal to redraw it on.
const TELL: Duration = Duration::from_secs(1);

/// A process of the demo by its part in the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    /// Is where the DHT begins.
    Node,
    /// Has the payload.
    Seeder,
    /// Fetches it and is killed.
    First,
    /// Fetches it.
    Second,
    /// The first one again, after the kill.
    Again,
}

impl Role {
    /// The folder of its files, which [`Role::Again`] takes over from [`Role::First`].
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Seeder => "seeder",
            Self::First | Self::Again => "leecher-1",
            Self::Second => "leecher-2",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "DHT node",
            Self::Seeder => "seeder",
            Self::First => "first leecher",
            Self::Second => "second leecher",
            Self::Again => "first leecher (again)",
        })
    }
}

/// What a process found when it started, in pieces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resume {
    /// Taken on trust.
    pub(super) trusted: u64,
    /// Hashed.
    pub(super) rechecked: u64,
    /// Still to be fetched.
    pub(super) missing: u64,
}

/// What a process said so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Where it takes connections.
    pub(super) tcp: Option<SocketAddr>,
    /// Where it takes datagrams.
    pub(super) udp: Option<SocketAddr>,
    /// A node of the DHT took in that it has the torrent.
    pub(super) announced: bool,
    /// Nodes of an earlier run that were there again when its DHT node was ready.
    pub(super) warm: Option<u64>,
    /// Addresses that connected to it or that it connected to, in order.
    pub(super) joined: Vec<SocketAddr>,
    /// Connections that ended.
    pub(super) left: usize,
    /// Pieces verified.
    pub(super) verified: u32,
    /// Pieces of the torrent.
    pub(super) total: u32,
    /// What it found when it started.
    pub(super) resume: Option<Resume>,
    /// Payload bytes received when it was complete.
    pub(super) complete: Option<u64>,
    /// Payload bytes that it sent over connections that ended.
    pub(super) sent: u64,
    /// It says nothing any more.
    pub(super) ended: bool,
    down_rate: u64,
    up_rate: u64,
    peers: u64,
    /// Nodes that it told of the torrent and that did not answer yet.
    told: HashSet<SocketAddr>,
    /// The last thing it said to people.
    prose: String,
}

/// All of them.
pub(super) struct Swarm<'a> {
    out: &'a Output,
    stop: Stop,
    running: HashMap<Role, Child>,
    seen: HashMap<Role, Seen>,
    bars: HashMap<Role, ProgressBar>,
    told: Instant,
    lines: Receiver<(Role, Line)>,
    speak: SyncSender<(Role, Line)>,
}

impl<'a> Swarm<'a> {
    /// A swarm without a process.
    pub(super) fn new(stop: Stop, out: &'a Output) -> Self {
        let (speak, lines) = sync_channel(LINES);
        Self {
            out,
            stop,
            running: HashMap::new(),
            seen: HashMap::new(),
            bars: HashMap::new(),
            told: Instant::now(),
            lines,
            speak,
        }
    }

    /// Starts a process.
    ///
    /// # Errors
    /// If the system cannot.
    pub(super) fn start(&mut self, role: Role, args: &[OsString]) -> Result<(), Failure> {
        self.seen.insert(role, Seen::default());
        let child = Child::start(role, args, &self.speak)?;
        self.running.insert(role, child);
        Ok(())
    }

    /// Kills a process, as a crash would.
    ///
    /// # Errors
    /// If it ended before.
    pub(super) fn kill(&mut self, role: Role) -> Result<(), Failure> {
        self.running.remove(&role).map_or(Ok(()), Child::kill)
    }

    /// Stops a process and tells whether it ended in order.
    ///
    /// # Errors
    /// If the system does not answer for it.
    pub(super) fn stop(&mut self, role: Role) -> Result<bool, Failure> {
        self.running.remove(&role).map_or(Ok(false), Child::stop)
    }

    /// What a process said; nothing yet if it was not started.
    pub(super) fn seen(&self, role: Role) -> Seen {
        self.seen.get(&role).cloned().unwrap_or_default()
    }

    /// Listens to all until `done`, but no longer than `limit`.
    ///
    /// # Errors
    /// If it takes too long, a process ends or fails, or the user stops the demo.
    pub(super) fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        done: impl Fn(&Self) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        while !done(self) {
            if self.stop.asked() {
                return Err(Failure::new(Exit::Stopped, "the demo was stopped"));
            }
            if Instant::now() > deadline {
                let message = format!("waited {} s in vain for {what}", limit.as_secs());
                let failure = Failure::new(Exit::TimedOut, message);
                let words = self.last_words();
                return Err(if words.is_empty() {
                    failure
                } else {
                    failure.hint(words)
                });
            }
            match self.lines.recv_timeout(TICK) {
                Ok((role, line)) => self.hear(role, line)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            self.draw();
        }
        Ok(())
    }

    fn hear(&mut self, role: Role, line: Line) -> Result<(), Failure> {
        let runs = self.running.contains_key(&role);
        let seen = self.seen.entry(role).or_default();
        match line {
            Line::Event(event) => seen.note(&event),
            Line::Prose(prose) => seen.prose = prose,
            Line::End => {
                seen.ended = true;
                if runs {
                    let message = format!("the {role} ended too early");
                    return Err(Failure::new(Exit::Unknown, message).hint(seen.prose.clone()));
                }
            }
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let words = self.seen.iter().filter(|(_, seen)| !seen.prose.is_empty());
        let words = words.map(|(role, seen)| format!("{role}: {}", seen.prose));
        words.collect::<Vec<_>>().join("; ")
    }

    /// A line for each process: redrawn on a terminal, else once a second.
    fn draw(&mut self) {
        let due = self.told.elapsed()
            >= if self.out.bars().is_some() {
                TICK
            } else {
                TELL
            };
        if !due {
            return;
        }
        self.told = Instant::now();
        for role in [Role::Seeder, Role::First, Role::Again, Role::Second] {
            let Some(seen) = self
                .seen
                .get(&role)
                .filter(|_| self.running.contains_key(&role))
            else {
                self.bars
                    .remove(&role)
                    .into_iter()
                    .for_each(|bar| bar.finish_and_clear());
                continue;
            };
            match self.out.bars() {
                Some(bars) => {
                    let bar = self.bars.entry(role).or_insert_with(|| bars.add(bar(role)));
                    bar.set_length(u64::from(seen.total.max(1)));
                    bar.set_position(u64::from(seen.verified));
                    bar.set_message(seen.rates());
                }
                None if seen.total > 0 => {
                    let percent = 100 * u64::from(seen.verified) / u64::from(seen.total);
                    self.out.say(format_args!(
                        "{:<22} {percent:>3} %  {}",
                        role.to_string(),
                        seen.rates()
                    ));
                }
                None => {}
            }
        }
    }
}

impl Drop for Swarm<'_> {
    fn drop(&mut self) {
        self.bars
            .drain()
            .for_each(|(_, bar)| bar.finish_and_clear());
    }
}

impl Seen {
    /// Connections that it has.
    pub(super) fn connections(&self) -> usize {
        self.joined.len().saturating_sub(self.left)
    }

    fn rates(&self) -> String {
        let (down, up) = (BinaryBytes(self.down_rate), BinaryBytes(self.up_rate));
        format!("down {down}/s  up {up}/s  peers {}", self.peers)
    }

    fn note(&mut self, event: &Value) {
        let number = |key: &str| event.get(key).and_then(Value::as_u64).unwrap_or(0);
        let small = |key: &str| u32::try_from(number(key)).unwrap_or(u32::MAX);
        let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
        let address = |key: &str| text(key).parse::<SocketAddr>().ok();
        match text("event") {
            "listening" => (self.tcp, self.udp) = (address("tcp"), address("udp")),
            "dht_announce" if text("dir") == "out" => self.told.extend(address("addr")),
            "dht_pong" if text("dir") == "in" => {
                let from = address("addr");
                self.announced |= from.is_some_and(|from| self.told.remove(&from));
            }
            "dht_ready" => self.warm = Some(number("warm")),
            "joined_to_peer" => self.joined.extend(address("peer")),
            "left_peer" => {
                self.left += 1;
                self.sent += number("uploaded");
            }
            "have" => (self.verified, self.total) = (small("verified"), small("total")),
            "progress" => {
                (self.verified, self.total) = (small("verified"), small("total"));
                (self.down_rate, self.up_rate) = (number("down_rate"), number("up_rate"));
                self.peers = number("peers");
            }
            "resume" => {
                let (trusted, rechecked) = (number("trusted"), number("rechecked"));
                let missing = number("missing");
                self.total = small("total");
                self.verified = self.total.saturating_sub(small("missing"));
                self.resume = Some(Resume {
                    trusted,
                    rechecked,
                    missing,
                });
            }
            "complete" => self.complete = Some(number("downloaded")),
            "error" => text("message").clone_into(&mut self.prose),
            _ => {}
        }
    }
}

fn bar(role: Role) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:22} [{bar:30}] {percent:>3} %  {msg}")
        .expect("the template is a constant that a test parses")
        .progress_chars("=> ");
    let bar = ProgressBar::new(1).with_style(style);
    bar.set_prefix(role.to_string());
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_understood_as_they_are_printed() {
        let _ = bar(Role::Seeder);
        let mut seen = Seen::default();
        let lines = [
            r#"{"event":"listening","tcp":"127.0.0.1:4","udp":"127.0.0.1:9","state":"s"}"#,
            r#"{"event":"resume","trusted":3,"rechecked":2,"missing":6,"total":10,"clean":false}"#,
            r#"{"event":"joined_to_peer","peer":"127.0.0.1:5"}"#,
            r#"{"event":"left_peer","peer":"127.0.0.1:5","uploaded":7}"#,
            r#"{"event":"left_peer","peer":"127.0.0.1:5","uploaded":8}"#,
        ];
        for line in lines {
            seen.note(&serde_json::from_str(line).unwrap());
        }
        assert_eq!(seen.tcp, Some("127.0.0.1:4".parse().unwrap()));
        assert_eq!(seen.udp, Some("127.0.0.1:9".parse().unwrap()));
        assert_eq!((seen.verified, seen.total), (4, 10));
        assert_eq!((seen.sent, seen.connections()), (15, 0));
        seen.note(&serde_json::json!({"event": "complete", "downloaded": 9}));
        assert_eq!(seen.complete, Some(9));
        let message =
            |event, dir, addr| serde_json::json!({"event": event, "dir": dir, "addr": addr});
        seen.note(&message("dht_announce", "out", "127.0.0.1:7"));
        seen.note(&message("dht_pong", "in", "127.0.0.1:8"));
        assert!(!seen.announced, "another node answered");
        seen.note(&message("dht_pong", "in", "127.0.0.1:7"));
        assert!(seen.announced);
    }
}
