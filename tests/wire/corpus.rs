//! Inputs from bug reports that broke other clients, where the corpus is at hand.

use std::path::Path;
use std::time::Instant;

use seedbank::base::{BLOCK_LEN, Geometry};
use seedbank::proto::tracker::Reply;
use seedbank::proto::wire::framing::{FrameLimits, decode};
use seedbank::proto::wire::{ExtendedHandshake, WireError};

/// The bytes of a file of the corpus; `None`, with a word about it, where there is no corpus.
fn repro(name: &str) -> Option<Vec<u8>> {
    let Ok(corpus) = std::env::var("SEEDBANK_CORPUS") else {
        eprintln!("skipped: SEEDBANK_CORPUS is not set");
        return None;
    };
    let path = Path::new(&corpus).join("issue-repros").join(name);
    Some(std::fs::read(path).unwrap())
}

#[test]
fn a_length_prefix_of_four_gibibytes_ends_the_connection() {
    let Some(bytes) = repro("transmission_9082_len_prefix_4GiB.bin") else {
        return;
    };
    let limits = FrameLimits::new(100);
    let refused = decode(&bytes, &limits).unwrap_err();
    assert!(matches!(refused, WireError::TooLong { len: u32::MAX, .. }));
    let geometry = Geometry::new(1_000_000, BLOCK_LEN).unwrap();
    let mut session = super::session(Instant::now(), geometry, true, true);
    assert!(session.receive(Instant::now(), &bytes).is_err());
}

#[test]
fn extension_handshakes_with_odd_metadata_sizes_are_taken() {
    for (name, metadata) in [
        ("rakshasa_124_ext_handshake_metadata_size_-1.bin", 3),
        ("synapse_237_ext_handshake_metadata_size_0.bin", 9),
    ] {
        let Some(bytes) = repro(name) else {
            return;
        };
        let handshake = ExtendedHandshake::decode(&bytes).unwrap();
        assert_eq!(handshake.metadata_size, None, "{name}");
        assert_eq!(handshake.extensions.metadata, Some(metadata), "{name}");
    }
}

#[test]
fn a_tracker_reply_without_peers_is_taken() {
    let Some(bytes) = repro("qbt_8088_tracker_peers0.benc") else {
        return;
    };
    let reply = Reply::parse(&bytes).unwrap();
    assert_eq!((reply.peers.len(), reply.complete), (0, Some(1)));
}
