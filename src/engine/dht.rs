//! The DHT node's task, and the handle by which others use it.

use tokio::sync::mpsc;

use std::net::SocketAddr;
use std::num::NonZeroU16;

use crate::base::InfoHash;
use crate::format::host::HostPort;

/// Orders that wait for the node's task.
const ORDERS: usize = 256;
/// Batches of peers that wait for whoever searches.
const FOUND: usize = 64;

/// What to say of ourselves while searching for a torrent's peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Announce {
    /// The TCP port where peers reach us.
    pub(super) port: NonZeroU16,
    /// Whether we have all of the torrent.
    pub(super) seed: bool,
}

/// What the node's task is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Find peers until nobody receives them any more.
    Search {
        info_hash: InfoHash,
        announce: Option<Announce>,
        /// Whether it ends by itself when the closest nodes have answered.
        once: bool,
        found: mpsc::Sender<Vec<SocketAddr>>,
    },
    /// Nodes that may be worth knowing, by address.
    Nodes(Vec<SocketAddr>),
    /// The same, by name.
    Hosts(Vec<HostPort>),
}

/// A handle to the node.
#[derive(Clone, Debug)]
pub(super) struct Dht {
    orders: mpsc::Sender<Order>,
}

impl Dht {
    /// A handle, and where its orders arrive.
    pub(super) fn new() -> (Self, mpsc::Receiver<Order>) {
        let (orders, inbox) = mpsc::channel(ORDERS);
        (Self { orders }, inbox)
    }

    /// Looks for peers of a torrent, again and again, and announces it if asked to, until the answer is dropped.
    pub(super) fn search(&self, info_hash: InfoHash, announce: Option<Announce>) -> Search {
        self.begin(info_hash, announce, false)
    }

    /// Looks for peers of a torrent once.
    pub(super) fn look_up(&self, info_hash: InfoHash) -> Search {
        self.begin(info_hash, None, true)
    }

    fn begin(&self, info_hash: InfoHash, announce: Option<Announce>, once: bool) -> Search {
        let (found, peers) = mpsc::channel(FOUND);
        let orders = self.orders.clone();
        tokio::spawn(async move {
            let search = Order::Search {
                info_hash,
                announce,
                once,
                found,
            };
            // A node that has ended drops the sender, which ends the search.
            let _ = orders.send(search).await;
        });
        Search { peers }
    }

    /// Tells of nodes that may be worth knowing. Told too fast they are forgotten.
    pub(super) fn add_nodes(&self, nodes: Vec<SocketAddr>) {
        let _ = self.orders.try_send(Order::Nodes(nodes));
    }

    /// Tells of nodes by name.
    pub(super) fn add_hosts(&self, hosts: Vec<HostPort>) {
        let _ = self.orders.try_send(Order::Hosts(hosts));
    }
}

/// Peers of a torrent as the DHT names them. Dropping it ends the search.
#[derive(Debug)]
pub struct Search {
    peers: mpsc::Receiver<Vec<SocketAddr>>,
}

impl Search {
    /// More peers; `None` when the search has ended.
    pub async fn next(&mut self) -> Option<Vec<SocketAddr>> {
        self.peers.recv().await
    }
}
