//! What a session does, message by message, in virtual time.

mod downloads;
mod uploads;

use std::time::Duration;

use super::*;
use crate::base::BLOCK_LEN;
use crate::base::limits::{BITFIELDS_MAX, REQUEST_LEN_MAX};
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
        metadata: None,
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
            metadata: None,
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
fn time_in_which_nothing_was_read_is_not_held_against_the_peer() {
    let start = Instant::now();
    let mut session = unchoked(start, true);
    session.grant(start, run(0, 0..4));
    session.grant(start, run(1, 0..4));
    // A block of the second overtakes the first, which would be overdue after REQUEST_OVERDUE.
    send_block(&mut session, start, 1, 0);
    events(&mut session);
    let mut now = start;
    for _ in 0..20 {
        let deaf = Duration::from_secs(100);
        session.was_deaf(deaf);
        now += deaf;
        session.handle_timeout(now).unwrap();
        assert_eq!(events(&mut session), []);
    }
    // From then on it counts as ever.
    now += SNUB_TIME;
    session.handle_timeout(now).unwrap();
    let told = events(&mut session);
    assert!(told.contains(&Event::Snubbed), "{told:?}");
    assert!(
        told.iter().any(|e| matches!(e, Event::Returned(_))),
        "{told:?}"
    );
    now = start + Duration::from_secs(2_000) + PEER_SILENCE;
    assert_eq!(session.handle_timeout(now), Err(WireError::Silent));
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
fn the_port_of_a_dht_node_is_told_both_ways() {
    let now = Instant::now();
    let mut session = session(now, true, false);
    session.announce_dht_port(6881);
    assert_eq!(written(&mut session), ["Port(6881)"]);
    tell(&mut session, now, Message::Port(0)).unwrap();
    tell(&mut session, now, Message::Port(6882)).unwrap();
    assert_eq!(events(&mut session), [Event::Port(6882)]);
}
