//! A memory control group: a machine of little memory for one process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::process::Process;
use super::{skip, wait};

/// A control group that goes when its last process has.
#[derive(Debug)]
pub struct MemoryGroup {
    path: PathBuf,
    files: &'static Files,
}

/// How the two versions of the interface name things.
#[derive(Debug)]
struct Files {
    root: &'static str,
    limit: &'static str,
    events: &'static str,
}

const VERSIONS: [Files; 2] = [
    Files {
        root: "/sys/fs/cgroup",
        limit: "memory.max",
        events: "memory.events",
    },
    Files {
        root: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        events: "memory.oom_control",
    },
];

/// Groups that this process made.
static COUNT: AtomicU32 = AtomicU32::new(0);

impl MemoryGroup {
    /// A group in which processes share `limit` bytes, page cache included. `None`, and `skipped: …` is said, where that takes rights that we lack.
    pub fn new(limit: u64) -> Option<Self> {
        if !skip::unless_root("a memory control group") {
            return None;
        }
        let found = VERSIONS.iter().find_map(|files| Self::of(files, limit));
        if found.is_none() {
            skip::say("this system has no memory control groups");
        }
        found
    }

    fn of(files: &'static Files, limit: u64) -> Option<Self> {
        let root = Path::new(files.root);
        // The folder of the second version may also be the plain one that holds those of the first.
        if !root.join("cgroup.procs").exists() {
            return None;
        }
        // Only the second version has such a file, and needs it; where it cannot be written, the group has no limit to set.
        let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
        let path = root.join(format!(
            "seedbank-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir(&path).ok()?;
        let group = Self { path, files };
        fs::write(group.path.join(files.limit), limit.to_string()).ok()?;
        Some(group)
    }

    /// Moves `process` into the group: what it touches from now on counts there.
    pub fn admit(&self, process: &Process) {
        fs::write(self.path.join("cgroup.procs"), process.pid().to_string()).unwrap();
    }

    /// How many processes of the group the kernel killed for want of memory.
    pub fn killed(&self) -> u64 {
        let events = fs::read_to_string(self.path.join(self.files.events)).unwrap();
        let line = events
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        line.unwrap_or_else(|| panic!("no count in {events}"))
            .parse()
            .unwrap()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Its processes may be on their way out.
        let removed = || fs::remove_dir(&self.path).ok();
        if wait::within(Duration::from_secs(5), removed).is_none() && !std::thread::panicking() {
            panic!("{} cannot be removed", self.path.display());
        }
    }
}
