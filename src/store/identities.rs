//! What each file of a torrent was when its pieces were committed (`f/`).

use std::collections::BTreeMap;

use super::codec::Reader;
use super::database::{Batch, Database};
use super::error::StoreError;
use super::schema::{self, Row};
use crate::base::{FileIdentity, InfoHash};

/// Files in one row: 660 bytes at most.
const FILES_PER_ROW: u32 = 20;

type Slots = [Option<FileIdentity>; FILES_PER_ROW as usize];

/// Sets the identities of some files, `None` to forget one; the others keep theirs.
pub(super) fn put(
    database: &Database,
    batch: &mut Batch,
    info_hash: &InfoHash,
    changes: &[(u32, Option<FileIdentity>)],
) -> Result<(), StoreError> {
    let mut rows = BTreeMap::<u32, Slots>::new();
    for (file, identity) in changes {
        let number = file / FILES_PER_ROW;
        let slots = match rows.entry(number) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(get(database, info_hash, number)?)
            }
        };
        slots[(file % FILES_PER_ROW) as usize] = *identity;
    }
    for (number, slots) in rows {
        batch.put(&Row::Files.numbered(info_hash, number), &encode(&slots));
    }
    Ok(())
}

/// The identities of all `files` files.
pub(super) fn load(
    database: &Database,
    info_hash: &InfoHash,
    files: u32,
) -> Result<Vec<Option<FileIdentity>>, StoreError> {
    let mut identities = vec![None; files as usize];
    for row in database.scan(&Row::Files.of(info_hash)) {
        let (key, body) = row?;
        let found = schema::number_of(&key)
            .and_then(|number| {
                identities
                    .chunks_mut(FILES_PER_ROW as usize)
                    .nth(number as usize)
            })
            .zip(decode(&body));
        let Some((within, slots)) = found else {
            return Err(database.damaged_row(&key));
        };
        let len = within.len();
        within.copy_from_slice(&slots[..len]);
    }
    Ok(identities)
}

fn get(database: &Database, info_hash: &InfoHash, number: u32) -> Result<Slots, StoreError> {
    let key = Row::Files.numbered(info_hash, number);
    match database.get(&key)? {
        None => Ok(Slots::default()),
        Some(body) => decode(&body).ok_or_else(|| database.damaged_row(&key)),
    }
}

fn encode(slots: &Slots) -> Vec<u8> {
    let mut body = Vec::with_capacity(slots.len() * 33);
    for slot in slots {
        body.push(u8::from(slot.is_some()));
        if let Some(identity) = slot {
            body.extend_from_slice(&identity.device.to_be_bytes());
            body.extend_from_slice(&identity.inode.to_be_bytes());
            body.extend_from_slice(&identity.size.to_be_bytes());
            body.extend_from_slice(&identity.mtime_ns.to_be_bytes());
        }
    }
    body
}

pub(super) fn decode(body: &[u8]) -> Option<Slots> {
    let mut reader = Reader(body);
    let mut slots = Slots::default();
    for slot in &mut slots {
        if reader.flag()? {
            *slot = Some(FileIdentity {
                device: reader.u64()?,
                inode: reader.u64()?,
                size: reader.u64()?,
                mtime_ns: reader.i64()?,
            });
        }
    }
    reader.end(slots)
}
