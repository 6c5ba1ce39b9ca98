//! An inquiry against a session that offers metadata, and against peers that misbehave.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::base::limits::{METADATA_COPIES_MAX, METADATA_UNREAD_MAX};
use crate::base::{Bitfield, InfoHash, SharedBitfield};
use crate::format::metainfo::Info;
use crate::format::metainfo::create::Draft;
use crate::proto::wire::metadata::{METADATA_PIECE_LEN, metadata_pieces};
use crate::proto::wire::{Event, Session, SessionConfig};

const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Metadata of three pieces and a bit.
fn info() -> Arc<Info> {
    let pieces = 2_500;
    let mut draft = Draft::file("large.bin", pieces * 16_384);
    draft.piece_length = 16_384;
    draft.pieces = (0..pieces).map(|n| [n as u8; 20]).collect();
    draft.finish().unwrap().info
}

fn inquiry(now: Instant) -> Inquiry {
    let config = InquiryConfig {
        fast: true,
        local: ExtendedHandshake::default(),
        remote_ip: IP,
    };
    Inquiry::new(now, config)
}

fn session(now: Instant, metadata: Option<Arc<Info>>) -> Session {
    let geometry = *info().geometry();
    let config = SessionConfig {
        geometry,
        served: Arc::new(SharedBitfield::new(&Bitfield::full(geometry.pieces()))),
        fast: true,
        extended: true,
        local: ExtendedHandshake::default(),
        metadata,
        remote_ip: IP,
        info_hash: InfoHash([1; 20]),
    };
    Session::new(now, config)
}

/// Carries what waits from each to the other until nothing is left.
fn exchange(now: Instant, inquiry: &mut Inquiry, session: &mut Session) {
    for _ in 0..100 {
        let out = inquiry.outgoing().to_vec();
        inquiry.sent(out.len());
        assert_eq!(session.receive(now, &out), Ok(out.len()));
        let back = session.outgoing().to_vec();
        session.sent(back.len());
        assert_eq!(inquiry.receive(now, &back), Ok(back.len()));
        if out.is_empty() && back.is_empty() {
            return;
        }
    }
    panic!("they talk for ever");
}

fn events(inquiry: &mut Inquiry) -> Vec<InquiryEvent> {
    std::iter::from_fn(|| inquiry.poll()).collect()
}

fn extended(payload: &MetadataMessage<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    Message::Extended {
        id: METADATA_ID,
        payload: &payload.encode(),
    }
    .encode(&mut bytes);
    bytes
}

/// An inquiry whose peer has said that it speaks `ut_metadata`.
fn greeted(now: Instant) -> Inquiry {
    let mut inquiry = inquiry(now);
    let mut bytes = Vec::new();
    let payload = b"d1:md11:ut_metadatai9eee";
    Message::Extended { id: 0, payload }.encode(&mut bytes);
    inquiry.receive(now, &bytes).unwrap();
    assert_eq!(events(&mut inquiry).len(), 1);
    let waiting = inquiry.outgoing().len();
    inquiry.sent(waiting);
    inquiry
}

