//! One call to the disk fails, once: its torrent stops with that reason and nothing false is claimed, another torrent goes on, and
//! a retry ends with the right bytes.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use seedbank::engine::{Engine, EngineError, ErrorKind, Footing, Goal, Torrent};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::common::asked_for;
use crate::common::payload::Random;
use crate::common::wait::SOON;
use crate::crew::live_all;
use crate::ledger::Ledger;
use crate::machine::pace;
use crate::medium::{Call, Fault, How, Plan, SimulatedMedium};
use crate::promise::{self, Broken, claims};
use crate::shares::{MANY, Share, Shares, config, temporary};

/// What can fail, how, and how many calls of that kind are tried.
const FAULTS: [(Call, How, u64); 15] = [
    (Call::Write, How::Fails(libc::EIO), 30),
    (Call::Write, How::Fails(libc::ENOSPC), 30),
    (Call::Write, How::Fails(libc::EDQUOT), 30),
    (Call::Write, How::Short, 30),
    (Call::SyncData, How::Fails(libc::EIO), 16),
    (Call::SyncAll, How::Fails(libc::EIO), 8),
    (Call::SyncFilesystem, How::Fails(libc::EIO), 16),
    (Call::SyncFolder, How::Fails(libc::EIO), 6),
    (Call::Allocate, How::Fails(libc::EIO), 4),
    (Call::Allocate, How::Fails(libc::ENOSPC), 4),
    (Call::Allocate, How::Fails(libc::EFBIG), 4),
    (Call::CreateFile, How::Fails(libc::EIO), 5),
    (Call::CreateFile, How::Fails(libc::ENOSPC), 5),
    (Call::CreateFolder, How::Fails(libc::EROFS), 4),
    // Not every filesystem can reserve space.
    (Call::Allocate, How::Fails(libc::EOPNOTSUPP), 4),
];
/// Of so many combinations one is taken if it is not to take long.
const LEFT_OUT: u64 = 3;

/// One machine's lot.
#[derive(Clone, Debug)]
struct Lot {
    seed: u64,
    share: usize,
    call: Call,
    how: How,
    nth: u64,
}

/// An engine with two torrents, one of which is struck.
struct Pair<'a> {
    shares: &'a Shares,
    struck: &'a Share,
    spared: &'a Share,
    home: TempDir,
    medium: Arc<SimulatedMedium>,
}

impl<'a> Pair<'a> {
    fn new(shares: &'a Shares, lot: &Lot) -> Self {
        let home = temporary();
        for folder in ["limbo", "struck", "spared"] {
            fs::create_dir(home.path().join(folder)).unwrap();
        }
        let fault = Fault {
            call: lot.call,
            nth: lot.nth,
            how: lot.how,
            below: home.path().join("struck"),
        };
        let plan = Plan {
            fault: Some(fault),
            slow: true,
            ..Plan::default()
        };
        let ledger = Ledger::new(home.path().join("limbo"));
        let medium = Arc::new(SimulatedMedium::new(lot.seed, plan, ledger));
        let share = |at: usize| &shares.all[at % shares.all.len()];
        Self {
            shares,
            struck: share(lot.share),
            spared: share(lot.share + 1),
            home,
            medium,
        }
    }

    fn dest(&self, of: &str) -> PathBuf {
        self.home.path().join(of).join("dest")
    }

    fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    async fn engine(&self) -> Engine {
        let footing = Footing {
            medium: Arc::clone(&self.medium) as _,
            pace: pace(self.struck.geometry()),
        };
        let engine = Engine::start_on(config(self.state(), false), footing).await;
        engine.unwrap()
    }

    async fn add(&self, engine: &Engine, share: &Share, of: &str) -> Result<Torrent, EngineError> {
        let torrent = share.torrent(&self.dest(of), Goal::Download, vec![self.shares.addr]);
        engine.add(torrent).await
    }

    /// Downloads what is struck to the end; gives the first error, if there was one.
    async fn download(&self, engine: &Engine) -> Result<Option<EngineError>, Broken> {
        let torrent = self.add(engine, self.struck, "struck").await;
        let (torrent, error) = match torrent {
            Ok(torrent) => match settled(&torrent).await? {
                Ok(()) => return Ok(None),
                Err(error) => (torrent, error),
            },
            Err(error) => {
                let again = self.add(engine, self.struck, "struck").await;
                let torrent = again.map_err(|error| format!("not even at the second try: {error}"));
                return self.see_through(&torrent?, error).await.map(Some);
            }
        };
        torrent.resume().await;
        self.see_through(&torrent, error).await.map(Some)
    }

    async fn see_through(
        &self,
        torrent: &Torrent,
        first: EngineError,
    ) -> Result<EngineError, Broken> {
        match settled(torrent).await? {
            Ok(()) => Ok(first),
            Err(again) => Err(format!("after {first}, again: {again}")),
        }
    }

    /// The power is cut; then nothing may be claimed that is not there.
    async fn crash_and_check(&self) -> Result<(), Broken> {
        self.medium.crash();
        for (share, of) in [(self.struck, "struck"), (self.spared, "spared")] {
            let scratch = self.home.path().join("looked-at");
            let claims = claims(&self.state(), &scratch, share).await?;
            if let Some(record) = claims.record {
                promise::check(&record, share, &self.dest(of))?;
            }
        }
        Ok(())
    }
}

