//! From verified to durable (R2 to R4): sync what a set of pieces touches, commit the set, and only then call it durable. And
//! the orderly end, which does the same for everything that is left.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::active::{Active, Done, Ending};
use super::error::EngineError;
use super::events::{Event, Hex};
use super::prepare::{known, runs};
use super::status::State;
use crate::base::{BlockRange, PieceIndex};
use crate::store::{Commit, Totals};

/// How long connections may take to hand over what they hold when the torrent stops.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long trackers may take to hear that we stop.
const GOODBYE: Duration = Duration::from_millis(800);

/// A set of pieces that became durable.
pub(super) struct Committed {
    pieces: Vec<PieceIndex>,
    finished: bool,
    took: Duration,
}

impl Active<'_> {
    /// Starts a commit if the checkpoint says that it is time.
    pub(super) fn commit_if_due(&mut self, now: Instant) {
        if self.committing || !self.checkpoint.due(now) {
            return;
        }
        let pieces = self.checkpoint.begin();
        if pieces.is_empty() {
            return;
        }
        self.committing = true;
        let commit = self.commit_of(pieces, None);
        self.jobs
            .spawn(async move { Done::Committed(commit.await) });
    }

    /// A future that makes `pieces` durable; with `partial`, as the last commit of an orderly end.
    fn commit_of(
        &self,
        pieces: Vec<PieceIndex>,
        partial: Option<Vec<BlockRange>>,
    ) -> impl Future<Output = Result<Committed, EngineError>> + Send + use<> {
        let payload = self.payload.clone();
        let resources = std::sync::Arc::clone(&self.resources);
        let info_hash = self.info.info_hash();
        let total = self.info.geometry().pieces();
        let finished = self.swarm.durable().count() + pieces.len() as u32 == total;
        let totals = self.totals();
        async move {
            let started = Instant::now();
            let clean = finished || partial.is_some();
            let mut touched = pieces.clone();
            touched.extend(partial.iter().flatten().map(|range| range.piece()));
            let mut identities = payload.sync(touched).await?;
            if clean {
                // The last word on every file, also on those that only bad pieces were written to.
                identities = known(payload.identities().await?);
            }
            let commit = Commit {
                durable: pieces.iter().map(|piece| piece.get()).collect(),
                identities,
                finished,
                clean,
                partial: partial
                    .as_deref()
                    .map(runs)
                    .or_else(|| finished.then(Vec::new)),
                totals,
            };
            resources.store.commit(info_hash, commit).await?;
            Ok(Committed {
                pieces,
                finished,
                took: started.elapsed(),
            })
        }
    }

    fn totals(&self) -> Totals {
        let tally = self.swarm.tally(Instant::now());
        Totals {
            downloaded: self.before.downloaded + tally.downloaded,
            uploaded: self.before.uploaded + tally.uploaded,
        }
    }

    /// Pieces have become durable.
    pub(super) fn on_committed(&mut self, committed: &Committed) {
        self.committing = false;
        self.checkpoint.finished(committed.took);
        self.swarm.on_durable(&committed.pieces);
        self.resources.tell(Event::Durable {
            info_hash: Hex(self.info.info_hash()),
            pieces: self.swarm.durable().count(),
            total: self.info.geometry().pieces(),
            ms: committed.took.as_millis() as u64,
        });
        if committed.finished {
            self.finish();
        }
    }

    /// R6: a sync or commit that failed is not tried again. What it covered is forgotten, notes included, so that nobody takes
    /// pages for good that the kernel has marked clean and the disk never saw.
    pub(super) async fn give_up(&mut self, error: EngineError) -> EngineError {
        let lost = self.checkpoint.failed();
        let lost = lost.iter().map(|piece| piece.get()).collect();
        if let Err(error) = self
            .resources
            .store
            .clear(self.info.info_hash(), lost)
            .await
        {
            tracing::error!(%error, "what was lost could not be forgotten");
        }
        error
    }

    /// Every piece is durable: what is left is a look at the whole, and to let others read it.
    fn finish(&mut self) {
        self.finished = true;
        let payload = self.payload.clone();
        let expected = self.torrent.metainfo.blake3;
        let path = self.torrent.dest.join(self.info.name());
        self.jobs.spawn(async move {
            let finished = async {
                if let Some(expected) = expected
                    && payload.digest().await? != expected
                {
                    return Err(EngineError::Digest { path });
                }
                Ok(payload.downgrade_to_shared().await?)
            };
            Done::Finished(finished.await)
        });
    }

    /// From here on the torrent only shares.
    pub(super) fn on_finished(&mut self, now: Instant) {
        self.discovery.completed(now);
        self.tell_complete();
        self.publish(now);
        if !self.stopping {
            self.status
                .send_modify(|status| status.state = State::Seeding);
        }
    }

    /// Says that the payload is whole and durable.
    pub(super) fn tell_complete(&self) {
        let tally = self.swarm.tally(Instant::now());
        self.resources.tell(Event::Complete {
            info_hash: Hex(self.info.info_hash()),
            name: self.info.name().to_owned(),
            bytes: self.info.geometry().total(),
            seconds: self.started.elapsed().as_secs_f64(),
            downloaded: tally.downloaded,
            wasted: tally.wasted,
        });
    }

    /// Hangs up, stores what is still under way, and makes durable whatever is verified. After a failure the disk is not
    /// trusted with more.
    pub(super) async fn wind_down(&mut self, ending: &Ending) -> Result<(), EngineError> {
        self.stopping = true;
        self.swarm.set_paused(Instant::now(), true);
        self.dials.abort_all();
        self.links.close_all("we stop");
        if matches!(ending, Ending::Failed(_)) {
            self.jobs.shutdown().await;
            self.close().await;
            return Ok(());
        }
        let goodbye = self.say_goodbye();
        let settled = self.settle().await;
        if matches!(ending, Ending::Stopped(_)) {
            // A tracker that does not answer finds out by itself.
            let _ = timeout(GOODBYE, goodbye).await;
        }
        self.close().await;
        settled
    }

    async fn close(&self) {
        // Nothing that is not durable by now is claimed to be.
        if let Err(error) = self.payload.clone().close().await {
            tracing::warn!(%error, "files did not close in order");
        }
    }

    async fn settle(&mut self) -> Result<(), EngineError> {
        // Connections hand over the blocks of unfinished runs as they close.
        let all_gone = async {
            while !self.links.is_empty() {
                let Some((key, report)) = self.reports.recv().await else {
                    break;
                };
                self.take_in(key, report);
            }
        };
        if timeout(FAREWELL, all_gone).await.is_err() {
            tracing::debug!("some connections did not close in time");
        }
        self.save_peers();
        self.finish_jobs().await?;
        self.commit_rest().await
    }

    /// Sees everything through that is under way, and what follows from it.
    async fn finish_jobs(&mut self) -> Result<(), EngineError> {
        loop {
            self.perform_all(Instant::now());
            match self.jobs.join_next().await {
                Some(done) => self.job_done(done).await?,
                None => return Ok(()),
            }
        }
    }

    /// The last commit: what is verified becomes durable, unfinished pieces are kept block by block.
    async fn commit_rest(&mut self) -> Result<(), EngineError> {
        if self.finished {
            return Ok(());
        }
        let pieces = self.checkpoint.begin();
        let partial = self.swarm.stored_blocks().collect();
        let committed = self.commit_of(pieces, Some(partial)).await?;
        if committed.pieces.is_empty() {
            return Ok(());
        }
        self.on_committed(&committed);
        self.finish_jobs().await
    }

    /// Tells the trackers that we stop.
    fn say_goodbye(&mut self) -> tokio::task::JoinHandle<()> {
        let counts = self.counts();
        let farewells: Vec<_> = self
            .discovery
            .stop()
            .into_iter()
            .map(|announce| {
                let url = self.discovery.url(&announce, counts);
                super::discovery::carry_out(announce, url)
            })
            .collect();
        let mut announces = std::mem::take(&mut self.announces);
        tokio::spawn(async move {
            // What is said last must arrive last.
            while announces.join_next().await.is_some() {}
            for farewell in farewells {
                announces.spawn(farewell);
            }
            while announces.join_next().await.is_some() {}
        })
    }
}
