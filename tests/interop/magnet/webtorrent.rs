//! webtorrent, over TCP.

use std::path::Path;
use std::process::Command;

use super::{Program, by_name};
use crate::node_js;

struct Webtorrent;

impl Program for Webtorrent {
    fn available(&self) -> bool {
        node_js::available()
    }

    fn command(&self, mode: &str, source: &str, folder: &Path) -> Command {
        let mut command = node_js::command("webtorrent_peer.mjs");
        command.args([mode, source]).arg(folder);
        command
    }
}

by_name!(Webtorrent);
