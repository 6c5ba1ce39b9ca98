//! Child processes that end with the value that stands for them, and what they print.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::wait;

/// A running (or ended) child; dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
}

impl Process {
    /// Starts `command` with no input and collects what it prints. `name` is for messages.
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let stdout = Lines::collect(child.stdout.take().unwrap());
        let stderr = Lines::collect(child.stderr.take().unwrap());
        Self {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed on standard output.
    pub fn stdout(&self) -> &Lines {
        &self.stdout
    }

    /// What it printed on standard error.
    pub fn stderr(&self) -> &Lines {
        &self.stderr
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its status, once it has ended of its own; panics with all it said if that takes longer than `limit`.
    pub fn exit(&mut self, limit: Duration) -> ExitStatus {
        match wait::within(limit, || self.child.try_wait().unwrap()) {
            Some(status) => {
                self.stdout.drained();
                self.stderr.drained();
                status
            }
            None => panic!("still running after {limit:?}: {}", self.transcript()),
        }
    }

    /// Like [`exit`](Self::exit), and it must have succeeded.
    pub fn succeed(&mut self, limit: Duration) {
        let status = self.exit(limit);
        assert!(status.success(), "{status}: {}", self.transcript());
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGSTOP and waits until every thread of it stands still, which is after the system call that it is in.
    pub fn freeze(&self) {
        self.stop(&['T', 't', 'Z', 'X']);
    }

    /// Sends SIGSTOP and waits until no thread of it will do anything more, but for what the kernel does to end the system calls that
    /// wait for a disk.
    pub fn halt(&self) {
        self.stop(&['T', 't', 'Z', 'X', 'D']);
    }

    fn stop(&self, states: &[char]) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.pid());
        let stands = |thread: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat"));
            // The state follows the name, which ends with the last parenthesis.
            stat.is_ok_and(|stat| {
                let state = stat.rsplit(") ").next().unwrap_or_default();
                state.starts_with(states)
            })
        };
        wait::until("a stopped process", wait::SOON, || {
            let mut threads = std::fs::read_dir(&threads).unwrap();
            threads.all(stands).then_some(())
        });
    }

    /// Has it do nothing while `meanwhile` is done.
    pub fn halted<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        self.signal(Signal::STOP);
        let done = meanwhile();
        self.signal(Signal::CONT);
        done
    }

    /// Sends SIGKILL and waits until it is gone. What it printed until then stays readable.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.stdout.drained();
        self.stderr.drained();
    }

    /// Bytes of its memory that no file backs (`RssAnon`).
    pub fn anonymous_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"))
            .and_then(|rest| rest.trim().strip_suffix(" kB"))
            .map_or(0, |kib| kib.trim().parse::<u64>().unwrap() * 1024)
    }

    /// Who it is and the ends of what it printed: for the message of a failed test.
    pub fn transcript(&self) -> String {
        format!(
            "{} (pid {})\n--- stdout\n{}\n--- stderr\n{}",
            self.name,
            self.pid(),
            self.stdout.tail(30),
            self.stderr.tail(30)
        )
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.transcript());
        }
    }
}

/// Lines that arrive while others wait for them.
#[derive(Debug, Default)]
pub struct Lines {
    state: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Lines {
    fn collect(from: impl Read + Send + 'static) -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let shared = Arc::clone(&lines);
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            // A foreign client may print what is not UTF-8.
            while matches!(from.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                shared.state.lock().unwrap().0.push(text);
                shared.changed.notify_all();
                line.clear();
            }
            shared.state.lock().unwrap().1 = true;
            shared.changed.notify_all();
        });
        lines
    }

    /// All so far.
    pub fn all(&self) -> Vec<String> {
        self.state.lock().unwrap().0.clone()
    }

    /// Calls `pick` on each line, old and new, until it answers; `None` once `limit` is over or the stream has ended.
    pub fn find<T>(&self, limit: Duration, mut pick: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let end = Instant::now() + limit;
        let mut seen = 0;
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(found) = state.0[seen..].iter().find_map(|line| pick(line)) {
                return Some(found);
            }
            seen = state.0.len();
            let left = end.checked_duration_since(Instant::now())?;
            if state.1 {
                return None;
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// How many lines there are so far.
    pub fn count(&self) -> usize {
        self.state.lock().unwrap().0.len()
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> String {
        let all = self.all();
        all[all.len().saturating_sub(count)..].join("\n")
    }

    /// Waits a moment for the end of the stream: a grandchild may hold it open, so not for ever.
    fn drained(&self) {
        self.find(Duration::from_secs(2), |_| None::<()>);
    }
}
