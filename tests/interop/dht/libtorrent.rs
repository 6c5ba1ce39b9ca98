//! libtorrent's node.

use super::script::Script;
use super::{Errands, Node, Program, exchanges};
use crate::client::Client;
use crate::libtorrent;

/// See the module.
pub(super) struct Libtorrent;

impl Program for Libtorrent {
    fn available(&self) -> bool {
        libtorrent::Libtorrent.available()
    }

    fn start(&self, errands: &Errands) -> Box<dyn Node> {
        let mut command = libtorrent::command("libtorrent_dht.py");
        Script::start("libtorrent's node", &mut command, errands)
    }
}

exchanges!(Libtorrent);
