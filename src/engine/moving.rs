//! A payload moves to another folder (R8). The catalog is told first where it goes, then the files go there, then what the store knows
//! of them is made to fit, then the catalog says where it is, and last the old place is cleared.
//!
//! Whatever stops this, the catalog says how far it came: moving it again, to either of the two places, goes on from there, and so
//! does adding the torrent. A copy stands in for its original only after its durable pieces were read back from the new disk and
//! hashed, so a bit in the store stays true.

mod route;
mod vouch;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::EngineError;
use super::events::{Event, Hex};
use super::prepare::layout;
use super::resources::Resources;
use crate::base::InfoHash;
use crate::disk::{Arrival, Disk, DiskError, OnStep, Outlook, Relocation, Step};
use crate::format::metainfo::Info;
use crate::store::{Choices, Moving, Record, Store};
use route::{Rest, Route, rest};

/// How a payload got to its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes of files that were copied; what was renamed is not among them.
    pub copied: u64,
    /// Pieces that were found damaged at the old place, and are fetched again at the next start.
    pub damaged: u32,
    /// Files at the old place that were changed since they were copied, and were left.
    pub left: Vec<PathBuf>,
    /// Why the old place could not be cleared, if it could not; moving to the same place again tries that again.
    pub uncleared: Option<String>,
}

/// Moves the payload of a torrent of the catalog, for which `choices` were made, to the folder `dest`, which must exist. It must not run.
/// Files are renamed where that is enough, else copied, read back and checked. One that is there already stays.
///
/// `on_step` hears of every step, and may stop the move there: then [`EngineError::Stopped`] comes back, and doing the same again goes on. If
/// something else goes wrong, what was moved is brought back, as far as that works.
///
/// # Errors
/// If `dest` or a file of the payload is missing, something else has the name of a file there, the payload is in use, or the disk or the store
/// fails.
pub async fn move_payload(
    store: &Store,
    info: &Arc<Info>,
    choices: Choices,
    dest: &Path,
    on_step: Arc<OnStep>,
) -> Result<Moved, EngineError> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let disk = Disk::new(cores.clamp(2, 8));
    let mover = Mover {
        store,
        disk: &disk,
        info,
        on_step,
    };
    let mut choices = choices;
    let mut moved = Moved::default();
    if choices.moving.is_some() {
        let (now, finished) = mover.finish(choices, dest, true).await?;
        (choices, moved) = (now, finished);
    }
    if choices.dest != dest {
        let route = Route {
            from: choices.dest.clone(),
            to: dest.to_owned(),
            begun: false,
        };
        let then = mover.go(&choices, &route, true).await?;
        moved.add(then);
    }
    Ok(moved)
}

