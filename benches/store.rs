//! The state folder: what becomes durable, what is only noted, and how fast it is back. Times include the medium that
//! temporary files are on.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use seedbank::base::InfoHash;
use seedbank::store::{Choices, Commit, Note, Store};
use tokio::runtime::{Builder, Runtime};

const IH: InfoHash = InfoHash([0xab; 20]);
const PIECES: u32 = 1_000_000;
/// Pieces of a commit: 64 MiB of 256 KiB.
const BATCH: u32 = 256;

fn open(runtime: &Runtime, folder: &Path) -> Store {
    let opened = runtime.block_on(Store::open(folder.to_owned())).unwrap();
    runtime.block_on(opened.store.load(IH, PIECES, 1)).unwrap();
    opened.store
}

/// Runs of pieces one after the other, round and round.
fn batches() -> impl Iterator<Item = Vec<u32>> {
    let firsts = (0..PIECES / BATCH).map(|n| n * BATCH).cycle();
    firsts.map(|first| (first..first + BATCH).collect())
}

fn store(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    let store = open(&runtime, folder.path());
    let choices = Choices::new("/dest".into());
    let put = store.put_torrent(IH, b"d4:infod..ee".to_vec(), choices);
    runtime.block_on(put).unwrap();

    let mut group = criterion.benchmark_group("store");
    group.sample_size(20);
    let mut turn = batches();
    group.bench_function("commit 256 pieces, durable", |bencher| {
        bencher.iter(|| {
            let commit = Commit {
                durable: turn.next().unwrap(),
                ..Commit::default()
            };
            runtime.block_on(store.commit(IH, commit)).unwrap();
        });
    });
    // As in a download: the notes of a batch, then the commit that covers them.
    group.bench_function("note 16 pieces 16 times and commit them", |bencher| {
        bencher.iter(|| {
            let durable = turn.next().unwrap();
            for some in durable.chunks(16) {
                let notes = some.iter().map(|piece| Note::Verified(*piece)).collect();
                runtime.block_on(store.note(IH, notes)).unwrap();
            }
            let commit = Commit {
                durable,
                ..Commit::default()
            };
            runtime.block_on(store.commit(IH, commit)).unwrap();
        });
    });
    group.bench_function("load a torrent of 1,000,000 pieces", |bencher| {
        bencher.iter(|| runtime.block_on(store.load(IH, PIECES, 1)).unwrap());
    });
    runtime.block_on(store.close()).unwrap();
    group.bench_function("open, load and close", |bencher| {
        bencher.iter(|| {
            let store = open(&runtime, folder.path());
            runtime.block_on(store.close()).unwrap();
        });
    });
}

criterion_group!(benches, store);
criterion_main!(benches);
