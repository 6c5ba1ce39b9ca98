//! Ownership: tasks, lifetimes and the public API.
//!
//! An [`Engine`] owns the state folder, the listener and any number of [`Torrent`]s. Each torrent is one task that owns its
//! [`Swarm`](crate::swarm::Swarm) by value; connections, disk jobs and announces report to it. What happens is told as
//! [`Event`]s; how things stand is a [`Status`].

mod active;
mod catalogue;
mod commit;
pub mod config;
mod dht;
mod discovery;
pub mod error;
pub mod events;
mod incoming;
mod inquiry;
mod joining;
mod links;
mod mailbox;
mod moving;
mod perform;
mod prepare;
mod reports;
mod resources;
mod resume;
mod retry;
mod scrub;
mod scrubbing;
mod seeking;
mod sockets;
pub mod status;
mod torrent;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

pub use config::{AddTorrent, Config, DhtConfig, Footing, Goal, IoMode, Wanted};
pub use dht::Search;
pub use error::{EngineError, ErrorKind, Transport};
pub use events::Event;
pub use inquiry::Fetched;
pub use moving::{Moved, move_payload};
pub use prepare::layout;
pub use status::{PeerStatus, State, Status};
pub use torrent::Torrent;

use crate::base::InfoHash;
use crate::format::metainfo::Metainfo;
use crate::store::{Choices, History, Store};
use catalogue::Torrents;
use dht::{Dht, DhtTask};
use resources::Resources;
use sockets::{Addresses, Sockets};

/// Time for all torrents to stop in order. What is not durable by then is hashed again at the next start, no worse.
const ORDERLY: Duration = Duration::from_millis(1_800);

/// What a person should know of the state folder that was opened.
fn finding(history: History) -> Option<Event> {
    let message = match history {
        History::Rebuilt { why } => format!(
            "the state database was damaged ({why}) and is rebuilt from the catalog; files are hashed again"
        ),
        History::Migrated { from } => {
            format!("the state database was of version {from} and is migrated")
        }
        History::Fresh | History::Current => return None,
    };
    tracing::info!("{message}");
    Some(Event::Warning {
        info_hash: None,
        kind: "state",
        message,
    })
}

/// Any number of torrents in one process, and one state folder.
#[derive(Debug)]
pub struct Engine {
    resources: Arc<Resources>,
    torrents: Torrents,
    addresses: Addresses,
    accepting: Option<JoinHandle<()>>,
    node: Option<JoinHandle<()>>,
    /// Everything since the start, for the first who asks for events.
    first: Mutex<Option<broadcast::Receiver<Event>>>,
}

impl Engine {
    /// Locks and opens the state folder and starts listening.
    ///
    /// # Errors
    /// If the folder is in use or cannot be used, or the address cannot be bound.
    pub async fn start(config: Config) -> Result<Self, EngineError> {
        Self::start_on(config, Footing::default()).await
    }

