//! Where the bytes of a piece lie in a torrent of 10,000 files.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::path::PathBuf;

use criterion::{Criterion, criterion_group, criterion_main};
use seedbank::base::Geometry;
use seedbank::disk::{FileSpec, Layout, SpecKind};

const FILES: u64 = 10_000;
const PIECE: u32 = 256 << 10;

/// Files from a few bytes to many pieces.
fn specs() -> Vec<FileSpec> {
    let spec = |n: u64| FileSpec {
        path: PathBuf::from(format!("/dest/torrent/{:02}/{n:04}.bin", n / 100)),
        length: 1 + n * n % 1_048_573,
        kind: SpecKind::Payload,
    };
    (0..FILES).map(spec).collect()
}

fn layout(criterion: &mut Criterion) {
    let specs = specs();
    let total = specs.iter().map(|file| file.length).sum();
    let geometry = Geometry::new(total, PIECE).unwrap();
    let make = || Layout::new("/dest".into(), geometry, specs.clone()).unwrap();
    let layout = make();
    let scattered = (0..geometry.pieces()).map(|n| {
        let scattered = u64::from(n) * 611_953 % u64::from(geometry.pieces());
        geometry.piece(scattered as u32).unwrap()
    });
    let mut pieces = scattered.cycle();
    let mut files = (0..FILES as usize).cycle();

    let mut group = criterion.benchmark_group("10,000 files");
    group.bench_function("lay out", |bencher| bencher.iter(make));
    group.bench_function("spans of a piece", |bencher| {
        bencher.iter(|| {
            let spans = layout.piece_spans(pieces.next().unwrap());
            spans.map(|span| span.len).sum::<u64>()
        });
    });
    group.bench_function("pieces of a file", |bencher| {
        bencher.iter(|| layout.pieces_of(files.next().unwrap()));
    });
}

criterion_group!(benches, layout);
criterion_main!(benches);
