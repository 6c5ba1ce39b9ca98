//! A torrent while it transfers: one task that owns the [`Swarm`] and every effect it has.
//!
//! The loop takes in what happened (connections in `joining.rs`, their reports in `reports.rs`, finished jobs, orders, the
//! passing of time), lets the swarm decide, and carries out what it decided (`perform.rs`, `commit.rs`); what is whole is
//! re-read by and by (`scrubbing.rs`). It never waits for a disk or a peer while it transfers: work runs as jobs, orders to connections are
//! posted. Only on its way to the end, after a failure or rot, does it wait for the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};

use super::commit::Committed;
use super::config::{AddTorrent, Goal};
use super::discovery::{Answer, Counts, Discovery};
use super::error::EngineError;
use super::events::{Event, Hex};
use super::joining::Dialled;
use super::links::Links;
use super::mailbox::Mailbox;
use super::prepare::Prepared;
use super::reports::Shelf;
use super::resources::Resources;
use super::scrubbing::Scrubbing;
use super::seeking::Seeking;
use super::status::{State, Status};
use super::torrent::{Order, at};
use crate::base::limits::{PEERS_PER_TORRENT, TORRENT_QUEUE};
use crate::base::{BlockRange, Checked, PieceIndex, SharedBitfield};
use crate::disk::{Checkpoint, DiskError, Payload};
use crate::format::metainfo::Info;
use crate::net::peer::Report;
use crate::store::{KnownPeer, Note, Notebook, Totals};
use crate::swarm::{Config as SwarmConfig, PeerKey, Source, Start, Swarm};

/// Peers that may request from us at once while we download.
const UPLOAD_SLOTS: usize = 8;
/// How often the published status is renewed while something moves.
const TICK: Duration = Duration::from_millis(250);
/// How often known peers are saved.
const SAVE_PEERS: Duration = Duration::from_secs(60);
/// Reports taken in before the swarm's decisions are carried out.
const REPORTS_AT_ONCE: usize = 256;

/// Why a torrent stopped transferring, and who waits to hear of it.
pub(super) enum Ending {
    Paused(oneshot::Sender<()>),
    Stopped(Option<oneshot::Sender<()>>),
    Failed(EngineError),
    /// To be prepared anew at once: the store knows better now what is good than the swarm does.
    Again,
    /// As `Again`: a file that was only read is not any more what it was judged by.
    Changed(DiskError),
}

/// A job that touches disk or store; each is seen through to its end.
pub(super) enum Done {
    Checked {
        piece: PieceIndex,
        result: Result<Checked, DiskError>,
    },
    Written {
        range: BlockRange,
        result: Result<(), DiskError>,
    },
    Committed(Result<Committed, EngineError>),
    Noted,
}

/// A torrent that transfers.
pub(super) struct Active<'a> {
    pub(super) resources: Arc<Resources>,
    pub(super) torrent: &'a AddTorrent,
    pub(super) info: Arc<Info>,
    pub(super) payload: Payload,
    pub(super) notebook: Notebook,
    /// The payload for uploads, and what went wrong with them.
    pub(super) shelf: Shelf,
    failures: mpsc::Receiver<Box<DiskError>>,
    pub(super) swarm: Swarm,
    pub(super) links: Links,
    /// What connections may upload.
    pub(super) served: Arc<SharedBitfield>,
    pub(super) checkpoint: Checkpoint,
    pub(super) discovery: Discovery,
    pub(super) seeking: Seeking,
    pub(super) scrubbing: Scrubbing,
    pub(super) reports: Mailbox<(PeerKey, Report)>,
    pub(super) jobs: JoinSet<Done>,
    /// Connections being made; dropped when the torrent stops.
    pub(super) dials: JoinSet<Dialled>,
    /// Announces under way.
    pub(super) announces: JoinSet<Answer>,
    pub(super) status: &'a watch::Sender<Status>,
    /// Verified since the last round, to be announced together.
    pub(super) haves: Vec<PieceIndex>,
    /// Stored blocks of unfinished pieces, to be noted together.
    pub(super) notes: Vec<Note>,
    /// The torrent is whole and the store knows it.
    pub(super) finished: bool,
    pub(super) stopping: bool,
    /// A sync or commit failed with this: nothing more is claimed.
    pub(super) gave_up: Option<EngineError>,
    pub(super) started: Instant,
    pub(super) before: Totals,
    tick_at: Instant,
    progress_at: Instant,
    save_peers_at: Instant,
    /// Somebody was connected since peers were saved.
    met_peers: bool,
    last_moved: u64,
}

