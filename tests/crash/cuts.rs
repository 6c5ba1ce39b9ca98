//! The promise at power cuts, kills, dead disks and orderly ends, at every call to the disk.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::asked_for;
use crate::common::payload::Random;
use crate::machine::{Broken, End, Machine};
use crate::shares::Shares;

/// Machines that live at once: they wait for each other's sockets and threads more than for a processor.
const AT_ONCE: usize = 6;
/// Calls at which power fails in later lives.
const LATER: u64 = 60;
/// Lives that may be cut before the one that is not.
const CUT_LIVES: u64 = 4;

/// One machine's lot.
#[derive(Clone, Debug)]
struct Lot {
    seed: u64,
    share: usize,
    /// The end of its first life.
    first: (u64, End),
    lies: bool,
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// Lives all lots, several at once; gives what was broken.
fn live(lots: &[Lot]) -> Vec<(Lot, Broken)> {
    let (next, broken) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                block_on(async {
                    let shares = Shares::new().await;
                    while let Some(lot) = lots.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(wrong) = live_one(&shares, lot).await {
                            broken.lock().unwrap().push((lot.clone(), wrong));
                        }
                    }
                    shares.close().await;
                });
            });
        }
    });
    broken.into_inner().unwrap()
}

async fn live_one(shares: &Shares, lot: &Lot) -> Result<(), Broken> {
    let mut random = Random::new(lot.seed);
    let mut machine = Machine::new(shares, lot.share, random.next(), lot.lies);
    machine.live(Some(lot.first)).await?;
    for _ in 0..random.below(CUT_LIVES) {
        let end = End::ALL[random.below(4) as usize];
        machine.live(Some((1 + random.below(LATER), end))).await?;
    }
    let last = machine.live(None).await?;
    // And once more, to see whether what is finished is believed.
    let after = machine.live(None).await?;
    if last.complete && after.complete {
        Ok(())
    } else {
        Err("it is never complete".into())
    }
}

/// Calls to the disk in a life that nobody cuts, for each share.
fn calls(seed: u64) -> Vec<u64> {
    block_on(async {
        let shares = Shares::new().await;
        let mut calls = Vec::new();
        for share in 0..shares.all.len() {
            let mut machine = Machine::new(&shares, share, seed, false);
            calls.push(machine.live(None).await.unwrap().calls);
        }
        shares.close().await;
        calls
    })
}

#[test]
fn whatever_call_the_power_fails_at_no_bit_is_ahead_of_its_bytes() {
    let mut random = Random::of_this_run("cuts");
    let calls = calls(random.next());
    let full = asked_for("SEEDBANK_CRASH_FULL");
    let mut lots = Vec::new();
    let most = calls.iter().max().copied().unwrap();
    for call in 1..=most {
        for share in (0..calls.len()).filter(|&share| call <= calls[share]) {
            // In short, each call once: another share and another end each time.
            for end in End::ALL {
                if !full && random.below(9) >= 2 {
                    continue;
                }
                lots.push(Lot {
                    seed: random.next(),
                    share,
                    first: (call, end),
                    lies: false,
                });
            }
        }
    }
    eprintln!("{calls:?} calls, {} machines", lots.len());
    let broken = live(&lots);
    for (lot, wrong) in &broken {
        eprintln!("{lot:?}: {wrong}");
    }
    assert!(broken.is_empty(), "{} of {}", broken.len(), lots.len());
}

#[test]
fn a_medium_that_lies_about_its_syncs_is_found_out() {
    let mut random = Random::of_this_run("lies");
    let lots: Vec<Lot> = (30..48)
        .map(|call| Lot {
            seed: random.next(),
            share: 0,
            first: (call, End::Cut),
            lies: true,
        })
        .collect();
    let broken = live(&lots);
    let false_bits = broken
        .iter()
        .filter(|(_, wrong)| wrong.contains("false bits"));
    assert!(false_bits.count() > lots.len() / 3, "{broken:?}");
}
