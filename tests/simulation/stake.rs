//! What is verified and not durable, and on its way there, stays bounded, however fast the peers and slow the disk are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use seedbank::base::limits::CHECKPOINT_BYTES;
use seedbank::base::{BLOCK_LEN, Bitfield, BlockRange, Checked, Geometry, PeerId, PieceIndex};
use seedbank::disk::{Checkpoint, Pace};
use seedbank::swarm::{Action, Config, PeerInfo, PeerKey, Start, Swarm, Verdict};

const MIB: u64 = 1 << 20;
const STEP: Duration = Duration::from_millis(5);

/// A seed with a pipeline of one second.
struct Seed {
    rate: u64,
    credit: u64,
    raised: bool,
    queue: VecDeque<BlockRange>,
    delivered: u64,
}

impl Seed {
    fn depth(&self) -> u64 {
        (self.rate / u64::from(BLOCK_LEN)).clamp(16, 1_000)
    }

    fn held(&self) -> u64 {
        let blocks = self.queue.iter().map(|range| range.blocks().len() as u64);
        blocks.sum()
    }
}

/// A downloader, its seeds, and a disk on which every sync takes `sync`.
struct Download {
    geometry: Geometry,
    swarm: Swarm,
    checkpoint: Checkpoint,
    seeds: BTreeMap<PeerKey, Seed>,
    now: Instant,
    sync: Duration,
    syncing: Option<(Instant, Vec<PieceIndex>)>,
    most: u64,
}

impl Download {
    fn new(total: u64, piece_len: u64, sync: Duration, rates: &[u64]) -> Self {
        let now = Instant::now();
        let geometry = Geometry::new(total, piece_len as u32).unwrap();
        let config = Config {
            geometry,
            seed: 7,
            id: PeerId([0xee; 20]),
            max_peers: 80,
            upload_slots: 8,
            own: vec![],
        };
        let mut download = Self {
            geometry,
            swarm: Swarm::new(now, config, Start::empty(&geometry)),
            checkpoint: Checkpoint::new(now, Pace::default()),
            seeds: BTreeMap::new(),
            now,
            sync,
            syncing: None,
            most: 0,
        };
        for (n, &rate) in (1u8..).zip(rates) {
            let info = PeerInfo {
                addr: ([10, 0, 0, n], 6881).into(),
                listen: None,
                id: PeerId([n; 20]),
                incoming: false,
                fast: true,
            };
            let key = download.swarm.on_connected(now, info).unwrap();
            let full = Bitfield::full(geometry.pieces());
            download.swarm.on_pieces(now, key, full);
            download.swarm.on_unchoked(now, key);
            let seed = Seed {
                rate,
                credit: 0,
                raised: false,
                queue: VecDeque::new(),
                delivered: 0,
            };
            download.seeds.insert(key, seed);
        }
        download
    }

    /// Runs until everything is durable; says how long that took.
    fn run(&mut self, limit: Duration) -> Duration {
        let start = self.now;
        while !self.swarm.durable().is_full() {
            self.now += STEP;
            assert!(self.now - start < limit, "{:?}", self.swarm.verified());
            self.swarm.handle_timeout(self.now);
            self.drain();
            for key in self.seeds.keys().copied().collect::<Vec<_>>() {
                self.serve(key);
            }
            self.write();
        }
        self.now - start
    }

    fn serve(&mut self, key: PeerKey) {
        let seed = self.seeds.get_mut(&key).unwrap();
        seed.credit += seed.rate * STEP.as_millis() as u64 / 1_000;
        loop {
            let seed = self.seeds.get_mut(&key).unwrap();
            let Some(&range) = seed.queue.front() else {
                seed.credit = 0;
                break;
            };
            let len = u64::from(range.len());
            if len > seed.credit {
                break;
            }
            seed.credit -= len;
            seed.delivered += len;
            seed.queue.pop_front();
            match self.swarm.on_run(self.now, key, range) {
                Verdict::Discard => {}
                Verdict::Check { .. } => self.check(range.piece()),
                Verdict::Write(parts) => {
                    for part in parts {
                        self.swarm.on_written(self.now, part);
                    }
                }
            }
            self.drain();
        }
        let seed = self.seeds.get_mut(&key).unwrap();
        let room = seed.depth().saturating_sub(seed.held());
        if !seed.raised && room >= seed.depth() / 4 {
            seed.raised = true;
            self.swarm.on_hungry(self.now, key, room as u32);
            self.drain();
        }
    }

    fn check(&mut self, piece: PieceIndex) {
        let good = Checked::Good { digests: None };
        self.swarm.on_checked(self.now, piece, good);
    }

    fn write(&mut self) {
        if let Some((_, pieces)) = self.syncing.take_if(|(end, _)| *end <= self.now) {
            self.checkpoint.finished(self.sync);
            self.swarm.on_durable(&pieces);
        }
        if self.syncing.is_none() && self.checkpoint.due(self.now) {
            self.syncing = Some((self.now + self.sync, self.checkpoint.begin()));
        }
        self.drain();
    }

