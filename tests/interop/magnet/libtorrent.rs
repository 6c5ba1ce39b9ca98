//! libtorrent.

use std::path::Path;
use std::process::Command;

use super::{Program, by_name};
use crate::client::Client;
use crate::libtorrent;

/// See the module.
pub(super) struct Libtorrent;

impl Program for Libtorrent {
    fn available(&self) -> bool {
        libtorrent::Libtorrent.available()
    }

    fn command(&self, mode: &str, source: &str, folder: &Path) -> Command {
        let mut command = libtorrent::command("libtorrent_peer.py");
        command.args([mode, source]).arg(folder).arg("127.0.0.1");
        command
    }
}

by_name!(Libtorrent);