impl<'a> Active<'a> {
    pub(super) fn new(
        resources: Arc<Resources>,
        torrent: &'a AddTorrent,
        prepared: Prepared,
        status: &'a watch::Sender<Status>,
    ) -> Box<Self> {
        let now = Instant::now();
        let info = Arc::clone(&torrent.metainfo.info);
        let (tell_failure, failures) = mpsc::channel(1);
        let seed = rand::random();
        let config = SwarmConfig {
            geometry: *info.geometry(),
            seed,
            max_peers: PEERS_PER_TORRENT,
            upload_slots: UPLOAD_SLOTS,
            id: resources.peer_id,
            own: Vec::new(),
        };
        let finished = prepared.verified.is_full();
        let served = Arc::new(SharedBitfield::new(&prepared.verified));
        let start = Start {
            durable: prepared.verified.clone(),
            verified: prepared.verified,
            partial: prepared.partial,
        };
        let tiers = torrent.metainfo.announce.clone();
        Box::new(Self {
            seeking: Seeking::new(&resources, &torrent.metainfo, finished),
            discovery: Discovery::new(
                now,
                tiers,
                seed,
                info.info_hash(),
                resources.peer_id,
                resources.port,
            ),
            swarm: Swarm::new(now, config, start),
            checkpoint: Checkpoint::new(now, resources.pace),
            shelf: Shelf {
                payload: prepared.payload.clone(),
                failures: tell_failure,
            },
            failures,
            payload: prepared.payload,
            notebook: prepared.notebook,
            links: Links::default(),
            scrubbing: Scrubbing::new(now),
            jobs: JoinSet::new(),
            dials: JoinSet::new(),
            announces: JoinSet::new(),
            haves: Vec::new(),
            notes: Vec::new(),
            stopping: false,
            gave_up: None,
            started: now,
            before: prepared.totals,
            tick_at: now,
            progress_at: now,
            save_peers_at: now + SAVE_PEERS,
            met_peers: false,
            last_moved: 0,
            resources,
            torrent,
            info,
            served,
            reports: Mailbox::new(TORRENT_QUEUE),
            status,
            finished,
        })
    }

    /// Transfers until told otherwise or until something fails, and then winds down in order.
    pub(super) async fn run(mut self: Box<Self>, orders: &mut mpsc::Receiver<Order>) -> Ending {
        self.greet().await;
        let ending = self.transfer(orders).await;
        let wound_down = Box::pin(self.wind_down(&ending)).await;
        match (ending, wound_down) {
            // A writer may meet the mark of a failed sync before the sync itself is heard of.
            (Ending::Failed(EngineError::Disk(DiskError::Poisoned { path })), _) => {
                let poisoned = DiskError::Poisoned { path }.into();
                Ending::Failed(self.gave_up.unwrap_or(poisoned))
            }
            (Ending::Again | Ending::Changed(_), Err(error)) => Ending::Failed(error),
            (ending @ (Ending::Paused(_) | Ending::Stopped(_)), Err(error)) => {
                // It is to rest all the same; what is not durable is hashed when it goes on.
                self.resources.tell(Event::Error {
                    info_hash: Some(Hex(self.info.info_hash())),
                    kind: "torrent",
                    message: error.to_string(),
                });
                ending
            }
            (ending, _) => ending,
        }
    }

    /// First of all: the peers that are known already, and how the torrent stands.
    async fn greet(&mut self) {
        let now = Instant::now();
        self.swarm
            .on_addresses(now, Source::User, &self.torrent.peers);
        if !self.info.is_private() {
            self.swarm
                .on_addresses(now, Source::Dht, &self.torrent.found);
        }
        let known = self.resources.store.peers(self.info.info_hash()).await;
        let known: Vec<_> = known.iter().map(|peer| peer.addr).collect();
        self.swarm.on_addresses(now, Source::Stored, &known);
        let state = if self.finished {
            State::Seeding
        } else {
            State::Downloading
        };
        self.publish(now);
        self.status.send_modify(|status| status.state = state);
        if self.finished && self.torrent.goal == Goal::Download {
            self.tell_complete();
        }
    }

