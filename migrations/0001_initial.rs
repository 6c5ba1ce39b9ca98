//! Version 0, a database without any row, becomes version 1, which has other rows but needs none of them.

use super::super::{Changes, Rows};
use crate::store::StoreError;

pub(super) fn run(rows: &dyn Rows, _changes: &mut Changes) -> Result<(), StoreError> {
    debug_assert!(rows.scan(b"").next().is_none(), "version 0 has no row");
    Ok(())
}