    fn drain(&mut self) {
        self.swarm.set_allowance(self.now, self.checkpoint.room());
        while let Some(action) = self.swarm.poll() {
            match action {
                Action::Grant { key, range } => {
                    let seed = self.seeds.get_mut(&key).unwrap();
                    seed.raised = false;
                    seed.queue.push_back(range);
                }
                Action::Revoke { key, range } => self.revoke(key, range),
                Action::Check { piece, .. } => self.check(piece),
                Action::Verified { piece, .. } => {
                    let len = self.geometry.len_of(piece);
                    self.checkpoint.on_verified(self.now, piece, len);
                }
                _ => {}
            }
        }
        self.assert_bounded();
    }

    fn revoke(&mut self, key: PeerKey, revoked: BlockRange) {
        let seed = self.seeds.get_mut(&key).unwrap();
        let mut kept = VecDeque::new();
        for range in std::mem::take(&mut seed.queue) {
            let same = range.piece() == revoked.piece();
            let (all, gone) = (range.blocks(), revoked.blocks());
            let lost = gone.start.max(all.start)..gone.end.min(all.end);
            if !same || lost.is_empty() {
                kept.push_back(range);
                continue;
            }
            let rest = [all.start..lost.start, lost.end..all.end];
            let rest = rest.into_iter().filter(|rest| !rest.is_empty());
            kept.extend(rest.filter_map(|rest| self.geometry.run(range.piece(), rest)));
            if let Some(lost) = self.geometry.run(range.piece(), lost) {
                self.swarm.on_returned(self.now, key, lost);
            }
        }
        self.seeds.get_mut(&key).unwrap().queue = kept;
    }

    /// Counted anew from what the seeds were asked for, each block once.
    fn assert_bounded(&mut self) {
        let piece = u64::from(self.geometry.piece_len());
        let at_stake = self.checkpoint.at_stake();
        assert!(at_stake <= CHECKPOINT_BYTES.max(piece), "{at_stake}");
        let ranges = self.seeds.values().flat_map(|seed| &seed.queue);
        let blocks: BTreeSet<_> = ranges
            .flat_map(|range| range.blocks().map(|block| (range.piece(), block)))
            .collect();
        let granted = blocks.len() as u64 * u64::from(BLOCK_LEN);
        assert!(
            at_stake + granted <= CHECKPOINT_BYTES + piece,
            "{at_stake} at stake, {granted} granted"
        );
        let promised = self.swarm.promised();
        assert!(at_stake + promised <= CHECKPOINT_BYTES.max(piece) + piece);
        self.most = self.most.max(at_stake + promised);
    }
}

#[test]
fn never_more_at_stake_and_granted_than_the_bound_with_a_slow_disk() {
    for piece_len in [MIB / 4, 4 * MIB, 16 * MIB, 96 * MIB] {
        let rates = [40 * MIB; 20];
        let sync = Duration::from_secs(2);
        let mut download = Download::new(600 * MIB + 12_345, piece_len, sync, &rates);
        let took = download.run(Duration::from_secs(400));
        println!(
            "pieces of {} KiB: {took:?}, at most {} MiB",
            piece_len >> 10,
            download.most >> 20
        );
        assert!(
            download.most <= CHECKPOINT_BYTES.max(piece_len),
            "{}",
            download.most
        );
    }
}

#[test]
fn a_fast_disk_leaves_the_throughput_unharmed() {
    // Large pieces need more room than there is for 20 pipelines: each is granted whole.
    for (piece_len, slack) in [(MIB / 4, 1.1), (MIB, 1.1), (4 * MIB, 1.5)] {
        let rates = [4 * MIB; 20];
        let total = 800 * MIB;
        let mut download = Download::new(total, piece_len, Duration::from_millis(50), &rates);
        let took = download.run(Duration::from_secs(60));
        let ideal = (total / rates.iter().sum::<u64>()) as f64;
        println!(
            "pieces of {} KiB: {took:?}, ideal {ideal} s",
            piece_len >> 10
        );
        assert!(took.as_secs_f64() < ideal * slack + 1.5, "{took:?}");
    }
}

#[test]
fn what_may_be_asked_for_is_shared_among_the_hungry() {
    let rates = [20 * MIB; 20];
    let total = 1_000 * MIB;
    let mut download = Download::new(total, MIB / 4, Duration::from_secs(1), &rates);
    download.run(Duration::from_secs(100));
    let delivered: Vec<u64> = download.seeds.values().map(|seed| seed.delivered).collect();
    println!("{delivered:?}");
    let mean = delivered.iter().sum::<u64>() / 20;
    assert!(
        delivered
            .iter()
            .all(|&bytes| bytes > mean / 2 && bytes < 2 * mean)
    );
}
