//! Blocks through a session, without sockets: parsed, checked against what was granted, copied into their run.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use seedbank::base::{BLOCK_LEN, Bitfield, Geometry, InfoHash, PieceIndex, SharedBitfield};
use seedbank::proto::wire::{Event, ExtendedHandshake, Message, Session, SessionConfig};

const PIECES: u32 = 16;
const BLOCKS: u32 = 16;
/// Bytes that one read of a socket brings.
const READ: usize = 128 << 10;

fn unchoked(now: Instant, geometry: Geometry) -> Session {
    let config = SessionConfig {
        geometry,
        served: Arc::new(SharedBitfield::new(&Bitfield::new(PIECES))),
        fast: true,
        extended: true,
        local: ExtendedHandshake::default(),
        metadata: None,
        remote_ip: [10, 0, 0, 1].into(),
        info_hash: InfoHash([7; 20]),
    };
    let mut session = Session::new(now, config);
    let mut bytes = Vec::new();
    Message::HaveAll.encode(&mut bytes);
    Message::Unchoke.encode(&mut bytes);
    session.receive(now, &bytes).unwrap();
    while session.poll().is_some() {}
    session
}

/// The blocks of a piece as a peer sends them.
fn sent(piece: u32) -> Vec<u8> {
    let data = vec![piece as u8; BLOCK_LEN as usize];
    let mut bytes = Vec::new();
    for block in 0..BLOCKS {
        let begin = block * BLOCK_LEN;
        let data = &data;
        Message::Piece { piece, begin, data }.encode(&mut bytes);
    }
    bytes
}

/// Grants one piece and feeds in what comes for it, in parts as a socket gives them.
fn receive(
    now: Instant,
    session: &mut Session,
    geometry: &Geometry,
    piece: PieceIndex,
    sent: &[u8],
    buffer: &mut Vec<u8>,
) {
    session.grant(now, geometry.whole(piece));
    session.recycle(std::mem::take(buffer));
    let asked = session.outgoing().len();
    session.sent(asked);
    let (mut at, mut end) = (0, 0);
    while at < sent.len() {
        end = sent.len().min(end + READ);
        at += session.receive(now, &sent[at..end]).unwrap();
    }
    let mut whole = false;
    while let Some(event) = session.poll() {
        if let Event::Run { data, .. } = event {
            whole = true;
            *buffer = black_box(data);
        }
    }
    assert!(whole, "the piece did not come out");
}

fn session(criterion: &mut Criterion) {
    let now = Instant::now();
    let len = BLOCKS * BLOCK_LEN;
    let geometry = Geometry::new(u64::from(PIECES * len), len).unwrap();
    let mut session = unchoked(now, geometry);
    let pieces: Vec<_> = geometry.all_pieces().collect();
    let bytes: Vec<_> = pieces.iter().map(|piece| sent(piece.get())).collect();
    let mut buffer = Vec::new();
    let mut turn = pieces.iter().zip(&bytes).cycle();
    let mut group = criterion.benchmark_group("session");
    group.throughput(Throughput::Bytes(len.into()));
    group.bench_function("receive a piece of 16 blocks", |bencher| {
        bencher.iter(|| {
            let (piece, sent) = turn.next().unwrap();
            receive(now, &mut session, &geometry, *piece, sent, &mut buffer);
        });
    });
}

criterion_group!(benches, session);
criterion_main!(benches);