#[test]
fn a_session_that_offers_metadata_hands_over_all_of_it() {
    let now = Instant::now();
    let info = info();
    let (mut asking, mut serving) = (inquiry(now), session(now, Some(Arc::clone(&info))));
    exchange(now, &mut asking, &mut serving);
    let size = match &events(&mut asking)[..] {
        [InquiryEvent::Extended(said)] => said.metadata_size.unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(size as usize, info.raw().len());
    let mut raw = Vec::new();
    for number in 0..metadata_pieces(size) {
        asking.request(now, number);
        exchange(now, &mut asking, &mut serving);
        match events(&mut asking).remove(0) {
            InquiryEvent::Data {
                piece,
                total_size,
                bytes,
            } => {
                assert_eq!((piece, total_size), (number, Some(size)));
                raw.extend(bytes);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(raw, info.raw());
    asking.request(now, metadata_pieces(size));
    exchange(now, &mut asking, &mut serving);
    assert_eq!(
        events(&mut asking),
        [InquiryEvent::Rejected(metadata_pieces(size))]
    );
}

#[test]
fn a_session_without_metadata_neither_offers_nor_serves_it() {
    let now = Instant::now();
    let (mut asking, mut serving) = (inquiry(now), session(now, None));
    exchange(now, &mut asking, &mut serving);
    match &events(&mut asking)[..] {
        [InquiryEvent::Extended(said)] => {
            assert_eq!((said.metadata_size, said.extensions.metadata), (None, None));
        }
        other => panic!("{other:?}"),
    }
    asking.request(now, 0);
    assert!(asking.outgoing().is_empty(), "nobody to ask");
    let request = extended(&MetadataMessage::Request(0));
    serving.receive(now, &request).unwrap();
    assert!(serving.outgoing().is_empty());
}

#[test]
fn a_peer_gets_the_metadata_a_few_times_over_and_then_rejects() {
    let now = Instant::now();
    let info = info();
    let pieces = metadata_pieces(info.raw().len() as u32);
    let (mut asking, mut serving) = (inquiry(now), session(now, Some(info)));
    exchange(now, &mut asking, &mut serving);
    events(&mut asking);
    let mut served = 0;
    for number in 0..10 * pieces {
        asking.request(now, number % pieces);
        exchange(now, &mut asking, &mut serving);
        let answers = events(&mut asking);
        served += u32::from(matches!(answers[..], [InquiryEvent::Data { .. }]));
    }
    assert_eq!(served, METADATA_COPIES_MAX * pieces);
}

#[test]
fn who_asks_without_reading_the_answers_is_dropped_before_they_fill_memory() {
    let now = Instant::now();
    let (mut asking, mut serving) = (inquiry(now), session(now, Some(info())));
    exchange(now, &mut asking, &mut serving);
    let request = extended(&MetadataMessage::Request(0));
    let mut asked = 0;
    let error = loop {
        asked += 1;
        assert!(asked < 100_000, "nobody stops it");
        if let Err(error) = serving.receive(now, &request) {
            break error;
        }
    };
    assert_eq!(error, WireError::RequestFlood);
    let waiting = serving.outgoing().len();
    let rejects = REJECTS_PENDING_MAX as usize * 40;
    assert!(
        waiting <= METADATA_UNREAD_MAX + 2 * METADATA_PIECE_LEN as usize + rejects,
        "{waiting}"
    );
}

#[test]
fn a_session_tells_of_a_dht_node_once() {
    let now = Instant::now();
    let mut session = session(now, None);
    let mut bytes = Vec::new();
    for port in [0, 7, 8] {
        Message::Port(port).encode(&mut bytes);
    }
    session.receive(now, &bytes).unwrap();
    let ports = std::iter::from_fn(|| session.poll());
    let ports: Vec<_> = ports
        .filter(|event| matches!(event, Event::Port(_)))
        .collect();
    assert_eq!(ports, [Event::Port(7)]);
}

#[test]
fn what_is_said_of_pieces_is_passed_over_up_to_the_largest_torrent() {
    let now = Instant::now();
    let mut inquiry = inquiry(now);
    let mut bytes = Vec::new();
    let largest = vec![0xff; PIECES_MAX as usize / 8];
    for message in [
        Message::Bitfield(&largest),
        Message::Have(u32::MAX),
        Message::HaveAll,
        Message::AllowedFast(7),
        Message::Unchoke,
        Message::Interested,
        Message::Port(0),
        Message::Port(6881),
        Message::Port(6882),
        Message::Unknown(99),
    ] {
        message.encode(&mut bytes);
    }
    assert_eq!(inquiry.receive(now, &bytes), Ok(bytes.len()));
    assert_eq!(events(&mut inquiry), [InquiryEvent::Port(6881)]);
    let mut too_long = (PIECES_MAX / 8 + 2).to_be_bytes().to_vec();
    too_long.push(5);
    assert!(matches!(
        inquiry.receive(now, &too_long),
        Err(WireError::TooLong { .. })
    ));
}

#[test]
fn only_what_was_asked_for_counts_and_a_sender_of_other_things_is_dropped() {
    let now = Instant::now();
    let mut inquiry = greeted(now);
    let data = extended(&MetadataMessage::Data {
        piece: 3,
        total_size: None,
        bytes: b"x",
    });
    inquiry.receive(now, &data).unwrap();
    assert_eq!(events(&mut inquiry), []);
    inquiry.request(now, 3);
    inquiry.receive(now, &data).unwrap();
    assert_eq!(events(&mut inquiry).len(), 1);
    let mut rest = UNREQUESTED_MAX;
    let error = loop {
        match inquiry.receive(now, &data) {
            Ok(_) => rest -= 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, WireError::Unrequested(UNREQUESTED_MAX + 1));
    assert_eq!(rest, 1);
}

#[test]
fn a_peer_that_asks_us_is_told_that_we_have_nothing_and_may_not_flood_us() {
    let now = Instant::now();
    let mut inquiry = greeted(now);
    let request = extended(&MetadataMessage::Request(5));
    inquiry.receive(now, &request).unwrap();
    let limits = FrameLimits::new(1);
    let (answer, _) = decode(inquiry.outgoing(), &limits).unwrap().unwrap();
    let Message::Extended { id: 9, payload } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(
        MetadataMessage::decode(payload),
        Ok(Some(MetadataMessage::Reject(5)))
    );
    let flood = request.repeat(REJECTS_PENDING_MAX as usize + 1);
    assert_eq!(inquiry.receive(now, &flood), Err(WireError::RequestFlood));
}

#[test]
fn silence_ends_it_and_we_keep_it_alive() {
    let now = Instant::now();
    let mut inquiry = greeted(now);
    let at = inquiry.next_deadline();
    assert_eq!(at, now + KEEP_ALIVE);
    assert_eq!(inquiry.handle_timeout(at), Ok(()));
    assert_eq!(inquiry.outgoing(), [0; 4]);
    let at = inquiry.next_deadline();
    assert_eq!(at, now + PEER_SILENCE);
    assert_eq!(inquiry.handle_timeout(at - Duration::from_nanos(1)), Ok(()));
    assert_eq!(inquiry.handle_timeout(at), Err(WireError::Silent));
}

proptest! {
    #[test]
    fn any_bytes_are_passed_over_answered_or_refused(
        frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..60)), 0..20),
        kind in 0i64..4, piece: u32, cut: usize,
    ) {
        let now = Instant::now();
        let mut inquiry = greeted(now);
        inquiry.request(now, piece);
        let before = inquiry.outgoing().len();
        let mut bytes = Vec::new();
        for (n, (id, body)) in frames.iter().enumerate() {
            let payload = if n % 2 == 0 {
                let head = format!("d8:msg_typei{kind}e5:piecei{piece}ee");
                [head.as_bytes(), body].concat()
            } else {
                body.clone()
            };
            let id = if n % 2 == 0 { METADATA_ID } else { *id };
            Message::Extended { id, payload: &payload }.encode(&mut bytes);
        }
        let at = cut % (bytes.len() + 1);
        let used = inquiry.receive(now, &bytes[..at]);
        if let Ok(used) = used {
            prop_assert!(used <= at);
            let rest = inquiry.receive(now, &bytes[used..]);
            prop_assert!(rest.is_err() || rest == Ok(bytes.len() - used));
        }
        let data = events(&mut inquiry)
            .into_iter()
            .filter(|event| matches!(event, InquiryEvent::Data { .. }));
        prop_assert!(data.count() <= 1, "one piece was asked for");
        prop_assert!(inquiry.outgoing().len() <= before + frames.len() * 64);
    }
}
