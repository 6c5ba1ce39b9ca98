//! The state folder: what must be known after a restart.
//!
//! ```text
//! lock                     held while the folder is in use; says by whom
//! torrents/<ih>.torrent    the catalog: what is shared, as plain files
//! torrents/<ih>.json       … and what was chosen for it, twice (.json.copy)
//! db/                      the database: which pieces are durable, what files were, peers, nodes
//! db.sequence              the number of the last commit, so that a database that went back is noticed
//! db.broken/               the last database that could not be read
//! notes/<ih>               what is verified or received and not durable yet
//! ```
//!
//! This module guarantees: a piece that [`Store::load`] calls durable was committed and not cleared since, power cuts
//! included; [`Store::commit`] and [`Store::clear`] are durable when they return; the catalog is lost to no crash and to no
//! damage of the database, which is an index that can always be rebuilt. It decides nothing and knows nothing of payloads.
//!
//! All of it happens on one thread, in the order it was asked for; commits that wait together share one barrier. A request whose future is dropped after it was queued is
//! carried out all the same.

mod catalog;
mod check;
mod codec;
mod database;
mod digests;
mod durable;
mod error;
mod identities;
mod lock;
mod migrate;
mod nodes;
mod notes;
mod open;
mod pages;
mod partial;
mod peers;
mod progress;
mod schema;
mod torrents;
mod watermark;
mod worker;

use std::path::{Path, PathBuf};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use crate::base::limits::STORE_QUEUE;
use crate::base::{InfoHash, PieceDigest};
use open::Folder;
use torrents::Shape;
use worker::{Change, Covered, Job, Worker};

pub use catalog::{Catalog, CatalogEntry, Choices, Moving, glance, glance_choices};
pub use check::{Report, check};
pub use digests::ScrubMark;
pub use error::StoreError;
pub use nodes::{Identity, KnownNode, SavedNodes};
pub use notes::{Note, Notebook};
pub use open::History;
pub use partial::Partial;
pub use peers::KnownPeer;
pub use progress::{Commit, Record};
pub use schema::SCHEMA_VERSION;
pub use torrents::Totals;

/// A handle to the open state folder. Its clones share one thread; the folder is let go when all are gone or one is closed.
#[derive(Clone, Debug)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
}

/// A state folder that was just opened.
#[derive(Debug)]
pub struct Opened {
    /// The handle to it.
    pub store: Store,
    /// What was found in it.
    pub history: History,
}

impl Store {
    /// Locks and opens the state folder `folder`, which is made if need be.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Newer`], or what the file system says. A database that is merely broken is
    /// replaced, and [`History::Rebuilt`] says so.
    pub async fn open(folder: PathBuf) -> Result<Opened, StoreError> {
        let (answer, wait) = oneshot::channel();
        let (jobs, queue) = mpsc::channel(STORE_QUEUE);
        on_thread("store", &folder.clone(), move || {
            match Folder::prepare(&folder).and_then(Worker::open) {
                Ok((worker, history)) => {
                    if answer.send(Ok(history)).is_ok() {
                        worker.run(queue);
                    }
                }
                Err(error) => {
                    // Whoever asked is gone.
                    let _ = answer.send(Err(error));
                }
            }
        })?;
        let history = wait.await.map_err(|_| StoreError::Closed)??;
        let store = Self { jobs };
        Ok(Opened { store, history })
    }

    /// The torrents that were put and not removed.
    ///
    /// # Errors
    /// If the folder of the catalog cannot be read. A file in it that cannot is in [`Catalog::damaged`].
    pub async fn catalog(&self) -> Result<Catalog, StoreError> {
        self.ask(|worker| catalog::load(&worker.folder().path))
            .await
    }

    /// The content of a torrent's `.torrent`; `None` if it is not in the catalog or cannot be read. Whether it is that
    /// torrent's is for the reader of metainfo to say.
    ///
    /// # Errors
    /// If the store has ended.
    pub async fn metainfo(&self, info_hash: InfoHash) -> Result<Option<Vec<u8>>, StoreError> {
        self.ask(move |worker| Ok(catalog::metainfo(&worker.folder().path, &info_hash)))
            .await
    }

    /// What was chosen for a torrent; `None` if it is not in the catalog, or nobody can tell any more.
    ///
    /// # Errors
    /// [`StoreError::Newer`] if a newer seedbank chose it.
    pub async fn choices(&self, info_hash: InfoHash) -> Result<Option<Choices>, StoreError> {
        self.ask(move |worker| catalog::choices(&worker.folder().path, &info_hash))
            .await
    }

    /// Whether anything in the catalog is about the torrent, readable or not.
    ///
    /// # Errors
    /// If the store has ended.
    pub async fn knows(&self, info_hash: InfoHash) -> Result<bool, StoreError> {
        self.ask(move |worker| Ok(catalog::knows(&worker.folder().path, &info_hash)))
            .await
    }

