//! The mainline dialect: KRPC (BEP 5) with IPv6 (BEP 32), scrapes (BEP 33), the observed address (BEP 42), read-only nodes
//! (BEP 43) and samples (BEP 51).
//!
//! Writing is canonical and never longer than [`DATAGRAM_MAX`]. Reading takes what nodes in use get wrong without harm: unsorted or
//! unknown keys, bytes after the message, peers run together into one string, lists that do not end on a whole entry. It keeps
//! no more than the bounds in [`limits`](crate::base::limits), and no address without a port.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use super::portion::{Portion, fit};
use super::{
    Body, Contact, DecodeError, Message, Query, Reply, Samples, Scrape, Token, Transaction, Want,
    compact,
};
use crate::base::limits::{
    DATAGRAM_MAX, DHT_PEERS_MAX, DHT_TEXT_MAX, KRPC_MAX, NODES_READ_MAX, SAMPLES_MAX, TOKEN_MAX,
    TRANSACTION_MAX,
};
use crate::base::{InfoHash, NodeId};
use crate::format::bencode::{DictWriter, Document, Value, Writer};

#[cfg(test)]
mod tests;

/// How this program and its version are told to other nodes.
const VERSION: [u8; 4] = [
    b'S',
    b'B',
    number(env!("CARGO_PKG_VERSION_MAJOR")),
    number(env!("CARGO_PKG_VERSION_MINOR")),
];

const fn number(digits: &str) -> u8 {
    match u8::from_str_radix(digits, 10) {
        Ok(number) => number,
        Err(_) => u8::MAX,
    }
}

/// The datagram that says `message`, of at most [`DATAGRAM_MAX`] bytes. Of a reply that is too long for it, peers are left out first,
/// then samples, the scrape, and contacts from the end; transactions, tokens and texts beyond their bounds are cut.
/// [`Reply::about`] is not written.
pub fn encode(message: &Message) -> Vec<u8> {
    let transaction = &message.transaction;
    let datagram = match &message.body {
        Body::Query {
            from,
            read_only,
            query,
        } => write(transaction, b"q", |top| {
            top.dict("a", |arguments| write_arguments(arguments, *from, query));
            top.bytes("q", method(query));
            if *read_only {
                top.int("ro", 1);
            }
        }),
        Body::Reply {
            from,
            observed,
            reply,
        } => fit(reply, |portion| {
            write(transaction, b"r", |top| {
                if let Some(observed) = observed.and_then(compact::reachable) {
                    top.bytes("ip", compact::addr_bytes(observed));
                }
                top.dict("r", |values| write_values(values, *from, reply, portion));
            })
        }),
        Body::Error { code, text } => write(transaction, b"e", |top| {
            top.list("e", |list| {
                list.int(*code);
                list.bytes(cut_text(text));
            });
        }),
    };
    debug_assert!(datagram.len() <= DATAGRAM_MAX);
    datagram
}

/// A message with `body`, whose keys sort before the three that all messages end with.
fn write(
    transaction: &Transaction,
    kind: &[u8],
    body: impl FnOnce(&mut DictWriter<'_>),
) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.dict(|top| {
        body(top);
        top.bytes("t", cut(&transaction.0, TRANSACTION_MAX));
        top.bytes("v", VERSION);
        top.bytes("y", kind);
    });
    writer.finish()
}

fn cut(bytes: &[u8], max: usize) -> &[u8] {
    &bytes[..bytes.len().min(max)]
}

fn cut_text(text: &str) -> &str {
    let mut ends = (0..=text.len().min(DHT_TEXT_MAX)).rev();
    let end = ends.find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    &text[..end]
}

fn method(query: &Query) -> &'static str {
    match query {
        Query::Ping => "ping",
        Query::FindNode { .. } => "find_node",
        Query::GetPeers { .. } => "get_peers",
        Query::Announce { .. } => "announce_peer",
        Query::Get { .. } => "get",
        Query::Sample { .. } => "sample_infohashes",
    }
}

fn write_arguments(out: &mut DictWriter<'_>, from: NodeId, query: &Query) {
    out.bytes("id", from.as_bytes());
    match query {
        Query::Ping => (),
        Query::FindNode { target, want }
        | Query::Get { target, want }
        | Query::Sample { target, want } => {
            out.bytes("target", target.as_bytes());
            write_want(out, *want);
        }
        Query::GetPeers {
            info_hash,
            want,
            scrape,
            no_seeds,
        } => {
            out.bytes("info_hash", info_hash.as_bytes());
            write_flag(out, "noseed", *no_seeds);
            write_flag(out, "scrape", *scrape);
            write_want(out, *want);
        }
        Query::Announce {
            info_hash,
            port,
            token,
            seed,
        } => {
            write_flag(out, "implied_port", port.is_none());
            out.bytes("info_hash", info_hash.as_bytes());
            out.int("port", i64::from(port.map_or(0, NonZeroU16::get)));
            write_flag(out, "seed", *seed);
            out.bytes("token", cut(&token.0, TOKEN_MAX));
        }
    }
}

