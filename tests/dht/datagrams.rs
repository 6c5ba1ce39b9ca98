//! Datagrams that mean harm.

use seedbank::base::limits::{
    DATAGRAM_MAX, DHT_PEERS_MAX, NODES_READ_MAX, SAMPLES_MAX, TOKEN_MAX, TRANSACTION_MAX,
};
use seedbank::proto::dht::{Body, Dialect, Message, Query, decode, encode};

use crate::dice;
use crate::mutants::Mutants;

const DATAGRAMS: usize = 100_000;

/// No more is kept of a message than its bounds allow.
fn bounded(message: &Message) {
    assert!(message.transaction.0.len() <= TRANSACTION_MAX);
    match &message.body {
        Body::Query { query, .. } => {
            if let Query::Announce { token, .. } = query {
                assert!(token.0.len() <= TOKEN_MAX);
            }
        }
        Body::Reply { reply, .. } => {
            assert!(reply.nodes.len() <= 2 * NODES_READ_MAX);
            assert!(reply.peers.len() <= DHT_PEERS_MAX);
            assert!(reply.peers.iter().all(|peer| peer.port() != 0));
            assert!(reply.nodes.iter().all(|node| node.addr.port() != 0));
            assert!(
                reply
                    .token
                    .as_ref()
                    .is_none_or(|token| token.0.len() <= TOKEN_MAX)
            );
            let samples = reply.samples.as_ref();
            assert!(samples.is_none_or(|samples| samples.hashes.len() <= SAMPLES_MAX));
        }
        Body::Error { text, .. } => assert!(text.len() <= DATAGRAM_MAX),
    }
}

/// Reads one as a node would; whether it is a message.
fn take(datagram: &[u8]) -> bool {
    match decode(datagram) {
        Ok((dialect, message)) => {
            bounded(&message);
            let ours = encode(dialect, &message);
            assert!(ours.len() <= DATAGRAM_MAX);
            let (again, read) = decode(&ours).unwrap();
            assert_eq!((again, encode(again, &read)), (dialect, ours));
            true
        }
        Err(error) => {
            assert!(error.to_string().len() < 200);
            if let Some(answer) = error.answer() {
                bounded(&answer);
                assert!(encode(Dialect::Krpc, &answer).len() < 60 + TRANSACTION_MAX);
            }
            false
        }
    }
}

fn no_datagram_does_harm(dialect: Dialect) {
    let mutants = Mutants::new(dialect, dice(dialect.as_str()));
    let read = mutants
        .take(DATAGRAMS)
        .filter(|datagram| take(datagram))
        .count();
    // Both ways through the code are walked many times.
    println!("{read} of {DATAGRAMS} are messages");
    assert!((DATAGRAMS / 20..DATAGRAMS / 2).contains(&read), "{read}");
}

#[test]
fn a_hundred_thousand_datagrams_in_krpc_are_read_or_refused() {
    no_datagram_does_harm(Dialect::Krpc);
}

#[test]
fn a_hundred_thousand_datagrams_in_json_are_read_or_refused() {
    no_datagram_does_harm(Dialect::Json);
}

#[test]
fn every_truncation_and_bit_flip_of_a_message_is_read_or_refused() {
    for dialect in [Dialect::Krpc, Dialect::Json] {
        let sound = Mutants::new(dialect, dice(dialect.as_str())).sound();
        for datagram in sound.iter().take(20) {
            for len in 0..datagram.len() {
                assert!(!take(&datagram[..len]), "a part is not the whole");
            }
            for bit in 0..8 * datagram.len() {
                let mut flipped = datagram.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                take(&flipped);
            }
        }
    }
}

#[test]
fn a_datagram_of_another_protocol_is_of_no_dialect() {
    for first in (0..=u8::MAX).filter(|first| !b"d{".contains(first)) {
        assert_eq!(Dialect::of(first), None);
        assert!(!take(&[first, b'e']));
    }
    assert!(!take(b""));
}
