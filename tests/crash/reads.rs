//! Reads that fail, or give less than was asked for: while a payload is hashed, and while it is uploaded.

use std::fs;
use std::sync::Arc;

use seedbank::engine::{Engine, ErrorKind, Footing, Goal, State};
use tokio::time::timeout;

use crate::common::asked_for;
use crate::common::payload::Random;
use crate::common::wait::SOON;
use crate::crew::live_all;
use crate::ledger::Ledger;
use crate::medium::{Call, Fault, How, Plan, SimulatedMedium};
use crate::promise::Broken;
use crate::shares::{Shares, config, temporary};

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

/// Seeds two torrents from the simulated medium, of which one meets the failing read, to a leecher on a plain disk.
async fn seed(shares: &Shares, lot: &Lot) -> Result<(), Broken> {
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
    let medium = Arc::new(medium);
    let footing = Footing {
        medium: Arc::clone(&medium) as _,
        ..Footing::default()
    };
    let seeder = Engine::start_on(config(path("seeder"), true), footing).await;
    let seeder = seeder.unwrap();
    let seeded = seeder.add(spared.torrent(&path("spared"), Goal::Seed, vec![]));
    seeded.await.unwrap().completed().await.unwrap();

    let add = || seeder.add(struck.torrent(&path("struck"), Goal::Seed, vec![]));
    let mut stopped = Vec::new();
    let torrent = match add().await {
        Ok(torrent) => torrent,
        Err(error) => {
            stopped.push(error);
            add().await.map_err(|error| error.to_string())?
        }
    };
    if let Err(error) = torrent.completed().await {
        stopped.push(error);
        torrent.resume().await;
        let again = torrent.completed().await;
        again.map_err(|error| format!("again: {error}"))?;
    }

    let leecher = Engine::start(config(path("leecher"), false)).await.unwrap();
    let peers = vec![seeder.tcp_addr().unwrap()];
    let mut downloads = Vec::new();
    for share in [struck, spared] {
        let torrent = share.torrent(&path("dest"), Goal::Download, peers.clone());
        downloads.push(leecher.add(torrent).await.unwrap());
    }
    let mut status = torrent.watch();
    let failed = status.wait_for(|status| matches!(status.state, State::Failed(_)));
    tokio::select! {
        done = timeout(SOON, downloads[0].completed()) => {
            done.map_err(|_| "the leecher hangs")?.map_err(|error| error.to_string())?;
        }
        failed = failed => {
            let state = failed.unwrap().state.clone();
            stopped.extend(match state {
                State::Failed(error) => Some(error),
                _ => None,
            });
            torrent.resume().await;
            torrent.completed().await.map_err(|error| format!("again: {error}"))?;
        }
    }
    // Whoever was left in the lurch comes back in his own time; the other torrent never stopped.
    let done = timeout(SOON, downloads[1].completed()).await;
    done.map_err(|_| "the other torrent hangs")?
        .map_err(|error| error.to_string())?;
    leecher.shutdown().await;
    seeder.shutdown().await;
    if !spared.is_whole(&path("dest")) {
        return Err("wrong bytes of the other torrent".into());
    }
    let kinds: Vec<ErrorKind> = stopped.iter().map(|error| error.kind()).collect();
    let fails = medium.struck().is_some() && lot.how != How::Short;
    let expected: &[ErrorKind] = if fails { &[ErrorKind::Io] } else { &[] };
    if kinds == expected {
        Ok(())
    } else {
        Err(format!("{:?} led to {stopped:?}", medium.struck()))
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
