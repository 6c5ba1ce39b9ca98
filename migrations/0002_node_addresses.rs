//! Version 1 kept DHT nodes by id, so that of a node with two addresses one was lost, and one id of our own. Version 2 keeps
//! nodes by id and address, and an id for each address that we had; the one of version 1 goes with none.
//!
//! ```text
//! version 1   m/node              id (20)
//!             d/ id (20)          address (6 or 18) · the rest (14)
//! version 2   i/                  id (20) · last used i64, 0 as it is not known
//!             d/ id (20) address  the rest (14)
//! ```
//!
//! These rows are a cache: one that is damaged is dropped. All other rows stay as they are.

use super::super::{Changes, Rows};
use crate::store::StoreError;

const OWN_1: &[u8] = b"m/node";
const OWN_2: &[u8] = b"i/";
const NODES: &[u8] = b"d/";
/// Length of a key `d/` of version 1.
const NODE_KEY_1: usize = 22;
/// Bytes of a node besides id and address.
const REST: usize = 14;
/// Nodes that version 1 kept.
const NODES_MAX: usize = 2_000;

pub(super) fn run(rows: &dyn Rows, changes: &mut Changes) -> Result<(), StoreError> {
    for row in rows.scan(OWN_1) {
        let (key, value) = row?;
        changes.remove(&key);
        if let Some(body) = own_2(&key, &value) {
            changes.put(OWN_2, &seal(OWN_2, &body));
        }
    }
    let mut kept = 0;
    for row in rows.scan(NODES) {
        let (key, value) = row?;
        changes.remove(&key);
        if let Some((key, body)) = node_2(&key, &value).filter(|_| kept < NODES_MAX) {
            changes.put(&key, &seal(&key, &body));
            kept += 1;
        }
    }
    Ok(())
}

fn own_2(key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let id: &[u8; 20] = unseal(key, value)?.try_into().ok()?;
    (key == OWN_1).then(|| [id.as_slice(), &0i64.to_be_bytes()].concat())
}

fn node_2(key: &[u8], value: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let body = unseal(key, value)?;
    let (address, rest) = body.split_at_checked(body.len().checked_sub(REST)?)?;
    let sound = key.len() == NODE_KEY_1 && matches!(address.len(), 6 | 18);
    sound.then(|| ([key, address].concat(), rest.to_vec()))
}

/// `tag (1) · body · checksum (8)`: the tag is the first byte of the key, the checksum the start of BLAKE3 over key, tag and
/// body. Both versions have it so.
fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let tagged = [&key[..1], body].concat();
    let checksum = checksum(key, &tagged);
    [tagged.as_slice(), &checksum].concat()
}

fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Option<&'a [u8]> {
    let (tagged, found) = value.split_last_chunk::<8>()?;
    let (tag, body) = tagged.split_first()?;
    (Some(tag) == key.first() && *found == checksum(key, tagged)).then_some(body)
}

fn checksum(key: &[u8], tagged: &[u8]) -> [u8; 8] {
    let hash = blake3::hash(&[key, tagged].concat());
    let mut checksum = [0; 8];
    checksum.copy_from_slice(&hash.as_bytes()[..8]);
    checksum
}
