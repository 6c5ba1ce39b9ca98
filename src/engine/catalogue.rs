//! Which torrents run, and of which the metadata is being fetched: shared by the engine, which adds and removes, and the
//! listener, which looks up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::torrent::{Incoming, Torrent};
use crate::base::InfoHash;

/// Connections that may wait for a fetch of metadata to look at them.
const WAITING: usize = 32;

/// What is behind an info-hash.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// A torrent.
    Torrent(Torrent),
    /// A fetch of metadata; connections go there.
    Fetch(mpsc::Sender<Incoming>),
}

/// The torrents of an engine, by info-hash.
#[derive(Clone, Debug, Default)]
pub(super) struct Torrents {
    by_hash: Arc<Mutex<HashMap<InfoHash, Entry>>>,
}

/// A fetch's place among the torrents, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    torrents: Torrents,
    info_hash: InfoHash,
    incoming: mpsc::Receiver<Incoming>,
}

impl Torrents {
    /// Adds `torrent`, unless there is one of that name already.
    pub(super) fn insert(&self, torrent: Torrent) -> bool {
        self.claim(torrent.info_hash(), Entry::Torrent(torrent))
    }

    /// Takes a place for a fetch of metadata, unless the name is taken.
    pub(super) fn fetch(&self, info_hash: InfoHash) -> Option<Place> {
        let (connections, incoming) = mpsc::channel(WAITING);
        let free = self.claim(info_hash, Entry::Fetch(connections));
        free.then(|| Place {
            torrents: self.clone(),
            info_hash,
            incoming,
        })
    }

    pub(super) fn entry(&self, info_hash: InfoHash) -> Option<Entry> {
        self.lock().get(&info_hash).cloned()
    }

    pub(super) fn get(&self, info_hash: InfoHash) -> Option<Torrent> {
        match self.entry(info_hash) {
            Some(Entry::Torrent(torrent)) => Some(torrent),
            Some(Entry::Fetch(_)) | None => None,
        }
    }

    pub(super) fn remove(&self, info_hash: InfoHash) {
        self.lock().remove(&info_hash);
    }

    pub(super) fn all(&self) -> Vec<Torrent> {
        let entries = self.lock();
        let torrents = entries.values().filter_map(|entry| match entry {
            Entry::Torrent(torrent) => Some(torrent.clone()),
            Entry::Fetch(_) => None,
        });
        torrents.collect()
    }

    fn claim(&self, info_hash: InfoHash, entry: Entry) -> bool {
        let mut entries = self.lock();
        let free = !entries.contains_key(&info_hash);
        if free {
            entries.insert(info_hash, entry);
        }
        free
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InfoHash, Entry>> {
        self.by_hash.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The next connection that somebody made to us for it.
    pub(super) async fn incoming(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.torrents.remove(self.info_hash);
    }
}
