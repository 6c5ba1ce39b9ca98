//! Long property tests of the peer wire protocol: the session against a naive model, against another session in virtual
//! time, and against bytes that mean harm.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that panics has failed, and says why"
)]

mod corpus;
mod hostile;
mod model;
mod transfer;

use std::sync::Arc;
use std::time::Instant;

use seedbank::base::{BLOCK_LEN, Bitfield, BlockRange, Geometry, InfoHash, SharedBitfield};
use seedbank::proto::wire::framing::{FrameLimits, decode};
use seedbank::proto::wire::{ExtendedHandshake, Message, Session, SessionConfig};

/// A session about a torrent of which everything or nothing is served.
fn session(now: Instant, geometry: Geometry, fast: bool, seed: bool) -> Session {
    let bits = if seed {
        Bitfield::full(geometry.pieces())
    } else {
        Bitfield::new(geometry.pieces())
    };
    let config = SessionConfig {
        geometry,
        served: Arc::new(SharedBitfield::new(&bits)),
        fast,
        extended: true,
        local: ExtendedHandshake {
            reqq: Some(500),
            ..ExtendedHandshake::default()
        },
        metadata: None,
        remote_ip: "10.0.0.1".parse().unwrap(),
        info_hash: InfoHash([7; 20]),
    };
    Session::new(now, config)
}

/// The bytes of the payload at `range`, different for every block.
fn payload(geometry: &Geometry, range: BlockRange) -> Vec<u8> {
    let start = geometry.offset(range);
    let byte = |at: u64| (at / u64::from(BLOCK_LEN) * 31 + at % 251) as u8;
    (start..start + u64::from(range.len())).map(byte).collect()
}

/// Takes what the session wrote and hands each message to `read`.
fn drain(session: &mut Session, limits: &FrameLimits, mut read: impl FnMut(Message<'_>)) {
    let bytes = session.outgoing();
    let mut at = 0;
    while let Some((message, len)) = decode(&bytes[at..], limits).unwrap() {
        read(message);
        at += len;
    }
    assert_eq!(at, bytes.len(), "only whole messages are written");
    session.sent(at);
}
