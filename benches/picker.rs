//! The time to grant and verify one piece of 16 blocks in a torrent of a million pieces, with a thousand peers that each have half.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::time::Instant;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use seedbank::base::{BLOCK_LEN, Bitfield, Checked, Geometry, PeerId};
use seedbank::swarm::{Action, Config, PeerInfo, PeerKey, Start, Swarm, Verdict};

const PIECES: u32 = 1_000_000;
const PEERS: u32 = 1_000;
const BLOCKS: u32 = 16;

fn crowd(now: Instant) -> (Swarm, Vec<PeerKey>) {
    let len = BLOCKS * BLOCK_LEN;
    let geometry = Geometry::new(u64::from(PIECES) * u64::from(len), len).unwrap();
    let config = Config {
        geometry,
        seed: 1,
        id: PeerId([0xee; 20]),
        max_peers: PEERS as usize,
        upload_slots: 8,
        own: vec![],
    };
    let mut swarm = Swarm::new(now, config, Start::empty(&geometry));
    let mut keys = Vec::new();
    for n in 0..PEERS {
        let mut id = [0; 20];
        id[..4].copy_from_slice(&n.to_be_bytes());
        let info = PeerInfo {
            addr: ([10, 1, (n >> 8) as u8, n as u8], 6881).into(),
            listen: None,
            id: PeerId(id),
            incoming: false,
            fast: true,
        };
        let key = swarm.on_connected(now, info).unwrap();
        let mut have = Bitfield::new(PIECES);
        have.extend(
            geometry
                .all_pieces()
                .filter(|p| (p.get() ^ n).is_multiple_of(2)),
        );
        swarm.on_pieces(now, key, have);
        swarm.on_unchoked(now, key);
        keys.push(key);
    }
    while swarm.poll().is_some() {}
    (swarm, keys)
}

fn round(now: Instant, swarm: &mut Swarm, key: PeerKey) {
    swarm.on_hungry(now, key, BLOCKS);
    while let Some(action) = swarm.poll() {
        if let Action::Grant { key, range } = action
            && let Verdict::Check { .. } = swarm.on_run(now, key, range)
        {
            let good = Checked::Good { digests: None };
            swarm.on_checked(now, range.piece(), good);
        }
    }
}

fn picker(criterion: &mut Criterion) {
    let now = Instant::now();
    let (mut swarm, keys) = crowd(now);
    let mut turn = keys.into_iter().cycle();
    criterion.bench_function("grant and verify a piece of 16 blocks", |bencher| {
        bencher.iter_batched(
            || turn.next().unwrap(),
            |key| round(now, &mut swarm, key),
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, picker);
criterion_main!(benches);
