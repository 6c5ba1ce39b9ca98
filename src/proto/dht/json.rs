//! The JSON dialect: one object a datagram, five types of messages; ids, tokens and transactions in hexadecimal digits.
//!
//! | message | in this dialect |
//! |---|---|
//! | [`Query::Ping`] | `ping` |
//! | [`Query::GetPeers`], and [`Query::FindNode`], [`Query::Get`] and [`Query::Sample`] with their point as the torrent | `findPeers` |
//! | [`Query::Announce`] | `announce` |
//! | a [`Reply`] about something | `peers` |
//! | any other [`Reply`] | `pong` |
//! | [`Body::Error`] | nothing |
//!
//! Addresses are numbers, never names. Unknown fields are ignored; so are entries of lists that make no sense, so that one of them
//! does not cost the others.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::compact::reachable;
use super::portion::{Portion, fit};
use super::{Body, Contact, DecodeError, Message, Query, Reply, Token, Transaction, Want};
use crate::base::limits::{
    DATAGRAM_MAX, DHT_PEERS_MAX, NODES_READ_MAX, NODES_WRITTEN_MAX, TOKEN_MAX, TRANSACTION_MAX,
};
use crate::base::{InfoHash, NodeId};

#[cfg(test)]
mod tests;

/// The five types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Type {
    Ping,
    Pong,
    FindPeers,
    Peers,
    Announce,
}

impl Type {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ping" => Self::Ping,
            "pong" => Self::Pong,
            "findPeers" => Self::FindPeers,
            "peers" => Self::Peers,
            "announce" => Self::Announce,
            _ => return None,
        })
    }
}

/// A message as it is written.
#[derive(Serialize)]
struct Written<'a> {
    r#type: Type,
    t: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    info_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<NonZeroU16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peers: Option<&'a [SocketAddr]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Vec<WrittenNode>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    addr: Option<SocketAddr>,
}

#[derive(Serialize)]
struct WrittenNode {
    id: String,
    addr: SocketAddr,
}

impl<'a> Written<'a> {
    fn new(r#type: Type, transaction: &Transaction, from: NodeId) -> Self {
        Self {
            r#type,
            t: hex(&transaction.0, TRANSACTION_MAX),
            id: from.to_string(),
            info_hash: None,
            port: None,
            peers: None,
            nodes: None,
            token: None,
            addr: None,
        }
    }

    fn find_peers(transaction: &Transaction, from: NodeId, point: InfoHash) -> Self {
        Self {
            info_hash: Some(point.to_string()),
            ..Self::new(Type::FindPeers, transaction, from)
        }
    }

    fn found(self, about: InfoHash, token: Option<&Token>, portion: &'a Portion<'_>) -> Self {
        let nodes = portion.nodes.iter().take(NODES_WRITTEN_MAX);
        let nodes = nodes.map(|contact| WrittenNode {
            id: contact.id.to_string(),
            addr: contact.addr,
        });
        Self {
            info_hash: Some(about.to_string()),
            peers: Some(&portion.peers),
            nodes: Some(nodes.collect()),
            token: token.map(|token| hex(&token.0, TOKEN_MAX)),
            ..self
        }
    }

    fn finish(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings, numbers and lists of them have a form in JSON")
    }
}

fn hex(bytes: &[u8], max: usize) -> String {
    HEXLOWER.encode(&bytes[..bytes.len().min(max)])
}

/// The datagram that says `message`, of at most [`DATAGRAM_MAX`] bytes; **empty** if this dialect cannot say it: an error, or an
/// announcement without a port.
///
/// What it has no words for is left out: scrapes, samples, `want`, read-only, the observed address of a `peers`, everything but that
/// of a `pong`. A `peers` has at most 8 contacts, IPv4 first. Of one that is too long, peers are left out first, then contacts
/// from the end; transactions and tokens beyond their bounds are cut.
pub fn encode(message: &Message) -> Vec<u8> {
    let transaction = &message.transaction;
    let datagram = match &message.body {
        Body::Query { from, query, .. } => match encode_query(transaction, *from, query) {
            Some(written) => written.finish(),
            None => Vec::new(),
        },
        Body::Reply {
            from,
            observed,
            reply,
        } => match reply.about {
            Some(about) => fit(reply, |portion| {
                let written = Written::new(Type::Peers, transaction, *from);
                written.found(about, reply.token.as_ref(), portion).finish()
            }),
            None => {
                let mut written = Written::new(Type::Pong, transaction, *from);
                written.addr = observed.and_then(reachable);
                written.finish()
            }
        },
        Body::Error { .. } => Vec::new(),
    };
    debug_assert!(datagram.len() <= DATAGRAM_MAX);
    datagram
}

fn encode_query(
    transaction: &Transaction,
    from: NodeId,
    query: &Query,
) -> Option<Written<'static>> {
    Some(match query {
        Query::Ping => Written::new(Type::Ping, transaction, from),
        Query::FindNode { target, .. }
        | Query::Get { target, .. }
        | Query::Sample { target, .. } => {
            Written::find_peers(transaction, from, InfoHash::from(*target))
        }
        Query::GetPeers { info_hash, .. } => Written::find_peers(transaction, from, *info_hash),
        Query::Announce {
            info_hash,
            port,
            token,
            ..
        } => Written {
            info_hash: Some(info_hash.to_string()),
            port: Some((*port)?),
            token: Some(hex(&token.0, TOKEN_MAX)),
            ..Written::new(Type::Announce, transaction, from)
        },
    })
}

