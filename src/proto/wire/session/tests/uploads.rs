//! The peer's requests.

use super::*;
use crate::base::limits::UPLOAD_QUEUE_MAX;

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
