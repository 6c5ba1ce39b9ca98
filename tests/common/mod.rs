//! What the acceptance tests share: worlds of files, metainfo made without seedbank's help, processes that cannot outlive their
//! test, a tracker, raw peers and network namespaces.
//!
//! Nothing in here calls the library: the tests look at seedbank from outside, through its command line and its sockets.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "compiled into several test targets, each of which uses a part of it; a test may panic"
)]

pub mod group;
pub mod metainfo;
pub mod namespace;
pub mod payload;
pub mod process;
pub mod seedbank;
pub mod skip;
pub mod tracker;
pub mod wait;
pub mod wire;

use std::path::{Path, PathBuf};

/// A temporary folder that goes when the test does.
#[derive(Debug)]
pub struct World {
    root: tempfile::TempDir,
}

impl World {
    /// An empty one.
    pub fn new() -> Self {
        let root = tempfile::Builder::new()
            .prefix("seedbank-test-")
            .tempdir()
            .unwrap();
        Self { root }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The path `name` within, which need not exist.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// The folder `name` within, made if need be.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

/// Whether the environment variable `name` is set to `1`.
pub fn asked_for(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value == "1")
}