/// How a torrent comes out.
async fn settled(torrent: &Torrent) -> Result<Result<(), EngineError>, Broken> {
    let result = timeout(SOON, torrent.completed()).await;
    result.map_err(|_| format!("it hangs: {:?}", torrent.status().state))
}

/// The torrent is told to go on at once.
async fn retry(shares: &Shares, lot: &Lot, struck: &AtomicUsize) -> Result<(), Broken> {
    let pair = Pair::new(shares, lot);
    let engine = pair.engine().await;
    let spared = pair.add(&engine, pair.spared, "spared").await;
    let spared = spared.map_err(|error| format!("the other torrent: {error}"))?;
    let error = pair.download(&engine).await;
    let error = error.map_err(|wrong| format!("{:?}: {wrong}", pair.medium.struck()))?;
    if let Err(error) = settled(&spared).await? {
        // What a filesystem fails to write may be anyone's.
        if lot.call != Call::SyncFilesystem || error.kind() != ErrorKind::Io {
            return Err(format!("the other torrent stopped: {error}"));
        }
        spared.resume().await;
        pair.see_through(&spared, error).await?;
    }
    engine.shutdown().await;
    pair.crash_and_check().await?;
    for (share, of) in [(pair.struck, "struck"), (pair.spared, "spared")] {
        if !share.is_whole(&pair.dest(of)) {
            return Err(format!("what is {of} is complete with wrong bytes"));
        }
    }
    count(&pair, struck);
    judge(lot, pair.medium.struck(), error.as_ref())
}

/// The power is cut right after the torrent stopped.
async fn cut(shares: &Shares, lot: &Lot, struck: &AtomicUsize) -> Result<(), Broken> {
    let pair = Pair::new(shares, lot);
    let engine = pair.engine().await;
    let error = match pair.add(&engine, pair.struck, "struck").await {
        Ok(torrent) => settled(&torrent).await?.err(),
        Err(error) => Some(error),
    };
    engine.shutdown().await;
    pair.crash_and_check().await?;
    count(&pair, struck);
    judge(lot, pair.medium.struck(), error.as_ref())?;
    let engine = pair.engine().await;
    let torrent = pair.add(&engine, pair.struck, "struck").await;
    let torrent = torrent.map_err(|error| format!("after the cut: {error}"))?;
    if let Err(error) = settled(&torrent).await? {
        return Err(format!("after the cut: {error}"));
    }
    engine.shutdown().await;
    pair.crash_and_check().await?;
    if pair.struck.is_whole(&pair.dest("struck")) {
        Ok(())
    } else {
        Err("complete with wrong bytes".into())
    }
}

fn count(pair: &Pair<'_>, struck: &AtomicUsize) {
    let hit = pair.medium.struck().is_some();
    struck.fetch_add(usize::from(hit), Ordering::Relaxed);
}

/// Whether the torrent stopped, and why, is what such a failure must lead to.
fn judge(lot: &Lot, struck: Option<String>, error: Option<&EngineError>) -> Result<(), Broken> {
    let Some(struck) = struck else {
        // There were fewer calls of that kind.
        return error.map_or(Ok(()), |error| Err(format!("for no reason: {error}")));
    };
    let kind = error.map(EngineError::kind);
    let expected: &[Option<ErrorKind>] = match (lot.call, lot.how) {
        (_, How::Short) | (Call::Allocate, How::Fails(libc::EOPNOTSUPP)) => &[None],
        (_, How::Fails(libc::ENOSPC | libc::EDQUOT)) => &[Some(ErrorKind::DiskFull)],
        // Whatever it was, it need not have struck this torrent.
        (Call::SyncFilesystem, _) => &[Some(ErrorKind::Io), None],
        (Call::Write | Call::SyncData | Call::SyncAll, _) => &[Some(ErrorKind::Io)],
        // The folder above was there before, and syncing it is a courtesy.
        (Call::SyncFolder, _) => &[Some(ErrorKind::Io), None],
        _ => &[Some(ErrorKind::CannotCreate)],
    };
    if expected.contains(&kind) {
        return Ok(());
    }
    Err(format!("{struck} led to {error:?}"))
}

fn lots(test: &str) -> Vec<Lot> {
    let mut random = Random::of_this_run(test);
    let full = asked_for("SEEDBANK_CRASH_FULL");
    let mut lots = Vec::new();
    for (call, how, most) in FAULTS {
        for nth in 1..=most {
            if full || random.below(LEFT_OUT) == 0 {
                let share = match call {
                    Call::SyncFilesystem => MANY,
                    // Their syncs and folders are few.
                    Call::SyncData | Call::SyncAll | Call::SyncFolder => random.below(3) as usize,
                    _ => random.below(4) as usize,
                };
                lots.push(Lot {
                    seed: random.next(),
                    share,
                    call,
                    how,
                    nth,
                });
            }
        }
    }
    eprintln!("{} machines", lots.len());
    lots
}

#[test]
fn a_call_that_fails_stops_its_torrent_alone_until_it_is_resumed() {
    let (lots, struck) = (lots("faults, resumed"), AtomicUsize::new(0));
    let broken = live_all(&lots, async |shares, lot| retry(shares, lot, &struck).await);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(struck.into_inner() > lots.len() / 2, "faults miss");
}

#[test]
fn a_call_that_fails_before_a_power_cut_leaves_nothing_false() {
    let (lots, struck) = (lots("faults, cut"), AtomicUsize::new(0));
    let broken = live_all(&lots, async |shares, lot| cut(shares, lot, &struck).await);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert!(struck.into_inner() > lots.len() / 2, "faults miss");
}
