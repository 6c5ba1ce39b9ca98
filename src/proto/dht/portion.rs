//! How much of a reply goes into one datagram: what matters least to a search is left out first.

use std::net::SocketAddr;

use super::compact::reachable;
use super::{Contact, Reply, Scrape};
use crate::base::InfoHash;
use crate::base::limits::{DATAGRAM_MAX, DHT_PEERS_MAX, NODES_WRITTEN_MAX, SAMPLES_MAX};

/// Bytes of the longest way to write a peer: those of an IPv6 address in JSON.
const PEER_LEN: usize = 50;
/// Bytes of an info-hash in a sample.
const SAMPLE_LEN: usize = 20;
/// Bytes of the longest way to write a contact: in JSON with an IPv6 address.
const NODE_LEN: usize = 110;

/// The parts of a reply that may be left out, as they are written.
pub(super) struct Portion<'a> {
    pub(super) nodes: Vec<Contact>,
    pub(super) peers: Vec<SocketAddr>,
    pub(super) scrape: Option<&'a Scrape>,
    pub(super) samples: &'a [InfoHash],
}

/// Writes as much of `reply` as a datagram takes: `write` is called with less and less until the result fits. It must fit
/// when nothing is left.
pub(super) fn fit(reply: &Reply, write: impl Fn(&Portion<'_>) -> Vec<u8>) -> Vec<u8> {
    let mut portion = Portion::of(reply);
    loop {
        let datagram = write(&portion);
        let excess = datagram.len().saturating_sub(DATAGRAM_MAX);
        if excess == 0 || !portion.shrink(excess) {
            return datagram;
        }
    }
}

impl<'a> Portion<'a> {
    fn of(reply: &'a Reply) -> Self {
        let family = |v4: bool| {
            let contacts = reply.nodes.iter().filter_map(move |contact| {
                let addr = reachable(contact.addr)?;
                (addr.is_ipv4() == v4).then_some(Contact { addr, ..*contact })
            });
            contacts.take(NODES_WRITTEN_MAX)
        };
        let peers = reply.peers.iter().copied().filter_map(reachable);
        let samples = reply
            .samples
            .as_ref()
            .map_or(&[][..], |samples| &samples.hashes);
        Self {
            nodes: family(true).chain(family(false)).collect(),
            peers: peers.take(DHT_PEERS_MAX).collect(),
            scrape: reply.scrape.as_deref(),
            samples: &samples[..samples.len().min(SAMPLES_MAX)],
        }
    }

    /// Leaves out what takes about `excess` bytes, not more; whether there was anything left to leave out.
    fn shrink(&mut self, excess: usize) -> bool {
        let fewer = |len: usize, each: usize| len.saturating_sub(excess.div_ceil(each));
        if !self.peers.is_empty() {
            self.peers.truncate(fewer(self.peers.len(), PEER_LEN));
        } else if !self.samples.is_empty() {
            self.samples = &self.samples[..fewer(self.samples.len(), SAMPLE_LEN)];
        } else if self.scrape.is_some() {
            self.scrape = None;
        } else if !self.nodes.is_empty() {
            self.nodes.truncate(fewer(self.nodes.len(), NODE_LEN));
        } else {
            return false;
        }
        true
    }
}
