//! Large metainfo: 100,000 pieces in 5,000 files, read as bencode, as a torrent, and written again.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use seedbank::format::bencode::Document;
use seedbank::format::metainfo::create::Draft;
use seedbank::format::metainfo::{Metainfo, PlainFile};

const PIECES: u64 = 100_000;
const FILES: u64 = 5_000;

fn large() -> Metainfo {
    let file = |n| PlainFile {
        path: vec![format!("folder {:02}", n / 100), format!("file {n:04}.bin")],
        length: PIECES * (256 << 10) / FILES,
    };
    let mut draft = Draft::folder("large", (0..FILES).map(file).collect());
    let digest = |n: u64| seedbank::disk::sha1(&n.to_be_bytes());
    draft.pieces = (0..PIECES).map(digest).collect();
    draft.announce = vec![vec!["http://tracker.example/announce".to_owned()]];
    draft.finish().unwrap()
}

fn bencode(criterion: &mut Criterion) {
    let metainfo = large();
    let bytes = metainfo.to_torrent();
    let mut group = criterion.benchmark_group("bencode");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("parse 5,000 files", |bencher| {
        bencher.iter(|| Document::parse(&bytes).unwrap());
    });
    group.bench_function("read a torrent of 5,000 files", |bencher| {
        bencher.iter(|| Metainfo::from_torrent(&bytes).unwrap());
    });
    group.bench_function("write a torrent of 5,000 files", |bencher| {
        bencher.iter(|| metainfo.to_torrent());
    });
}

criterion_group!(benches, bencode);
criterion_main!(benches);
