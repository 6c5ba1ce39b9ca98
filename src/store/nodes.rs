//! The DHT between runs: the nodes that answered (`d/`), and the ids that we had at each of our addresses (`i/`).
//!
//! All of it is a cache. A row that cannot be read is passed over and costs nothing else; the next save removes it. A save
//! writes only what changed enough to matter, so that a client that runs for months does not rewrite its table all the time.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::codec::{self, Reader};
use super::database::{Batch, Database};
use super::error::StoreError;
use super::peers::{addr, put_addr};
use super::schema::{IDENTITIES, NODES};
use crate::base::limits::{STORED_IDENTITIES_MAX, STORED_NODES_MAX};

/// Seconds by which the last answer of a stored node may be out of date. A node of the table answers every 15 minutes or so
/// (BEP 5), and whether a saved one lives is seen by asking it.
const STALE: u64 = 3_600;
/// Seconds of silence that a query without an answer weighs: after so many a node is asked again (BEP 5).
const FAILURE_WEIGHT: i64 = 900;
/// Round trips below this, in milliseconds, are all alike: the difference is noise.
const ROUND_TRIP_FLOOR: u64 = 10;

/// A DHT node that answered before. A node is known by its id and address: one with two addresses is known twice.
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

/// A node id of our own. It goes with the address that others see us at (BEP 42).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The address that others saw; `None` while nobody had told.
    pub external: Option<IpAddr>,
    /// The id.
    pub id: [u8; 20],
    /// When it was last in use, in seconds since 1970; 0 if that is not known.
    pub last_used: i64,
}

/// What a DHT node starts from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavedNodes {
    /// Our own ids, the one used last first; one for each address, and at most
    /// [`STORED_IDENTITIES_MAX`](crate::base::limits::STORED_IDENTITIES_MAX).
    pub identities: Vec<Identity>,
    /// The nodes known at the last save, best first: those that answered last, where each failure since counts as a quarter
    /// of an hour. At most [`STORED_NODES_MAX`](crate::base::limits::STORED_NODES_MAX).
    pub nodes: Vec<KnownNode>,
}

/// Something that is remembered in a row of its own.
trait Remembered: Sized {
    /// What the keys of such rows start with.
    const PREFIX: &'static [u8];
    /// How many are kept.
    const MAX: usize;

    fn key(&self) -> Vec<u8>;
    fn body(&self) -> Vec<u8>;
    /// The reverse of the two; `None` for bytes that they do not make.
    fn decode(key: &[u8], body: &[u8]) -> Option<Self>;
    /// The lower, the rather it is kept.
    fn rank(&self) -> impl Ord;
    /// Whether `stored`, under the same key, does not say as much.
    fn is_news(&self, stored: &Self) -> bool;
}

impl Remembered for KnownNode {
    const PREFIX: &'static [u8] = NODES;
    const MAX: usize = STORED_NODES_MAX;

    fn key(&self) -> Vec<u8> {
        let mut key = NODES.to_vec();
        key.extend_from_slice(&self.id);
        put_addr(&mut key, self.addr);
        key
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(14);
        body.push(self.dialects);
        body.extend_from_slice(&self.last_answer.to_be_bytes());
        body.extend_from_slice(&self.round_trip_ms.to_be_bytes());
        body.push(self.failures);
        body
    }

    fn decode(key: &[u8], body: &[u8]) -> Option<Self> {
        let (id, address) = key.strip_prefix(NODES)?.split_first_chunk()?;
        let addr = addr(address)?;
        let mut reader = Reader(body);
        let node = Self {
            id: *id,
            addr,
            dialects: reader.u8()?,
            last_answer: reader.i64()?,
            round_trip_ms: reader.u32()?,
            failures: reader.u8()?,
        };
        reader.end(node)
    }

    fn rank(&self) -> impl Ord {
        let silence = FAILURE_WEIGHT * i64::from(self.failures);
        let fresh = self.last_answer.saturating_sub(silence);
        (Reverse(fresh), self.round_trip_ms)
    }

    fn is_news(&self, stored: &Self) -> bool {
        self.dialects != stored.dialects
            || self.failures != stored.failures
            || self.last_answer.abs_diff(stored.last_answer) >= STALE
            || !is_alike(self.round_trip_ms, stored.round_trip_ms)
    }
}

impl Remembered for Identity {
    const PREFIX: &'static [u8] = IDENTITIES;
    const MAX: usize = STORED_IDENTITIES_MAX;