/// Finishes the move that an earlier run began, so that the payload is at `wanted` if that is one of its two places. Answers with what is chosen then.
pub(super) async fn finish(
    resources: &Resources,
    info: &Arc<Info>,
    choices: Choices,
    wanted: &Path,
    cancelled: &Arc<AtomicBool>,
) -> Result<Choices, EngineError> {
    let info_hash = info.info_hash();
    if let Some(Moving::To(to)) = &choices.moving
        && wanted != to
        && wanted != choices.dest
    {
        return Err(EngineError::Moving {
            info_hash,
            from: choices.dest,
            to: to.clone(),
        });
    }
    let warn = |message: String| {
        resources.tell(Event::Warning {
            info_hash: Some(Hex(info_hash)),
            kind: "moving",
            message,
        });
    };
    match rest(&choices, wanted) {
        Some(Rest::Go(route)) => warn(format!(
            "a move was stopped before its end; going on with it, from {} to {}",
            route.from.display(),
            route.to.display()
        )),
        Some(Rest::Clear(route)) => warn(format!(
            "a move was stopped before its end; removing what is left in {}",
            route.from.display()
        )),
        None => {}
    }
    let cancelled = Arc::clone(cancelled);
    let on_step = move |_: Step| {
        if cancelled.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let mover = Mover {
        store: &resources.store,
        disk: &resources.disk,
        info,
        on_step: Arc::new(on_step),
    };
    let (choices, moved) = mover.finish(choices, wanted, false).await?;
    moved.warnings().into_iter().for_each(warn);
    Ok(choices)
}

impl Moved {
    /// What a person should know of it, one line each.
    pub fn warnings(&self) -> Vec<String> {
        let damaged = (self.damaged > 0).then(|| {
            format!(
                "pieces that were damaged before the move: {}; `seedbank get` fetches them again",
                self.damaged
            )
        });
        let left = self.left.iter().map(|path| {
            format!(
                "{} was changed since it was copied and is left where it is",
                path.display()
            )
        });
        let uncleared = self.uncleared.iter().map(|why| {
            format!("the old files could not be removed ({why}); move it there again to try again")
        });
        damaged.into_iter().chain(left).chain(uncleared).collect()
    }

    fn add(&mut self, later: Self) {
        self.copied += later.copied;
        self.damaged += later.damaged;
        self.left.extend(later.left);
        self.uncleared = later.uncleared.or(self.uncleared.take());
    }
}

/// Whether the move was stopped, so that all stays as it is until somebody goes on with it.
fn is_stop(error: &EngineError) -> bool {
    matches!(
        error,
        EngineError::Stopped | EngineError::Disk(DiskError::Stopped)
    )
}

struct Mover<'a> {
    store: &'a Store,
    disk: &'a Disk,
    info: &'a Arc<Info>,
    on_step: Arc<OnStep>,
}