    async fn transfer(&mut self, orders: &mut mpsc::Receiver<Order>) -> Ending {
        loop {
            let now = Instant::now();
            self.perform_all(now);
            self.commit_if_due(now);
            self.announce_if_due(now);
            self.scrub_if_due(now);
            let deadline = self.next_deadline();
            let result = tokio::select! {
                order = orders.recv() => match self.obey(order) {
                    Some(ending) => return ending,
                    None => Ok(()),
                },
                (key, report) = self.reports.recv() => {
                    self.take_in(key, report);
                    Ok(())
                }
                Some(done) = self.jobs.join_next() => self.job_done(done).await,
                Some(step) = self.scrubbing.steps.join_next() => match Box::pin(self.step_done(step)).await {
                    Some(ending) => return ending,
                    None => Ok(()),
                },
                Some(dialled) = self.dials.join_next() => dialled.map(|dialled| self.on_dialled(dialled)).map_err(|error| defect(&error)),
                Some(answer) = self.announces.join_next() => answer.map(|answer| self.on_announced(answer)).map_err(|error| defect(&error)),
                peers = self.seeking.found() => {
                    self.swarm.on_addresses(Instant::now(), Source::Dht, &peers);
                    Ok(())
                }
                Some(error) = self.failures.recv() => return self.unreadable(*error),
                () = at(deadline) => {
                    self.timeout(Instant::now());
                    Ok(())
                }
            };
            if let Err(error) = result {
                return Ending::Failed(error);
            }
        }
    }

    /// What comes of a read that failed: who only shares may find that all or most is still good.
    fn unreadable(&self, error: DiskError) -> Ending {
        let changed = matches!(
            error,
            DiskError::Vanished { .. } | DiskError::NotFound { .. }
        );
        if self.finished && changed {
            Ending::Changed(error)
        } else {
            Ending::Failed(error.into())
        }
    }

    fn obey(&mut self, order: Option<Order>) -> Option<Ending> {
        match order {
            Some(Order::Incoming(incoming)) => self.welcome(*incoming),
            Some(Order::Peers(peers)) => {
                self.swarm
                    .on_addresses(Instant::now(), Source::User, &peers);
            }
            Some(Order::Resume(done)) => drop(done.send(())),
            Some(Order::Pause(done)) => return Some(Ending::Paused(done)),
            Some(Order::Stop(done)) => return Some(Ending::Stopped(Some(done))),
            None => return Some(Ending::Stopped(None)),
        }
        None
    }

    /// Takes in one report and those that wait behind it.
    pub(super) fn take_in(&mut self, key: PeerKey, report: Report) {
        self.on_report(key, report);
        for _ in 1..REPORTS_AT_ONCE {
            let Some((key, report)) = self.reports.try_recv() else {
                return;
            };
            self.on_report(key, report);
        }
    }

    /// Takes in a finished job.
    pub(super) async fn job_done(
        &mut self,
        done: Result<Done, JoinError>,
    ) -> Result<(), EngineError> {
        let now = Instant::now();
        match done.map_err(|error| defect(&error))? {
            Done::Checked { piece, result } => self.swarm.on_checked(now, piece, result?),
            Done::Written { range, result } => {
                result?;
                self.notes.push(Note::Blocks {
                    piece: range.piece().get(),
                    blocks: range.blocks(),
                });
                self.swarm.on_written(now, range);
            }
            Done::Committed(Ok(committed)) => self.on_committed(&committed),
            Done::Committed(Err(error)) => return Err(Box::pin(self.give_up(error)).await),
            Done::Noted => {}
        }
        Ok(())
    }

