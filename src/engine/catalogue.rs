//! Which torrents run: shared by the engine, which adds and removes, and the listener, which looks up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::torrent::Torrent;
use crate::base::InfoHash;

/// The torrents of an engine, by info-hash.
#[derive(Clone, Debug, Default)]
pub(super) struct Torrents {
    by_hash: Arc<Mutex<HashMap<InfoHash, Torrent>>>,
}

impl Torrents {
    /// Adds `torrent`, unless there is one of that name already.
    pub(super) fn insert(&self, torrent: Torrent) -> bool {
        let mut torrents = self.lock();
        let free = !torrents.contains_key(&torrent.info_hash());
        if free {
            torrents.insert(torrent.info_hash(), torrent);
        }
        free
    }

    pub(super) fn get(&self, info_hash: InfoHash) -> Option<Torrent> {
        self.lock().get(&info_hash).cloned()
    }

    pub(super) fn remove(&self, info_hash: InfoHash) -> Option<Torrent> {
        self.lock().remove(&info_hash)
    }

    pub(super) fn all(&self) -> Vec<Torrent> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InfoHash, Torrent>> {
        self.by_hash.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
