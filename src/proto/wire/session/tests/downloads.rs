//! Grants, and what the peer makes of our requests.

use super::*;
use crate::base::limits::{REQUEST_OVERDUE, UNREQUESTED_MAX};

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

#[test]
fn a_buffer_given_back_is_filled_again() {
    let now = Instant::now();
    let mut session = unchoked(now, true);
    let (mut places, mut buffer) = (Vec::new(), None);
    for piece in 0..3 {
        session.grant(now, run(piece, 0..2));
        let wanted = session.buffer_wanted(1);
        assert_eq!(wanted, Some(2 * BLOCK_LEN as usize));
        if let Some(buffer) = buffer.take() {
            session.recycle(buffer);
        }
        send_block(&mut session, now, piece, 1);
        send_block(&mut session, now, piece, 0);
        for event in events(&mut session) {
            if let Event::Run { range, data } = event {
                assert_eq!(
                    run_event(range),
                    Event::Run {
                        range,
                        data: data.clone()
                    }
                );
                places.push(data.as_ptr());
                buffer = Some(data);
            }
        }
    }
    assert_eq!(places, [places[0]; 3]);
    assert_eq!(
        session.buffer_wanted(usize::MAX),
        None,
        "nothing is to come"
    );
}

#[test]
fn a_buffer_is_wanted_only_for_what_comes_next() {
    let now = Instant::now();
    let mut session = unchoked(now, true);
    session.grant(now, run(0, 0..2));
    session.grant(now, run(1, 0..3));
    let len = BLOCK_LEN as usize;
    session.recycle(Vec::new());
    assert_eq!(session.buffer_wanted(0), None);
    assert_eq!(session.buffer_wanted(2 * len), None);
    assert_eq!(session.buffer_wanted(2 * len + 1), Some(3 * len));
    send_block(&mut session, now, 0, 0);
    assert_eq!(session.buffer_wanted(len + 1), Some(3 * len));
    // A block out of order finds memory of its own.
    send_block(&mut session, now, 1, 2);
    assert_eq!(session.buffer_wanted(usize::MAX), None);
}
