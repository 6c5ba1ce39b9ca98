//! What one event costs a torrent of a million pieces.
//!
//! A request is a block of 16 KiB. Where pieces have 16 blocks, divide what is measured for a piece by 16; where a piece is one
//! block, every request is a piece of its own, picked, granted and verified: the dearest kind there is.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a benchmark"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use seedbank::base::{BLOCK_LEN, Bitfield, BlockRange, Checked, Geometry, PeerId};
use seedbank::swarm::{Action, Config, PeerInfo, PeerKey, Start, Swarm, Verdict};

const PIECES: u32 = 1_000_000;
const PEERS: u32 = 1_000;

/// A torrent of [`PIECES`] pieces.
struct World {
    now: Instant,
    geometry: Geometry,
    swarm: Swarm,
    peers: u32,
}

impl World {
    fn new(blocks: u32) -> Self {
        Self::with(blocks, |_| false)
    }

    /// With the pieces verified that `verified` says.
    fn with(blocks: u32, verified: impl Fn(u32) -> bool) -> Self {
        let now = Instant::now();
        let len = blocks * BLOCK_LEN;
        let geometry = Geometry::new(u64::from(PIECES) * u64::from(len), len).unwrap();
        let config = Config {
            geometry,
            seed: 1,
            id: PeerId([0xee; 20]),
            max_peers: 2 * PEERS as usize,
            upload_slots: 8,
            own: vec![],
        };
        let verified = some(&geometry, verified);
        let start = Start {
            durable: verified.clone(),
            verified,
            partial: vec![],
        };
        let swarm = Swarm::new(now, config, start);
        Self {
            now,
            geometry,
            swarm,
            peers: 0,
        }
    }

    fn connect(&mut self) -> PeerKey {
        let n = self.peers;
        self.peers += 1;
        let mut id = [0; 20];
        id[..4].copy_from_slice(&n.to_be_bytes());
        let info = PeerInfo {
            addr: ([10, (n >> 16) as u8, (n >> 8) as u8, n as u8], 6881).into(),
            listen: None,
            id: PeerId(id),
            incoming: false,
            fast: true,
        };
        self.swarm.on_connected(self.now, info).unwrap()
    }

    /// A peer that has `have` and lets us request.
    fn join(&mut self, have: &Bitfield) -> PeerKey {
        let key = self.connect();
        self.swarm.on_pieces(self.now, key, have.clone());
        self.swarm.on_unchoked(self.now, key);
        key
    }

    fn leave(&mut self, key: PeerKey) {
        self.swarm.on_disconnected(self.now, key, true);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(action) = self.swarm.poll() {
            black_box(action);
        }
    }

    /// [`PEERS`] peers, each with a half of the pieces of its own.
    fn crowd(&mut self) -> Vec<PeerKey> {
        let halves: Vec<Bitfield> = (0..8).map(|n| half(&self.geometry, n)).collect();
        let keys = (0..PEERS).map(|n| self.join(&halves[n as usize % halves.len()]));
        let keys = keys.collect();
        self.drain();
        keys
    }

    /// One peer is given a piece, brings it, and it is verified.
    fn round(&mut self, key: PeerKey, blocks: u32) {
        self.swarm.on_hungry(self.now, key, blocks);
        while let Some(action) = self.swarm.poll() {
            if let Action::Grant { key, range } = action {
                self.bring(key, range);
            }
        }
    }

    /// The peer brings a whole piece, and it is verified.
    fn bring(&mut self, key: PeerKey, range: BlockRange) {
        if let Verdict::Check { .. } = self.swarm.on_run(self.now, key, range) {
            let good = Checked::Good { digests: None };
            self.swarm.on_checked(self.now, range.piece(), good);
        }
    }
}