fn write_flag(out: &mut DictWriter<'_>, key: &str, set: bool) {
    if set {
        out.int(key, 1);
    }
}

fn write_want(out: &mut DictWriter<'_>, want: Want) {
    if want != Want::default() {
        out.list("want", |list| {
            let families = [(want.v4, "n4"), (want.v6, "n6")].into_iter();
            for (_, family) in families.filter(|(wanted, _)| *wanted) {
                list.bytes(family);
            }
        });
    }
}

fn write_values(out: &mut DictWriter<'_>, from: NodeId, reply: &Reply, portion: &Portion<'_>) {
    let family = |v4: bool| {
        let contacts = portion.nodes.iter();
        let contacts = contacts.filter(|contact| contact.addr.is_ipv4() == v4);
        contacts
            .flat_map(compact::contact_bytes)
            .collect::<Vec<_>>()
    };
    let nonempty = |out: &mut DictWriter<'_>, key: &str, value: &[u8]| {
        if !value.is_empty() {
            out.bytes(key, value);
        }
    };
    if let Some(scrape) = portion.scrape {
        out.bytes("BFpe", scrape.leechers);
        out.bytes("BFsd", scrape.seeds);
    }
    out.bytes("id", from.as_bytes());
    if let Some(samples) = &reply.samples {
        out.int("interval", i64::from(samples.interval));
    }
    nonempty(out, "nodes", &family(true));
    nonempty(out, "nodes6", &family(false));
    if let Some(samples) = &reply.samples {
        out.int("num", i64::from(samples.total));
        let packed: Vec<u8> = portion.samples.iter().flat_map(|hash| hash.0).collect();
        out.bytes("samples", packed);
    }
    if let Some(token) = &reply.token {
        out.bytes("token", cut(&token.0, TOKEN_MAX));
    }
    if !portion.peers.is_empty() {
        out.list("values", |list| {
            for peer in &portion.peers {
                list.bytes(compact::addr_bytes(*peer));
            }
        });
    }
}

/// What a datagram says. A query with an unknown method that names a point is read as [`Query::FindNode`], as libtorrent
/// does for the sake of extensions.
///
/// # Errors
/// If it is longer than [`KRPC_MAX`], not bencoded, or not a message; [`DecodeError::answer`] tells whether its sender is to hear
/// of it.
pub fn decode(datagram: &[u8]) -> Result<Message, DecodeError> {
    if datagram.len() > KRPC_MAX {
        return Err(DecodeError::TooLong {
            len: datagram.len(),
            max: KRPC_MAX,
        });
    }
    let (document, _) = Document::parse_prefix(datagram)?;
    let top = document.root();
    let transaction = string(&top, b"t")
        .filter(|transaction| transaction.len() <= TRANSACTION_MAX)
        .ok_or(DecodeError::NoTransaction)?;
    let transaction = Transaction(transaction.to_vec());
    let body = match string(&top, b"y") {
        Some(b"q") => read_query(&top, &transaction)?,
        Some(b"r") => read_reply(&top)?,
        Some(b"e") => read_error(&top),
        _ => return Err(DecodeError::UnknownType),
    };
    Ok(Message { transaction, body })
}

fn string<'a>(dict: &Value<'a>, key: &[u8]) -> Option<&'a [u8]> {
    dict.get(key)?.as_bytes()
}

fn id(dict: &Value<'_>, key: &[u8]) -> Option<NodeId> {
    string(dict, key)?.try_into().ok().map(NodeId)
}

fn flag(dict: &Value<'_>, key: &[u8]) -> bool {
    dict.get(key)
        .and_then(|value| value.as_int())
        .is_some_and(|value| value != 0)
}

fn read_query(top: &Value<'_>, transaction: &Transaction) -> Result<Body, DecodeError> {
    let malformed = |field| DecodeError::Malformed {
        field,
        asked: Some(transaction.clone()),
    };
    let method = string(top, b"q").ok_or_else(|| malformed("q"))?;
    let arguments = top.get(b"a").ok_or_else(|| malformed("a"))?;
    let from = id(&arguments, b"id").ok_or_else(|| malformed("id"))?;
    let target = || id(&arguments, b"target").ok_or_else(|| malformed("target"));
    let info_hash = || {
        let point = id(&arguments, b"info_hash").map(InfoHash::from);
        point.ok_or_else(|| malformed("info_hash"))
    };
    let want = read_want(&arguments);
    let query = match method {
        b"ping" => Query::Ping,
        b"find_node" => Query::FindNode {
            target: target()?,
            want,
        },
        b"get_peers" => Query::GetPeers {
            info_hash: info_hash()?,
            want,
            scrape: flag(&arguments, b"scrape"),
            no_seeds: flag(&arguments, b"noseed"),
        },
        b"announce_peer" => Query::Announce {
            info_hash: info_hash()?,
            port: read_port(&arguments).map_err(malformed)?,
            token: read_token(&arguments).ok_or_else(|| malformed("token"))?,
            seed: flag(&arguments, b"seed"),
        },
        b"get" => Query::Get {
            target: target()?,
            want,
        },
        b"sample_infohashes" => Query::Sample {
            target: target()?,
            want,
        },
        _ => Query::FindNode {
            target: id(&arguments, b"target")
                .or_else(|| id(&arguments, b"info_hash"))
                .ok_or_else(|| DecodeError::UnknownMethod {
                    transaction: transaction.clone(),
                })?,
            want,
        },
    };
    Ok(Body::Query {
        from,
        read_only: flag(top, b"ro"),
        query,
    })
}

