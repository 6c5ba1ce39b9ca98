//! What is written is read back.

use std::net::SocketAddr;

use proptest::prelude::*;
use seedbank::base::limits::{DATAGRAM_MAX, DHT_PEERS_MAX, NODES_WRITTEN_MAX};
use seedbank::proto::dht::{
    Body, Contact, Dialect, Message, Query, Reply, Want, decode, encode, json, krpc,
};

use crate::messages::{Size, message};

/// What is left of a message in the mainline dialect.
fn as_krpc(mut message: Message) -> Message {
    if let Body::Reply { reply, .. } = &mut message.body {
        reply.about = None;
        reply.nodes.sort_by_key(|contact| contact.addr.is_ipv6());
    }
    message
}

/// What is left of a message in the JSON dialect, if anything.
fn as_json(mut message: Message) -> Option<Message> {
    match &mut message.body {
        Body::Query {
            read_only, query, ..
        } => {
            *read_only = false;
            let info_hash = match *query {
                Query::Ping => return Some(message),
                Query::Announce { port: None, .. } => return None,
                Query::Announce { ref mut seed, .. } => {
                    *seed = false;
                    return Some(message);
                }
                Query::FindNode { target, .. }
                | Query::Get { target, .. }
                | Query::Sample { target, .. } => target.into(),
                Query::GetPeers { info_hash, .. } => info_hash,
            };
            *query = Query::GetPeers {
                info_hash,
                want: Want::default(),
                scrape: false,
                no_seeds: false,
            };
        }
        Body::Reply {
            observed, reply, ..
        } => {
            if reply.about.is_some() {
                *observed = None;
                reply.nodes.sort_by_key(|contact| contact.addr.is_ipv6());
                reply.samples = None;
                reply.scrape = None;
            } else {
                *reply = Reply::default();
            }
        }
        Body::Error { .. } => return None,
    }
    Some(message)
}

/// Addresses as they can be written.
fn sound(addrs: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    addrs
        .filter(|addr| addr.port() != 0)
        .map(|addr| SocketAddr::new(addr.ip().to_canonical(), addr.port()))
        .collect()
}

/// What of `sent` was left out, if it is what may be.
fn leaves_out(sent: &Reply, got: &Reply, len: usize) -> Result<(), TestCaseError> {
    let peers = sound(sent.peers.iter().copied());
    prop_assert!(peers.starts_with(&got.peers), "the first peers are kept");
    for v4 in [true, false] {
        let of = |reply: &Reply| {
            let family = |contact: &Contact| contact.addr.ip().to_canonical().is_ipv4() == v4;
            let contacts = reply.nodes.iter().filter(|contact| family(contact));
            sound(contacts.map(|contact| contact.addr))
        };
        prop_assert!(of(got).len() <= NODES_WRITTEN_MAX);
        prop_assert!(
            of(sent).starts_with(&of(got)),
            "the first contacts are kept"
        );
    }
    if !got.peers.is_empty() && got.peers.len() < peers.len().min(DHT_PEERS_MAX) {
        prop_assert!(
            len > DATAGRAM_MAX - 100,
            "{len} bytes leave room for another peer"
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_mainline_dialect_says_everything(message in message(Size::Modest)) {
        let datagram = krpc::encode(&message);
        prop_assert_eq!(decode(&datagram), Ok((Dialect::Krpc, as_krpc(message))));
    }

    #[test]
    fn the_json_dialect_says_what_it_has_words_for(message in message(Size::Modest)) {
        let datagram = json::encode(&message);
        match as_json(message) {
            Some(message) => prop_assert_eq!(decode(&datagram), Ok((Dialect::Json, message))),
            None => prop_assert_eq!(datagram, b""),
        }
    }

    #[test]
    fn whatever_a_message_holds_it_fits_a_datagram_and_is_read(message in message(Size::Wild)) {
        for dialect in [Dialect::Krpc, Dialect::Json] {
            let datagram = encode(dialect, &message);
            prop_assert!(datagram.len() <= DATAGRAM_MAX);
            if datagram.is_empty() {
                prop_assert!(dialect == Dialect::Json);
                continue;
            }
            let (read_as, read) = decode(&datagram).unwrap();
            prop_assert_eq!(read_as, dialect);
            prop_assert_eq!(&encode(dialect, &read), &datagram, "nothing more is lost");
            if let (Body::Reply { reply: sent, .. }, Body::Reply { reply: got, .. }) = (&message.body, &read.body) {
                leaves_out(sent, got, datagram.len())?;
            }
        }
    }
}