    /// As [`Engine::start`], on another medium or at another pace than this machine's: for tests of what a crash leaves.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn start_on(config: Config, footing: Footing) -> Result<Self, EngineError> {
        let sockets = Sockets::bind(&config)?;
        let addresses = sockets.addresses();
        let opened = Store::open(config.state.clone()).await?;
        let (dht, orders) = Dht::new();
        let dht = config.dht.is_some().then_some(dht);
        let resources = Resources::new(&config, footing, addresses, dht, opened.store);
        let resources = Arc::new(resources);
        let first = resources.subscribe();
        finding(opened.history)
            .into_iter()
            .for_each(|event| resources.tell(event));
        let torrents = Torrents::default();
        let Sockets { listener, udp } = sockets;
        let accepting = listener.map(|listener| {
            tokio::spawn(incoming::accept(
                listener,
                torrents.clone(),
                Arc::clone(&resources),
            ))
        });
        let node = match (udp, config.dht) {
            (Some(udp), Some(config)) => {
                let saved = resources.store.nodes().await;
                let node = DhtTask::new(config, udp, saved, Arc::clone(&resources), orders);
                Some(tokio::spawn(node.run()))
            }
            _ => None,
        };
        Ok(Self {
            resources,
            torrents,
            addresses,
            accepting,
            node,
            first: Mutex::new(Some(first)),
        })
    }

    /// The address where peers connect.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.addresses.tcp
    }

    /// The address where datagrams arrive, if there is a DHT node.
    pub fn udp_addr(&self) -> Option<SocketAddr> {
        self.addresses.udp
    }

    /// Looks for peers of a torrent once, in the DHT alone; nothing without a DHT node.
    pub fn look_up(&self, info_hash: InfoHash) -> Option<Search> {
        let dht = self.resources.dht.as_ref()?;
        Some(dht.look_up(info_hash))
    }

    /// Fetches the info dictionary that `wanted` names from peers (BEP 9), for as long as it takes; a torrent of the catalog is
    /// not fetched again. To give up, drop the future: every connection made for it ends.
    ///
    /// # Errors
    /// If a torrent of that name runs or is being fetched already, or what the info-hash names is not a valid torrent.
    pub async fn fetch(&self, wanted: Wanted) -> Result<Fetched, EngineError> {
        inquiry::fetch(&self.resources, &self.torrents, wanted).await
    }

    /// Puts a torrent into the catalog as one that was not begun, to be downloaded to `dest`, unless it is there already: so its metadata
    /// need not be fetched again should it be refused when it is added.
    ///
    /// # Errors
    /// If the catalog cannot be written.
    pub async fn keep(&self, metainfo: &Metainfo, dest: &Path) -> Result<(), EngineError> {
        let store = &self.resources.store;
        let info_hash = metainfo.info.info_hash();
        if store.choices(info_hash).await?.is_some() {
            return Ok(());
        }
        let choices = Choices {
            unbegun: true,
            ..Choices::new(dest.to_owned())
        };
        let metainfo = metainfo.to_torrent();
        Ok(store.put_torrent(info_hash, metainfo, choices).await?)
    }

    /// Everything that happens from now on; for the first who asks, since the start. A subscriber that lags more than
    /// [`EVENT_QUEUE`](crate::base::limits::EVENT_QUEUE) events behind loses some, and is told how many.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        first.take().unwrap_or_else(|| self.resources.subscribe())
    }

    /// Adds a torrent and returns when its files are open. It is then checked as far as need be, downloads and seeds until it
    /// is removed or paused. Adding one that the store knows from an earlier run resumes it.
    ///
    /// # Errors
    /// If its files cannot be opened or created, belong to something else, or are missing.
    pub async fn add(&self, torrent: AddTorrent) -> Result<Torrent, EngineError> {
        let info_hash = torrent.metainfo.info.info_hash();
        let (torrent, task) = Torrent::new(Arc::clone(&self.resources), torrent);
        // Its place is taken before it touches anything of the store's.
        if !self.torrents.insert(torrent.clone()) {
            return Err(EngineError::AlreadyAdded(info_hash));
        }
        let result = task.spawn().await.unwrap_or(Err(EngineError::Stopped));
        match result {
            Ok(()) => Ok(torrent),
            Err(error) => {
                self.torrents.remove(info_hash);
                Err(error)
            }
        }
    }

    /// The torrents that were added and not removed.
    pub fn torrents(&self) -> Vec<Torrent> {
        self.torrents.all()
    }

    /// Stops a torrent and forgets it. Its payload stays.
    ///
    /// # Errors
    /// If it was not added, or the catalog cannot be written.
    pub async fn remove(&self, info_hash: InfoHash) -> Result<(), EngineError> {
        let torrent = self.torrents.get(info_hash);
        let torrent = torrent.ok_or(EngineError::NotAdded(info_hash))?;
        torrent.stop().await;
        self.resources.store.remove_torrent(info_hash).await?;
        self.torrents.remove(info_hash);
        Ok(())
    }

    /// Makes everything that is verified durable and stops, in under two seconds on a disk that answers.
    pub async fn shutdown(self) {
        self.deafen();
        let mut stopping: JoinSet<()> = self
            .torrents
            .all()
            .into_iter()
            .map(|torrent| async move { torrent.stop().await })
            .collect();
        let torrents = timeout(ORDERLY, async {
            while stopping.join_next().await.is_some() {}
        });
        let node = timeout(ORDERLY, async {
            if let Some(dht) = &self.resources.dht {
                dht.stop().await;
            }
        });
        let (torrents, node) = tokio::join!(torrents, node);
        if torrents.is_err() {
            tracing::warn!(
                "some torrents did not stop in time; their last pieces are hashed again at the next start"
            );
        }
        if node.is_err() {
            tracing::warn!("the DHT node did not stop in time; its table is as of the last save");
        }
        let closed = self.resources.store.clone().close().await;
        if let Err(error) = closed {
            tracing::warn!(%error, "the store did not close in order");
        }
    }

    fn deafen(&self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

impl Drop for Engine {
    /// Without [`Engine::shutdown`] everything still stops in order, only nobody waits for it: with the listener and the
    /// engine the last handles to the torrents are gone. The DHT's table stays as of the last save.
    fn drop(&mut self) {
        self.deafen();
        if let Some(node) = &self.node {
            node.abort();
        }
    }
}