impl Mover<'_> {
    fn info_hash(&self) -> InfoHash {
        self.info.info_hash()
    }

    async fn finish(
        &self,
        choices: Choices,
        wanted: &Path,
        may_return: bool,
    ) -> Result<(Choices, Moved), EngineError> {
        let (to, moved) = match rest(&choices, wanted) {
            Some(Rest::Go(route)) => {
                let moved = self.go(&choices, &route, may_return).await?;
                (route.to, moved)
            }
            Some(Rest::Clear(route)) => {
                let moved = self.clear(&choices, &route).await?;
                (route.to, moved)
            }
            None => return Ok((choices, Moved::default())),
        };
        // As the catalog has it now, should the old place not be cleared.
        let choices = self.store.choices(self.info_hash()).await?;
        Ok((choices.unwrap_or_else(|| Choices::new(to)), moved))
    }

    /// Moves along `route`. If that fails and `may_return`, brings everything back.
    async fn go(
        &self,
        choices: &Choices,
        route: &Route,
        may_return: bool,
    ) -> Result<Moved, EngineError> {
        if choices.unbegun {
            // There is nothing to move yet.
            self.choose(choices, &route.to, None).await?;
            return Ok(Moved::default());
        }
        let record = self.record().await?;
        let outlook = self.look_ahead(route, record.as_ref()).await?;
        if outlook.same_folder {
            self.choose(choices, &route.to, None).await?;
            return Ok(Moved::default());
        }
        let brought = match self.bring(choices, route, record).await {
            Err(error) if may_return && !is_stop(&error) => {
                self.bring_back(choices, &route.back()).await;
                return Err(error);
            }
            brought => brought?,
        };
        let mut moved = self.clear(choices, route).await?;
        moved.add(brought);
        Ok(moved)
    }

    async fn record(&self) -> Result<Option<Record>, EngineError> {
        let pieces = self.info.geometry().pieces();
        let files = self.info.files().len();
        Ok(self.store.load(self.info_hash(), pieces, files).await?)
    }

    async fn look_ahead(
        &self,
        route: &Route,
        record: Option<&Record>,
    ) -> Result<Outlook, EngineError> {
        let relocation = self.relocation(route, record)?;
        let from = route.from.clone();
        let info_hash = self.info_hash();
        let looked = self.disk.look_ahead(Arc::new(relocation)).await;
        looked.map_err(|error| match error {
            DiskError::NotFound { path } if path.starts_with(&from) && path != route.to => {
                EngineError::Missing { path, info_hash }
            }
            error => error.into(),
        })
    }

    /// Does everything up to the point from which the payload is at its new place.
    async fn bring(
        &self,
        choices: &Choices,
        route: &Route,
        record: Option<Record>,
    ) -> Result<Moved, EngineError> {
        let moving = Moving::To(route.to.clone());
        self.choose(choices, &route.from, Some(moving)).await?;
        let route = Route {
            begun: true,
            ..route.clone()
        };
        let relocation = Arc::new(self.relocation(&route, record.as_ref())?);
        let on_step = Arc::clone(&self.on_step);
        let arrivals = self.disk.carry(Arc::clone(&relocation), on_step).await;
        let arrivals = arrivals.map_err(stopped)?;
        let damaged = match &record {
            Some(record) => self.vouch(&relocation, record, &arrivals).await?,
            // Nothing is claimed of these files.
            None => 0,
        };
        let moving = Moving::From(route.from);
        self.choose(choices, &route.to, Some(moving)).await?;
        let copied = arrivals.iter().map(|arrival| match arrival {
            Arrival::Copied { is, .. } => is.size,
            Arrival::Nothing | Arrival::Moved(_) => 0,
        });
        Ok(Moved {
            copied: copied.sum(),
            damaged,
            ..Moved::default()
        })
    }

    /// Clears the old place. Trouble there is told and takes nothing back: the payload is at the new one.
    async fn clear(&self, choices: &Choices, route: &Route) -> Result<Moved, EngineError> {
        let relocation = Arc::new(self.relocation(route, None)?);
        let on_step = Arc::clone(&self.on_step);
        let mut moved = Moved::default();
        match self.disk.clear_away(relocation, on_step).await {
            Ok(left) => {
                moved.left = left;
                self.choose(choices, &route.to, None).await?;
            }
            Err(error @ (DiskError::Interrupted | DiskError::Stopped)) => {
                return Err(stopped(error));
            }
            Err(error) => moved.uncleared = Some(error.to_string()),
        }
        Ok(moved)
    }

    /// Undoes a move that failed. If that fails too, the catalog still says how far it came.
    async fn bring_back(&self, choices: &Choices, route: &Route) {
        let back = async {
            let record = self.record().await?;
            self.bring(choices, route, record).await?;
            self.clear(choices, route).await
        };
        match back.await {
            Ok(moved) => moved
                .warnings()
                .iter()
                .for_each(|line| tracing::warn!("{line}")),
            Err(error) => tracing::warn!(
                %error,
                "what was moved could not be brought back; moving it again goes on"
            ),
        }
    }

    fn relocation(
        &self,
        route: &Route,
        record: Option<&Record>,
    ) -> Result<Relocation, EngineError> {
        let unknown = || vec![None; self.info.files().len()];
        Ok(Relocation {
            from: Arc::new(layout(self.info, &route.from)?),
            to: Arc::new(layout(self.info, &route.to)?),
            known: record.map_or_else(unknown, |record| record.identities.clone()),
            tag: self.info_hash().to_string(),
            begun: route.begun,
        })
    }

    async fn choose(
        &self,
        choices: &Choices,
        dest: &Path,
        moving: Option<Moving>,
    ) -> Result<(), EngineError> {
        let choices = Choices {
            dest: dest.to_owned(),
            moving,
            ..choices.clone()
        };
        self.store.put_choices(self.info_hash(), choices).await?;
        self.step(Step::Done)
    }

    fn step(&self, step: Step) -> Result<(), EngineError> {
        match (self.on_step)(step) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(EngineError::Stopped),
        }
    }
}

fn stopped(error: DiskError) -> EngineError {
    match error {
        DiskError::Interrupted => EngineError::Stopped,
        error => error.into(),
    }
}
