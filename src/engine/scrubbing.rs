//! Re-reading what is shared, piece by piece in the background, and what follows when it rotted: the piece is not shared any more,
//! the store forgets it (R5), and the torrent prepares anew, which finds it missing and fetches it from the swarm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};

use super::active::{Active, Ending, defect};
use super::events::{Event, Hex};
use super::scrub::{Pass, Scrub};
use crate::base::{PieceDigest, PieceIndex};
use crate::disk::{DiskError, Scrubbed};
use crate::store::ScrubMark;

/// Digests of pieces that wait to be stored: as many as the store keeps together.
const WAITING: usize = 60;
/// How often is stored how far it came: the most that is read twice after a crash.
const SAVE: Duration = Duration::from_secs(60);

/// The scrub of one torrent.
pub(super) struct Scrubbing {
    pacing: Option<Scrub>,
    /// What is under way, one step at a time; dropped when the torrent stops.
    pub(super) steps: JoinSet<Step>,
    /// Digests that the store does not have yet.
    fresh: Vec<(u32, PieceDigest)>,
    /// Something is known that the store does not.
    unsaved: bool,
    save_at: Instant,
    /// A piece turned out bad in this run, so the payload is not whole.
    pub(super) rotten: bool,
}

/// A step that is done.
pub(super) enum Step {
    /// How far it was is known.
    Marked(Option<ScrubMark>),
    /// A piece was read, which had this digest.
    Read {
        piece: PieceIndex,
        digest: Option<PieceDigest>,
        result: Result<Scrubbed, DiskError>,
    },
}

impl Scrubbing {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            pacing: None,
            steps: JoinSet::new(),
            fresh: Vec::new(),
            unsaved: false,
            save_at: now + SAVE,
            rotten: false,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.pacing.as_ref().and_then(Scrub::next_deadline)
    }

    /// What to store, if anything.
    fn unsaved(&mut self) -> Option<(ScrubMark, Vec<(u32, PieceDigest)>)> {
        let mark = self.pacing.as_ref()?.mark();
        if !std::mem::take(&mut self.unsaved) {
            return None;
        }
        Some((mark, std::mem::take(&mut self.fresh)))
    }
}

