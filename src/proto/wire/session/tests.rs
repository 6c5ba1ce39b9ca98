use std::time::Duration;

use super::*;
use crate::base::BLOCK_LEN;
use crate::base::limits::{
    BITFIELDS_MAX, REQUEST_LEN_MAX, REQUEST_OVERDUE, UNREQUESTED_MAX, UPLOAD_QUEUE_MAX,
};
use crate::proto::wire::extension::DONT_HAVE_ID;
use crate::proto::wire::framing::decode;
use crate::proto::wire::message::RawRange;

const PIECES: u32 = 20;

/// 20 pieces of 4 blocks, the last piece of 1 byte.
fn geometry() -> Geometry {
    Geometry::new(
        u64::from(PIECES - 1) * 4 * u64::from(BLOCK_LEN) + 1,
        4 * BLOCK_LEN,
    )
    .unwrap()
}

fn session(now: Instant, fast: bool, full: bool) -> Session {
    let bits = if full {
        Bitfield::full(PIECES)
    } else {
        Bitfield::new(PIECES)
    };
    let config = SessionConfig {
        geometry: geometry(),
        served: Arc::new(SharedBitfield::new(&bits)),
        fast,
        extended: true,
        local: ExtendedHandshake::default(),
        remote_ip: "10.0.0.1".parse().unwrap(),
        info_hash: InfoHash([7; 20]),
    };
    let mut session = Session::new(now, config);
    written(&mut session);
    session
}

