//! One process of the demo: this very program, its events read line by line. Dropped, it is killed.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child as Process, Command, Stdio};
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::swarm::Role;
use crate::cli::exit::{Exit, Failure};

/// Longest line of a child that is read, in bytes: events are far shorter.
const LINE_MAX: u64 = 1 << 20;
/// An orderly stop takes less than 2 s; a busy machine gets more.
const STOP_TIME: Duration = Duration::from_secs(10);

/// What a process says.
#[derive(Debug)]
pub(super) enum Line {
    /// One of its events.
    Event(Value),
    /// Something for people, on standard error.
    Prose(String),
    /// Nothing any more.
    End,
}

/// A running process.
#[derive(Debug)]
pub(super) struct Child {
    role: Role,
    process: Process,
}

impl Child {
    /// Starts this program with other arguments; what it says goes to `lines`.
    ///
    /// # Errors
    /// If the system cannot start it.
    pub(super) fn start(
        role: Role,
        args: &[OsString],
        lines: &SyncSender<(Role, Line)>,
    ) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(Exit::Unknown, format!("cannot start the {role}: {error}"))
        };
        let program = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(program);
        // What is set for the demo is not meant for its parts.
        let ours = |name: &OsString| name.as_encoded_bytes().starts_with(b"SEEDBANK_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().map_err(failed)?;
        let out = process.stdout.take();
        let prose = process.stderr.take();
        // From here on it is killed if anything fails.
        let child = Self { role, process };
        let (events, words) = (lines.clone(), lines.clone());
        let spawn = |read: Box<dyn FnOnce() + Send>| {
            thread::Builder::new()
                .name(role.folder().to_owned())
                .spawn(read)
                .map_err(failed)
        };
        spawn(Box::new(move || {
            read(out, |line| match serde_json::from_str(line) {
                Ok(event) => events.send((role, Line::Event(event))).is_ok(),
                Err(_) => events
                    .send((role, Line::Prose(format!("no JSON: {line}"))))
                    .is_ok(),
            });
            // If nobody listens, the demo is over.
            let _ = events.send((role, Line::End));
        }))?;
        spawn(Box::new(move || {
            read(prose, |line| {
                words.send((role, Line::Prose(line.to_owned()))).is_ok()
            });
        }))?;
        Ok(child)
    }

    /// Ends it as a crash would: it gets to do nothing any more.
    ///
    /// # Errors
    /// If it ended before of itself.
    pub(super) fn kill(mut self) -> Result<(), Failure> {
        let ended = self.process.try_wait();
        if let Ok(Some(status)) = ended {
            let message = format!(
                "the {} ended before it could be killed: {status}",
                self.role
            );
            return Err(Failure::new(Exit::Unknown, message));
        }
        // Dropping kills and waits.
        Ok(())
    }

    /// Asks it to stop and tells whether it did so in order and in time.
    ///
    /// # Errors
    /// If the system does not answer for it.
    pub(super) fn stop(mut self) -> Result<bool, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(
                Exit::Unknown,
                format!("cannot stop the {}: {error}", self.role),
            )
        };
        let pid = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // One that is gone already shows in its status.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_TIME;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().map_err(failed)? {
                return Ok(status.success());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(false)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only if it is gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Hands on lines until there are no more or nobody wants them.
fn read(from: Option<impl Read>, mut hand_on: impl FnMut(&str) -> bool) {
    let Some(from) = from else {
        return;
    };
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        if !text.trim().is_empty() && !hand_on(text.trim()) {
            return;
        }
    }
}
