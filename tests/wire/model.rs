//! The invariant of grants: every granted block comes back exactly once, whatever the peer does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use seedbank::base::{BLOCK_LEN, BlockRange, Geometry};
use seedbank::proto::wire::framing::FrameLimits;
use seedbank::proto::wire::message::RawRange;
use seedbank::proto::wire::{Event, Message, Session};

#[derive(Clone, Debug)]
enum Step {
    Grant {
        piece: u32,
        first: u32,
        blocks: u32,
    },
    Revoke {
        piece: u32,
        first: u32,
        blocks: u32,
    },
    /// The peer answers one of our requests, cancelled ones included.
    Answer(usize),
    Reject(usize),
    /// The peer sends a block that it chose itself.
    Unasked {
        piece: u32,
        block: u32,
    },
    Choke(bool),
    AllowFast(u32),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (0u32..8, 0u32..6, 1u32..7);
    prop_oneof![
        5 => range().prop_map(|(piece, first, blocks)| Step::Grant { piece, first, blocks }),
        2 => range().prop_map(|(piece, first, blocks)| Step::Revoke { piece, first, blocks }),
        10 => any::<usize>().prop_map(Step::Answer),
        2 => any::<usize>().prop_map(Step::Reject),
        1 => (0u32..8, 0u32..6).prop_map(|(piece, block)| Step::Unasked { piece, block }),
        1 => any::<bool>().prop_map(Step::Choke),
        1 => (0u32..8).prop_map(Step::AllowFast),
        1 => (0u64..20).prop_map(Step::Wait),
    ]
}

/// What a naive accountant knows.
struct Model {
    geometry: Geometry,
    limits: FrameLimits,
    session: Session,
    now: Instant,
    /// Grants less returns of each block.
    granted: BTreeMap<(u32, u32), u32>,
    /// Requests that the peer has not answered in its own view.
    asked: Vec<RawRange>,
    sent: u64,
    delivered: u64,
    wasted: u64,
}

impl Model {
    fn new(fast: bool) -> Self {
        let now = Instant::now();
        // Eight pieces of six blocks; the last block is short.
        let total = 48 * u64::from(BLOCK_LEN) - 1_000;
        let geometry = Geometry::new(total, 6 * BLOCK_LEN).unwrap();
        let mut session = super::session(now, geometry, fast, false);
        session.set_interest(now, true);
        let mut model = Self {
            limits: FrameLimits::new(geometry.pieces()),
            geometry,
            session,
            now,
            granted: BTreeMap::new(),
            asked: Vec::new(),
            sent: 0,
            delivered: 0,
            wasted: 0,
        };
        model.tell(Message::Unchoke);
        model
    }

    fn run(&self, piece: u32, first: u32, blocks: u32) -> Option<BlockRange> {
        let end = (first + blocks).min(6);
        self.geometry.run(self.geometry.piece(piece)?, first..end)
    }

    fn tell(&mut self, message: Message<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let used = self.session.receive(self.now, &bytes).unwrap();
        assert_eq!(used, bytes.len());
    }

    fn send(&mut self, raw: RawRange) {
        let RawRange { piece, begin, len } = raw;
        let range = self.geometry.range(piece, begin, len).unwrap();
        let data = &super::payload(&self.geometry, range)[..];
        self.sent += data.len() as u64;
        self.tell(Message::Piece { piece, begin, data });
    }

    fn take_asked(&mut self, pick: usize) -> Option<RawRange> {
        let len = self.asked.len();
        (len > 0).then(|| self.asked.swap_remove(pick % len))
    }

    fn play(&mut self, step: &Step, fast: bool) {
        match *step {
            Step::Grant {
                piece,
                first,
                blocks,
            } => {
                let Some(range) = self.run(piece, first, blocks) else {
                    return;
                };
                for block in range.blocks() {
                    *self.granted.entry((piece, block)).or_default() += 1;
                }
                self.session.grant(self.now, range);
            }
            Step::Revoke {
                piece,
                first,
                blocks,
            } => {
                if let Some(range) = self.run(piece, first, blocks) {
                    self.session.revoke(self.now, range);
                }
            }
            Step::Answer(pick) => {
                if let Some(raw) = self.take_asked(pick) {
                    self.send(raw);
                }
            }
            Step::Reject(pick) if fast => {
                if let Some(raw) = self.take_asked(pick) {
                    self.tell(Message::Reject(raw));
                }
            }
            Step::Unasked { piece, block } => {
                if let Some(range) = self.run(piece, block, 1) {
                    self.send(range.into());
                }
            }
            Step::Choke(true) => self.tell(Message::Choke),
            Step::Choke(false) => self.tell(Message::Unchoke),
            Step::AllowFast(piece) if fast => self.tell(Message::AllowedFast(piece)),
            Step::Wait(seconds) => {
                self.now += Duration::from_secs(seconds);
                self.tell(Message::KeepAlive);
                self.session.handle_timeout(self.now).unwrap();
            }
            Step::Reject(_) | Step::AllowFast(_) => (),
        }
    }

    /// Reads what the session wrote and raised, and keeps the books.
    fn settle(&mut self) {
        let asked = &mut self.asked;
        super::drain(&mut self.session, &self.limits, |message| {
            if let Message::Request(range) = message {
                asked.push(range);
            }
        });
        while let Some(event) = self.session.poll() {
            match event {
                Event::Run { range, data } => {
                    assert_eq!(data, super::payload(&self.geometry, range));
                    self.delivered += data.len() as u64;
                    self.came_back(range);
                    self.session.recycle(data);
                }
                Event::Returned(range) => self.came_back(range),
                Event::Wasted(bytes) => self.wasted += u64::from(bytes),
                _ => (),
            }
        }
    }

    fn came_back(&mut self, range: BlockRange) {
        assert!(self.geometry.is_aligned(range));
        for block in range.blocks() {
            let open = self
                .granted
                .entry((range.piece().get(), block))
                .or_default();
            *open = open.checked_sub(1).expect("no block comes back twice");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_granted_block_comes_back_exactly_once(fast: bool, steps in prop::collection::vec(step(), 0..150)) {
        let mut model = Model::new(fast);
        for step in &steps {
            model.play(step, fast);
            model.settle();
        }
        model.session.close();
        model.settle();
        prop_assert!(model.granted.values().all(|&open| open == 0), "{:?}", model.granted);
        let tally = model.session.tally(model.now);
        prop_assert_eq!(tally.downloaded, model.sent);
        prop_assert_eq!(tally.wasted, model.wasted);
        prop_assert_eq!(model.delivered + model.wasted, model.sent);
    }
}