impl World {
    /// The time for that many rounds. A torrent that is nearly complete begins anew, which does not count.
    fn rounds(
        &mut self,
        rounds: u64,
        turn: &mut impl Iterator<Item = PeerKey>,
        blocks: u32,
    ) -> Duration {
        let mut took = Duration::ZERO;
        let mut left = rounds;
        while left > 0 {
            let some = left.min(10_000);
            left -= some;
            self.begin_anew();
            let (before, since) = (self.swarm.verified().count(), Instant::now());
            for _ in 0..some {
                self.round(turn.next().unwrap(), blocks);
            }
            took += since.elapsed();
            assert_eq!(self.swarm.verified().count() - before, some as u32);
        }
        took
    }

    /// The time for that many picks: what the peers bring of them does not count.
    fn picks(&mut self, picks: u64, keys: &[PeerKey]) -> Duration {
        let mut took = Duration::ZERO;
        let mut granted = Vec::with_capacity(keys.len());
        let mut left = picks as usize;
        while left > 0 {
            self.begin_anew();
            let some = &keys[..left.min(keys.len())];
            left -= some.len();
            let since = Instant::now();
            for &key in some {
                self.swarm.on_hungry(self.now, key, 1);
                while let Some(action) = self.swarm.poll() {
                    if let Action::Grant { key, range } = action {
                        granted.push((key, range));
                    }
                }
            }
            took += since.elapsed();
            assert_eq!(granted.len(), some.len());
            for (key, range) in granted.drain(..) {
                self.bring(key, range);
            }
            self.drain();
        }
        took
    }

    /// Nothing is there any more if nearly everything was.
    fn begin_anew(&mut self) {
        if PIECES - self.swarm.verified().count() < 2 * 10_000 {
            let all: Vec<_> = self.geometry.all_pieces().collect();
            self.swarm.on_lost(self.now, &all);
            self.drain();
        }
    }
}

fn some(geometry: &Geometry, which: impl Fn(u32) -> bool) -> Bitfield {
    let mut bits = Bitfield::new(PIECES);
    bits.extend(geometry.all_pieces().filter(|piece| which(piece.get())));
    bits
}

