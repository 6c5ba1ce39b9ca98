//! The promise at power cuts, kills, dead disks and orderly ends, at every call to the disk.

use crate::common::asked_for;
use crate::common::payload::Random;
use crate::crew::{block_on, live_all};
use crate::machine::{End, Machine};
use crate::promise::Broken;
use crate::shares::Shares;

/// Of so many combinations of call, share and end, one is taken if it is not to take long.
const LEFT_OUT: u64 = 4;
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

async fn live(shares: &Shares, lot: &Lot) -> Result<(), Broken> {
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
            for end in End::ALL {
                if !full && random.below(LEFT_OUT) > 0 {
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
    let broken = live_all(&lots, live);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
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
    let broken = live_all(&lots, live);
    let false_bits = broken.iter().filter(|wrong| wrong.contains("false bits"));
    assert!(false_bits.count() > lots.len() / 3, "{broken:?}");
}

/// A life killed as a sync fails, and one or two that are cut.
async fn lose(shares: &Shares, lot: &(u64, usize, u64)) -> Result<(), Broken> {
    let &(seed, share, nth) = lot;
    let mut random = Random::new(seed);
    let mut machine = Machine::new(shares, share, random.next(), false);
    machine.live_until_sync_fails(nth).await?;
    for _ in 0..2 {
        let end = [End::Cut, End::Stop][random.below(2) as usize];
        machine.live(Some((1 + random.below(LATER), end))).await?;
    }
    let last = machine.live(None).await?;
    if last.complete {
        Ok(())
    } else {
        Err("it is never complete".into())
    }
}

#[test]
fn what_a_sync_lost_is_not_believed_by_the_next_life_though_the_last_never_heard_of_it() {
    let mut random = Random::of_this_run("lost syncs");
    let mut lots = Vec::new();
    for nth in 1..=10 {
        for share in 0..4 {
            lots.push((random.next(), share, nth));
        }
    }
    let broken = live_all(&lots, lose);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
