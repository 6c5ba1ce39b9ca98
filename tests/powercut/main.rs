//! Real power cuts, on real filesystems, of the client as it is shipped.
//!
//! A client downloads three torrents onto loop images whose power is cut at random moments. After each cut, and before the
//! client starts again, every bit that the store calls durable is held against the SHA-1 of its piece on the remounted image, and
//! everything that the client had printed against what the store still knows; then the client starts again, and may hash what was
//! in flight and nothing else. When it is done, after a last cut, its files are the payload.
//!
//! It takes root, and a filesystem is passed over whose `mkfs` is not installed. `SEEDBANK_CUTS=500` makes 500 cuts on ext4
//! and XFS together and a fifth of that on btrfs, and prints a table of what came of them. `SEEDBANK_BINARY` names another client,
//! such as a release build; `SEEDBANK_TEST_SEED=n` repeats the moments of a run, as far as a machine can.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic and speak"
)]

#[path = "../common/mod.rs"]
mod common;

mod download;
mod image;
mod load;
mod moment;
mod moving;
mod mutant;
mod promise;
mod table;

use std::path::Path;
use std::sync::Mutex;
use std::thread;

use common::payload::{MIB, Random};
use common::{World, namespace, skip};
use download::{Download, Setup};
use image::Kind;
use load::Load;
use moment::Moment;
use mutant::Mutant;
use table::Table;

/// Cuts on ext4 and XFS together, unless `SEEDBANK_CUTS` says otherwise.
const CUTS: usize = 8;

/// Cuts of one download: then it may finish, so that others of the twelve set-ups get their turn.
const CUTS_A_DOWNLOAD: usize = 9;

/// Cuts within which a client without syncs must be found out: one that leaves out those of one file is in a quarter of them, as what it
/// has written may be on the medium by chance.
const PATIENCE: usize = 30;

/// The filesystems that this machine can format and mount.
fn kinds() -> Vec<Kind> {
    if !Path::new("/dev/loop-control").exists() {
        skip::say("there are no loop devices");
        return Vec::new();
    }
    let mut kinds = Kind::ALL.to_vec();
    kinds.retain(|kind| skip::unless_installed(kind.maker()).is_some() && kind.is_known());
    kinds
}

fn cuts_of(kind: Kind) -> usize {
    let asked = std::env::var("SEEDBANK_CUTS").ok();
    let cuts = asked.map_or(CUTS, |text| text.parse().unwrap());
    match kind {
        Kind::Ext4 => cuts.div_ceil(2),
        Kind::Xfs => cuts / 2,
        Kind::Btrfs => cuts.div_ceil(5),
    }
}

/// Downloads one after the other, until so many cuts were made.
fn campaign(kind: Kind, cuts: usize, load: &Load, home: &World, random: &mut Random) -> Table {
    let mut table = Table::default();
    let mut number = random.below(Setup::COUNT as u64) as usize;
    let mut left = cuts;
    while left > 0 {
        let setup = Setup::of(kind, number);
        let now = left.min(CUTS_A_DOWNLOAD);
        let mut download = Download::new(load, setup, None, home);
        for at in 1..=now {
            let moment = if at == now {
                Moment::Finished
            } else {
                Moment::draw(random)
            };
            left -= 1;
            let done = download.cut(moment, random);
            if done || !download.row.damage.is_none() {
                break;
            }
        }
        let row = download.finish();
        if !row.damage.is_none() {
            left = 0;
        }
        table.add(setup, row);
        number += 1;
    }
    table
}

#[test]
fn nothing_durable_is_lost_to_a_power_cut() {
    if !skip::unless_root("cutting the power of a loop image") {
        return;
    }
    let load = Load::new(96 * MIB);
    let home = World::new();
    let mut random = Random::of_this_run("nothing_durable_is_lost_to_a_power_cut");
    let table = Mutex::new(Table::default());
    thread::scope(|scope| {
        for kind in kinds() {
            let mut random = Random::new(random.next());
            let (load, home, table) = (&load, &home, &table);
            scope.spawn(move || {
                namespace::with_mounts(&[], || {
                    let rows = campaign(kind, cuts_of(kind), load, home, &mut random);
                    table.lock().unwrap().merge(rows);
                });
            });
        }
    });
    let table = table.into_inner().unwrap();
    eprintln!("\n{table}");
    let damage = table.damage();
    assert!(damage.is_none(), "{damage:#?}");
}

#[test]
fn a_client_that_does_not_sync_is_found_out() {
    if !skip::unless_root("cutting the power of a loop image") {
        return;
    }
    let (load, small) = (Load::new(24 * MIB), Load::of_small_files());
    let home = World::new();
    let mutants = Mutant::all();
    let mut random = Random::of_this_run("a_client_that_does_not_sync_is_found_out");
    thread::scope(|scope| {
        for kind in kinds() {
            let mut random = Random::new(random.next());
            let (load, small, home, mutants) = (&load, &small, &home, &mutants);
            scope.spawn(move || {
                namespace::with_mounts(&[], || {
                    for mutant in mutants {
                        let load = if mutant.small { small } else { load };
                        find_out(mutant, kind, load, home, &mut random);
                    }
                });
            });
        }
    });
}

/// Each try is on fresh images: what reached the disk by chance once, as when another program syncs all disks, stays there.
fn find_out(mutant: &Mutant, kind: Kind, load: &Load, home: &World, random: &mut Random) {
    for attempt in 1..=PATIENCE {
        let mut setup = Setup::with_data_cut(kind, random);
        if mutant.only.is_some() {
            // Of a mapping that is synced strace does not know the file.
            setup.io = "pwrite";
        }
        if mutant.small {
            // While others have much to be written, the client syncs its files one by one.
            rustix::fs::sync();
        }
        let mut download = Download::new(load, setup, Some(mutant), home);
        download.cut(Moment::AfterDurable, random);
        let damage = download.row.damage;
        if damage.false_bits + damage.lost_torrents > 0 {
            eprintln!(
                "{kind}, {}, --io {}, without {}: {} false bits, {} lost torrents, {:?} at cut {attempt}",
                setup.places,
                setup.io,
                mutant.name,
                damage.false_bits,
                damage.lost_torrents,
                damage.broken
            );
            return;
        }
    }
    panic!(
        "{kind}: not found out without {} in {PATIENCE} cuts",
        mutant.name
    );
}
