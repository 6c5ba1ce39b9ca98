//! A torrent's place in the DHT: its peers are looked for there, and it is announced there. Never a private one (BEP 27).

use std::net::SocketAddr;
use std::num::NonZeroU16;

use super::dht::{self, Announce, Dht, Search};
use super::resources::Resources;
use crate::base::InfoHash;
use crate::format::metainfo::Metainfo;

/// Keeps one torrent announced, and hears of its peers.
#[derive(Debug)]
pub(super) struct Seeking {
    /// Nothing if there is no node, or the torrent is private.
    dht: Option<Dht>,
    info_hash: InfoHash,
    port: Option<NonZeroU16>,
    search: Option<Search>,
}

impl Seeking {
    /// Begins to search, unless the torrent is private. The nodes that its metainfo names are tried.
    pub(super) fn new(resources: &Resources, metainfo: &Metainfo, seed: bool) -> Self {
        let info = &metainfo.info;
        let dht = resources.dht.clone().filter(|_| !info.is_private());
        if let Some(dht) = &dht
            && !metainfo.nodes.is_empty()
        {
            dht.add_hosts(metainfo.nodes.clone());
        }
        let mut seeking = Self {
            dht,
            info_hash: info.info_hash(),
            port: resources.port.and_then(NonZeroU16::new),
            search: None,
        };
        seeking.begin(seed);
        seeking
    }

    /// The payload is whole now, which is announced (BEP 33).
    pub(super) fn completed(&mut self) {
        self.begin(true);
    }

    /// The next peers that were found. Pending for ever without a search.
    pub(super) async fn found(&mut self) -> Vec<SocketAddr> {
        dht::found(&mut self.search).await
    }

    fn begin(&mut self, seed: bool) {
        let announce = self.port.map(|port| Announce { port, seed });
        let search = |dht: &Dht| dht.search(self.info_hash, announce);
        self.search = self.dht.as_ref().map(search);
    }
}
