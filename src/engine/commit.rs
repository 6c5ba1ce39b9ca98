//! From verified to durable (R2 to R4): sync what a set of pieces touches, commit the set, and only then call it durable. And
//! the orderly end, which does the same for everything that is left.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::{timeout, timeout_at};

use super::active::{Active, Done, Ending};
use super::error::EngineError;
use super::events::{Event, Hex};
use super::prepare::{check_digest, known_files, runs};
use super::status::State;
use crate::base::{BlockRange, PieceIndex};
use crate::store::{Commit, Totals};

/// How long connections may take to hand over what they hold when the torrent stops.
const FAREWELL: Duration = Duration::from_millis(500);
/// When trackers must have heard that we stop, counted from the beginning of the end.
const GOODBYE: Duration = Duration::from_millis(1_200);

/// A set of pieces that became durable.
pub(super) struct Committed {
    pieces: Vec<PieceIndex>,
    finished: bool,
    took: Duration,
}

impl Active<'_> {
    /// Starts a commit if the checkpoint says that it is time.
    pub(super) fn commit_if_due(&mut self, now: Instant) {
        if !self.checkpoint.due(now) {
            return;
        }
        let pieces = self.checkpoint.begin();
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
        let torrent = self.torrent.clone();
        let resources = Arc::clone(&self.resources);
        let info_hash = self.info.info_hash();
        let total = self.info.geometry().pieces();
        // What the swarm believes of a payload that rotted is not so.
        let rotten = self.scrubbing.rotten;
        let finished = !rotten && self.swarm.durable().count() + pieces.len() as u32 == total;
        let totals = self.totals();
        async move {
            let started = Instant::now();
            let clean = finished || partial.is_some();
            let mut touched = pieces.clone();
            touched.extend(partial.iter().flatten().map(|range| range.piece()));
            let wrote = !rotten && (!finished || !pieces.is_empty());
            // What is clean is believed for what its files were, so that must survive as well.
            let mut identities = if clean && wrote {
                payload.sync_with_times(touched).await?
            } else {
                payload.sync(touched).await?
            };
            if finished && wrote {
                check_digest(&payload, &torrent).await?;
            }
            // Who only shared must not vouch for what others did to the files meanwhile.
            if clean && wrote {
                // The last word on every file, also on those that only bad pieces were written to.
                identities = known_files(payload.identities().await?);
            }
            if finished {
                payload.judge_by(&identities);
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
            let took = started.elapsed();
            if finished && let Err(error) = payload.downgrade_to_shared().await {
                // The claims hold all the same.
                tracing::warn!(%error, "a finished payload stays locked, or lost its lock");
            }
            Ok(Committed {
                pieces,
                finished,
                took,
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
        self.checkpoint.finished(committed.took);
        self.swarm.on_durable(&committed.pieces);
        self.resources.tell(Event::Durable {
            info_hash: Hex(self.info.info_hash()),
            pieces: self.swarm.durable().count(),
            total: self.info.geometry().pieces(),
            ms: committed.took.as_millis() as u64,
        });
        if committed.finished {
            self.on_finished(Instant::now());
        } else if self.links.is_empty() {
            // Nobody else says how it stands now.
            self.publish(Instant::now());
        }
    }

    /// R6: a sync or commit that failed is not tried again. What a failed sync covered is forgotten, notes included, so that nobody
    /// takes pages for good that the kernel has marked clean and the disk never saw.
    pub(super) async fn give_up(&mut self, error: EngineError) -> EngineError {
        self.gave_up.get_or_insert_with(|| error.clone());
        let lost = self.checkpoint.failed();
        let info_hash = self.info.info_hash();
        let store = &self.resources.store;
        let forgotten = match error {
            EngineError::Digest { .. } => {
                // Every byte is on the disk, but some were changed after they were verified: the next start hashes all of them.
                let files = (0..self.info.files().len()).collect();
                store.forget_identities(info_hash, files).await
            }
            // No page was lost, only nothing is claimed of them: their notes say what is worth hashing.
            EngineError::Store(_) => Ok(()),
            EngineError::Disk(ref error) if error.spares_pages() => Ok(()),
            _ => {
                // Before the notes are gone: a kill in between must find no page that nobody wrote.
                self.payload.forget_if_poisoned().await;
                let lost = lost.iter().map(|piece| piece.get()).collect();
                store.clear(info_hash, lost).await
            }
        };
        if let Err(error) = forgotten {
            tracing::error!(%error, "what was lost could not be forgotten");
        }
        error
    }

    /// From here on the torrent only shares.
    fn on_finished(&mut self, now: Instant) {
        self.finished = true;
        self.discovery.completed(now);
        self.seeking.completed();
        self.publish(now);
        if !self.stopping {
            self.status
                .send_modify(|status| status.state = State::Seeding);
        }
        // Last, so that whoever hears of it finds it so.
        self.tell_complete();
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

    /// Hangs up, stores what is still under way, and makes durable whatever is verified; after a failure as far as the disk lets it.
    pub(super) async fn wind_down(&mut self, ending: &Ending) -> Result<(), EngineError> {
        let begun = tokio::time::Instant::now();
        self.stopping = true;
        self.swarm.set_paused(Instant::now(), true);
        self.dials.abort_all();
        self.stop_scrub().await;
        self.links.close_all("we stop");
        let goodbye = self.say_goodbye();
        self.hear_out().await;
        let settled = match ending {
            Ending::Failed(_) => {
                self.salvage().await;
                Ok(())
            }
            Ending::Paused(_) | Ending::Stopped(_) | Ending::Again | Ending::Changed(_) => {
                self.settle().await
            }
        };
        // Nothing that is not durable by now is claimed to be.
        if let Err(error) = self.payload.clone().close().await {
            tracing::warn!(%error, "files did not close in order");
        }
        // A tracker that does not answer finds out by itself.
        let _ = timeout_at(begun + GOODBYE, goodbye).await;
        settled
    }

    /// Connections hand over the blocks of unfinished runs as they close.
    async fn hear_out(&mut self) {
        let all_gone = async {
            while !self.links.is_empty() {
                let (key, report) = self.reports.recv().await;
                self.take_in(key, report);
            }
        };
        if timeout(FAREWELL, all_gone).await.is_err() {
            tracing::debug!("some connections did not close in time");
        }
    }

    async fn settle(&mut self) -> Result<(), EngineError> {
        self.save_peers();
        if let Err(error) = self.finish_jobs().await {
            self.salvage().await;
            return Err(error);
        }
        match self.commit_rest().await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.give_up(error).await),
        }
    }

    /// After a failure: sees through what is under way, and makes durable what is good of it. Only a sync tells what the disk still
    /// takes, so one that fails is the last word.
    async fn salvage(&mut self) {
        loop {
            self.perform_all(Instant::now());
            match self.jobs.join_next().await {
                // It failed already, and that is told.
                Some(done) => drop(self.job_done(done).await),
                None => break,
            }
        }
        // What was verified meanwhile shares the fate of what could not be synced.
        if let Some(error) = self.gave_up.clone() {
            self.give_up(error).await;
        }
        if self.gave_up.is_none()
            && let Err(error) = self.commit_rest().await
        {
            let error = self.give_up(error).await;
            tracing::debug!(%error, "what was verified last is not durable");
        }
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

    /// The last commit: what is verified becomes durable, unfinished pieces are kept block by block, totals are counted.
    async fn commit_rest(&mut self) -> Result<(), EngineError> {
        let pieces = self.checkpoint.begin();
        if self.finished && self.swarm.tally(Instant::now()).uploaded == 0 {
            return Ok(());
        }
        let partial = self.swarm.stored_blocks().collect();
        let committed = self.commit_of(pieces, Some(partial)).await?;
        if !committed.pieces.is_empty() {
            self.on_committed(&committed);
        }
        Ok(())
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
