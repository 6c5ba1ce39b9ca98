//! From a torrent that was added to one that can run: finish a move that was stopped, look at its files, decide what to believe, open
//! them, hash what has to be hashed, and put it into the catalog. In that order, so that a refusal leaves nothing behind.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::watch;

use super::config::{AddTorrent, Goal};
use super::error::EngineError;
use super::events::{Event, Hex};
use super::moving;
use super::resources::Resources;
use super::resume::{self, Evidence, Plan};
use super::status::{State, Status};
use crate::base::{Bitfield, BlockRange, FileIdentity, PieceIndex};
use crate::disk::{Access, DiskError, FileSpec, Layout, Payload, SpecKind};
use crate::format::metainfo::{FileKind, Info};
use crate::store::{Choices, Commit, Moving, Notebook, Record};

/// Pieces that are hashed between two looks at whether they are still wanted.
const BETWEEN_LOOKS: usize = 64;

/// A torrent with its files open and its pieces told apart.
pub(super) struct Prepared {
    pub(super) payload: Payload,
    /// Pieces that are good, all of them durable.
    pub(super) verified: Bitfield,
    pub(super) partial: Vec<BlockRange>,
    pub(super) totals: crate::store::Totals,
    /// For what is verified and not durable yet.
    pub(super) notebook: Notebook,
}

/// Where the files of `info` lie below `dest`.
///
/// # Errors
/// If no honest torrent has such a list of files.
pub fn layout(info: &Info, dest: &Path) -> Result<Layout, DiskError> {
    let spec = |file: &crate::format::metainfo::FileEntry| FileSpec {
        path: dest.join(file.path().as_str()),
        length: file.length(),
        kind: match file.kind() {
            FileKind::Payload => SpecKind::Payload,
            FileKind::Pad => SpecKind::Pad,
            FileKind::Symlink(target) => SpecKind::Symlink {
                target: dest.join(target.as_str()),
            },
        },
    };
    Layout::new(
        dest.to_owned(),
        *info.geometry(),
        info.files().iter().map(spec).collect(),
    )
}

/// Does all of it; `opened` hears when the files are open and only hashing is left. When `cancelled` is set meanwhile, it
/// ends with [`EngineError::Stopped`], with nothing held any more. `mends` is whether a piece of a
/// payload to share rotted, so that what is missing of it is fetched as of a download.
pub(super) async fn prepare(
    resources: &Resources,
    torrent: &AddTorrent,
    status: &watch::Sender<Status>,
    cancelled: &Arc<AtomicBool>,
    mends: bool,
    opened: impl FnOnce(),
) -> Result<Prepared, EngineError> {
    let started = Instant::now();
    let preparation = Preparation {
        resources,
        torrent,
        info: &torrent.metainfo.info,
        layout: Arc::new(layout(&torrent.metainfo.info, &torrent.dest)?),
        status,
        cancelled,
        only_whole: torrent.goal == Goal::Seed && !mends,
    };
    preparation.run(started, opened).await
}

struct Preparation<'a> {
    resources: &'a Resources,
    torrent: &'a AddTorrent,
    info: &'a Info,
    layout: Arc<Layout>,
    status: &'a watch::Sender<Status>,
    cancelled: &'a Arc<AtomicBool>,
    /// A payload that is not whole is refused.
    only_whole: bool,
}

/// What the store says of the torrent.
struct Known {
    /// What it remembers of this place.
    record: Option<Record>,
    /// Whether the catalog says that the files are here.
    catalogued: bool,
    /// Whether they were made or taken over for a download. Else they are the user's, and were only shared.
    made: bool,
    /// Whether it remembers another place, which is to be forgotten.
    moved: bool,
    /// What is left to do of a move to this place.
    moving: Option<Moving>,
}

impl Known {
    /// Whether what lies there under a file's name was made for a download and is the one that the store knows: a file that took its
    /// place is somebody else's.
    fn is_ours(&self, found: &[Option<FileIdentity>], file: usize) -> bool {
        let record = self.record.as_ref().filter(|_| self.made);
        let known = record.and_then(|record| record.identities.get(file).copied().flatten());
        known.is_some_and(|known| found[file].is_none_or(|now| now.inode == known.inode))
    }
}

