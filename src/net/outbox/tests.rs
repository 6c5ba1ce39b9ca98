//! What a connection does with the requests of its peer, against a socket that takes as much as it likes.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use proptest::prelude::*;

use super::*;
use crate::base::{BLOCK_LEN, Bitfield, Geometry, InfoHash, SharedBitfield};
use crate::proto::wire::{ExtendedHandshake, SessionConfig};

const PIECES: u32 = 512;

type Wire = RefCell<Vec<u8>>;

fn geometry() -> Geometry {
    Geometry::new(u64::from(PIECES * BLOCK_LEN), BLOCK_LEN).unwrap()
}

fn byte(piece: u32, at: u32) -> u8 {
    (piece.wrapping_mul(31) ^ at.wrapping_mul(7) ^ (at >> 8)) as u8
}

fn bytes_of(range: BlockRange) -> Vec<u8> {
    let at = range.begin()..range.end();
    at.map(|at| byte(range.piece().get(), at)).collect()
}

/// A session whose peer is unchoked and has asked for `blocks` (piece, begin, length).
fn session(now: Instant, fast: bool, blocks: &[(u32, u32, u32)]) -> Session {
    let config = SessionConfig {
        geometry: geometry(),
        served: Arc::new(SharedBitfield::new(&Bitfield::full(PIECES))),
        fast,
        extended: false,
        local: ExtendedHandshake::default(),
        metadata: None,
        remote_ip: "127.0.0.1".parse().unwrap(),
        info_hash: InfoHash([7; 20]),
    };
    let mut session = Session::new(now, config);
    session.set_choke(now, false);
    let greeting = session.outgoing().len();
    session.sent(greeting);
    for &(piece, begin, len) in blocks {
        let mut message = [13, piece, begin, len].map(u32::to_be_bytes).concat();
        message.insert(4, 6);
        assert_eq!(session.receive(now, &message).unwrap(), message.len());
    }
    session
}

/// The messages of the requested blocks.
fn answers(blocks: &[(u32, u32, u32)]) -> Vec<u8> {
    let answer = |&(piece, begin, len): &(u32, u32, u32)| {
        let range = geometry().range(piece, begin, len).unwrap();
        [&Session::piece_header(range)[..], &bytes_of(range)].concat()
    };
    blocks.iter().flat_map(answer).collect()
}

fn whole(pieces: std::ops::Range<u32>) -> Vec<(u32, u32, u32)> {
    pieces.map(|piece| (piece, 0, BLOCK_LEN)).collect()
}

/// Gives from the cache what `cached` says at each try, again and again, and the rest from the disk.
#[derive(Clone)]
struct Source {
    cached: Vec<Attempt>,
    tries: Arc<AtomicU32>,
    fetched: Arc<Mutex<Vec<usize>>>,
}

impl Source {
    fn new(cached: &[Attempt]) -> Self {
        Self {
            cached: cached.to_vec(),
            tries: Arc::default(),
            fetched: Arc::default(),
        }
    }

    fn tries(&self) -> u32 {
        self.tries.load(Ordering::Relaxed)
    }

    fn fetched(&self) -> usize {
        self.fetched.lock().unwrap().len()
    }
}

impl BlockSource for Source {
    fn read_now(&self, ranges: &[BlockRange], blocks: &mut [IoSliceMut<'_>]) -> Attempt {
        assert_eq!(ranges.len(), blocks.len());
        for (&range, block) in ranges.iter().zip(blocks) {
            block.copy_from_slice(&bytes_of(range));
        }
        let at = self.tries.fetch_add(1, Ordering::Relaxed) as usize;
        self.cached[at % self.cached.len()]
    }

    async fn read(&self, ranges: Vec<BlockRange>) -> Option<Vec<u8>> {
        self.fetched.lock().unwrap().push(ranges.len());
        Some(ranges.into_iter().flat_map(bytes_of).collect())
    }
}

/// Lets what comes from the disk come; whether anything did.
fn come(outbox: &mut Outbox, session: &mut Session) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    pin!(outbox.come(session)).poll(&mut context).is_ready()
}