/// A message as it is read.
#[derive(Deserialize)]
struct Read {
    r#type: String,
    t: Option<String>,
    id: Option<String>,
    info_hash: Option<String>,
    port: Option<u16>,
    #[serde(default)]
    peers: Vec<Entry<SocketAddr>>,
    #[serde(default)]
    nodes: Vec<Entry<ReadNode>>,
    token: Option<String>,
    addr: Option<Entry<SocketAddr>>,
}

/// What is hoped to be a `T`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry<T> {
    Sound(T),
    Other(IgnoredAny),
}

impl<T> Entry<T> {
    fn sound(self) -> Option<T> {
        match self {
            Self::Sound(value) => Some(value),
            Self::Other(_) => None,
        }
    }
}

#[derive(Deserialize)]
struct ReadNode {
    id: String,
    addr: SocketAddr,
}

/// What a datagram says. An announcement without a usable token has an empty one, which no node accepts.
///
/// # Errors
/// If it is longer than [`DATAGRAM_MAX`], not a JSON object, or not a message.
pub fn decode(datagram: &[u8]) -> Result<Message, DecodeError> {
    if datagram.len() > DATAGRAM_MAX {
        return Err(DecodeError::TooLong {
            len: datagram.len(),
            max: DATAGRAM_MAX,
        });
    }
    // Lists would be read as objects without keys.
    if datagram.first() != Some(&b'{') {
        return Err(DecodeError::NotJson { at: 0 });
    }
    let read: Read = serde_json::from_slice(datagram).map_err(|error| DecodeError::NotJson {
        at: offset(datagram, &error),
    })?;
    read.message()
}

/// Where in the datagram an error was seen; serde tells lines and columns.
fn offset(datagram: &[u8], error: &serde_json::Error) -> usize {
    let lines = datagram.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    before + error.column()
}

impl Read {
    fn message(self) -> Result<Message, DecodeError> {
        let r#type = Type::named(&self.r#type).ok_or(DecodeError::UnknownType)?;
        let transaction = self
            .t
            .as_deref()
            .and_then(|digits| unhex(digits, TRANSACTION_MAX));
        let transaction = transaction
            .map(Transaction)
            .ok_or(DecodeError::NoTransaction)?;
        let from = point(self.id.as_deref()).ok_or(malformed("id"))?.into();
        let body = match r#type {
            Type::Ping => query(from, Query::Ping),
            Type::FindPeers => query(
                from,
                Query::GetPeers {
                    info_hash: self.info_hash()?,
                    want: Want::default(),
                    scrape: false,
                    no_seeds: false,
                },
            ),
            Type::Announce => query(
                from,
                Query::Announce {
                    info_hash: self.info_hash()?,
                    port: Some(
                        self.port
                            .and_then(NonZeroU16::new)
                            .ok_or(malformed("port"))?,
                    ),
                    token: self.token().unwrap_or_default(),
                    seed: false,
                },
            ),
            Type::Pong => Body::Reply {
                from,
                observed: self.addr.and_then(Entry::sound).and_then(reachable),
                reply: Reply::default(),
            },
            Type::Peers => Body::Reply {
                from,
                observed: None,
                reply: self.found()?,
            },
        };
        Ok(Message { transaction, body })
    }

    fn info_hash(&self) -> Result<InfoHash, DecodeError> {
        point(self.info_hash.as_deref()).ok_or(malformed("info_hash"))
    }

    fn token(&self) -> Option<Token> {
        unhex(self.token.as_deref()?, TOKEN_MAX).map(Token)
    }

    fn found(self) -> Result<Reply, DecodeError> {
        let about = self.info_hash()?;
        let token = self.token();
        let peers = self
            .peers
            .into_iter()
            .filter_map(Entry::sound)
            .filter_map(reachable);
        let contacts = self
            .nodes
            .into_iter()
            .filter_map(Entry::sound)
            .filter_map(ReadNode::contact);
        Ok(Reply {
            about: Some(about),
            nodes: contacts.take(NODES_READ_MAX).collect(),
            peers: peers.take(DHT_PEERS_MAX).collect(),
            token,
            ..Reply::default()
        })
    }
}

impl ReadNode {
    fn contact(self) -> Option<Contact> {
        Some(Contact {
            id: point(Some(&self.id))?.into(),
            addr: reachable(self.addr)?,
        })
    }
}

fn query(from: NodeId, query: Query) -> Body {
    Body::Query {
        from,
        read_only: false,
        query,
    }
}

fn malformed(field: &'static str) -> DecodeError {
    DecodeError::Malformed { field, asked: None }
}

/// A point of the DHT's space, be it a node's or a torrent's.
fn point(digits: Option<&str>) -> Option<InfoHash> {
    digits?.parse().ok()
}

fn unhex(digits: &str, max: usize) -> Option<Vec<u8>> {
    if digits.len() > 2 * max {
        return None;
    }
    HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()
}
