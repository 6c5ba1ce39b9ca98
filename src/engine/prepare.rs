//! From a torrent that was added to one that can run: look at its files, decide what to believe, open them, hash what has
//! to be hashed, and put it into the catalog. In that order, so that a refusal leaves nothing behind.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::config::{AddTorrent, Goal};
use super::error::EngineError;
use super::events::{Event, Hex};
use super::resources::Resources;
use super::resume::{self, Plan};
use super::status::{State, Status};
use crate::base::{Bitfield, BlockRange, FileIdentity, PieceIndex};
use crate::disk::{Access, DiskError, Payload};
use crate::disk::{FileSpec, Layout, SpecKind};
use crate::format::metainfo::{FileKind, Info};
use crate::store::{Choices, Commit, Record};

/// A torrent with its files open and its pieces told apart.
pub(super) struct Prepared {
    pub(super) payload: Payload,
    pub(super) verified: Bitfield,
    pub(super) durable: Bitfield,
    pub(super) partial: Vec<BlockRange>,
    pub(super) totals: crate::store::Totals,
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

/// Does all of it; `opened` hears when the files are open and only hashing is left.
pub(super) async fn prepare(
    resources: &Resources,
    torrent: &AddTorrent,
    status: &watch::Sender<Status>,
    opened: impl FnOnce(),
) -> Result<Prepared, EngineError> {
    let started = Instant::now();
    let preparation = Preparation {
        resources,
        torrent,
        info: &torrent.metainfo.info,
        layout: Arc::new(layout(&torrent.metainfo.info, &torrent.dest)?),
        status,
    };
    preparation.run(started, opened).await
}

struct Preparation<'a> {
    resources: &'a Resources,
    torrent: &'a AddTorrent,
    info: &'a Info,
    layout: Arc<Layout>,
    status: &'a watch::Sender<Status>,
}

