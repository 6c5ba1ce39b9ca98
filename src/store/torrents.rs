//! The rows that a torrent has one of: its shape, whether it is finished and whether it was left in order (`t/`), and what it transferred (`s/`).

use super::codec::Reader;
use super::database::{Batch, Database};
use super::error::StoreError;
use super::schema::Row;
use crate::base::InfoHash;

/// How many pieces and files a torrent has: what its rows must fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) pieces: u32,
    pub(super) files: u32,
}

/// The row `t/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TorrentRow {
    pub(super) shape: Shape,
    pub(super) finished: bool,
    pub(super) clean: bool,
}

impl TorrentRow {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut body = Vec::with_capacity(10);
        body.extend_from_slice(&self.shape.pieces.to_be_bytes());
        body.extend_from_slice(&self.shape.files.to_be_bytes());
        body.push(u8::from(self.finished));
        body.push(u8::from(self.clean));
        body
    }

    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let shape = Shape {
            pieces: reader.u32()?,
            files: reader.u32()?,
        };
        let finished = reader.flag()?;
        let clean = reader.flag()?;
        reader.end(Self {
            shape,
            finished,
            clean,
        })
    }

    pub(super) fn get(
        database: &Database,
        info_hash: &InfoHash,
    ) -> Result<Option<Self>, StoreError> {
        let key = Row::Torrent.of(info_hash);
        let Some(body) = database.get(&key)? else {
            return Ok(None);
        };
        match Self::decode(&body) {
            Some(row) => Ok(Some(row)),
            None => Err(database.damaged_row(&key)),
        }
    }

    pub(super) fn put(self, batch: &mut Batch, info_hash: &InfoHash) {
        batch.put(&Row::Torrent.of(info_hash), &self.encode());
    }
}

/// Payload bytes that a torrent transferred over all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes received.
    pub downloaded: u64,
    /// Bytes sent.
    pub uploaded: u64,
}

impl Totals {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut body = Vec::with_capacity(16);
        body.extend_from_slice(&self.downloaded.to_be_bytes());
        body.extend_from_slice(&self.uploaded.to_be_bytes());
        body
    }

    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let totals = Self {
            downloaded: reader.u64()?,
            uploaded: reader.u64()?,
        };
        reader.end(totals)
    }

    pub(super) fn get(
        database: &Database,
        info_hash: &InfoHash,
    ) -> Result<Option<Self>, StoreError> {
        let key = Row::Totals.of(info_hash);
        let Some(body) = database.get(&key)? else {
            return Ok(None);
        };
        match Self::decode(&body) {
            Some(totals) => Ok(Some(totals)),
            None => Err(database.damaged_row(&key)),
        }
    }

    pub(super) fn put(self, batch: &mut Batch, info_hash: &InfoHash) {
        batch.put(&Row::Totals.of(info_hash), &self.encode());
    }
}
