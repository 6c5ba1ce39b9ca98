//! The DHT node's task, and the handle by which others use it.

mod hosts;
mod saved;
mod task;
mod traffic;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

pub(super) use task::DhtTask;

use crate::base::InfoHash;
use crate::format::host::HostPort;
pub(super) use crate::proto::dht::Announce;

/// Orders that wait for the node's task.
const ORDERS: usize = 256;
/// Batches of peers that wait for whoever searches.
const FOUND: usize = 64;

/// What the node's task is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Find peers until nobody receives them any more.
    Search(Wish),
    /// Nodes that may be worth knowing, by address.
    Nodes(Vec<SocketAddr>),
    /// The same, by name.
    Hosts(Vec<HostPort>),
    /// Save the table and end.
    Stop(oneshot::Sender<()>),
}

/// A search that somebody wants.
#[derive(Debug)]
pub(super) struct Wish {
    info_hash: InfoHash,
    announce: Option<Announce>,
    /// Whether it ends by itself when the closest nodes have answered.
    once: bool,
    found: mpsc::Sender<Vec<SocketAddr>>,
}

/// A handle to the node.
#[derive(Clone, Debug)]
pub(super) struct Dht {
    orders: mpsc::Sender<Order>,
    /// A search was dropped of which the node's task does not know yet.
    abandoned: Arc<AtomicBool>,
}

impl Dht {
    /// A handle, and where its orders arrive.
    pub(super) fn new() -> (Self, mpsc::Receiver<Order>) {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let abandoned = Arc::default();
        (Self { orders, abandoned }, inbox)
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
        let wish = Wish {
            info_hash,
            announce,
            once,
            found,
        };
        tokio::spawn(async move {
            // A node that has ended drops the wish, which ends the search.
            let _ = orders.send(Order::Search(wish)).await;
        });
        let abandoned = Arc::clone(&self.abandoned);
        Search { peers, abandoned }
    }

    /// Whether a search was dropped since this was asked last.
    fn take_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed) && self.abandoned.swap(false, Ordering::Acquire)
    }

    /// Tells of nodes that may be worth knowing. Told too fast they are forgotten.
    pub(super) fn add_nodes(&self, nodes: Vec<SocketAddr>) {
        let _ = self.orders.try_send(Order::Nodes(nodes));
    }

    /// Has the table saved and the node ended.
    pub(super) async fn stop(&self) {
        let (stopped, done) = oneshot::channel();
        if self.orders.send(Order::Stop(stopped)).await.is_ok() {
            // An error means that the node has ended already.
            let _ = done.await;
        }
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
    abandoned: Arc<AtomicBool>,
}

impl Search {
    /// More peers; `None` when the search has ended.
    pub async fn next(&mut self) -> Option<Vec<SocketAddr>> {
        self.peers.recv().await
    }
}

/// The next peers of a search, which is let go of when it has ended. Pending for ever without one.
pub(super) async fn found(search: &mut Option<Search>) -> Vec<SocketAddr> {
    if let Some(under_way) = search
        && let Some(peers) = under_way.next().await
    {
        return peers;
    }
    *search = None;
    std::future::pending().await
}

impl Drop for Search {
    fn drop(&mut self) {
        // The task has to find it closed when it is told.
        self.peers.close();
        self.abandoned.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_search_that_is_dropped_is_closed_before_the_task_is_told() {
        let (dht, mut orders) = Dht::new();
        let search = dht.search(InfoHash([1; 20]), None);
        let Some(Order::Search(wish)) = orders.recv().await else {
            panic!("no search");
        };
        assert!(!dht.take_abandoned() && !wish.found.is_closed());
        drop(search);
        assert!(wish.found.is_closed());
        assert!(dht.take_abandoned());
        assert!(!dht.take_abandoned(), "told once");
    }
}