impl Preparation<'_> {
    async fn run(self, started: Instant, opened: impl FnOnce()) -> Result<Prepared, EngineError> {
        let known = self.known().await?;
        let record = known.record.as_ref();
        let layout = Arc::clone(&self.layout);
        let found = self.resources.disk.look(layout).await?.files;
        let evidence = Evidence {
            record,
            catalogued: known.catalogued,
            found: &found,
            hashed: self.torrent.hashed.as_deref(),
        };
        let plan = resume::plan(&self.layout, self.info.geometry(), &evidence);
        let plan = plan.map_err(|missing| self.missing(missing.path))?;

        // Nothing is made or claimed before what is there has been judged. Reading needs no more than a shared lock, so files
        // that others seed can be adopted while they do.
        let write = self.write(&found, &known);
        let to_judge = plan.trusted.is_full() || !plan.recheck.is_empty();
        let mut payload = if to_judge || self.only_whole {
            let payload = self.open(Access::Read).await?;
            payload.judge_by(&known_files(found.clone()));
            payload
        } else {
            self.clear_gone(record, &plan, &plan.trusted).await?;
            self.open(write.clone()).await?
        };
        opened();
        self.drop_cache(&payload, &plan).await?;

        let mut verified = plan.trusted.clone();
        verified.extend(self.recheck(&payload, &plan).await?);
        if self.only_whole && !verified.is_full() {
            payload.close().await?;
            return Err(self.incomplete(&verified));
        }
        if to_judge && !verified.is_full() {
            let judged = self.refuse_strangers(&plan, &found, &known, &verified, &payload);
            let judged = judged.await;
            payload.close().await?;
            judged?;
            self.clear_gone(record, &plan, &verified).await?;
            payload = self.open(write).await?;
        }
        self.settle(&payload, &plan, &verified, &known, &found)
            .await?;
        let notebook = self.resources.store.notebook(self.info.info_hash());
        let notebook = notebook.await?;
        self.report(started, &plan, &verified);
        Ok(Prepared {
            payload,
            verified,
            partial: plan.partial,
            totals: known.record.map(|record| record.totals).unwrap_or_default(),
            notebook,
        })
    }

    async fn known(&self) -> Result<Known, EngineError> {
        let info_hash = self.info.info_hash();
        let pieces = self.info.geometry().pieces();
        let files = self.info.files().len();
        let store = &self.resources.store;
        let choices = self.finish_move(store.choices(info_hash).await?).await?;
        let record = store.load(info_hash, pieces, files).await?;
        let here = choices.filter(|choices| choices.dest == self.torrent.dest && !choices.unbegun);
        Ok(Known {
            moved: here.is_none() && record.is_some(),
            record: record.filter(|_| here.is_some()),
            catalogued: here.is_some(),
            made: here.as_ref().is_some_and(|choices| !choices.seed_only),
            moving: here.and_then(|choices| choices.moving),
        })
    }

    /// R8: a move that was stopped is finished first.
    async fn finish_move(&self, choices: Option<Choices>) -> Result<Option<Choices>, EngineError> {
        match choices {
            Some(choices) if choices.moving.is_some() => {
                let info = &self.torrent.metainfo.info;
                let dest = &self.torrent.dest;
                let finished =
                    moving::finish(self.resources, info, choices, dest, self.cancelled).await?;
                Ok(Some(finished))
            }
            choices => Ok(choices),
        }
    }

    /// Files that are ours may be brought to their length; others of another length are not ours to touch. What was not `found` before
    /// the judgement is not what was judged.
    fn write(&self, found: &[Option<FileIdentity>], known: &Known) -> Access {
        Access::Write {
            overwrite: self.torrent.overwrite,
            ours: (0..found.len())
                .map(|file| known.is_ours(found, file))
                .collect(),
            found: found.to_vec(),
        }
    }

    async fn open(&self, access: Access) -> Result<Payload, EngineError> {
        let layout = Arc::clone(&self.layout);
        let disk = &self.resources.disk;
        let opened = disk.open(layout, access, self.resources.write_path).await?;
        Ok(opened.payload)
    }

    /// R5: what is durable no more is taken back before a byte is written; and what was noted and turned out bad is no more
    /// worth a look at the next start.
    async fn clear_gone(
        &self,
        record: Option<&Record>,
        plan: &Plan,
        verified: &Bitfield,
    ) -> Result<(), EngineError> {
        let geometry = self.info.geometry();
        let is_gone = |&piece: &u32| {
            let piece = geometry.piece(piece);
            piece.is_some_and(|piece| !verified.contains(piece))
        };
        let durable = record.into_iter().flat_map(|record| record.durable.iter());
        let hashed = plan.recheck.iter().map(|piece| piece.get());
        let gone: Vec<u32> = durable.chain(hashed).filter(is_gone).collect();
        if gone.is_empty() {
            return Ok(());
        }
        Ok(self
            .resources
            .store
            .clear(self.info.info_hash(), gone)
            .await?)
    }

    /// R6: a last run that was killed may not have lived to take back what a sync had lost. Nothing that was not durable is believed for
    /// what the page cache has of it, neither pieces that are hashed now nor blocks that are hashed with the rest of theirs.
    async fn drop_cache(&self, payload: &Payload, plan: &Plan) -> Result<(), EngineError> {
        if plan.clean {
            return Ok(());
        }
        let partial = plan.partial.iter().map(|range| range.piece());
        let doubted = plan.recheck.iter().copied().chain(partial).collect();
        Ok(payload.drop_cache(doubted).await?)
    }

    /// Hashes what the plan says and returns what is good of it.
    async fn recheck(
        &self,
        payload: &Payload,
        plan: &Plan,
    ) -> Result<Vec<PieceIndex>, EngineError> {
        if plan.recheck.is_empty() {
            return Ok(Vec::new());
        }
        let total = plan.recheck.len() as u32;
        self.status
            .send_modify(|status| status.state = State::Checking { done: 0, total });
        let info = Arc::clone(&self.torrent.metainfo.info);
        let expected: Arc<dyn Fn(PieceIndex) -> [u8; 20] + Send + Sync> =
            Arc::new(move |piece| *info.piece_hash(piece));
        let mut good = Vec::new();
        for some in plan.recheck.chunks(BETWEEN_LOOKS) {
            if self.cancelled.load(Ordering::Relaxed) {
                payload.clone().close().await?;
                return Err(EngineError::Stopped);
            }
            let status = self.status.clone();
            let progress = move |_: PieceIndex, _: bool| {
                status.send_modify(|status| {
                    if let State::Checking { done, .. } = &mut status.state {
                        *done += 1;
                    }
                });
            };
            let checked = payload.recheck(some.to_vec(), Arc::clone(&expected), progress);
            let checked = checked.await?.into_iter();
            good.extend(checked.filter(|&(_, good)| good).map(|(piece, _)| piece));
        }
        Ok(good)
    }

    /// A file of the right length that nobody vouches for and in which nothing is right belongs to someone else, unless it is
    /// nothing but zeros, which is what is left when a download is cut short right after its files were made, and of a copy of it.
    async fn refuse_strangers(
        &self,
        plan: &Plan,
        found: &[Option<FileIdentity>],
        known: &Known,
        verified: &Bitfield,
        payload: &Payload,
    ) -> Result<(), EngineError> {
        if self.torrent.overwrite {
            return Ok(());
        }
        let geometry = self.info.geometry();
        let is_strange = |file: &&usize| !known.is_ours(found, **file);
        // Zeros are right by chance in anybody's file.
        let proves = |piece: PieceIndex| {
            verified.contains(piece) && !payload.is_of_zeros(piece, self.info.piece_hash(piece))
        };
        for &file in plan.unknown.iter().filter(is_strange) {
            let mut pieces = self
                .layout
                .pieces_of(file)
                .filter_map(|piece| geometry.piece(piece));
            if !pieces.any(proves) && !payload.is_blank(file).await? {
                let path = self.layout.files()[file].path.clone();
                return Err(EngineError::NotThisTorrent { path });
            }
        }
        Ok(())
    }

    /// The first commit of this run, after the files exist (R0): the catalog entry, what was found good by hashing (synced
    /// before, R3), what the files are, and, unless all is there, that they are about to be written to (R9).
    async fn settle(
        &self,
        payload: &Payload,
        plan: &Plan,
        verified: &Bitfield,
        known: &Known,
        found: &[Option<FileIdentity>],
    ) -> Result<(), EngineError> {
        let info_hash = self.info.info_hash();
        let store = &self.resources.store;
        let record = known.record.as_ref();
        let finished = verified.is_full();
        if known.moved {
            // The payload is wanted here now; what is known of the old place says nothing about the new one.
            store.clear_all(info_hash).await?;
        }
        // What the catalog says already is not written again; what is damaged in it is.
        self.catalogue(known).await?;
        if finished
            && record.is_some_and(|record| record.finished && record.clean)
            && plan.recheck.is_empty()
        {
            return Ok(());
        }
        let is_new = |piece: &PieceIndex| {
            verified.contains(*piece)
                && record.is_none_or(|record| !record.durable.contains(*piece))
        };
        let new: Vec<PieceIndex> = self.info.geometry().all_pieces().filter(is_new).collect();
        let numbers: Vec<u32> = new.iter().map(|piece| piece.get()).collect();
        if !plan.clean || !plan.recheck.is_empty() {
            payload.doubt_times();
        }
        // Blocks of a run that was killed count once the rest of their piece is there: then nobody asks what became of them any more.
        let blocks = plan.partial.iter().filter(|_| !plan.clean);
        let here = new.into_iter().chain(blocks.map(|range| range.piece()));
        if let Err(error) = payload.sync_found(here.collect(), finished).await {
            // R6: nobody may take pages for good later that the disk never saw.
            store.clear(info_hash, numbers).await?;
            return Err(error.into());
        }
        if finished && let Err(error) = check_digest(payload, self.torrent).await {
            // Some of it may have been trusted wrongly; the next start hashes all of it.
            let files = (0..self.info.files().len()).collect();
            store.forget_identities(info_hash, files).await?;
            return Err(error);
        }
        let identities = payload.identities().await?;
        if finished && let Some(path) = changed(&self.layout, found, &identities) {
            // While it was hashed.
            return Err(DiskError::Vanished { path }.into());
        }
        let commit = Commit {
            durable: numbers,
            identities: known_files(identities),
            finished,
            clean: finished,
            partial: Some(runs(&plan.partial)),
            totals: record.map(|record| record.totals).unwrap_or_default(),
        };
        Ok(store.commit(info_hash, commit).await?)
    }

    async fn catalogue(&self, known: &Known) -> Result<(), EngineError> {
        let choices = Choices {
            seed_only: self.torrent.goal == Goal::Seed && !known.made,
            moving: known.moving.clone(),
            ..Choices::new(self.torrent.dest.clone())
        };
        let metainfo = self.torrent.metainfo.to_torrent();
        let store = &self.resources.store;
        let info_hash = self.info.info_hash();
        Ok(store.put_torrent(info_hash, metainfo, choices).await?)
    }

    fn report(&self, started: Instant, plan: &Plan, verified: &Bitfield) {
        let total = self.info.geometry().pieces();
        self.resources.tell(Event::Resume {
            info_hash: Hex(self.info.info_hash()),
            trusted: plan.trusted.count(),
            rechecked: plan.recheck.len() as u32,
            missing: total - verified.count(),
            total,
            clean: plan.clean,
            seconds: started.elapsed().as_secs_f64(),
        });
    }

    fn path(&self) -> PathBuf {
        self.torrent.dest.join(self.info.name())
    }

    fn missing(&self, path: PathBuf) -> EngineError {
        EngineError::Missing {
            path,
            info_hash: self.info.info_hash(),
        }
    }

    fn incomplete(&self, verified: &Bitfield) -> EngineError {
        let total = self.info.geometry().pieces();
        EngineError::Incomplete {
            path: self.path(),
            bad: total - verified.count(),
            total,
        }
    }
}

