//! Two sessions back to back in virtual time: a payload passes whole, whatever chokes, failed reads and odd cuts of the
//! stream come between.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use seedbank::base::{BLOCK_LEN, BlockRange, Geometry};
use seedbank::proto::wire::{Event, Session};

const TICK: Duration = Duration::from_millis(10);

/// One direction of a connection: bytes that arrive after a while.
#[derive(Default)]
struct Pipe {
    under_way: VecDeque<(Instant, Vec<u8>)>,
    unread: Vec<u8>,
}

impl Pipe {
    fn send(&mut self, at: Instant, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.under_way.push_back((at, bytes.to_vec()));
        }
    }

    /// Feeds what arrived to `session`, cut at a random place.
    fn deliver(&mut self, now: Instant, session: &mut Session, random: &mut SmallRng) {
        while self.under_way.front().is_some_and(|(at, _)| *at <= now) {
            let (_, bytes) = self.under_way.pop_front().unwrap();
            self.unread.extend_from_slice(&bytes);
        }
        let cut = random.random_range(0..=self.unread.len());
        for part in [cut, self.unread.len() - cut] {
            let end = part.min(self.unread.len());
            let used = session.receive(now, &self.unread[..end]).unwrap();
            self.unread.drain(..used);
        }
        let used = session.receive(now, &self.unread).unwrap();
        self.unread.drain(..used);
    }
}

struct World {
    geometry: Geometry,
    random: SmallRng,
    now: Instant,
    seeder: Session,
    leecher: Session,
    up: Pipe,
    down: Pipe,
    latency: Duration,
    /// Bytes of payload that the seeder sends in a tick.
    rate: usize,
    /// Ranges that nobody asked for yet.
    missing: Vec<BlockRange>,
    hunger: u32,
    have: u64,
}

impl World {
    fn new(seed: u64, fast: bool, latency: Duration, rate: usize) -> Self {
        let now = Instant::now();
        let total = 3_000_000 + seed % 100_000;
        let geometry = Geometry::new(total, 8 * BLOCK_LEN).unwrap();
        let pieces = geometry.all_pieces().rev();
        let mut world = Self {
            missing: pieces.map(|piece| geometry.whole(piece)).collect(),
            geometry,
            random: SmallRng::seed_from_u64(seed),
            now,
            seeder: super::session(now, geometry, fast, true),
            leecher: super::session(now, geometry, fast, false),
            up: Pipe::default(),
            down: Pipe::default(),
            latency,
            rate,
            hunger: 0,
            have: 0,
        };
        world.leecher.set_interest(now, true);
        world
    }

    fn tick(&mut self, trouble: bool) {
        self.now += TICK;
        let now = self.now;
        self.down.deliver(now, &mut self.leecher, &mut self.random);
        self.up.deliver(now, &mut self.seeder, &mut self.random);
        self.lead_seeder(trouble);
        self.lead_leecher();
        for session in [&mut self.seeder, &mut self.leecher] {
            session.handle_timeout(now).unwrap();
        }
        let arrival = now + self.latency;
        let requests = self.leecher.outgoing().to_vec();
        self.up.send(arrival, &requests);
        self.leecher.sent(requests.len());
        self.upload(arrival, trouble);
    }

    fn lead_seeder(&mut self, trouble: bool) {
        let flip = trouble && self.random.random_bool(0.02);
        let choke = flip && self.random.random_bool(0.5);
        if flip || !trouble {
            self.seeder.set_choke(self.now, choke);
        }
        while self.seeder.poll().is_some() {}
    }

    fn lead_leecher(&mut self) {
        while let Some(event) = self.leecher.poll() {
            match event {
                Event::Hungry { blocks } => self.hunger = blocks,
                Event::Choked => self.hunger = 0,
                Event::Snubbed => {
                    for piece in self.geometry.all_pieces() {
                        self.leecher.revoke(self.now, self.geometry.whole(piece));
                    }
                }
                Event::Returned(range) => self.missing.push(range),
                Event::Run { range, data } => {
                    assert_eq!(data, super::payload(&self.geometry, range));
                    self.have += u64::from(range.len());
                }
                _ => (),
            }
        }
        while self.hunger > 0
            && let Some(range) = self.missing.pop()
        {
            self.hunger = self.hunger.saturating_sub(range.blocks().len() as u32);
            self.leecher.grant(self.now, range);
        }
    }

    fn upload(&mut self, arrival: Instant, trouble: bool) {
        let messages = self.seeder.outgoing().to_vec();
        self.down.send(arrival, &messages);
        self.seeder.sent(messages.len());
        for range in self.seeder.next_uploads(self.rate) {
            if trouble && self.random.random_bool(0.01) {
                self.seeder.read_failed(range);
                continue;
            }
            let mut bytes = Session::piece_header(range).to_vec();
            bytes.extend(super::payload(&self.geometry, range));
            self.down.send(arrival, &bytes);
            self.seeder.uploaded(self.now, range);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_payload_passes_whole_despite_chokes_and_failed_reads(seed: u64, fast: bool, latency in 0u64..200) {
        let mut world = World::new(seed, fast, Duration::from_millis(latency), 64 << 10);
        let mut ticks = 0;
        while world.have < world.geometry.total() {
            world.tick(true);
            ticks += 1;
            prop_assert!(ticks < 100_000, "stuck at {} with seed {seed}", world.have);
        }
        prop_assert_eq!(world.have, world.geometry.total());
        let tally = world.leecher.tally(world.now);
        prop_assert_eq!(tally.downloaded, world.have + tally.wasted);
        if fast {
            prop_assert_eq!(tally.wasted, 0, "with the fast extension every request is answered once");
        }
    }
}

#[test]
fn a_long_fast_link_is_kept_full() {
    // 6.5 MB/s and 300 ms there and back: 120 blocks are under way when the pipe is full.
    let mut world = World::new(1, true, Duration::from_millis(150), 64 << 10);
    world.geometry = Geometry::new(100_000_000, 8 * BLOCK_LEN).unwrap();
    let (now, geometry) = (world.now, world.geometry);
    world.seeder = super::session(now, geometry, true, true);
    world.leecher = super::session(now, geometry, true, false);
    world.leecher.set_interest(now, true);
    let pieces = geometry.all_pieces().rev();
    world.missing = pieces.map(|piece| geometry.whole(piece)).collect();
    let mut ticks = 0;
    while world.have < geometry.total() {
        world.tick(false);
        ticks += 1;
        assert!(ticks < 10_000, "stuck at {}", world.have);
    }
    let ideal = geometry.total() / (64 << 10);
    println!("{ticks} ticks where {ideal} would be ideal");
    assert!(ticks < ideal * 6 / 5, "{ticks} ticks, ideal {ideal}");
}