    /// When there is something to do if nothing happens; `None` for a torrent that rests.
    fn next_deadline(&self) -> Option<Instant> {
        let moves = !self.links.is_empty() || !self.status.borrow().peers.is_empty();
        let tick = moves.then_some(self.tick_at);
        [
            self.swarm.next_deadline(),
            self.discovery.next_deadline(),
            self.checkpoint.next_deadline(),
            self.scrubbing.next_deadline(),
            tick,
            self.met_peers.then_some(self.save_peers_at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn timeout(&mut self, now: Instant) {
        self.swarm.handle_timeout(now);
        if now >= self.tick_at {
            self.tick_at = now + TICK;
            self.met_peers |= !self.links.is_empty();
            self.publish(now);
        }
        if self.met_peers && now >= self.save_peers_at {
            self.save_peers_at = now + SAVE_PEERS;
            self.met_peers = !self.links.is_empty();
            self.save_peers();
        }
    }

    fn announce_if_due(&mut self, now: Instant) {
        while let Some(announce) = self.discovery.poll(now) {
            let url = self.discovery.url(&announce, self.counts());
            self.announces
                .spawn(super::discovery::carry_out(announce, url));
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let tally = self.swarm.tally(Instant::now());
        Counts {
            uploaded: tally.uploaded,
            downloaded: tally.downloaded,
            left: self.bytes_left(),
        }
    }

    fn bytes_left(&self) -> u64 {
        self.info.geometry().total() - self.swarm.bytes_verified()
    }

    fn on_announced(&mut self, answer: Answer) {
        let now = Instant::now();
        match self.discovery.answered(now, answer) {
            Ok(peers) => self.swarm.on_addresses(now, Source::Tracker, &peers),
            Err(message) => self.resources.tell(Event::Warning {
                info_hash: Some(Hex(self.info.info_hash())),
                kind: "tracker",
                message,
            }),
        }
    }

    /// Known peers go to the store as a set; losing one batch costs nothing.
    pub(super) fn save_peers(&mut self) {
        let peers = self.known_peers();
        if peers.is_empty() {
            return;
        }
        let resources = Arc::clone(&self.resources);
        let info_hash = self.info.info_hash();
        self.jobs.spawn(async move {
            if let Err(error) = resources.store.put_peers(info_hash, peers).await {
                tracing::warn!(%error, "known peers could not be saved");
            }
            Done::Noted
        });
    }

    fn known_peers(&self) -> Vec<KnownPeer> {
        let last_seen = jiff::Timestamp::now().as_second();
        let known = self
            .swarm
            .addresses()
            .filter(|known| known.connected || known.successes > 0);
        known
            .map(|known| KnownPeer {
                addr: known.addr,
                last_seen,
                failures: known.failures.min(255) as u8,
            })
            .collect()
    }

    /// Makes the status that others see true again.
    pub(super) fn publish(&mut self, now: Instant) {
        let tally = self.swarm.tally(now);
        let peers = self.peer_statuses(now);
        // What connections count is ahead of the swarm, which hears of whole runs.
        let down_rate = peers.iter().map(|peer| peer.down_rate).sum();
        let up_rate = peers.iter().map(|peer| peer.up_rate).sum();
        let bytes_verified = self.swarm.bytes_verified();
        self.status.send_modify(|status| {
            status.verified = self.swarm.verified().count();
            status.durable = self.swarm.durable().count();
            status.bytes_verified = bytes_verified;
            status.downloaded = tally.downloaded;
            status.uploaded = tally.uploaded;
            status.wasted = tally.wasted;
            status.down_rate = down_rate;
            status.up_rate = up_rate;
            status.peers = peers;
        });
        let moved = tally.downloaded + tally.uploaded;
        let at_work = moved != self.last_moved || !self.finished && !self.links.is_empty();
        if now >= self.progress_at && at_work {
            self.progress_at = now + Duration::from_secs(1);
            self.last_moved = moved;
            self.resources.tell(Event::Progress {
                info_hash: Hex(self.info.info_hash()),
                verified: self.swarm.verified().count(),
                total: self.info.geometry().pieces(),
                down_rate,
                up_rate,
                peers: self.links.len(),
            });
        }
    }
}

pub(super) fn defect(error: &JoinError) -> EngineError {
    EngineError::Defect(error.to_string())
}

/// A run's share of the byte budget, held until the run is stored.
pub(super) type Share = Option<OwnedSemaphorePermit>;
