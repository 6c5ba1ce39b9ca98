//! The DHT's routing table between runs (`d/`), and the node id it was built around (`m/node`).

use std::net::SocketAddr;

use super::codec::Reader;
use super::database::{Batch, Database};
use super::error::StoreError;
use super::peers::{addr, put_addr};
use super::schema::{NODE_ID, NODES};
use crate::base::limits::STORED_NODES_MAX;

/// A DHT node that answered before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownNode {
    /// Its id (BEP 5).
    pub id: [u8; 20],
    /// Where it takes datagrams.
    pub addr: SocketAddr,
    /// The dialects it speaks, one bit each; their meaning is the caller's.
    pub dialects: u8,
    /// When it last answered, in seconds since 1970.
    pub last_answer: i64,
    /// How long its answers take, in milliseconds.
    pub round_trip_ms: u32,
    /// Queries in a row that it did not answer since.
    pub failures: u8,
}

/// What a DHT node starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedNodes {
    /// Our own id, if there was one.
    pub own: Option<[u8; 20]>,
    /// The nodes known at the last save.
    pub nodes: Vec<KnownNode>,
}

/// What was saved last.
pub(super) fn load(database: &Database) -> Result<SavedNodes, StoreError> {
    let own = match database.get(NODE_ID)? {
        None => None,
        Some(body) => Some(body.try_into().map_err(|_| database.damaged_row(NODE_ID))?),
    };
    let mut nodes = Vec::new();
    for row in database.scan(NODES).take(STORED_NODES_MAX) {
        let (key, body) = row?;
        nodes.push(decode(&key, &body).ok_or_else(|| database.damaged_row(&key))?);
    }
    Ok(SavedNodes { own, nodes })
}

/// Replaces what was saved by `saved`; of too many nodes, those that answered last are kept.
pub(super) fn replace(database: &mut Database, mut saved: SavedNodes) -> Result<(), StoreError> {
    saved
        .nodes
        .sort_by_key(|node| (std::cmp::Reverse(node.last_answer), node.failures));
    saved.nodes.truncate(STORED_NODES_MAX);
    let mut batch = Batch::default();
    database.remove_all(NODES, &mut batch)?;
    for node in saved.nodes {
        let mut key = NODES.to_vec();
        key.extend_from_slice(&node.id);
        let mut body = Vec::with_capacity(32);
        put_addr(&mut body, node.addr);
        body.push(node.dialects);
        body.extend_from_slice(&node.last_answer.to_be_bytes());
        body.extend_from_slice(&node.round_trip_ms.to_be_bytes());
        body.push(node.failures);
        batch.put(&key, &body);
    }
    match saved.own {
        Some(own) => batch.put(NODE_ID, &own),
        None => batch.remove(NODE_ID),
    }
    database.apply(batch)
}

pub(super) fn decode(key: &[u8], body: &[u8]) -> Option<KnownNode> {
    /// Bytes of a body besides the address.
    const FIXED_LEN: usize = 14;
    let id = key.strip_prefix(NODES)?.try_into().ok()?;
    let (address, fixed) = body.split_at_checked(body.len().checked_sub(FIXED_LEN)?)?;
    let addr = addr(address)?;
    let mut reader = Reader(fixed);
    let node = KnownNode {
        id,
        addr,
        dialects: reader.u8()?,
        last_answer: reader.i64()?,
        round_trip_ms: reader.u32()?,
        failures: reader.u8()?,
    };
    reader.end(node)
}
