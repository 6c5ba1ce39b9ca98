//! The only printer. Results go to standard output, prose to standard error; in JSON mode standard output carries one
//! object a line and nothing else. A reader that goes away is no error: what has no reader is not printed.

mod prose;

use std::collections::HashMap;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use indicatif::{MultiProgress, ProgressDrawTarget};
use seedbank::base::InfoHash;
use seedbank::engine::Event;
use serde::Serialize;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::args::{LogStyle, Verbosity};
use super::exit::{Exit, Failure};

/// Where everything that a person or a program is told goes through.
#[derive(Debug)]
pub(crate) struct Output {
    /// `--log` as given; without it each command chooses what suits it.
    style: Option<LogStyle>,
    quiet: bool,
    verbose: u8,
    bars: Option<MultiProgress>,
    /// Nobody reads standard output any more.
    unread: AtomicBool,
    /// The command is one that tells how it goes, not only what comes of it.
    narrating: AtomicBool,
    /// Events are being printed as JSON, so errors are events too.
    streaming: AtomicBool,
    names: Mutex<HashMap<InfoHash, String>>,
    last_error: Mutex<String>,
}

/// An event with its time, as a line of the log.
#[derive(Serialize)]
struct Stamped<'a, E> {
    ts: String,
    #[serde(flatten)]
    event: &'a E,
}

impl Output {
    /// A printer for these flags.
    pub(crate) fn new(verbosity: &Verbosity) -> Self {
        let terminals = io::stdout().is_terminal() && io::stderr().is_terminal();
        let human = verbosity.log != Some(LogStyle::Json);
        // The log lines of -v would tear the bars apart.
        let drawn = terminals && human && verbosity.verbose == 0 && !verbosity.quiet;
        let target = ProgressDrawTarget::stderr_with_hz(5);
        Self {
            style: verbosity.log,
            quiet: verbosity.quiet,
            verbose: verbosity.verbose,
            bars: drawn.then(|| MultiProgress::with_draw_target(target)),
            unread: AtomicBool::new(false),
            narrating: AtomicBool::new(false),
            streaming: AtomicBool::new(false),
            names: Mutex::default(),
            last_error: Mutex::default(),
        }
    }