impl Preparation<'_> {
    async fn run(self, started: Instant, opened: impl FnOnce()) -> Result<Prepared, EngineError> {
        let record = self.record().await?;
        let found = self
            .resources
            .disk
            .look(Arc::clone(&self.layout))
            .await?
            .files;
        let hashed = self.torrent.hashed.as_deref();
        let plan = resume::plan(
            &self.layout,
            self.info.geometry(),
            record.as_ref(),
            &found,
            hashed,
        );
        let plan = plan.map_err(|missing| self.missing(missing.path))?;

        // Reading needs no more than a shared lock, so a file that others seed can be adopted while they do.
        let all_there = self.all_there(&found);
        let read_first = all_there || self.torrent.goal == Goal::Seed;
        let mut payload = self
            .open(if read_first {
                Access::Read
            } else {
                self.write(&found, record.as_ref())
            })
            .await?;
        if !read_first {
            self.remember(&payload).await?;
        }
        opened();

        let mut verified = plan.trusted.clone();
        verified.extend(self.recheck(&payload, &plan).await?);
        if !verified.is_full() {
            if self.torrent.goal == Goal::Seed {
                return Err(self.incomplete(&verified));
            }
            if read_first {
                self.refuse_strangers(&record, &plan, &verified, &payload)
                    .await?;
                payload.close().await?;
                payload = self.open(self.write(&found, record.as_ref())).await?;
                self.remember(&payload).await?;
            }
        }
        let durable = self
            .settle(&payload, &plan, &verified, record.as_ref())
            .await?;
        self.report(started, &plan, &verified);
        Ok(Prepared {
            payload,
            verified,
            durable,
            partial: plan.partial,
            totals: record.map(|record| record.totals).unwrap_or_default(),
        })
    }

    /// What the store remembers, if it is about the same place.
    async fn record(&self) -> Result<Option<Record>, EngineError> {
        let info_hash = self.info.info_hash();
        let pieces = self.info.geometry().pieces();
        let files = self.info.files().len();
        let store = &self.resources.store;
        let record = store.load(info_hash, pieces, files).await?;
        let choices = store.choices(info_hash).await?;
        if record.is_some() && choices.is_none_or(|choices| choices.dest != self.torrent.dest) {
            // The payload is wanted elsewhere now; what is known of the old place says nothing about the new one.
            store.clear_all(info_hash).await?;
            return Ok(None);
        }
        Ok(record)
    }

    fn all_there(&self, found: &[Option<FileIdentity>]) -> bool {
        let mut files = self.layout.files().iter().zip(found);
        files.all(|(file, found)| {
            file.kind != SpecKind::Payload || found.is_some_and(|found| found.size == file.length)
        })
    }

    /// Files that the store knows may be brought to their length; others of another length are not ours to touch.
    fn write(&self, found: &[Option<FileIdentity>], record: Option<&Record>) -> Access {
        let known = |file: usize| {
            record.is_some_and(|record| record.identities.get(file).is_some_and(Option::is_some))
        };
        Access::Write {
            overwrite: self.torrent.overwrite,
            ours: (0..found.len()).map(known).collect(),
        }
    }

    async fn open(&self, access: Access) -> Result<Payload, EngineError> {
        let layout = Arc::clone(&self.layout);
        let opened = self
            .resources
            .disk
            .open(layout, access, self.resources.write_path)
            .await?;
        Ok(opened.payload)
    }

    /// R0: the catalog entry comes after the files exist. R9: and before the first new piece the store knows that we are at work.
    async fn remember(&self, payload: &Payload) -> Result<(), EngineError> {
        let info_hash = self.info.info_hash();
        self.catalogue().await?;
        let identities = known(payload.identities().await?);
        let commit = Commit {
            identities,
            ..Commit::default()
        };
        self.resources.store.commit(info_hash, commit).await?;
        self.resources.store.begin(info_hash).await?;
        Ok(())
    }

    async fn catalogue(&self) -> Result<(), EngineError> {
        let choices = Choices {
            dest: self.torrent.dest.clone(),
            paused: false,
            seed_only: self.torrent.goal == Goal::Seed,
        };
        let metainfo = self.torrent.metainfo.to_torrent();
        let store = &self.resources.store;
        Ok(store
            .put_torrent(self.info.info_hash(), metainfo, choices)
            .await?)
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
        let status = self.status.clone();
        let progress = move |_: PieceIndex, _: bool| {
            status.send_modify(|status| {
                if let State::Checking { done, .. } = &mut status.state {
                    *done += 1;
                }
            });
        };
        self.status
            .send_modify(|status| status.state = State::Checking { done: 0, total });
        let info = Arc::clone(&self.torrent.metainfo.info);
        let expected = Arc::new(move |piece| *info.piece_hash(piece));
        let results = payload
            .recheck(plan.recheck.clone(), expected, progress)
            .await?;
        Ok(results
            .into_iter()
            .filter(|&(_, good)| good)
            .map(|(piece, _)| piece)
            .collect())
    }

    /// Files of the right length that nobody vouches for and in which nothing is right belong to someone else, unless they
    /// are nothing but holes, which is what is left when a download is cut short right after its files were made.
    async fn refuse_strangers(
        &self,
        record: &Option<Record>,
        plan: &Plan,
        verified: &Bitfield,
        payload: &Payload,
    ) -> Result<(), EngineError> {
        let stranger = record.is_none() && verified.count() == 0 && !plan.recheck.is_empty();
        if !stranger || self.torrent.overwrite || payload.is_blank().await? {
            return Ok(());
        }
        payload.clone().close().await?;
        Err(EngineError::NotThisTorrent { path: self.path() })
    }

    /// What was found good by hashing becomes durable: synced, then committed. Returns all that is durable now.
    async fn settle(
        &self,
        payload: &Payload,
        plan: &Plan,
        verified: &Bitfield,
        record: Option<&Record>,
    ) -> Result<Bitfield, EngineError> {
        let info_hash = self.info.info_hash();
        let geometry = self.info.geometry();
        let known = record.map(|record| &record.durable);
        let gone: Vec<u32> = known
            .iter()
            .flat_map(|bits| bits.iter())
            .filter(|&p| !has(verified, geometry, p))
            .collect();
        if !gone.is_empty() {
            self.resources.store.clear(info_hash, gone).await?;
        }
        let new: Vec<PieceIndex> = geometry
            .all_pieces()
            .filter(|&piece| {
                verified.contains(piece) && known.is_none_or(|bits| !bits.contains(piece))
            })
            .collect();
        let finished = verified.is_full();
        let unchanged = new.is_empty()
            && record.is_some_and(|record| record.finished == finished && record.clean);
        if unchanged || verified.count() == 0 && !finished {
            return Ok(verified.clone());
        }
        if finished {
            self.catalogue().await?;
        }
        let synced = payload.sync(new.clone()).await?;
        let identities = if finished {
            self::known(payload.identities().await?)
        } else {
            synced
        };
        let commit = Commit {
            durable: new.iter().map(|piece| piece.get()).collect(),
            identities,
            finished,
            // An unfinished torrent is about to be written to.
            clean: finished,
            partial: (!plan.partial.is_empty() || finished).then(|| runs(&plan.partial)),
            totals: record.map(|record| record.totals).unwrap_or_default(),
        };
        self.resources.store.commit(info_hash, commit).await?;
        Ok(verified.clone())
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

fn has(bits: &Bitfield, geometry: &crate::base::Geometry, piece: u32) -> bool {
    geometry
        .piece(piece)
        .is_some_and(|piece| bits.contains(piece))
}

/// The files that exist, by number.
pub(super) fn known(identities: Vec<Option<FileIdentity>>) -> Vec<(usize, FileIdentity)> {
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
