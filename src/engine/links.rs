//! The connections of one torrent, as its task sees them: where to send orders, and what to show of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::base::{Bitfield, PieceIndex};
use crate::net::peer::Command;
use crate::proto::wire::Tally;
use crate::swarm::PeerKey;

/// All connections of a torrent.
#[derive(Debug, Default)]
pub(super) struct Links {
    links: HashMap<PeerKey, Link>,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) addr: SocketAddr,
    pub(super) incoming: bool,
    pub(super) client: String,
    pub(super) tally: Tally,
    commands: mpsc::Sender<Command>,
    /// Whether it was reported as joined, which waits for its name.
    pub(super) introduced: bool,
    asked: Option<Bitfield>,
    served: Option<Bitfield>,
}

impl Link {
    pub(super) fn new(
        addr: SocketAddr,
        incoming: bool,
        client: String,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self {
            addr,
            incoming,
            client,
            tally: Tally::default(),
            commands,
            introduced: false,
            asked: None,
            served: None,
        }
    }

    /// Whether this is the first time that `piece` is asked of the peer.
    pub(super) fn asks_first(&mut self, piece: PieceIndex, pieces: u32) -> bool {
        self.asked
            .get_or_insert_with(|| Bitfield::new(pieces))
            .insert(piece)
    }

    /// Whether this is the first time that `piece` goes to the peer.
    pub(super) fn serves_first(&mut self, piece: PieceIndex, pieces: u32) -> bool {
        self.served
            .get_or_insert_with(|| Bitfield::new(pieces))
            .insert(piece)
    }
}

impl Links {
    pub(super) fn add(&mut self, key: PeerKey, link: Link) {
        self.links.insert(key, link);
    }

    pub(super) fn remove(&mut self, key: PeerKey) -> Option<Link> {
        self.links.remove(&key)
    }

    pub(super) fn get(&self, key: PeerKey) -> Option<&Link> {
        self.links.get(&key)
    }

    pub(super) fn get_mut(&mut self, key: PeerKey) -> Option<&mut Link> {
        self.links.get_mut(&key)
    }

    pub(super) fn len(&self) -> usize {
        self.links.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Orders one connection to do something.
    pub(super) fn send(&mut self, key: PeerKey, command: Command) {
        if let Some(link) = self.links.get_mut(&key) {
            post(link, command);
        }
    }

    /// Tells every connection which pieces have become available.
    pub(super) fn announce(&mut self, pieces: &Arc<[PieceIndex]>) {
        for link in self.links.values_mut() {
            post(link, Command::Have(Arc::clone(pieces)));
        }
    }

    /// Tells every connection that we want nothing any more.
    pub(super) fn upload_only(&mut self) {
        for link in self.links.values_mut() {
            post(link, Command::UploadOnly);
        }
    }

    /// Hangs up on everyone.
    pub(super) fn close_all(&mut self, reason: &str) {
        for link in self.links.values_mut() {
            post(link, Command::Close(reason.to_owned()));
        }
    }
}

/// Never waits: a connection whose queue is full is stuck, and is cut by closing its queue.
fn post(link: &mut Link, command: Command) {
    match link.commands.try_send(command) {
        // Closed: it is gone, and says so itself.
        Ok(()) | Err(TrySendError::Closed(_)) => {}
        Err(TrySendError::Full(_)) => {
            tracing::debug!(peer = %link.addr, "cut off: it does not take orders");
            link.commands = mpsc::channel(1).0;
        }
    }
}
