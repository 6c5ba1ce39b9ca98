//! Scripts for node.js that use packages of npm.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::skip;

/// Whether node.js and the packages are here; says `skipped: …` if not.
pub(crate) fn available() -> bool {
    let packages = packages();
    if skip::unless_installed("node").is_none() {
        return false;
    }
    if packages.is_none() {
        skip::say(
            "SEEDBANK_NODE_MODULES does not name a folder with bittorrent-dht and webtorrent",
        );
    }
    packages.is_some()
}

/// Runs `script`, which lies beside this file.
pub(crate) fn command(script: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let mut command = Command::new("node");
    command
        .env("SEEDBANK_NODE_MODULES", packages().unwrap())
        .arg(folder.join(script));
    command
}

/// Where the packages are: what the environment names, or else where `.ci/run` puts them.
fn packages() -> Option<PathBuf> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/ci-node/node_modules");
    let named = std::env::var_os("SEEDBANK_NODE_MODULES").map(PathBuf::from);
    Some(named.unwrap_or_else(default)).filter(|folder| {
        ["bittorrent-dht", "webtorrent"]
            .iter()
            .all(|package| folder.join(package).is_dir())
    })
}
