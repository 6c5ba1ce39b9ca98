//! What all torrents of an engine share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, broadcast};

use super::config::{Config, Footing, IoMode};
use super::dht::Dht;
use super::events::{Event, Hex};
use super::sockets::Addresses;
use crate::base::limits::{DIALS_MAX, EVENT_QUEUE, PEERS_TOTAL, SCRUB_RATE_MAX, WRITE_BUDGET};
use crate::base::{InfoHash, PeerId};
use crate::disk::{Disk, Pace, WritePath};
use crate::net::spare::Spare;
use crate::net::throttle::Throttle;
use crate::proto::wire::Reserved;
use crate::store::{Note, Store, StoreError};

/// Handles to what is shared; each is cheap to use from many tasks at once.
#[derive(Debug)]
pub(super) struct Resources {
    pub(super) peer_id: PeerId,
    /// The port where peers reach us, told to peers and trackers.
    pub(super) port: Option<u16>,
    /// The port where datagrams reach us, told to peers that have a DHT node.
    pub(super) udp_port: Option<u16>,
    /// The DHT node, if there is one.
    pub(super) dht: Option<Dht>,
    pub(super) store: Store,
    pub(super) disk: Disk,
    pub(super) write_path: WritePath,
    pub(super) pace: Pace,
    /// Payload bytes received and not yet stored.
    pub(super) budget: Arc<Semaphore>,
    /// Connections that may still be made.
    pub(super) connections: Arc<Semaphore>,
    /// Connections that may be under way.
    pub(super) dials: Arc<Semaphore>,
    pub(super) up: Arc<Throttle>,
    pub(super) down: Arc<Throttle>,
    /// How often what is shared is re-read.
    pub(super) scrub_every: Option<Duration>,
    /// The budget of that.
    pub(super) scrub: Throttle,
    /// Buffers of runs that are stored.
    pub(super) spare: Arc<Spare>,
    events: broadcast::Sender<Event>,
    /// It was said that notes cannot be written.
    note_failed: AtomicBool,
}

impl Resources {
    pub(super) fn new(
        config: &Config,
        footing: Footing,
        addresses: Addresses,
        dht: Option<Dht>,
        store: Store,
    ) -> Self {
        let now = Instant::now();
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            peer_id: PeerId::ours(rand::random()),
            port: addresses.tcp.map(|addr| addr.port()),
            udp_port: addresses.udp.map(|addr| addr.port()),
            dht,
            store,
            disk: Disk::on(cores.clamp(2, 8), footing.medium),
            pace: footing.pace,
            write_path: match config.io {
                IoMode::Auto => WritePath::Auto,
                IoMode::Mmap => WritePath::Mmap,
                IoMode::Pwrite => WritePath::Pwrite,
            },
            budget: Arc::new(Semaphore::new(WRITE_BUDGET)),
            connections: Arc::new(Semaphore::new(PEERS_TOTAL)),
            dials: Arc::new(Semaphore::new(DIALS_MAX)),
            up: Arc::new(Throttle::new(now, config.max_up)),
            down: Arc::new(Throttle::new(now, config.max_down)),
            scrub_every: config.scrub,
            scrub: Throttle::new(now, Some(SCRUB_RATE_MAX)),
            spare: Arc::new(Spare::new()),
            events: broadcast::Sender::new(EVENT_QUEUE),
            note_failed: AtomicBool::new(false),
        }
    }

    /// What we speak with peers of a torrent.
    pub(super) fn reserved(&self, private: bool) -> Reserved {
        Reserved::ours(self.dht.is_some() && !private)
    }

    /// Tells whoever listens.
    pub(super) fn tell(&self, event: Event) {
        // An error only means that nobody listens.
        let _ = self.events.send(event);
    }

    /// Notes progress (R2b). Notes claim nothing: without them a crash costs a little more, which is said once.
    pub(super) async fn note(&self, info_hash: InfoHash, notes: Vec<Note>) {
        let noted = self.store.note(info_hash, notes).await;
        self.heed(info_hash, noted);
    }

    /// Says, once, that progress could not be noted.
    pub(super) fn heed(&self, info_hash: InfoHash, noted: Result<(), StoreError>) {
        if let Err(error) = noted
            && !self.note_failed.swap(true, Ordering::Relaxed)
        {
            self.tell(Event::Warning {
                info_hash: Some(Hex(info_hash)),
                kind: "notes",
                message: format!("progress cannot be noted, so a crash would cost more: {error}"),
            });
        }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}
