//! Sets of a million pieces: what every HAVE, every new peer and every look at what is missing does with them.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use seedbank::base::{Bitfield, Geometry, PieceIndex, SharedBitfield};

const PIECES: u32 = 1_000_000;

fn bitfield(criterion: &mut Criterion) {
    let geometry = Geometry::new(u64::from(PIECES), 1).unwrap();
    let mut half = Bitfield::new(PIECES);
    half.extend(geometry.all_pieces().filter(|piece| piece.get() % 2 == 0));
    let bytes = half.as_bytes().to_vec();
    let shared = SharedBitfield::new(&half);
    // Every piece once, in an order that no cache foresees.
    let scattered: Vec<PieceIndex> = (0..PIECES)
        .filter_map(|n| geometry.piece((u64::from(n) * 611_953 % u64::from(PIECES)) as u32))
        .collect();
    let mut turn = scattered.iter().copied().cycle();

    let mut group = criterion.benchmark_group("a million pieces");
    group.bench_function("look one up", |bencher| {
        bencher.iter(|| half.contains(turn.next().unwrap()));
    });
    group.bench_function("look one up that others change", |bencher| {
        bencher.iter(|| shared.contains(turn.next().unwrap()));
    });
    let mut filling = Bitfield::new(PIECES);
    group.bench_function("insert one", |bencher| {
        bencher.iter(|| filling.insert(turn.next().unwrap()));
    });
    group.bench_function("read from a message", |bencher| {
        bencher.iter(|| Bitfield::from_bytes(&bytes, PIECES).unwrap());
    });
    group.bench_function("count", |bencher| {
        bencher.iter(|| black_box(&half).count());
    });
    group.bench_function("go through the half that is there", |bencher| {
        bencher.iter(|| half.iter().map(u64::from).sum::<u64>());
    });
    group.bench_function("copy what others change", |bencher| {
        bencher.iter(|| shared.snapshot(&geometry));
    });
}

criterion_group!(benches, bitfield);
criterion_main!(benches);