/// What the session wrote since the last call, in short: kind and first number.
fn written(session: &mut Session) -> Vec<String> {
    let limits = FrameLimits::new(PIECES);
    let bytes = session.outgoing().to_vec();
    session.sent(bytes.len());
    let (mut at, mut all) = (0, Vec::new());
    while let Some((message, len)) = decode(&bytes[at..], &limits).unwrap() {
        at += len;
        all.push(match message {
            Message::Request(r) => format!("request {}+{}", r.piece, r.begin / BLOCK_LEN),
            Message::Cancel(r) => format!("cancel {}+{}", r.piece, r.begin / BLOCK_LEN),
            Message::Reject(r) => format!("reject {}+{}", r.piece, r.begin / BLOCK_LEN),
            Message::Extended { id, .. } => format!("extended {id}"),
            Message::Bitfield(_) => "bitfield".into(),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(at, bytes.len());
    all
}

fn tell(session: &mut Session, now: Instant, message: Message<'_>) -> Result<usize, WireError> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    session.receive(now, &bytes)
}

fn send_block(session: &mut Session, now: Instant, piece: u32, block: u32) {
    let data = vec![piece as u8 ^ block as u8; BLOCK_LEN as usize];
    let begin = block * BLOCK_LEN;
    let message = Message::Piece {
        piece,
        begin,
        data: &data,
    };
    tell(session, now, message).unwrap();
}

fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll()).collect()
}

fn run(piece: u32, blocks: std::ops::Range<u32>) -> BlockRange {
    let geometry = geometry();
    geometry
        .run(geometry.piece(piece).unwrap(), blocks)
        .unwrap()
}

/// The data that [`send_block`] sends for the blocks of `range`.
fn run_event(range: BlockRange) -> Event {
    let piece = range.piece().get() as u8;
    let data = range
        .blocks()
        .flat_map(|block| vec![piece ^ block as u8; BLOCK_LEN as usize])
        .collect();
    Event::Run { range, data }
}

fn unchoked(now: Instant, fast: bool) -> Session {
    let mut session = session(now, fast, false);
    tell(&mut session, now, Message::Unchoke).unwrap();
    session.set_interest(now, true);
    events(&mut session);
    written(&mut session);
    session
}

fn raw(piece: u32, block: u32) -> RawRange {
    RawRange {
        piece,
        begin: block * BLOCK_LEN,
        len: BLOCK_LEN,
    }
}

#[test]
fn a_connection_begins_with_the_extension_handshake_and_the_pieces() {
    let now = Instant::now();
    let first = |fast, full| {
        let bits = match full {
            true => Bitfield::full(PIECES),
            false => Bitfield::new(PIECES),
        };
        let config = SessionConfig {
            geometry: geometry(),
            served: Arc::new(SharedBitfield::new(&bits)),
            fast,
            extended: true,
            local: ExtendedHandshake::default(),
            remote_ip: "10.0.0.1".parse().unwrap(),
            info_hash: InfoHash([7; 20]),
        };
        written(&mut Session::new(now, config))
    };
    assert_eq!(first(true, true), ["extended 0", "HaveAll"]);
    assert_eq!(first(true, false), ["extended 0", "HaveNone"]);
    assert_eq!(first(false, true), ["extended 0", "bitfield"]);
    assert_eq!(first(false, false), ["extended 0"]);
}

#[test]
fn a_grant_is_requested_in_order_and_comes_back_as_one_run() {
    let now = Instant::now();
    let mut session = unchoked(now, true);
    session.grant(now, run(3, 0..4));
    let asked = ["request 3+0", "request 3+1", "request 3+2", "request 3+3"];
    assert_eq!(written(&mut session), asked);
    for block in [2, 0, 3] {
        send_block(&mut session, now, 3, block);
    }
    assert!(
        !events(&mut session)
            .iter()
            .any(|e| matches!(e, Event::Run { .. }))
    );
    send_block(&mut session, now, 3, 1);
    assert_eq!(events(&mut session)[0], run_event(run(3, 0..4)));
    assert_eq!(session.tally(now).downloaded, 4 * u64::from(BLOCK_LEN));
    assert_eq!(session.tally(now).wasted, 0);
}

#[test]
fn a_choke_without_the_fast_extension_returns_everything() {
    let now = Instant::now();
    let mut session = unchoked(now, false);
    session.grant(now, run(3, 0..4));
    session.grant(now, run(5, 1..2));
    send_block(&mut session, now, 3, 1);
    events(&mut session);
    tell(&mut session, now, Message::Choke).unwrap();
    let mut after = events(&mut session);
    assert_eq!(after.remove(0), Event::Choked);
    for expected in [
        Event::Returned(run(3, 0..1)),
        Event::Returned(run(3, 2..4)),
        run_event(run(3, 1..2)),
        Event::Returned(run(5, 1..2)),
    ] {
        let at = after.iter().position(|event| *event == expected);
        after.remove(at.unwrap());
    }
    assert_eq!(after, []);
    // What was under way when the choke was sent is waste, not a violation.
    send_block(&mut session, now, 3, 0);
    assert_eq!(events(&mut session), [Event::Wasted(BLOCK_LEN)]);
    assert_eq!(session.unrequested, 0);
    session.grant(now, run(7, 0..1));
    assert_eq!(events(&mut session), [Event::Returned(run(7, 0..1))]);
}

#[test]
fn a_choke_with_the_fast_extension_leaves_requests_until_they_are_rejected() {
    let now = Instant::now();
    let mut session = unchoked(now, true);
    for piece in 0..5 {
        session.grant(now, run(piece, 0..4));
    }
    events(&mut session);
    tell(&mut session, now, Message::Choke).unwrap();
    // 16 of the 20 blocks were requested.
    let choked = [Event::Choked, Event::Returned(run(4, 0..4))];
    assert_eq!(events(&mut session), choked);
    for block in 0..4 {
        send_block(&mut session, now, 0, block);
    }
    assert_eq!(events(&mut session), [run_event(run(0, 0..4))]);
    tell(&mut session, now, Message::Reject(raw(1, 2))).unwrap();
    assert_eq!(events(&mut session), [Event::Returned(run(1, 2..3))]);
}

#[test]
fn a_revoked_block_is_cancelled_and_waste_if_it_comes() {
    let now = Instant::now();
    let mut session = unchoked(now, true);
    session.grant(now, run(3, 0..4));
    written(&mut session);
    send_block(&mut session, now, 3, 0);
    events(&mut session);
    session.revoke(now, run(3, 0..3));
    assert_eq!(written(&mut session), ["cancel 3+1", "cancel 3+2"]);
    assert_eq!(events(&mut session)[0], Event::Returned(run(3, 1..3)));
    send_block(&mut session, now, 3, 1);
    tell(&mut session, now, Message::Reject(raw(3, 2))).unwrap();
    assert_eq!(events(&mut session), [Event::Wasted(BLOCK_LEN)]);
    send_block(&mut session, now, 3, 3);
    let rest = [run_event(run(3, 0..1)), run_event(run(3, 3..4))];
    assert_eq!(events(&mut session)[..2], rest);
    assert_eq!((session.unrequested, session.requests.open()), (0, 0));
}

#[test]
fn revoking_the_middle_of_a_queued_grant_keeps_both_ends() {
    let now = Instant::now();
    let mut session = unchoked(now, true);
    for piece in 0..5 {
        session.grant(now, run(piece, 0..4));
    }
    events(&mut session);
    session.revoke(now, run(4, 1..3));
    assert_eq!(events(&mut session), [Event::Returned(run(4, 1..3))]);
    written(&mut session);
    for block in 0..4 {
        send_block(&mut session, now, 0, block);
    }
    assert_eq!(written(&mut session), ["request 4+0", "request 4+3"]);
}

#[test]
fn closing_surrenders_what_came_and_what_did_not() {
    let now = Instant::now();
    let mut session = unchoked(now, true);
    session.grant(now, run(3, 0..4));
    for block in [0, 2] {
        send_block(&mut session, now, 3, block);
    }
    events(&mut session);
    session.close();
    let all = [
        Event::Returned(run(3, 1..2)),
        Event::Returned(run(3, 3..4)),
        run_event(run(3, 0..1)),
        run_event(run(3, 2..3)),
    ];
    assert_eq!(events(&mut session), all);
    session.grant(now, run(4, 0..4));
    assert_eq!(events(&mut session), [Event::Returned(run(4, 0..4))]);
}

#[test]
fn hunger_is_told_once_until_something_is_granted() {
    let now = Instant::now();
    let mut session = session(now, true, false);
    session.set_interest(now, true);
    tell(&mut session, now, Message::Unchoke).unwrap();
    let hungry = Event::Hungry { blocks: 16 };
    assert_eq!(events(&mut session), [Event::Unchoked, hungry]);
    tell(&mut session, now, Message::KeepAlive).unwrap();
    assert_eq!(events(&mut session), []);
    session.grant(now, run(0, 0..4));
    assert_eq!(events(&mut session), [Event::Hungry { blocks: 12 }]);
    for piece in 1..4 {
        session.grant(now, run(piece, 0..4));
    }
    assert_eq!(events(&mut session), []);
}

#[test]
fn a_peer_that_rejects_is_left_alone_for_a_moment() {
    let now = Instant::now();
    let mut session = unchoked(now, true);
    session.grant(now, run(0, 0..1));
    events(&mut session);
    session.grant(now, run(1, 0..1));
    tell(&mut session, now, Message::Reject(raw(0, 0))).unwrap();
    assert_eq!(events(&mut session), [Event::Returned(run(0, 0..1))]);
    let due = session.next_deadline().unwrap();
    session.handle_timeout(due).unwrap();
    assert!(matches!(events(&mut session)[..], [Event::Hungry { .. }]));
}

#[test]
fn a_peer_that_owes_blocks_and_sends_none_is_reported_once() {
    let now = Instant::now();
    let mut session = unchoked(now, true);
    session.grant(now, run(0, 0..4));
    events(&mut session);
    let due = session.next_deadline().unwrap();
    assert_eq!(due, now + SNUB_TIME);
    session.handle_timeout(due).unwrap();
    assert_eq!(events(&mut session), [Event::Snubbed]);
    session.handle_timeout(due + SNUB_TIME).unwrap();
    assert_eq!(events(&mut session), []);
    send_block(&mut session, due, 0, 0);
    events(&mut session);
    assert_eq!(session.next_deadline(), Some(due + SNUB_TIME));
}

#[test]
fn silence_is_broken_by_us_and_fatal_to_them() {
    let now = Instant::now();
    let mut session = session(now, true, false);
    assert_eq!(session.next_deadline(), Some(now + KEEP_ALIVE));
    session.handle_timeout(now + KEEP_ALIVE).unwrap();
    assert_eq!(written(&mut session), ["KeepAlive"]);
    assert_eq!(session.next_deadline(), Some(now + PEER_SILENCE));
    let verdict = session.handle_timeout(now + PEER_SILENCE);
    assert_eq!(verdict, Err(WireError::Silent));
}

#[test]
fn a_request_is_served_only_while_unchoked_and_verified() {
    let now = Instant::now();
    let mut session = session(now, true, true);
    tell(&mut session, now, Message::HaveAll).unwrap();
    tell(&mut session, now, Message::Request(raw(1, 0))).unwrap();
    assert_eq!(written(&mut session), ["reject 1+0"]);
    session.set_choke(now, false);
    tell(&mut session, now, Message::Request(raw(1, 0))).unwrap();
    tell(&mut session, now, Message::Request(raw(2, 0))).unwrap();
    tell(&mut session, now, Message::Request(raw(3, 0))).unwrap();
    tell(&mut session, now, Message::Cancel(raw(3, 0))).unwrap();
    assert_eq!(written(&mut session), ["Unchoke", "reject 3+0"]);
    session.uploads.unserve(run(1, 0..1).piece());
    assert_eq!(session.next_uploads(usize::MAX), [run(2, 0..1)]);
    assert_eq!(written(&mut session), ["reject 1+0"]);
    session.uploaded(now, run(2, 0..1));
    assert_eq!(session.tally(now).uploaded, u64::from(BLOCK_LEN));
    tell(&mut session, now, Message::Request(raw(4, 0))).unwrap();
    session.set_choke(now, true);
    assert_eq!(written(&mut session), ["Choke", "reject 4+0"]);
    assert_eq!(session.next_uploads(usize::MAX), []);
}

#[test]
fn uploads_are_handed_out_oldest_first_within_the_room_given() {
    let now = Instant::now();
    let mut session = session(now, true, true);
    session.set_choke(now, false);
    for block in 0..4 {
        tell(&mut session, now, Message::Request(raw(1, block))).unwrap();
    }
    let room = BLOCK_LEN as usize * 2 + 1;
    assert_eq!(session.next_uploads(room), [run(1, 0..1), run(1, 1..2)]);
    assert_eq!(session.next_uploads(0), [run(1, 2..3)]);
}

#[test]
fn the_queue_of_requests_is_bounded() {
    let now = Instant::now();
    let mut session = session(now, true, true);
    session.set_choke(now, false);
    written(&mut session);
    for _ in 0..UPLOAD_QUEUE_MAX + 1 {
        tell(&mut session, now, Message::Request(raw(1, 0))).unwrap();
    }
    assert_eq!(written(&mut session), ["reject 1+0"]);
}

#[test]
fn a_flood_of_refused_requests_that_nobody_reads_is_a_violation() {
    let now = Instant::now();
    let mut session = session(now, true, true);
    tell(&mut session, now, Message::HaveAll).unwrap();
    let mut asked = 0;
    while tell(&mut session, now, Message::Request(raw(1, 0))).is_ok() {
        asked += 1;
        assert!(asked <= REJECTS_PENDING_MAX);
    }
    assert_eq!(asked, REJECTS_PENDING_MAX);
}

#[test]
fn a_newcomer_may_request_its_allowed_fast_pieces_while_choked_but_no_more() {
    let now = Instant::now();
    let mut session = session(now, true, true);
    tell(&mut session, now, Message::HaveNone).unwrap();
    let offered = written(&mut session);
    assert_eq!(offered.len(), 10);
    let piece = offered[0].trim_start_matches("AllowedFast(");
    let piece = piece.trim_end_matches(')').parse().unwrap();
    tell(&mut session, now, Message::Request(raw(piece, 0))).unwrap();
    assert_eq!(session.next_uploads(usize::MAX), [run(piece, 0..1)]);
    let mut served = 1;
    for _ in 0..1_000 {
        tell(&mut session, now, Message::Request(raw(piece, 0))).unwrap();
        served += session.next_uploads(usize::MAX).len();
    }
    assert!(served <= 40, "{served}");
}

#[test]
fn allowed_fast_pieces_can_be_had_while_choked() {
    let now = Instant::now();
    let mut session = session(now, true, false);
    session.set_interest(now, true);
    tell(&mut session, now, Message::AllowedFast(2)).unwrap();
    let piece = run(2, 0..1).piece();
    let told = [Event::AllowedFast(piece), Event::Hungry { blocks: 16 }];
    assert_eq!(events(&mut session), told);
    written(&mut session);
    session.grant(now, run(3, 0..4));
    assert_eq!(events(&mut session), [Event::Returned(run(3, 0..4))]);
    session.grant(now, run(2, 0..4));
    assert_eq!(written(&mut session).len(), 4);
    tell(&mut session, now, Message::Reject(raw(2, 0))).unwrap();
    session.grant(now, run(2, 0..1));
    let refused = [Event::Returned(run(2, 0..1)), Event::Returned(run(2, 0..1))];
    assert_eq!(events(&mut session), refused);
}

#[test]
fn each_thing_that_no_correct_client_does_ends_the_connection() {
    let now = Instant::now();
    let verdict = |fast, messages: &[Message<'_>]| {
        let mut session = session(now, fast, false);
        let told = |m: &Message<'_>| tell(&mut session, now, *m);
        messages.iter().map(told).last().unwrap()
    };
    let long = RawRange {
        piece: 0,
        begin: 0,
        len: REQUEST_LEN_MAX + 1,
    };
    let empty = RawRange { len: 0, ..long };
    let beyond = RawRange {
        begin: u32::MAX,
        len: 2,
        ..long
    };
    for bad in [long, empty, beyond] {
        let requested = verdict(true, &[Message::Request(bad)]);
        assert_eq!(requested, Err(WireError::BadRequest(bad)));
    }
    let (piece, pieces) = (PIECES, PIECES);
    let beyond = Err(WireError::NoSuchPiece { piece, pieces });
    assert_eq!(verdict(true, &[Message::Have(PIECES)]), beyond);
    assert!(verdict(true, &[Message::Bitfield(&[0; 2])]).is_err());
    assert!(verdict(true, &[Message::Bitfield(&[0, 0, 1])]).is_err());
    assert!(verdict(false, &[Message::HaveAll]).is_err());
    assert!(verdict(false, &[Message::AllowedFast(1)]).is_err());
    let many = [Message::HaveNone; BITFIELDS_MAX as usize + 1];
    assert_eq!(verdict(true, &many), Err(WireError::TooManyBitfields));
    assert!(verdict(true, &many[1..]).is_ok());
}

#[test]
fn blocks_that_nobody_asked_for_are_waste_and_many_of_them_a_violation() {
    let now = Instant::now();
    let mut session = unchoked(now, true);
    let message = Message::Piece {
        piece: u32::MAX,
        begin: 0,
        data: &[1, 2, 3],
    };
    for _ in 0..UNREQUESTED_MAX {
        tell(&mut session, now, message).unwrap();
    }
    assert_eq!(session.tally(now).wasted, 3 * u64::from(UNREQUESTED_MAX));
    assert!(tell(&mut session, now, message).is_err());
}

#[test]
fn a_late_bitfield_replaces_and_repetition_is_silent() {
    let now = Instant::now();
    let mut session = session(now, true, false);
    let piece = run(4, 0..1).piece();
    for _ in 0..3 {
        tell(&mut session, now, Message::Have(4)).unwrap();
        tell(&mut session, now, Message::Choke).unwrap();
        tell(&mut session, now, Message::Interested).unwrap();
    }
    tell(&mut session, now, Message::HaveNone).unwrap();
    tell(&mut session, now, Message::Have(4)).unwrap();
    let told = [
        Event::Have(piece),
        Event::Interested,
        Event::Pieces(Bitfield::new(PIECES)),
        Event::Have(piece),
    ];
    assert_eq!(events(&mut session), told);
}

#[test]
fn a_lost_piece_is_told_to_peers_that_understand() {
    let now = Instant::now();
    let (mut ours, piece) = (session(now, true, true), run(4, 0..1).piece());
    ours.retract(piece);
    assert_eq!(written(&mut ours), Vec::<String>::new());
    let payload = b"d1:md11:lt_donthavei9eee";
    let handshake = Message::Extended { id: 0, payload };
    tell(&mut ours, now, handshake).unwrap();
    ours.retract(piece);
    assert_eq!(written(&mut ours), ["extended 9"]);

    tell(&mut ours, now, Message::HaveAll).unwrap();
    events(&mut ours);
    let (id, payload) = (DONT_HAVE_ID, &4u32.to_be_bytes()[..]);
    tell(&mut ours, now, Message::Extended { id, payload }).unwrap();
    assert_eq!(events(&mut ours), [Event::DontHave(piece)]);
}

#[test]
fn becoming_a_seed_is_told_once() {
    let mut session = session(Instant::now(), true, false);
    session.set_upload_only(false);
    session.set_upload_only(true);
    session.set_upload_only(true);
    assert_eq!(written(&mut session), ["extended 0"]);
}

#[test]
fn a_partial_message_stays_with_the_caller_who_hears_how_long_it_is() {
    let now = Instant::now();
    let mut session = unchoked(now, true);
    let mut bytes = Vec::new();
    Message::Have(1).encode(&mut bytes);
    let whole = bytes.len();
    let data = &[0; 16_384][..];
    Message::Piece {
        piece: 0,
        begin: 0,
        data,
    }
    .encode(&mut bytes);
    assert_eq!(session.receive(now, &bytes[..whole + 3]), Ok(whole));
    assert_eq!(session.wanted(), 0);
    assert_eq!(session.receive(now, &bytes[whole..whole + 4]), Ok(0));
    assert_eq!(session.wanted(), bytes.len() - whole);
    let later = now + Duration::from_secs(1);
    assert_eq!(
        session.receive(later, &bytes[whole..]),
        Ok(bytes.len() - whole)
    );
    assert_eq!(session.wanted(), 0);
}

#[test]
fn a_request_that_later_ones_overtook_is_given_up() {
    let now = Instant::now();
    let mut session = unchoked(now, false);
    session.grant(now, run(0, 0..4));
    session.grant(now, run(1, 0..4));
    for (piece, block) in [(0, 0), (0, 1), (0, 3), (1, 0), (1, 1)] {
        send_block(&mut session, now, piece, block);
    }
    events(&mut session);
    written(&mut session);
    assert_eq!(session.next_deadline(), Some(now + REQUEST_OVERDUE));
    let later = now + REQUEST_OVERDUE;
    tell(
        &mut session,
        later - Duration::from_secs(1),
        Message::KeepAlive,
    )
    .unwrap();
    send_block(&mut session, later - Duration::from_secs(1), 1, 2);
    session.handle_timeout(later).unwrap();
    assert_eq!(written(&mut session), ["cancel 0+2"]);
    let told = events(&mut session);
    assert_eq!(told[0], Event::Returned(run(0, 2..3)));
    assert_eq!(told[1], run_event(run(0, 0..2)));
    assert_eq!(told[2], run_event(run(0, 3..4)));
    assert_eq!(session.requests.open(), 1);
    assert!(session.next_deadline().unwrap() > later);
}