    /// Sends the log of the library to standard error, at the level that -v and -q ask for.
    pub(crate) fn install_log(&self) {
        // What a person must know is told by events and errors; libraries speak only when asked.
        let (level, others) = match (self.quiet, self.verbose) {
            (true, _) | (_, 0) => (LevelFilter::ERROR, LevelFilter::OFF),
            (_, 1) => (LevelFilter::INFO, LevelFilter::ERROR),
            (_, 2) => (LevelFilter::DEBUG, LevelFilter::WARN),
            _ => (LevelFilter::TRACE, LevelFilter::WARN),
        };
        let ours = Targets::new()
            .with_target("seedbank", level)
            .with_default(others);
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal());
        let log = tracing_subscriber::registry().with(lines).with(ours);
        // A second logger in one process is refused, which leaves the first: that is fine.
        let _ = log.try_init();
    }

    /// A panic is a bug of ours: it is told in one line, and what is on disk stays true.
    pub(crate) fn install_panic_hook() {
        std::panic::set_hook(Box::new(|panic| {
            let payload = panic.payload();
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let said = text.or_else(|| payload.downcast_ref::<&str>().copied());
            let said = said.unwrap_or("no message");
            let place = panic
                .location()
                .map(ToString::to_string)
                .unwrap_or_default();
            tracing::error!(
                "bug in seedbank, please report it: {} ({place})",
                clean(said)
            );
        }));
    }

    /// Whether `--log json` was given.
    pub(crate) fn wants_json(&self) -> bool {
        self.style == Some(LogStyle::Json)
    }

    /// Whether to say more, as -v asks.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose > 0
    }

    /// Begins a run of events: JSON unless standard output is a terminal or `--log human` was given.
    pub(crate) fn begin_events(&self) {
        let json = match self.style {
            Some(style) => style == LogStyle::Json,
            None => !io::stdout().is_terminal(),
        };
        self.narrating.store(true, Ordering::Relaxed);
        self.streaming.store(json, Ordering::Relaxed);
    }

    /// The progress bars, where there is a terminal to draw them on.
    pub(crate) fn bars(&self) -> Option<&MultiProgress> {
        self.bars.as_ref()
    }

    /// Remembers what to call a torrent in prose.
    pub(crate) fn name(&self, info_hash: InfoHash, name: &str) {
        lock(&self.names).insert(info_hash, clean(name));
    }

    /// A result: one line on standard output.
    pub(crate) fn line(&self, line: impl Display) {
        self.write_out(&format!("{line}\n"));
    }

    /// A result that is a path or a name from a metainfo file: nothing in it can drive the terminal.
    pub(crate) fn clean_line(&self, line: impl Display) {
        self.line(clean(&line.to_string()));
    }

    /// A result in prose, for people even when its reader is not a terminal, unless events are being printed as JSON.
    pub(crate) fn result(&self, line: impl Display) {
        if !self.is_streaming() {
            self.clean_line(line);
        }
    }

    /// A result as one JSON document on a line of its own.
    pub(crate) fn json(&self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(text) => self.write_out(&(text + "\n")),
            Err(error) => self.fail(&Failure::new(
                Exit::Unknown,
                format!("cannot print: {error}"),
            )),
        }
    }

    /// Prose on standard error, which -q silences, and which a reader of events has no use for.
    pub(crate) fn say(&self, line: impl Display) {
        if !self.quiet && !self.is_streaming() {
            self.write_err(&clean(&line.to_string()));
        }
    }

    /// Something went wrong that the run survives.
    pub(crate) fn warn(&self, kind: &'static str, message: impl Into<String>) {
        let message = message.into();
        self.event(&Event::Warning {
            info_hash: None,
            kind,
            message,
        });
    }

    /// The run, or one torrent of it, fails: one line on standard error and, among events, an event.
    pub(crate) fn fail(&self, failure: &Failure) {
        let message = failure.to_string();
        if self.is_streaming() && *lock(&self.last_error) != message {
            let told = Event::Error {
                info_hash: None,
                kind: failure.exit.word(),
                message: message.clone(),
            };
            self.json(&stamped(&told));
        }
        self.error_line(&message, &message);
    }

    /// Something happened: a JSON line, or prose where it matters to a person.
    pub(crate) fn event(&self, event: &Event) {
        self.events(std::slice::from_ref(event));
    }

    /// An event of a command's own, for programs only.
    pub(crate) fn record(&self, event: &impl Serialize) {
        if self.is_streaming() {
            self.json(&stamped(event));
        }
    }

    /// Several events with one write, which is what keeps up with a fast swarm.
    pub(crate) fn events(&self, events: &[Event]) {
        if self.is_streaming() {
            let lines = events
                .iter()
                .map(|event| serde_json::to_string(&stamped(event)));
            let lines: String = lines.flatten().map(|line| line + "\n").collect();
            self.write_out(&lines);
        }
        events.iter().for_each(|event| self.tell(event));
    }

    /// Prints what clap has to say: help on standard output, complaints on standard error.
    pub(crate) fn clap(error: &clap::Error) {
        // Whoever does not read the help does not miss it.
        let _ = error.print();
    }

    fn tell(&self, event: &Event) {
        match event {
            Event::Error {
                message, info_hash, ..
            } => {
                let line = self.about(info_hash.as_ref().map(|hex| hex.0), message);
                self.error_line(message, &line);
            }
            Event::Warning {
                message, info_hash, ..
            } => {
                let line = self.about(info_hash.as_ref().map(|hex| hex.0), message);
                self.say(format_args!("warning: {line}"));
            }
            other if self.narrating.load(Ordering::Relaxed) || self.verbose > 0 => {
                let prose = prose::of(other, self.verbose, |hash| self.called(hash));
                prose.into_iter().for_each(|prose| self.say(prose));
            }
            _ => {}
        }
    }

    fn about(&self, torrent: Option<InfoHash>, message: &str) -> String {
        match torrent {
            Some(hash) => format!("{}: {message}", self.called(&hash)),
            None => message.to_owned(),
        }
    }

    fn called(&self, hash: &InfoHash) -> String {
        let known = lock(&self.names).get(hash).cloned();
        known.unwrap_or_else(|| hash.to_string())
    }

    /// An error on standard error; one that was just told is not told again.
    fn error_line(&self, message: &str, line: &str) {
        let message = clean(message);
        let mut last = lock(&self.last_error);
        if *last != message {
            self.write_err(&format!("error: {}", clean(line)));
            *last = message;
        }
    }

    fn is_streaming(&self) -> bool {
        self.streaming.load(Ordering::Relaxed)
    }

    fn write_out(&self, text: &str) {
        if self.unread.load(Ordering::Relaxed) {
            return;
        }
        let write = || {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        };
        let written = match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        };
        if written.is_err() {
            self.unread.store(true, Ordering::Relaxed);
        }
    }

    fn write_err(&self, line: &str) {
        let write = || {
            // There is nowhere left to complain that standard error is closed.
            let _ = io::stderr()
                .lock()
                .write_all(format!("{line}\n").as_bytes());
        };
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }
}

fn stamped<E>(event: &E) -> Stamped<'_, E> {
    Stamped { ts: now(), event }
}

/// The time as events carry it: RFC 3339, UTC, milliseconds.
fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// `text` without characters that could move the cursor or change the terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A panic while printing leaves nothing half done that matters.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use seedbank::engine::events::Hex;

    #[test]
    fn an_event_is_one_flat_object_with_its_time_in_milliseconds() {
        let info_hash = Hex(InfoHash([7; 20]));
        let event = Event::Durable {
            info_hash,
            pieces: 3,
            total: 5,
            ms: 8,
        };
        let line = serde_json::to_string(&stamped(&event)).unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["event"], "durable");
        assert_eq!(value["info_hash"], "07".repeat(20));
        assert_eq!(value["pieces"], 3);
        let ts = value["ts"].as_str().unwrap();
        assert_eq!(ts.len(), "2026-01-31T12:00:00.000Z".len(), "{ts}");
        assert!(ts.ends_with('Z') && ts.as_bytes()[19] == b'.', "{ts}");
        assert!(ts.parse::<jiff::Timestamp>().is_ok());
    }

    #[test]
    fn names_cannot_drive_the_terminal() {
        assert_eq!(
            clean("a\u{1b}[31m\u{9b}b\n"),
            "a\u{fffd}[31m\u{fffd}b\u{fffd}"
        );
        assert_eq!(clean("grün ✓"), "grün ✓");
    }
}