    /// Puts a torrent into the catalog, or replaces it: `metainfo` is the content of its `.torrent`. Durable.
    ///
    /// # Errors
    /// If the files cannot be written, or would be larger than is read again.
    pub async fn put_torrent(
        &self,
        info_hash: InfoHash,
        metainfo: Vec<u8>,
        choices: Choices,
    ) -> Result<(), StoreError> {
        self.ask(move |worker| worker.put_torrent(&info_hash, &metainfo, &choices))
            .await
    }

    /// Replaces what was chosen for a torrent of the catalog. Durable.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub async fn put_choices(
        &self,
        info_hash: InfoHash,
        choices: Choices,
    ) -> Result<(), StoreError> {
        self.ask(move |worker| worker.put_choices(&info_hash, &choices))
            .await
    }

    /// Forgets a torrent: its progress, its peers, its place in the catalog. Durable.
    ///
    /// # Errors
    /// If the database or the catalog cannot be written.
    pub async fn remove_torrent(&self, info_hash: InfoHash) -> Result<(), StoreError> {
        self.ask(move |worker| worker.remove_torrent(&info_hash))
            .await
    }

    /// What is known of a torrent of `pieces` pieces and `files` files; `None` if nothing is, or nothing that can be
    /// believed, so that its files are to be hashed. To be called before anything else is asked about a torrent's progress.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn load(
        &self,
        info_hash: InfoHash,
        pieces: u32,
        files: usize,
    ) -> Result<Option<Record>, StoreError> {
        let files = u32::try_from(files).map_err(|_| StoreError::OutOfBounds {
            info_hash,
            what: "file",
            index: files as u64,
            count: u32::MAX.into(),
        })?;
        self.ask(move |worker| worker.load(&info_hash, Shape { pieces, files }))
            .await
    }

    /// R4: makes the claims of `commit` durable, all or none, and drops the notes it covers. The caller has synced every
    /// byte that it speaks of.
    ///
    /// # Errors
    /// If the database or the notes cannot be written; then it is not known whether the claims are stored, only that they
    /// are true.
    pub async fn commit(&self, info_hash: InfoHash, commit: Commit) -> Result<(), StoreError> {
        self.change(info_hash, move |worker| worker.commit(&info_hash, &commit))
            .await
    }

    /// R5: durably takes back what was claimed of `pieces`, before their bytes are touched.
    ///
    /// # Errors
    /// If the database cannot be written; then the bytes must not be touched.
    pub async fn clear(&self, info_hash: InfoHash, pieces: Vec<u32>) -> Result<(), StoreError> {
        let pieces = pieces.into_iter().collect();
        self.change(info_hash, move |worker| worker.clear(&info_hash, pieces))
            .await
    }

    /// R5 for all pieces: durably forgets all progress and notes; totals, peers and the catalog stay.
    ///
    /// # Errors
    /// If the database cannot be written; then the bytes must not be touched.
    pub async fn clear_all(&self, info_hash: InfoHash) -> Result<(), StoreError> {
        self.change(info_hash, move |worker| worker.clear_all(&info_hash))
            .await
    }

    /// Durably forgets what these files were, by their place in the torrent, so that the next start rechecks them.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn forget_identities(
        &self,
        info_hash: InfoHash,
        files: Vec<usize>,
    ) -> Result<(), StoreError> {
        self.change(info_hash, move |worker| {
            worker.forget_identities(&info_hash, &files)
        })
        .await
    }

    /// R2b: notes what is so and not durable yet. It survives the process, maybe not the machine.
    ///
    /// # Errors
    /// If the file cannot be written; then a crash costs more, and nothing else is lost.
    pub async fn note(&self, info_hash: InfoHash, notes: Vec<Note>) -> Result<(), StoreError> {
        self.ask(move |worker| worker.note(&info_hash, &notes))
            .await
    }

    /// The notes of a torrent, for those who cannot wait for an answer.
    ///
    /// # Errors
    /// If the store is closed.
    pub async fn notebook(&self, info_hash: InfoHash) -> Result<Notebook, StoreError> {
        self.ask(move |worker| Ok(worker.notes_of(&info_hash)))
            .await
    }

    /// The peers of a torrent, as they were put last; none if they cannot be read.
    pub async fn peers(&self, info_hash: InfoHash) -> Vec<KnownPeer> {
        self.ask(move |worker| worker.with(|database| peers::load(database, &info_hash)))
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(%info_hash, %error, "known peers cannot be read");
                Vec::new()
            })
    }

    /// Replaces the peers of a torrent; of more than
    /// [`STORED_PEERS_MAX`](crate::base::limits::STORED_PEERS_MAX) those seen last are kept. Not for every peer: in batches.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn put_peers(
        &self,
        info_hash: InfoHash,
        peers: Vec<KnownPeer>,
    ) -> Result<(), StoreError> {
        self.ask(move |worker| worker.with(|database| peers::replace(database, &info_hash, peers)))
            .await
    }

    /// How far the torrent was re-read; `None` if it never was, or nobody can tell.
    pub async fn scrub_mark(&self, info_hash: InfoHash) -> Option<ScrubMark> {
        self.ask(move |worker| worker.with(|database| digests::mark(database, &info_hash)))
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(%info_hash, %error, "it cannot be told how far it was re-read");
                None
            })
    }

    /// Known digests of pieces: that of `piece` and of those around it that are stored together with it. None if they cannot be
    /// read.
    pub async fn digests(&self, info_hash: InfoHash, piece: u32) -> Vec<(u32, PieceDigest)> {
        self.ask(move |worker| worker.with(|database| digests::load(database, &info_hash, piece)))
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(%info_hash, %error, "digests of pieces cannot be read");
                Vec::new()
            })
    }

    /// Puts how far the torrent was re-read, and the digests of pieces that were good. It survives the process once this returns,
    /// maybe not the machine: all of it can be had again. Not for every piece: in batches.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn put_scrub(
        &self,
        info_hash: InfoHash,
        mark: ScrubMark,
        digests: Vec<(u32, PieceDigest)>,
    ) -> Result<(), StoreError> {
        self.ask(move |worker| {
            worker.with(|database| digests::put(database, &info_hash, mark, &digests))
        })
        .await
    }

    /// The DHT's own ids and nodes, as they were put last, best first; without those that cannot be read. A node's last
    /// answer may be up to an hour older than was put, and its round trip off by a factor of 1.5.
    pub async fn nodes(&self) -> SavedNodes {
        self.ask(|worker| worker.with(|database| nodes::load(database)))
            .await
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "known DHT nodes cannot be read");
                SavedNodes::default()
            })
    }

    /// Replaces the DHT's own ids and nodes, all at once; of more than
    /// [`STORED_NODES_MAX`](crate::base::limits::STORED_NODES_MAX) the best are kept ([`SavedNodes::nodes`]). What is stored
    /// nearly as it is put is not written again. It survives the process once this returns, maybe not the machine: nodes are
    /// a cache. Not for every node: in batches.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub async fn put_nodes(&self, saved: SavedNodes) -> Result<(), StoreError> {
        self.ask(move |worker| worker.with(|database| nodes::replace(database, saved)))
            .await
    }

    /// Closes the database and lets go of the folder, after all that was asked before. What is asked later fails with
    /// [`StoreError::Closed`].
    ///
    /// # Errors
    /// [`StoreError::Closed`] if another handle was closed before.
    pub async fn close(self) -> Result<(), StoreError> {
        let (answer, wait) = oneshot::channel();
        let sent = self.jobs.send(Job::Stop(answer)).await;
        sent.map_err(|_| StoreError::Closed)?;
        wait.await.map_err(|_| StoreError::Closed)?
    }

    /// Makes a change that is durable when this returns; those that wait at the same time are made durable together.
    async fn change(
        &self,
        info_hash: InfoHash,
        stage: impl FnOnce(&mut Worker) -> Result<Covered, StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let (answer, wait) = oneshot::channel();
        let stage = Box::new(stage);
        let change = Change {
            info_hash,
            stage,
            answer,
        };
        let sent = self.jobs.send(Job::Change(Box::new(change))).await;
        sent.map_err(|_| StoreError::Closed)?;
        wait.await.map_err(|_| StoreError::Closed)?
    }

    async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Worker) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, wait) = oneshot::channel();
        let job = Job::Do(Box::new(move |worker| {
            // A caller that is gone does not want the answer; the work is done.
            let _ = answer.send(worker.attempt(job));
        }));
        let sent = self.jobs.send(job).await;
        sent.map_err(|_| StoreError::Closed)?;
        wait.await.map_err(|_| StoreError::Closed)?
    }
}