/// The first file with bytes in it that is not any more what it was.
fn changed(
    layout: &Layout,
    then: &[Option<FileIdentity>],
    now: &[Option<FileIdentity>],
) -> Option<PathBuf> {
    let is_changed = |&(at, file): &(usize, &FileSpec)| {
        let same = match (&then[at], &now[at]) {
            (Some(then), Some(now)) => then.is_unchanged(now),
            _ => false,
        };
        file.length > 0 && !same
    };
    let (_, file) = layout.payload_files().find(is_changed)?;
    Some(file.path.clone())
}

/// Compares a payload that is whole with the BLAKE3 digest of its metainfo, if that has one.
pub(super) async fn check_digest(
    payload: &Payload,
    torrent: &AddTorrent,
) -> Result<(), EngineError> {
    match torrent.metainfo.blake3 {
        Some(expected) if payload.digest().await? != expected => Err(EngineError::Digest {
            path: torrent.dest.join(torrent.metainfo.info.name()),
        }),
        _ => Ok(()),
    }
}

/// The files that exist, by number.
pub(super) fn known_files(identities: Vec<Option<FileIdentity>>) -> Vec<(usize, FileIdentity)> {
    let numbered = identities.into_iter().enumerate();
    numbered
        .filter_map(|(file, identity)| Some((file, identity?)))
        .collect()
}

/// Block ranges as the store keeps them.
pub(super) fn runs(ranges: &[BlockRange]) -> Vec<(u32, std::ops::Range<u32>)> {
    ranges
        .iter()
        .map(|range| (range.piece().get(), range.blocks()))
        .collect()
}
