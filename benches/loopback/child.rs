//! A program that is measured while it runs: what it alone costs.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(5);
/// Clock ticks of `/proc/PID/stat` in a second: `sysconf(_SC_CLK_TCK)`, the same on every Linux that Rust runs on.
const TICKS: u64 = 100;

/// What something cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// Time that passed.
    pub(crate) wall: Duration,
    /// CPU time of the process, in user space and in the kernel.
    pub(crate) cpu: Duration,
    /// The most bytes of memory of its own that it was seen with, files not counted.
    pub(crate) anonymous: u64,
}

/// A running process that is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Measured {
    child: Child,
    begun: Instant,
    anonymous: u64,
}

impl Measured {
    /// Starts `command`, whose output goes nowhere but for its errors.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        let begun = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        Ok(Self {
            child,
            begun,
            anonymous: 0,
        })
    }

    /// CPU time so far.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name before the last bracket may hold anything.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|ticks| ticks.parse::<u64>().ok())
            .sum();
        Ok(Duration::from_millis(ticks * 1_000 / TICKS))
    }

    /// Watches it until it ends by itself.
    pub(crate) fn wait(mut self, patience: Duration) -> io::Result<Cost> {
        let pid = Pid::from_child(&self.child);
        // It stays a zombie, whose times can still be read.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), options)?.is_none() {
            if self.begun.elapsed() > patience {
                return Err(io::Error::other("it does not come to an end"));
            }
            self.look();
            thread::sleep(LOOK);
        }
        let cost = Cost {
            wall: self.begun.elapsed(),
            cpu: self.cpu()?,
            anonymous: self.anonymous,
        };
        let status = self.child.wait()?;
        if status.success() {
            Ok(cost)
        } else {
            Err(io::Error::other(format!("it failed with {status}")))
        }
    }

    /// Watches it while `work` is done on another thread.
    pub(crate) fn during(
        &mut self,
        work: impl FnOnce() -> io::Result<Duration> + Send,
    ) -> io::Result<Cost> {
        let before = self.cpu()?;
        let wall = thread::scope(|scope| {
            let work = scope.spawn(work);
            while !work.is_finished() {
                self.look();
                thread::sleep(LOOK);
            }
            work.join().map_err(|_| io::Error::other("a panic"))?
        })?;
        Ok(Cost {
            wall,
            cpu: self.cpu()?.saturating_sub(before),
            anonymous: self.anonymous,
        })
    }

    fn look(&mut self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let anonymous = status.ok().and_then(|status| {
            let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        });
        self.anonymous = self.anonymous.max(anonymous.unwrap_or(0) * 1024);
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` once more under strace and counts the calls that wait for the medium; `None` if there is no strace.
pub(crate) fn count_syncs(command: &Command, log: &Path) -> io::Result<Option<usize>> {
    let there = Command::new("strace").arg("-V").output();
    if !there.is_ok_and(|output| output.status.success()) {
        return Ok(None);
    }
    let calls = "trace=fsync,fdatasync,msync,sync,syncfs,sync_file_range";
    let mut traced = Command::new("strace");
    traced.args(["-f", "--seccomp-bpf", "-qq", "-e", calls, "-o"]);
    traced.arg(log).arg(command.get_program());
    traced.args(command.get_args()).stderr(Stdio::null());
    Measured::start(&mut traced)?.wait(Duration::from_secs(120))?;
    let trace = fs::read_to_string(log)?;
    fs::remove_file(log)?;
    Ok(Some(trace.lines().filter(|line| is_sync(line)).count()))
}

/// Whether a line of strace is the beginning of a call that returns when bytes are on the medium.
fn is_sync(line: &str) -> bool {
    let waits = |call| line.contains(call);
    waits(" fsync(")
        || waits(" fdatasync(")
        || waits(" sync(")
        || waits(" syncfs(")
        || (waits(" msync(") && waits("MS_SYNC"))
}
