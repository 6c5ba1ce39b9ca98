//! A machine that lives, loses power and lives again, and what must be so between its lives.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use seedbank::base::{Bitfield, Geometry};
use seedbank::disk::Pace;
use seedbank::engine::{Engine, EngineError, Event, Footing, Goal};
use seedbank::store::Record;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::common::payload::{Random, files};
use crate::common::wait::SOON;
use crate::ledger::Ledger;
use crate::medium::{Call, Fault, How, Plan, Power, SimulatedMedium};
use crate::promise::{self, Broken, claims, copy};
use crate::shares::{MANY, Share, Shares, config, temporary};

/// Pieces that may be verified and not durable.
const WINDOW: u64 = 4;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Power fails, for everything at once.
    Cut,
    /// The process is killed; what it wrote stays in the kernel's cache.
    Kill,
    /// The disk stops working, the engine notices, stops, and then the power fails.
    DeadDisk,
    /// The engine is told to stop, does so, and then the power fails.
    Stop,
}

impl End {
    pub(crate) const ALL: [Self; 4] = [Self::Cut, Self::Kill, Self::DeadDisk, Self::Stop];

    fn power(self) -> Power {
        match self {
            Self::Cut | Self::Kill => Power::Failing,
            Self::DeadDisk => Power::Off,
            Self::Stop => Power::Low,
        }
    }
}

/// A machine with one torrent to download.
pub(crate) struct Machine<'a> {
    shares: &'a Shares,
    share: &'a Share,
    home: TempDir,
    random: Random,
    /// Syncs do nothing.
    lies: bool,
    /// What each life came to.
    lives: Vec<String>,
    state: PathBuf,
    /// What the last life left unsynced in the kernel's cache.
    ledger: Ledger,
    /// What the store said after the last life.
    promised: Option<Promised>,
}

/// What was so at the end of a life.
struct Promised {
    record: Record,
    /// If that was a kill, the pieces that were verified then.
    verified: Option<Bitfield>,
}

/// A life that is over.
pub(crate) struct Life {
    /// Whether the torrent was complete.
    pub(crate) complete: bool,
    /// Calls to the disk.
    pub(crate) calls: u64,
}

/// What a life told of itself.
#[derive(Debug, Default)]
struct Told {
    /// Trusted, rechecked and missing pieces.
    resumed: Option<(u32, u32, u32)>,
    verified: BTreeSet<u32>,
    downloaded: Option<u64>,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(shares: &'a Shares, which: usize, seed: u64, lies: bool) -> Self {
        let home = temporary();
        let limbo = home.path().join("limbo");
        fs::create_dir(&limbo).unwrap();
        Self {
            shares,
            share: &shares.all[which % shares.all.len()],
            state: home.path().join("state"),
            home,
            random: Random::new(seed),
            lies,
            lives: Vec::new(),
            ledger: Ledger::new(limbo),
            promised: None,
        }
    }

    /// One life: up to the call number and the end given, or until the download is complete. Then the promise is checked.
    ///
    /// # Errors
    /// What is not as promised.
    pub(crate) async fn live(&mut self, until: Option<(u64, End)>) -> Result<Life, Broken> {
        let plan = Plan {
            turn: until.map(|(call, end)| (call, end.power())),
            lies: self.lies,
            slow: true,
            ..Plan::default()
        };
        self.lives.push(match until {
            Some((call, end)) => format!("{end:?} at call {call}"),
            None => "to the end".to_owned(),
        });
        self.live_by(plan, until.map(|(_, end)| end)).await
    }

    /// One life that is killed right when its sync number `nth` has failed.
    ///
    /// # Errors
    /// What is not as promised.
    pub(crate) async fn live_until_sync_fails(&mut self, nth: u64) -> Result<Life, Broken> {
        let many = std::ptr::eq(self.share, &self.shares.all[MANY]);
        let fault = Fault {
            call: if many {
                Call::SyncFilesystem
            } else {
                Call::SyncData
            },
            nth,
            how: How::Fails(libc::EIO),
            below: self.home.path().to_owned(),
        };
        let plan = Plan {
            fault: Some(fault),
            unheard: true,
            slow: true,
            ..Plan::default()
        };
        self.lives.push(format!("killed as sync {nth} failed"));
        let life = self.live_by(plan, Some(End::Kill)).await;
        // What was verified may be lost.
        if let Some(promised) = &mut self.promised {
            promised.verified = None;
        }
        life
    }

    async fn live_by(&mut self, plan: Plan, end: Option<End>) -> Result<Life, Broken> {
        let medium = SimulatedMedium::new(self.random.next(), plan, self.ledger.take());
        let medium = Arc::new(medium);
        let result = self.run(&medium, end).await;
        if let (Some(life), Some(what)) = (self.lives.last_mut(), medium.struck()) {
            life.push_str(&format!(", {what}"));
        }
        result.map_err(|wrong| format!("{wrong}; lives: {}", self.lives.join("; ")))
    }