/// What [`rebuild`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Whether there was a database; it is in `db.broken` in the same folder now.
    pub moved: bool,
    /// Files of the catalog that were damaged and are written anew.
    pub mended: Vec<PathBuf>,
}

/// Moves the database of the state folder aside, if there is one, and begins a new one. The catalog stays, and what is damaged
/// in it is repaired as far as the state folder itself allows.
///
/// # Errors
/// If the folder is missing or in use, or the file system refuses.
pub async fn rebuild(folder: PathBuf) -> Result<Rebuilt, StoreError> {
    let (answer, wait) = oneshot::channel();
    on_thread("store", &folder.clone(), move || {
        // Whoever asked may be gone; it is done all the same.
        let _ = answer.send(rebuild_now(&folder));
    })?;
    wait.await.map_err(|_| StoreError::Closed)?
}

fn rebuild_now(folder: &Path) -> Result<Rebuilt, StoreError> {
    let folder = Folder::look_at(folder)?;
    let mended = catalog::mend(&folder.path)?;
    let moved = folder.quarantine()?;
    if let Err(error) = folder.open() {
        // As on a full disk. The old one may be better than none.
        folder.put_back(moved);
        return Err(error);
    }
    Ok(Rebuilt { moved, mended })
}

fn on_thread(
    name: &str,
    folder: &Path,
    work: impl FnOnce() + Send + 'static,
) -> Result<(), StoreError> {
    let thread = thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn(work);
    spawned
        .map(drop)
        .map_err(|error| StoreError::io(folder, error))
}

#[cfg(test)]
mod tests;
