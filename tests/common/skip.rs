//! Saying that a test cannot run here.

use std::io::Write;
use std::path::PathBuf;

/// Prints `skipped: …` where the test runner does not swallow it: `.ci/run` looks for these lines.
pub fn say(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// The program `name` on `PATH`; says `skipped: <name> not found` if it is not there.
pub fn unless_installed(name: &str) -> Option<PathBuf> {
    let found = on_path(name);
    if found.is_none() {
        say(&format!("{name} not found"));
    }
    found
}

/// Whether this test runs as root; says `skipped: <what> needs root` if not.
pub fn unless_root(what: &str) -> bool {
    let root = is_root();
    if !root {
        say(&format!("{what} needs root"));
    }
    root
}

/// Whether this test runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The program `name` on `PATH`.
pub fn on_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}