    async fn run(
        &mut self,
        medium: &Arc<SimulatedMedium>,
        end: Option<End>,
    ) -> Result<Life, Broken> {
        let footing = Footing {
            medium: Arc::clone(medium) as _,
            pace: pace(self.share.geometry()),
        };
        let engine = Engine::start_on(config(self.state.clone(), false), footing).await;
        let engine = engine.map_err(|error| format!("the engine does not start: {error}"))?;
        let mut events = engine.subscribe();
        let torrent = self
            .share
            .torrent(&self.dest(), Goal::Download, vec![self.shares.addr]);
        let mut download = Box::pin(async { engine.add(torrent).await?.completed().await });
        let outcome = tokio::select! {
            biased;
            outcome = timeout(SOON, &mut download) => Some(outcome.map_err(|_| "the download hangs")?),
            () = medium.turned() => None,
        };
        let ended = if outcome.is_some() { None } else { end };
        // Now and then it is told to stop before it has noticed.
        if ended == Some(End::DeadDisk) && self.random.below(2) == 0 {
            let failed = timeout(SOON, &mut download).await;
            if failed.map_err(|_| "a dead disk goes unnoticed")?.is_ok() {
                return Err("complete on a dead disk".into());
            }
        }
        drop(download);
        if let Some(End::Cut | End::Kill) = ended {
            self.state = self.snapshot().await;
            medium.turn_off();
        }
        engine.shutdown().await;
        if ended != Some(End::Kill) {
            medium.crash();
        }
        self.ledger = medium.take_ledger();
        let mut told = Told::default();
        while let Ok(event) = events.try_recv() {
            told.take_in(&event);
        }
        if let (Some(life), Some((trusted, rechecked, missing))) =
            (self.lives.last_mut(), told.resumed)
        {
            life.push_str(&format!(
                ", began with {trusted} trusted, {rechecked} hashed, {missing} missing"
            ));
        }
        self.check_start(&told)?;
        self.check_promise(&told, ended).await?;
        let complete = match outcome {
            Some(Ok(())) => true,
            Some(Err(error)) if end != Some(End::DeadDisk) => return Err(stopped(&error)),
            _ => false,
        };
        if complete && !self.share.is_whole(&self.dest()) {
            return Err("complete with wrong bytes".into());
        }
        let calls = medium.calls();
        Ok(Life { complete, calls })
    }

    fn dest(&self) -> PathBuf {
        self.home.path().join("new/dest")
    }

    /// Copies the state folder as it is now, while the engine stands still.
    async fn snapshot(&self) -> PathBuf {
        let to = self.home.path().join(format!("state-{}", self.lives.len()));
        for _ in 0..200 {
            let then = look(&self.state);
            tokio::time::sleep(Duration::from_millis(15)).await;
            if look(&self.state) != then {
                continue;
            }
            copy(&self.state, &to);
            if look(&self.state) == then {
                return to;
            }
            fs::remove_dir_all(&to).unwrap();
        }
        panic!("a state folder that never comes to rest");
    }

    /// What this life believed when it began follows from what was promised at the end of the last one.
    fn check_start(&self, told: &Told) -> Result<(), Broken> {
        let (Some(Promised { record, verified }), Some((trusted, rechecked, missing))) =
            (&self.promised, told.resumed)
        else {
            return Ok(());
        };
        let durable = record.durable.count();
        if trusted < durable {
            return Err(format!(
                "of {durable} durable pieces {trusted} were trusted, {rechecked} hashed"
            ));
        }
        let geometry = self.share.geometry();
        if u64::from(rechecked) > WINDOW {
            return Err(format!("{rechecked} pieces were hashed, {WINDOW} may be"));
        }
        let verified = verified.as_ref().map_or(0, Bitfield::count);
        if missing > geometry.pieces() - verified {
            return Err(format!(
                "after a kill {missing} pieces are missing, though {verified} were verified"
            ));
        }
        let most = u64::from(geometry.pieces() - trusted) * u64::from(geometry.piece_len());
        if told.downloaded.is_some_and(|downloaded| downloaded > most) {
            return Err(format!(
                "{:?} bytes were downloaded for {missing} pieces",
                told.downloaded
            ));
        }
        Ok(())
    }

    /// Whatever the store claims is on the medium, and the torrent is in the catalog.
    async fn check_promise(&mut self, told: &Told, ended: Option<End>) -> Result<(), Broken> {
        let scratch = self.home.path().join("looked-at");
        let claims = claims(&self.state, &scratch, self.share).await?;
        if told.resumed.is_some() && !claims.catalogued {
            return Err("the torrent is not in the catalog".into());
        }
        self.promised = None;
        if let Some(record) = claims.record {
            promise::check(&record, self.share, &self.dest())?;
            let verified = (ended == Some(End::Kill)).then(|| self.verified(&record, told));
            self.promised = Some(Promised { record, verified });
        }
        Ok(())
    }

    /// Pieces that were durable or verified in this life.
    fn verified(&self, record: &Record, told: &Told) -> Bitfield {
        let mut verified = record.durable.clone();
        let geometry = self.share.geometry();
        verified.extend(told.verified.iter().filter_map(|&at| geometry.piece(at)));
        verified
    }
}

impl Told {
    fn take_in(&mut self, event: &Event) {
        match *event {
            Event::Resume {
                trusted,
                rechecked,
                missing,
                ..
            } => self.resumed = Some((trusted, rechecked, missing)),
            Event::Have { piece, .. } => drop(self.verified.insert(piece)),
            Event::Complete { downloaded, .. } => self.downloaded = Some(downloaded),
            _ => {}
        }
    }
}

/// Commits come thick and fast, so that many of them fall into a short life.
pub(crate) fn pace(geometry: &Geometry) -> Pace {
    Pace {
        shortest: Duration::from_millis(3),
        longest: Duration::from_millis(30),
        window: WINDOW * u64::from(geometry.piece_len()),
    }
}

fn stopped(error: &EngineError) -> Broken {
    format!("the torrent stopped: {error}")
}

/// Names, lengths and times of everything in a folder.
fn look(folder: &Path) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let found = files(folder).into_values().map(|path| {
        let found = fs::metadata(&path).ok();
        let len = found.as_ref().map_or(0, fs::Metadata::len);
        (path, len, found.and_then(|found| found.modified().ok()))
    });
    found.collect()
}
