//! Version 0, a database without any row, becomes version 1: `m/clean` says 0.
//!
//! Layouts frozen here: a value is `first byte of the key · body · first 8 bytes of BLAKE3(key · all before)`.

use super::super::{Changes, Rows};
use crate::store::StoreError;

const CLEAN: &[u8] = b"m/clean";

pub(super) fn run(rows: &dyn Rows, changes: &mut Changes) -> Result<(), StoreError> {
    debug_assert!(rows.scan(b"").next().is_none(), "version 0 has no row");
    changes.put(CLEAN, &seal(CLEAN, &[0]));
    Ok(())
}

fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut value = vec![key[0]];
    value.extend_from_slice(body);
    let checksum = blake3::Hasher::new().update(key).update(&value).finalize();
    value.extend_from_slice(&checksum.as_bytes()[..8]);
    value
}
