//! Version 3 remembers how far a torrent was re-read and what digest each piece had.
//!
//! ```text
//! version 3   g/ info-hash            next piece u32 · bad u32 · began i64 · finished i64
//!             g/ info-hash · row u32  60 digests (16 each)
//! ```
//!
//! Version 2 had no such rows, so there is nothing to change; but a seedbank that does not know them would take them for damage,
//! which is what the number keeps it from.

use super::super::{Changes, Rows};
use crate::store::StoreError;

#[allow(
    clippy::unnecessary_wraps,
    reason = "every step has this shape, since most can fail"
)]
pub(super) fn run(_rows: &dyn Rows, _changes: &mut Changes) -> Result<(), StoreError> {
    Ok(())
}
