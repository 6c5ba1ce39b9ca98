//! Bytes that mean harm: they are an error or are harmless, and what they make us hold is bounded.

use std::time::Instant;

use proptest::prelude::*;
use seedbank::base::limits::{EXTENDED_LEN_MAX, REJECTS_PENDING_MAX};
use seedbank::base::{BLOCK_LEN, Geometry};
use seedbank::proto::wire::framing::FrameLimits;
use seedbank::proto::wire::{Message, RawRange, Session};

fn geometry() -> Geometry {
    Geometry::new(1_000_000, 4 * BLOCK_LEN).unwrap()
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(any::<u8>(), 0..40);
    let small = (
        0u32..18,
        0u32..70_000,
        prop_oneof![Just(16_384u32), any::<u32>()],
    );
    prop_oneof![
        // Well-formed numbers of every kind of message.
        (0u8..24, small).prop_map(|(id, (piece, begin, len))| {
            let mut bytes = vec![id];
            for number in [piece, begin, len] {
                bytes.extend_from_slice(&number.to_be_bytes());
            }
            bytes.truncate(match id {
                4 | 13 | 17 => 5,
                0..=3 | 14 | 15 => 1,
                9 => 3,
                _ => 13,
            });
            bytes
        }),
        (any::<u8>(), body).prop_map(|(id, mut body)| {
            body.insert(0, id);
            body
        }),
    ]
    .prop_map(|body| {
        let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(&body);
        bytes
    })
}

fn settle(session: &mut Session) {
    while session.poll().is_some() {}
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_frames_in_any_cuts_are_read_or_refused(
        fast: bool, seed: bool, unchoke: bool, frames in prop::collection::vec(frame(), 0..60),
        cuts in prop::collection::vec(1usize..50, 1..40),
    ) {
        let now = Instant::now();
        let geometry = geometry();
        let mut session = super::session(now, geometry, fast, seed);
        session.set_choke(now, !unchoke);
        session.set_interest(now, true);
        session.grant(now, geometry.whole(geometry.piece(0).unwrap()));
        let largest = FrameLimits::new(geometry.pieces()).largest();
        let (stream, mut unread) = (frames.concat(), Vec::new());
        let (mut at, mut cuts) = (0, cuts.iter().cycle());
        while at < stream.len() {
            let end = stream.len().min(at + cuts.next().unwrap());
            unread.extend_from_slice(&stream[at..end]);
            at = end;
            let Ok(used) = session.receive(now, &unread) else {
                break;
            };
            prop_assert!(used <= unread.len());
            unread.drain(..used);
            prop_assert!(session.wanted() <= largest);
            settle(&mut session);
            session.next_uploads(BLOCK_LEN as usize);
        }
        session.close();
        settle(&mut session);
        prop_assert_eq!(session.next_uploads(usize::MAX), []);
    }
}

#[test]
fn what_a_peer_makes_us_write_is_bounded_though_it_never_reads() {
    let now = Instant::now();
    let mut session = super::session(now, geometry(), true, true);
    session.set_choke(now, false);
    let raw = RawRange {
        piece: 0,
        begin: 0,
        len: BLOCK_LEN,
    };
    let mut both = Vec::new();
    Message::Request(raw).encode(&mut both);
    Message::Cancel(raw).encode(&mut both);
    let mut rounds = 0;
    while session.receive(now, &both).is_ok() {
        rounds += 1;
        assert!(rounds <= REJECTS_PENDING_MAX);
    }
    assert!(session.outgoing().len() < 17 * (REJECTS_PENDING_MAX as usize + 100));
}

#[test]
fn no_message_may_be_longer_than_the_bound_that_is_told() {
    let limits = FrameLimits::new(geometry().pieces());
    assert_eq!(limits.largest(), EXTENDED_LEN_MAX + 4);
}