/// About half of all pieces, another half for each `n`.
fn half(geometry: &Geometry, n: u32) -> Bitfield {
    some(geometry, |piece| {
        let mixed = u64::from(piece ^ (n << 20)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed >> 63 == 0
    })
}

fn requests(criterion: &mut Criterion) {
    for blocks in [1, 16] {
        let mut world = World::new(blocks);
        let mut turn = world.crowd().into_iter().cycle();
        let name = format!("1000 half peers: a piece of {blocks} blocks");
        criterion.bench_function(&name, |bencher| {
            bencher.iter_custom(|rounds| world.rounds(rounds, &mut turn, blocks));
        });
    }
    let mut world = World::new(1);
    let keys = world.crowd();
    criterion.bench_function("1000 half peers: a pick", |bencher| {
        bencher.iter_custom(|picks| world.picks(picks, &keys));
    });
    let mut world = World::new(1);
    let full = Bitfield::full(PIECES);
    let turn = (0..50).map(|_| world.join(&full)).collect::<Vec<_>>();
    world.drain();
    let mut turn = turn.into_iter().cycle();
    criterion.bench_function("50 seeders: a piece of 1 block", |bencher| {
        bencher.iter_custom(|rounds| world.rounds(rounds, &mut turn, 1));
    });
}

/// Pieces of 256 blocks, of which each of a thousand peers gets a few at a time, so that a thousand are under way.
fn crumbs(criterion: &mut Criterion) {
    let mut world = World::new(256);
    let mut turn = world.crowd().into_iter().cycle();
    let mut held = Vec::new();
    criterion.bench_function("1000 slow peers: a run of 1 to 16 blocks", |bencher| {
        bencher.iter(|| {
            let key = turn.next().unwrap();
            world.now += Duration::from_millis(3);
            let now = world.now;
            world.swarm.on_hungry(now, key, 16);
            while let Some(action) = world.swarm.poll() {
                if let Action::Grant { key, range } = action {
                    held.push((key, range));
                }
            }
            if held.len() > PEERS as usize {
                let (key, range) = held.swap_remove(held.len() / 2);
                if let Verdict::Write(parts) = world.swarm.on_run(now, key, range) {
                    for part in parts {
                        world.swarm.on_written(now, part);
                    }
                }
                while let Some(action) = world.swarm.poll() {
                    match action {
                        Action::Check { piece, .. } => {
                            let good = Checked::Good { digests: None };
                            world.swarm.on_checked(now, piece, good);
                        }
                        Action::Grant { key, range } => held.push((key, range)),
                        _ => {}
                    }
                }
            }
        });
    });
}

fn haves(criterion: &mut Criterion) {
    let mut world = World::new(16);
    let keys = world.crowd();
    let mut at = 0u32;
    criterion.bench_function("a have", |bencher| {
        bencher.iter(|| {
            at = at.wrapping_add(7_919);
            let piece = world.geometry.piece(at % PIECES).unwrap();
            world
                .swarm
                .on_have(world.now, keys[(at % PEERS) as usize], piece);
            world.drain();
        });
    });
}

fn come_and_go(criterion: &mut Criterion) {
    let mut world = World::new(16);
    world.crowd();
    let full = Bitfield::full(PIECES);
    let part = half(&world.geometry, 99);
    for (name, have) in [("a seed", &full), ("half a bitfield", &part)] {
        criterion.bench_function(&format!("{name} joins and leaves"), |bencher| {
            bencher.iter_batched(
                || have.clone(),
                |have| {
                    let key = world.connect();
                    world.swarm.on_pieces(world.now, key, have);
                    world.leave(key);
                },
                BatchSize::SmallInput,
            );
        });
    }
    let key = world.join(&part);
    let mut on = false;
    criterion.bench_function("a choke or unchoke", |bencher| {
        bencher.iter(|| {
            on = !on;
            if on {
                world.swarm.on_choked(world.now, key);
            } else {
                world.swarm.on_unchoked(world.now, key);
            }
            world.drain();
        });
    });
}

/// A thousand peers with room, and every block that is missing is asked of one of them.
fn last_blocks() -> (World, Vec<PeerKey>) {
    let mut world = World::with(16, |piece| piece >= PEERS);
    let full = Bitfield::full(PIECES);
    let keys: Vec<PeerKey> = (0..PEERS).map(|_| world.join(&full)).collect();
    for blocks in [16, 16] {
        for &key in &keys {
            world.swarm.on_hungry(world.now, key, blocks);
            world.drain();
        }
    }
    (world, keys)
}

fn end_game(criterion: &mut Criterion) {
    let (mut world, keys) = last_blocks();
    let mut turn = keys.into_iter().cycle();
    criterion.bench_function("end game: a peer with room", |bencher| {
        bencher.iter(|| {
            world.swarm.on_hungry(world.now, turn.next().unwrap(), 16);
            world.drain();
        });
    });
    // Ever more is asked of a second peer as time passes, so it begins anew now and then, which does not count.
    criterion.bench_function("end game: 40 ticks of 1000 peers", |bencher| {
        bencher.iter_batched(
            last_blocks,
            |(mut world, _)| {
                for _ in 0..40 {
                    world.now += Duration::from_millis(250);
                    world.swarm.handle_timeout(world.now);
                    world.drain();
                }
                world
            },
            BatchSize::PerIteration,
        );
    });
}

fn beginning(criterion: &mut Criterion) {
    let geometry = World::new(1).geometry;
    criterion.bench_function("a swarm is made", |bencher| {
        bencher.iter(|| {
            let config = Config {
                geometry,
                seed: 1,
                id: PeerId([0xee; 20]),
                max_peers: 80,
                upload_slots: 8,
                own: vec![],
            };
            Swarm::new(Instant::now(), config, Start::empty(&geometry))
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    targets = requests, crumbs, haves, come_and_go, end_game, beginning
}
criterion_main!(benches);
