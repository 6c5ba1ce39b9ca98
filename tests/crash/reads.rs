//! Reads that fail, or give less than was asked for: while a payload is hashed, and while it is uploaded.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use seedbank::engine::{Engine, EngineError, ErrorKind, Footing, Goal, State, Torrent};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::common::asked_for;
use crate::common::payload::Random;
use crate::common::wait::SOON;
use crate::crew::live_all;
use crate::ledger::Ledger;
use crate::medium::{Call, Fault, How, Plan, SimulatedMedium};
use crate::promise::Broken;
use crate::shares::{Share, Shares, config, temporary};

/// Reads until the payload is hashed, as many again until it is uploaded, and some more.
const READS: u64 = 70;
/// Of so many one is tried if it is not to take long.
const LEFT_OUT: u64 = 4;

/// One machine's lot.
#[derive(Clone, Debug)]
struct Lot {
    seed: u64,
    share: usize,
    how: How,
    nth: u64,
}

/// An engine that seeds two torrents from the simulated medium, of which one meets the failing read.
struct Seeding<'a> {
    struck: &'a Share,
    spared: &'a Share,
    home: TempDir,
    medium: Arc<SimulatedMedium>,
}

impl<'a> Seeding<'a> {
    fn new(shares: &'a Shares, lot: &Lot) -> Self {
        let home = temporary();
        let path = |name: &str| home.path().join(name);
        let share = |at: usize| &shares.all[at % shares.all.len()];
        let (struck, spared) = (share(lot.share), share(lot.share + 1));
        struck.put(&path("struck"));
        spared.put(&path("spared"));
        fs::create_dir(path("limbo")).unwrap();
        let fault = Fault {
            call: Call::Read,
            nth: lot.nth,
            how: lot.how,
            below: path("struck"),
        };
        let plan = Plan {
            fault: Some(fault),
            ..Plan::default()
        };
        let medium = SimulatedMedium::new(lot.seed, plan, Ledger::new(path("limbo")));
        Self {
            struck,
            spared,
            home,
            medium: Arc::new(medium),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    async fn engine(&self) -> Engine {
        let footing = Footing {
            medium: Arc::clone(&self.medium) as _,
            ..Footing::default()
        };
        let engine = Engine::start_on(config(self.path("seeder"), true), footing).await;
        engine.unwrap()
    }

    /// Begins to seed what is struck, at the second try if it must be; what went wrong at the first goes to `stopped`.
    async fn begin(
        &self,
        engine: &Engine,
        stopped: &mut Vec<EngineError>,
    ) -> Result<Torrent, Broken> {
        let add = || {
            let torrent = self
                .struck
                .torrent(&self.path("struck"), Goal::Seed, vec![]);
            engine.add(torrent)
        };
        let torrent = match add().await {
            Ok(torrent) => torrent,
            Err(error) => {
                stopped.push(error);
                add().await.map_err(|error| format!("again: {error}"))?
            }
        };
        if let Err(error) = torrent.completed().await {
            stopped.push(error);
            go_on(&torrent).await?;
        }
        Ok(torrent)
    }

    /// Uploads both to an engine on a plain disk; if the read fails meanwhile, that goes to `stopped` and the torrent is resumed.
    async fn upload(
        &self,
        engine: &Engine,
        torrent: &Torrent,
        stopped: &mut Vec<EngineError>,
    ) -> Result<(), Broken> {
        let leecher = Engine::start(config(self.path("leecher"), false)).await;
        let leecher = leecher.unwrap();
        let mut downloads = Vec::new();
        for share in [self.struck, self.spared] {
            let peers = vec![engine.tcp_addr().unwrap()];
            let download = share.torrent(&self.path("dest"), Goal::Download, peers);
            downloads.push(leecher.add(download).await.unwrap());
        }
        let mut status = torrent.watch();
        let failed = status.wait_for(|status| matches!(status.state, State::Failed(_)));
        tokio::select! {
            done = timeout(SOON, downloads[0].completed()) => {
                done.map_err(|_| "the leecher hangs")?.map_err(|error| error.to_string())?;
            }
            failed = failed => {
                if let State::Failed(error) = &failed.unwrap().state {
                    stopped.push(error.clone());
                }
                go_on(torrent).await?;
            }
        }
        // Whoever was left in the lurch comes back in his own time; the other torrent never stopped.
        let done = timeout(SOON, downloads[1].completed()).await;
        done.map_err(|_| "the other torrent hangs")?
            .map_err(|error| error.to_string())?;
        leecher.shutdown().await;
        Ok(())
    }
}

async fn go_on(torrent: &Torrent) -> Result<(), Broken> {
    torrent.resume().await;
    let again = torrent.completed().await;
    again.map_err(|error| format!("again: {error}"))
}

async fn seed(shares: &Shares, lot: &Lot) -> Result<(), Broken> {
    let seeding = Seeding::new(shares, lot);
    let engine = seeding.engine().await;
    let spared = seeding.spared;
    let seeded = engine.add(spared.torrent(&seeding.path("spared"), Goal::Seed, vec![]));
    seeded.await.unwrap().completed().await.unwrap();
    let mut stopped = Vec::new();
    let torrent = seeding.begin(&engine, &mut stopped).await?;
    seeding.upload(&engine, &torrent, &mut stopped).await?;
    engine.shutdown().await;
    if !spared.is_whole(&seeding.path("dest")) {
        return Err("wrong bytes of the other torrent".into());
    }
    let kinds: Vec<ErrorKind> = stopped.iter().map(EngineError::kind).collect();
    let fails = seeding.medium.struck().is_some() && lot.how != How::Short;
    let expected: &[ErrorKind] = if fails { &[ErrorKind::Io] } else { &[] };
    if kinds == expected {
        Ok(())
    } else {
        Err(format!("{:?} led to {stopped:?}", seeding.medium.struck()))
    }
}

#[test]
fn a_read_that_fails_stops_its_torrent_alone_and_a_short_one_none() {
    let mut random = Random::of_this_run("reads");
    let full = asked_for("SEEDBANK_CRASH_FULL");
    let mut lots = Vec::new();
    for nth in 1..=READS {
        for how in [How::Fails(libc::EIO), How::Short] {
            if full || random.below(LEFT_OUT) == 0 {
                lots.push(Lot {
                    seed: random.next(),
                    share: random.below(3) as usize,
                    how,
                    nth,
                });
            }
        }
    }
    eprintln!("{} machines", lots.len());
    let broken = live_all(&lots, seed);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
