//! A torrent of more files than the process may open: few are open at a time, on both sides.

use std::fs;

use crate::common::metainfo::Torrent;
use crate::common::payload::{self, Random};
use crate::common::seedbank::{self, Seedbank, number};
use crate::common::{World, wait};

const FILES: usize = 10_000;
const PIECE_LEN: u32 = 16 << 10;
/// Limits what the program after it may open, hard limit and all.
const FEW_DESCRIPTORS: [&str; 4] = ["sh", "-c", "ulimit -n 256; exec \"$@\"", "sh"];

fn open_files(run: &Seedbank) -> usize {
    let pid = run.process.pid();
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

#[test]
fn ten_thousand_files_are_shared_and_fetched_with_256_descriptors() {
    let world = World::new();
    let source = world.dir("source");
    let mut random = Random::new(77);
    for folder in 0..100 {
        let folder = source.join("many").join(format!("{folder:02}"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..FILES / 100 {
            // Of every length around nothing, a few in a piece.
            let mut bytes = vec![0; random.below(6_000) as usize];
            random.fill(&mut bytes);
            fs::write(folder.join(format!("{file:03}")), bytes).unwrap();
        }
    }
    let torrent = Torrent::of(&source.join("many"), PIECE_LEN, &source);
    let seeder = seedbank::seed(&torrent.path, &source, &world.path("seeder"));
    let seeder = seeder.under(&FEW_DESCRIPTORS).spawn();
    let addr = seeder.ready(1);
    let dest = world.dir("dest");
    let getter = seedbank::get(&torrent.path, &dest, &world.path("getter"));
    let mut getter = getter.peer(addr).under(&FEW_DESCRIPTORS).spawn();
    let mut most = 0;
    wait::until("the download ends", wait::TRANSFER, || {
        most = most.max(open_files(&getter)).max(open_files(&seeder));
        (!getter.process.runs()).then_some(())
    });
    getter.succeed();
    assert_eq!(number(&getter.last("complete"), "wasted"), 0);
    assert!(most <= 256, "{most} descriptors");
    payload::assert_same(&torrent.payload, &dest.join(torrent.name()));
}
