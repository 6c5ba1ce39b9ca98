//! What hashing costs: SHA-1 of one stream and of several at once, digests of blocks, and a look at a payload in the page cache.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::fs;
use std::hint::black_box;
use std::ops::ControlFlow;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use seedbank::base::Geometry;
use seedbank::disk::{
    FileSpec, Layout, SpecKind, Streams, Verification, block_digests, hash_payload, sha1,
    sha1_of_each,
};

const PIECE: usize = 256 << 10;
const PAYLOAD: usize = 256 << 20;

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 / 7) as u8).collect()
}

fn pieces(criterion: &mut Criterion) {
    let data = bytes(4 * PIECE);
    let (all, _) = data.as_chunks::<PIECE>();
    let [a, b, c, d] = [0, 1, 2, 3].map(|at: usize| &all[at][..]);
    let mut group = criterion.benchmark_group("sha1 of pieces of 256 KiB");
    group.throughput(Throughput::Bytes(PIECE as u64));
    group.bench_function("one", |bencher| bencher.iter(|| sha1(black_box(a))));
    group.throughput(Throughput::Bytes(2 * PIECE as u64));
    group.bench_function("two at once", |bencher| {
        bencher.iter(|| sha1_of_each([black_box(a), black_box(b)]));
    });
    group.throughput(Throughput::Bytes(4 * PIECE as u64));
    group.bench_function("four at once", |bencher| {
        bencher.iter(|| {
            let mut streams = Streams::new();
            streams.update(black_box([a, b, c, d]));
            streams.finish()
        });
    });
    group.finish();
    let mut group = criterion.benchmark_group("digests of blocks");
    group.throughput(Throughput::Bytes(PIECE as u64));
    group.bench_function("of a piece of 256 KiB", |bencher| {
        bencher.iter(|| block_digests(black_box(a)));
    });
    group.finish();
}

fn payload(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("payload");
    fs::write(&path, bytes(PAYLOAD)).unwrap();
    let file = FileSpec {
        path,
        length: PAYLOAD as u64,
        kind: SpecKind::Payload,
    };
    let geometry = Geometry::new(PAYLOAD as u64, PIECE as u32).unwrap();
    let layout = Layout::new(folder.path().to_owned(), geometry, vec![file]).unwrap();
    let threads = std::thread::available_parallelism().unwrap().get();
    let hashed = hash_payload(&layout, threads, &|_| {}).unwrap();
    let pieces: Vec<_> = geometry.all_pieces().collect();
    let mut group = criterion.benchmark_group("a payload of 256 MiB in the page cache");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(PAYLOAD as u64));
    for (name, subtrees) in [("verify", false), ("verify with BLAKE3", true)] {
        let verification = Verification {
            layout: &layout,
            pieces: &pieces,
            expected: &|piece| hashed.pieces[piece.index()],
            threads,
            subtrees,
        };
        group.bench_function(name, |bencher| {
            bencher.iter(|| verification.run(&|_| ControlFlow::Continue(())).unwrap());
        });
    }
    group.bench_function("create", |bencher| {
        bencher.iter(|| hash_payload(&layout, threads, &|_| {}).unwrap());
    });
    group.finish();
}

criterion_group!(benches, pieces, payload);
criterion_main!(benches);
