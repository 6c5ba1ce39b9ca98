//! A folder to work in and the program to run there.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A temporary folder with a home of its own.
pub(crate) struct World(tempfile::TempDir);

/// What a run that ended left behind.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file, with the folders on the way to it.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The program, to be run in the folder, without a setting from outside and with no DHT node to start from.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seedbank"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SEEDBANK_") {
                command.env_remove(name);
            }
        }
        command.args(args).current_dir(self.0.path());
        command
            .env("HOME", self.path("home"))
            .env_remove("XDG_STATE_HOME")
            .env("SEEDBANK_BOOTSTRAP", "");
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Ended {
        Ended::of(self.command(args).output().unwrap())
    }

    /// Runs what must succeed and returns its standard output.
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        ended.stdout
    }

    /// Runs what must be refused: one line of error that names `word`, nothing on standard output.
    pub(crate) fn refused<S: AsRef<OsStr>>(&self, args: &[S], code: i32, word: &str) {
        self.run(args).refused(code, word);
    }
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("no signal ended it"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("no JSON: {}", self.stdout))
    }

    pub(crate) fn refused(&self, code: i32, word: &str) {
        assert_eq!(self.code, code, "{}", self.stderr);
        let lines: Vec<_> = self.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("error: "), "{lines:?}");
        assert!(lines[0].contains(word), "no {word:?} in {lines:?}");
    }
}

/// Bytes that follow from a number and repeat nowhere near.
pub(crate) fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(&mut next)
        .take(len / 8 + 1)
        .flatten()
        .collect();
    bytes.truncate(len);
    bytes
}

/// A process that runs until it is dropped.
pub(crate) struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next event with this name; every line before it must be an event too.
    pub(crate) fn wait_for(&mut self, name: &str) -> Value {
        loop {
            let event = self.next_event(name);
            if event["event"] == name {
                return event;
            }
        }
    }

    /// Waits until another node of the DHT has taken in that it has a torrent.
    pub(crate) fn announced(&mut self) {
        let mut told = HashSet::new();
        loop {
            let event = self.next_event("the announcement");
            let addr = event["addr"].as_str().unwrap_or_default().to_owned();
            match (event["event"].as_str(), event["dir"].as_str()) {
                (Some("dht_announce"), Some("out")) => drop(told.insert(addr)),
                (Some("dht_pong"), Some("in")) if told.contains(&addr) => return,
                _ => {}
            }
        }
    }

    fn next_event(&mut self, wanted: &str) -> Value {
        let mut line = String::new();
        if self.lines.read_line(&mut line).unwrap() == 0 {
            panic!("it ended without {wanted}: {}", self.complaint());
        }
        event(&line)
    }

    /// Waits for its end, its remaining lines being events; the exit status.
    pub(crate) fn end(mut self) -> i32 {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return self.child.wait().unwrap().code().unwrap();
            }
            event(&line);
        }
    }

    /// Ctrl-C, or another wish to have it stop.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    fn complaint(&mut self) -> String {
        let stderr = self.child.stderr.take().unwrap();
        let lines: Result<Vec<_>, _> = BufReader::new(stderr).lines().collect();
        lines.unwrap().join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a line of the event log, which must be one flat object with its time.
pub(crate) fn event(line: &str) -> Value {
    let event: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    assert!(event["event"].is_string(), "{line}");
    let ts = event["ts"].as_str().unwrap();
    assert!(
        ts.parse::<jiff::Timestamp>().is_ok() && ts.len() == 24,
        "{line}"
    );
    event
}

/// Whether there is anything at `path` but nothing.
pub(crate) fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}
