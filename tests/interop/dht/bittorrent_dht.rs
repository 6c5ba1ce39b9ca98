//! The node of the npm package bittorrent-dht, which webtorrent uses.

use super::script::Script;
use super::{Errands, Node, Program, exchanges};
use crate::node_js;

struct BittorrentDht;

impl Program for BittorrentDht {
    fn available(&self) -> bool {
        node_js::available()
    }

    fn start(&self, errands: &Errands) -> Box<dyn Node> {
        let mut command = node_js::command("bittorrent_dht.mjs");
        Script::start("bittorrent-dht", &mut command, errands)
    }
}

exchanges!(BittorrentDht);
