//! What the node says and hears, as events.

use std::net::SocketAddr;

use crate::base::InfoHash;
use crate::engine::events::{DhtMessage, Event, Hex};
use crate::proto::dht::{Body, Dialect, Direction, Message, Query};

/// The event for a message; nothing for those that have none: errors, and questions that only the mainline dialect has.
pub(super) fn event(
    direction: Direction,
    addr: SocketAddr,
    dialect: Dialect,
    message: Message,
) -> Option<Event> {
    let between = |from: InfoHash| {
        Box::new(DhtMessage {
            dir: match direction {
                Direction::In => "in",
                Direction::Out => "out",
            },
            addr,
            dialect: dialect.as_str(),
            id: Hex(from),
        })
    };
    match message.body {
        Body::Query { from, query, .. } => of_query(between(from.into()), &query),
        Body::Reply {
            from,
            observed,
            reply,
        } => {
            let message = between(from.into());
            let is_pong = reply.about.is_none() && reply.peers.is_empty() && reply.nodes.is_empty();
            Some(if is_pong {
                Event::DhtPong { message, observed }
            } else {
                Event::DhtPeers {
                    message,
                    info_hash: reply.about.map(Hex),
                    peers: reply.peers,
                    nodes: reply.nodes.len(),
                }
            })
        }
        Body::Error { .. } => None,
    }
}

fn of_query(message: Box<DhtMessage>, query: &Query) -> Option<Event> {
    Some(match *query {
        Query::Ping => Event::DhtPing(message),
        Query::FindNode { target, .. } => Event::DhtFindPeers {
            message,
            info_hash: Hex(target.into()),
        },
        Query::GetPeers { info_hash, .. } => Event::DhtFindPeers {
            message,
            info_hash: Hex(info_hash),
        },
        Query::Announce {
            info_hash, port, ..
        } => Event::DhtAnnounce {
            message,
            info_hash: Hex(info_hash),
            port: port.map(u16::from),
        },
        Query::Get { .. } | Query::Sample { .. } => return None,
    })
}