/// A socket that takes all.
fn greedy(wire: &Wire) -> impl FnMut(&[u8]) -> io::Result<usize> + '_ {
    |bytes| {
        wire.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

fn full(_: &[u8]) -> io::Result<usize> {
    Err(io::ErrorKind::WouldBlock.into())
}

fn no_limit() -> Throttle {
    Throttle::new(Instant::now(), None)
}

#[test]
fn nothing_is_read_before_the_rate_limit_lets_it_go() {
    let now = Instant::now();
    let blocks = whole(0..10);
    let (mut outbox, mut session) = (Outbox::default(), session(now, true, &blocks));
    let (source, up) = (Source::new(&[Attempt::Read]), Throttle::new(now, Some(1)));
    let wire = Wire::default();
    outbox.choose(now, &mut session, &source, &up);
    let late = outbox.deadline(now).unwrap();
    assert!(late > now + Duration::from_secs(3_600));
    assert!(!outbox.has_output(now));
    outbox
        .transmit(now, &mut session, &source, &up, greedy(&wire))
        .unwrap();
    assert_eq!((source.tries(), wire.borrow().len()), (0, 0));
    assert!(outbox.has_output(late));
    outbox
        .transmit(late, &mut session, &source, &up, greedy(&wire))
        .unwrap();
    assert_eq!(*wire.borrow(), answers(&blocks[..1]));
}

#[test]
fn a_peer_that_does_not_read_costs_one_batch_and_no_more() {
    let now = Instant::now();
    let blocks = whole(0..100);
    let (mut outbox, mut session) = (Outbox::default(), session(now, true, &blocks));
    let source = Source::new(&[Attempt::Read]);
    for _ in 0..10 {
        outbox.choose(now, &mut session, &source, &no_limit());
        let turn = outbox.transmit(now, &mut session, &source, &no_limit(), full);
        assert_eq!(turn.unwrap(), Turn::Over);
    }
    assert_eq!(source.tries(), 1);
    let kept = outbox.writing.as_ref().unwrap().bytes.len();
    assert_eq!(kept, PIECE_HEADER_LEN + BLOCK_LEN as usize);
    assert!(outbox.next.is_none(), "what is not read may be cancelled");
}

#[test]
fn a_turn_ends_though_peer_and_disk_would_go_on() {
    let now = Instant::now();
    let blocks = whole(0..200);
    let (mut outbox, mut session) = (Outbox::default(), session(now, true, &blocks));
    let source = Source::new(&[Attempt::Read]);
    let wire = Wire::default();
    let mut turns = 0;
    loop {
        let before = wire.borrow().len();
        let turn = outbox.transmit(now, &mut session, &source, &no_limit(), greedy(&wire));
        assert!(wire.borrow().len() - before <= TURN + BATCH_MAX + (64 << 10));
        if turn.unwrap() == Turn::Over {
            break;
        }
        turns += 1;
    }
    assert!(turns > 4, "{turns}");
    assert_eq!(*wire.borrow(), answers(&blocks));
}

#[test]
fn what_is_not_cached_is_read_from_the_disk_one_batch_ahead_until_the_cache_is_asked_again() {
    let now = Instant::now();
    let blocks = whole(0..100);
    let (mut outbox, mut session) = (Outbox::default(), session(now, true, &blocks));
    let source = Source::new(&[Attempt::WouldWait]);
    let wire = Wire::default();
    outbox.choose(now, &mut session, &source, &no_limit());
    let turn = |outbox: &mut Outbox, session: &mut Session| {
        outbox.choose(now, session, &source, &no_limit());
        let turn = outbox.transmit(now, session, &source, &no_limit(), greedy(&wire));
        assert_eq!(turn.unwrap(), Turn::Over, "it waits for the disk");
        assert!(!outbox.has_output(now));
    };
    turn(&mut outbox, &mut session);
    for batch in 1..=COLD_BATCHES as usize {
        assert!(come(&mut outbox, &mut session));
        assert_eq!(source.fetched(), batch);
        // While it is written, the next one is on its way.
        outbox
            .transmit(now, &mut session, &source, &no_limit(), full)
            .unwrap();
        outbox.choose(now, &mut session, &source, &no_limit());
        assert!(outbox.writing.is_some() && outbox.next.is_some());
        turn(&mut outbox, &mut session);
    }
    assert_eq!(source.tries(), 1);
    while come(&mut outbox, &mut session) {
        turn(&mut outbox, &mut session);
    }
    assert!(source.tries() > 5, "{}", source.tries());
    assert_eq!(*wire.borrow(), answers(&blocks));
}

#[test]
fn what_cannot_be_read_is_rejected_and_the_rest_goes_on() {
    let now = Instant::now();
    let blocks = whole(0..2);
    let (mut outbox, mut session) = (Outbox::default(), session(now, true, &blocks));
    let source = Source::new(&[Attempt::Failed, Attempt::Read]);
    let wire = Wire::default();
    outbox
        .transmit(now, &mut session, &source, &no_limit(), greedy(&wire))
        .unwrap();
    let reject = [&[0, 0, 0, 13, 16][..], &[0; 8], &BLOCK_LEN.to_be_bytes()].concat();
    assert_eq!(*wire.borrow(), [reject, answers(&blocks[1..])].concat());
}

#[test]
fn what_went_out_is_told_together_and_soon() {
    let now = Instant::now();
    let blocks: Vec<_> = (0..6).map(|at| (at / 2, (at % 2) * 4_096, 4_096)).collect();
    let (mut outbox, mut session) = (Outbox::default(), session(now, true, &blocks));
    let source = Source::new(&[Attempt::Read]);
    let wire = Wire::default();
    outbox
        .transmit(now, &mut session, &source, &no_limit(), greedy(&wire))
        .unwrap();
    assert_eq!(outbox.tell(now), None);
    let soon = outbox.deadline(now).unwrap();
    assert!(soon <= now + Duration::from_millis(100));
    let told = outbox.tell(soon).unwrap();
    let told: Vec<_> = told
        .iter()
        .map(|(piece, bytes)| (piece.get(), *bytes))
        .collect();
    assert_eq!(told, [(0, 8_192), (1, 8_192), (2, 8_192)]);
    assert_eq!(outbox.deadline(soon), None);
    assert_eq!(outbox.tell_all(), None);
    assert_eq!(session.tally(now).uploaded, 6 * 4_096);
}

proptest! {
    #[test]
    fn whatever_the_socket_takes_the_peer_reads_whole_messages(
        blocks in prop::collection::vec((0..PIECES, 0..1_000u32, 1..15_000u32), 1..60),
        takes in prop::collection::vec(prop_oneof![Just(0usize), 1usize..40, 1usize..100_000], 1..40),
        cached in prop::collection::vec(prop_oneof![Just(Attempt::Read), Just(Attempt::WouldWait)], 1..5),
        messages in prop::collection::vec(0..40usize, 0..5),
    ) {
        let start = Instant::now();
        let takes = [takes, vec![30_000]].concat();
        let (mut outbox, mut session) = (Outbox::default(), session(start, true, &blocks));
        let source = Source::new(&cached);
        let mut wire = Vec::new();
        for turn in 0..100_000 {
            // Batches grow with the rate.
            let now = start + Duration::from_millis(100 * turn as u64);
            if messages.contains(&turn) {
                session.announce_have(&[geometry().piece(turn as u32).unwrap()]);
            }
            outbox.choose(now, &mut session, &source, &no_limit());
            let mut round = 0;
            let write = |bytes: &[u8]| {
                let most = takes[(turn + round) % takes.len()];
                round += 1;
                // Whoever took nothing is not asked again before it takes something.
                if most == 0 && round > 1 {
                    return full(bytes);
                }
                let most = most.max(1);
                let some = bytes.len().min(most);
                wire.extend_from_slice(&bytes[..some]);
                Ok(some)
            };
            outbox.transmit(now, &mut session, &source, &no_limit(), write).unwrap();
            come(&mut outbox, &mut session);
            let idle = outbox.writing.is_none() && outbox.next.is_none();
            if idle && !session.has_uploads() && session.outgoing().is_empty() && turn > 40 {
                break;
            }
        }
        let (mut rest, mut haves, mut data) = (&wire[..], 0, Vec::new());
        while !rest.is_empty() {
            let len = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
            let (message, later) = rest.split_at(4 + len);
            match message[4] {
                4 => haves += 1,
                7 => data.extend_from_slice(message),
                id => panic!("message {id}"),
            }
            rest = later;
        }
        let mut turns = messages.clone();
        turns.sort_unstable();
        turns.dedup();
        prop_assert_eq!(haves, turns.len());
        prop_assert_eq!(data, answers(&blocks));
    }
}
