//! Peers of a torrent that were met before (`p/`).
//!
//! All of it is a cache: a row that cannot be read is passed over and costs nothing else; the next save removes it.

use std::net::{IpAddr, SocketAddr};

use super::codec::{self, Reader};
use super::database::{Batch, Database};
use super::error::StoreError;
use super::schema::{Row, TORRENT_KEY_LEN};
use crate::base::InfoHash;
use crate::base::limits::STORED_PEERS_MAX;

/// A peer that was met, or tried, before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownPeer {
    /// Where it takes connections.
    pub addr: SocketAddr,
    /// When it last passed a handshake, in seconds since 1970.
    pub last_seen: i64,
    /// Dials in a row that failed since.
    pub failures: u8,
}

/// The peers of a torrent that can be read.
pub(super) fn load(
    database: &Database,
    info_hash: &InfoHash,
) -> Result<Vec<KnownPeer>, StoreError> {
    let mut peers = Vec::new();
    for row in database.sealed_rows(&Row::Peer.of(info_hash)) {
        let (key, value) = row?;
        match codec::unseal(&key, &value).and_then(|body| decode(&key, body)) {
            Some(peer) => peers.push(peer),
            None => tracing::debug!(
                key = %key.escape_ascii(),
                "a known peer is not readable; it is passed over"
            ),
        }
        if peers.len() == STORED_PEERS_MAX {
            break;
        }
    }
    Ok(peers)
}

/// Replaces the peers of a torrent by `peers`; of too many, those seen last are kept.
pub(super) fn replace(
    database: &mut Database,
    info_hash: &InfoHash,
    mut peers: Vec<KnownPeer>,
) -> Result<(), StoreError> {
    peers.sort_by_key(|peer| (std::cmp::Reverse(peer.last_seen), peer.failures));
    peers.truncate(STORED_PEERS_MAX);
    let mut batch = Batch::default();
    database.remove_all(&Row::Peer.of(info_hash), &mut batch)?;
    for peer in peers {
        let mut key = Row::Peer.of(info_hash);
        put_addr(&mut key, peer.addr);
        let mut body = peer.last_seen.to_be_bytes().to_vec();
        body.push(peer.failures);
        batch.put(&key, &body);
    }
    database.apply(batch)
}

pub(super) fn decode(key: &[u8], body: &[u8]) -> Option<KnownPeer> {
    let addr = addr(key.get(TORRENT_KEY_LEN..)?)?;
    let mut reader = Reader(body);
    let last_seen = reader.i64()?;
    let failures = reader.u8()?;
    reader.end(KnownPeer {
        addr,
        last_seen,
        failures,
    })
}

/// Appends an address: 4 or 16 bytes of IP, and the port.
pub(super) fn put_addr(bytes: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip() {
        IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
    }
    bytes.extend_from_slice(&addr.port().to_be_bytes());
}

/// The address that `bytes` are, all of them.
pub(super) fn addr(bytes: &[u8]) -> Option<SocketAddr> {
    let mut reader = Reader(bytes);
    let ip = match bytes.len() {
        6 => IpAddr::from(*reader.array::<4>()?),
        18 => IpAddr::from(*reader.array::<16>()?),
        _ => return None,
    };
    let port = reader.u16()?;
    Some(SocketAddr::new(ip, port))
}