impl Active<'_> {
    /// Takes the next step if it is time and there is a whole payload to re-read.
    pub(super) fn scrub_if_due(&mut self, now: Instant) {
        if self.resources.scrub_every.is_none()
            || !self.finished
            || !self.scrubbing.steps.is_empty()
        {
            return;
        }
        match &mut self.scrubbing.pacing {
            None => self.find_mark(),
            Some(pacing) => {
                if let Some(piece) = pacing.poll(now) {
                    self.read_again(now, piece);
                }
            }
        }
    }

    fn find_mark(&mut self) {
        let resources = Arc::clone(&self.resources);
        let info_hash = self.info.info_hash();
        let find = async move { Step::Marked(resources.store.scrub_mark(info_hash).await) };
        self.scrubbing.steps.spawn(find);
    }

    fn read_again(&mut self, now: Instant, piece: PieceIndex) {
        let resources = Arc::clone(&self.resources);
        let payload = self.payload.clone();
        let info = Arc::clone(&self.info);
        let due = self.scrubbing.fresh.len() >= WAITING || now >= self.scrubbing.save_at;
        let save = if due {
            self.scrubbing.save_at = now + SAVE;
            self.scrubbing.unsaved()
        } else {
            None
        };
        self.scrubbing.steps.spawn(async move {
            let info_hash = info.info_hash();
            if let Some((mark, digests)) = save {
                save_in(&resources, info_hash, mark, digests).await;
            }
            let len = u64::from(info.geometry().len_of(piece));
            // All torrents draw from one budget.
            tokio::time::sleep(resources.scrub.take(Instant::now(), len)).await;
            let known = resources.store.digests(info_hash, piece.get()).await;
            let known = known.iter().find(|(number, _)| *number == piece.get());
            let digest = known.map(|(_, digest)| *digest);
            let result = payload.scrub(piece, *info.piece_hash(piece), digest).await;
            Step::Read {
                piece,
                digest,
                result,
            }
        });
    }

    /// Takes in a step. What ends the torrent's work, if it does.
    pub(super) async fn step_done(&mut self, step: Result<Step, JoinError>) -> Option<Ending> {
        let now = Instant::now();
        match step {
            Err(error) => Some(Ending::Failed(defect(&error))),
            Ok(Step::Marked(mark)) => {
                self.begin_scrub(now, mark);
                None
            }
            Ok(Step::Read {
                piece,
                digest,
                result,
            }) => match result {
                Ok(Scrubbed::Good(found)) => {
                    if digest != Some(found) {
                        self.scrubbing.fresh.push((piece.get(), found));
                    }
                    self.on_read_again(now, true);
                    None
                }
                Ok(Scrubbed::Rotten) => Some(self.on_rot(now, piece, None).await),
                Ok(Scrubbed::Unreadable(why)) => Some(self.on_rot(now, piece, Some(why)).await),
                Ok(Scrubbed::Changed(error)) => Some(Ending::Changed(error)),
                Err(error) => Some(Ending::Failed(error.into())),
            },
        }
    }

    fn begin_scrub(&mut self, now: Instant, mark: Option<ScrubMark>) {
        if let Some(every) = self.resources.scrub_every {
            let wall = jiff::Timestamp::now().as_second();
            let geometry = *self.info.geometry();
            self.scrubbing.pacing = Some(Scrub::new(now, wall, every, geometry, mark));
        }
    }

    fn on_read_again(&mut self, now: Instant, good: bool) {
        self.scrubbing.unsaved = true;
        let pacing = self.scrubbing.pacing.as_mut();
        if let Some(pass) = pacing.and_then(|pacing| pacing.on_read(now, good)) {
            // Soon, so that the end of a pass is remembered.
            self.scrubbing.save_at = now;
            self.tell_scrubbed(pass);
        }
    }

    fn tell_scrubbed(&self, pass: Pass) {
        let geometry = self.info.geometry();
        self.resources.tell(Event::Scrubbed {
            info_hash: Hex(self.info.info_hash()),
            pieces: geometry.pieces(),
            bad: pass.bad,
            bytes: geometry.total(),
            seconds: pass.seconds,
        });
    }

    /// A piece is bad on the disk, or cannot be read at all.
    async fn on_rot(&mut self, now: Instant, piece: PieceIndex, why: Option<DiskError>) -> Ending {
        // First of all, so that nobody gets it any more.
        self.served.remove(piece);
        self.scrubbing.rotten = true;
        let info_hash = self.info.info_hash();
        let cleared = self
            .resources
            .store
            .clear(info_hash, vec![piece.get()])
            .await;
        let what = match why {
            None => "rotted on the disk: its bytes changed though nobody wrote to it".to_owned(),
            Some(error) => format!("cannot be read any more: {error}"),
        };
        let place = self.info.whereabouts(piece);
        self.resources.tell(Event::Warning {
            info_hash: Some(Hex(info_hash)),
            kind: "bit_rot",
            message: format!("piece {piece} ({place}) {what}"),
        });
        match cleared {
            Ok(()) => {
                self.on_read_again(now, false);
                Ending::Again
            }
            // Nobody would remember that it is bad, so the pass comes by here again.
            Err(error) => Ending::Failed(error.into()),
        }
    }

    /// Ends what is under way and stores how far it came.
    pub(super) async fn stop_scrub(&mut self) {
        self.scrubbing.steps.abort_all();
        if let Some((mark, digests)) = self.scrubbing.unsaved() {
            save_in(&self.resources, self.info.info_hash(), mark, digests).await;
        }
    }
}

/// What is not stored is read again, which costs time and nothing else.
async fn save_in(
    resources: &super::resources::Resources,
    info_hash: crate::base::InfoHash,
    mark: ScrubMark,
    digests: Vec<(u32, PieceDigest)>,
) {
    if let Err(error) = resources.store.put_scrub(info_hash, mark, digests).await {
        tracing::warn!(%info_hash, %error, "it could not be stored how far a scrub came");
    }
}