    fn key(&self) -> Vec<u8> {
        let mut key = IDENTITIES.to_vec();
        match self.external {
            None => {}
            Some(IpAddr::V4(ip)) => key.extend_from_slice(&ip.octets()),
            Some(IpAddr::V6(ip)) => key.extend_from_slice(&ip.octets()),
        }
        key
    }

    fn body(&self) -> Vec<u8> {
        let mut body = self.id.to_vec();
        body.extend_from_slice(&self.last_used.to_be_bytes());
        body
    }

    fn decode(key: &[u8], body: &[u8]) -> Option<Self> {
        let ip = key.strip_prefix(IDENTITIES)?;
        let external = match ip.len() {
            0 => None,
            4 => Some(IpAddr::from(*ip.first_chunk::<4>()?)),
            16 => Some(IpAddr::from(*ip.first_chunk::<16>()?)),
            _ => return None,
        };
        let mut reader = Reader(body);
        let identity = Self {
            external,
            id: *reader.array()?,
            last_used: reader.i64()?,
        };
        reader.end(identity)
    }

    fn rank(&self) -> impl Ord {
        Reverse(self.last_used)
    }

    // Exactly: their order is by this time, and there is one in use.
    fn is_news(&self, stored: &Self) -> bool {
        self != stored
    }
}

/// What was saved last, as far as it can be read.
pub(super) fn load(database: &Database) -> Result<SavedNodes, StoreError> {
    Ok(SavedNodes {
        identities: stored(database)?,
        nodes: stored(database)?,
    })
}

/// Replaces what was saved by `saved`; of too many, the best are kept. Rows that say nearly the same stay as they are.
pub(super) fn replace(database: &mut Database, saved: SavedNodes) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    let identities = renew(database, &mut batch, saved.identities)?;
    let nodes = renew(database, &mut batch, saved.nodes)?;
    if identities || nodes {
        database.apply(batch)?;
    }
    Ok(())
}

/// Whether such a row may be in a database of this version.
pub(super) fn is_sound(key: &[u8], body: &[u8]) -> bool {
    KnownNode::decode(key, body).is_some() || Identity::decode(key, body).is_some()
}

/// Those that can be read, best first.
fn stored<T: Remembered>(database: &Database) -> Result<Vec<T>, StoreError> {
    let mut found = Vec::new();
    for row in database.sealed_rows(T::PREFIX) {
        let (key, value) = row?;
        match open(&key, &value) {
            Some(row) => found.push(row),
            None => tracing::debug!(
                key = %key.escape_ascii(),
                "a row of the DHT's cache is not readable; it is passed over"
            ),
        }
        if found.len() == T::MAX {
            break;
        }
    }
    found.sort_by(|a: &T, b: &T| a.rank().cmp(&b.rank()));
    Ok(found)
}

/// Adds to `batch` what makes the stored rows say what `wanted` says; true if that is anything.
fn renew<T: Remembered>(
    database: &Database,
    batch: &mut Batch,
    mut wanted: Vec<T>,
) -> Result<bool, StoreError> {
    wanted.sort_by(|a, b| a.rank().cmp(&b.rank()));
    let mut news = BTreeMap::new();
    for row in wanted {
        if news.len() == T::MAX {
            break;
        }
        news.entry(row.key()).or_insert(row);
    }
    let mut changed = false;
    for row in database.sealed_rows(T::PREFIX) {
        let (key, value) = row?;
        match (news.get(&key), open::<T>(&key, &value)) {
            (None, _) => {
                batch.remove(&key);
                changed = true;
            }
            (Some(new), Some(stored)) if !new.is_news(&stored) => {
                news.remove(&key);
            }
            _ => {}
        }
    }
    for (key, row) in &news {
        batch.put(key, &row.body());
        changed = true;
    }
    Ok(changed)
}

fn open<T: Remembered>(key: &[u8], value: &[u8]) -> Option<T> {
    codec::unseal(key, value).and_then(|body| T::decode(key, body))
}

/// Whether two round trips, in milliseconds, are within a factor of 1.5 of each other.
fn is_alike(one: u32, other: u32) -> bool {
    let (low, high) = (one.min(other), one.max(other));
    let [low, high] = [low, high].map(|ms| u64::from(ms).max(ROUND_TRIP_FLOOR));
    high * 2 <= low * 3
}