fn read_want(arguments: &Value<'_>) -> Want {
    let families = arguments.get(b"want");
    let wanted = |family: &[u8]| {
        families
            .as_ref()
            .is_some_and(|families| families.list().any(|item| item.as_bytes() == Some(family)))
    };
    Want {
        v4: wanted(b"n4"),
        v6: wanted(b"n6"),
    }
}

fn read_port(arguments: &Value<'_>) -> Result<Option<NonZeroU16>, &'static str> {
    if flag(arguments, b"implied_port") {
        return Ok(None);
    }
    let port = arguments.get(b"port").and_then(|port| port.as_int());
    let port = port.and_then(|port| u16::try_from(port).ok());
    port.and_then(NonZeroU16::new).map(Some).ok_or("port")
}

fn read_token(dict: &Value<'_>) -> Option<Token> {
    let token = string(dict, b"token")?;
    (token.len() <= TOKEN_MAX).then(|| Token(token.to_vec()))
}

fn read_reply(top: &Value<'_>) -> Result<Body, DecodeError> {
    let malformed = |field| DecodeError::Malformed { field, asked: None };
    let values = top.get(b"r").ok_or_else(|| malformed("r"))?;
    let from = id(&values, b"id").ok_or_else(|| malformed("id"))?;
    // Old versions of libtorrent wrote it among the values.
    let observed = string(top, b"ip").or_else(|| string(&values, b"ip"));
    let mut nodes = Vec::new();
    read_nodes::<26>(&mut nodes, string(&values, b"nodes"));
    read_nodes::<38>(&mut nodes, string(&values, b"nodes6"));
    Ok(Body::Reply {
        from,
        observed: observed.and_then(compact::addr),
        reply: Reply {
            about: None,
            nodes,
            peers: values
                .get(b"values")
                .map(|peers| read_peers(&peers))
                .unwrap_or_default(),
            token: read_token(&values),
            scrape: read_scrape(&values),
            samples: read_samples(&values),
        },
    })
}

fn read_nodes<const LEN: usize>(nodes: &mut Vec<Contact>, packed: Option<&[u8]>) {
    let contacts = packed.unwrap_or_default().as_chunks::<LEN>().0.iter();
    // An IPv4 address among the IPv6 ones would count against the wrong bound.
    let contacts = contacts
        .filter_map(|bytes| compact::contact(bytes))
        .filter(|contact| contact.addr.is_ipv4() == (LEN == 26));
    nodes.extend(contacts.take(NODES_READ_MAX));
}

/// Peers are a list of strings, one each; old nodes send one string of several, alone or as an item.
fn read_peers(values: &Value<'_>) -> Vec<SocketAddr> {
    let alone = values.as_bytes();
    let items = values.list().filter_map(|item| item.as_bytes());
    let peers = alone.into_iter().chain(items).flat_map(|packed| {
        let each = if packed.len() == 18 && alone.is_none() {
            18
        } else {
            6
        };
        packed.chunks_exact(each).filter_map(compact::addr)
    });
    peers.take(DHT_PEERS_MAX).collect()
}

fn read_scrape(values: &Value<'_>) -> Option<Box<Scrape>> {
    let filter = |key: &[u8]| string(values, key)?.try_into().ok();
    Some(Box::new(Scrape {
        seeds: filter(b"BFsd")?,
        leechers: filter(b"BFpe")?,
    }))
}

fn read_samples(values: &Value<'_>) -> Option<Samples> {
    let hashes = string(values, b"samples")?.as_chunks().0.iter();
    let count = |key: &[u8]| {
        let count = values
            .get(key)
            .and_then(|count| count.as_int())
            .unwrap_or(0);
        u32::try_from(count.max(0)).unwrap_or(u32::MAX)
    };
    Some(Samples {
        interval: count(b"interval"),
        total: count(b"num"),
        hashes: hashes
            .take(SAMPLES_MAX)
            .map(|hash| InfoHash(*hash))
            .collect(),
    })
}

/// Errors are a list of code and text, for most nodes; what is missing is made up, as it only informs people.
fn read_error(top: &Value<'_>) -> Body {
    const GENERIC: i64 = 201;
    let error = top.get(b"e");
    let items = || error.iter().flat_map(Value::list);
    let text = items()
        .find_map(|item| item.as_bytes())
        .or_else(|| error.as_ref()?.as_bytes())
        .unwrap_or_default();
    let text = String::from_utf8_lossy(cut(text, DHT_TEXT_MAX));
    Body::Error {
        code: items().find_map(|item| item.as_int()).unwrap_or(GENERIC),
        text: text.chars().filter(|c| !c.is_control()).collect(),
    }
}
