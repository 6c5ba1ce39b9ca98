//! The durable pieces of one torrent, in rows of 4,096 bits (`h/`).

use std::collections::BTreeMap;

use super::codec::Reader;
use super::database::{Batch, Database};
use super::error::StoreError;
use super::schema::{self, Row};
use crate::base::{Bitfield, InfoHash};

/// Bits of one row.
const PAGE_BITS: u32 = 4_096;
const PAGE_BYTES: usize = PAGE_BITS as usize / 8;

/// One row of bits, laid out as in a [`Bitfield`].
type Page = [u8; PAGE_BYTES];

/// Some or all pages of a torrent, as they are and as they are to become.
pub(super) struct Pages {
    pieces: u32,
    pages: BTreeMap<u32, Page>,
}

impl Pages {
    /// None of the pages of a torrent of `pieces` pieces.
    pub(super) fn new(pieces: u32) -> Self {
        Self {
            pieces,
            pages: BTreeMap::new(),
        }
    }

    /// All pages with every bit set.
    pub(super) fn full(pieces: u32) -> Self {
        let bits = Bitfield::full(pieces);
        let pages = (0u32..)
            .zip(bits.as_bytes().chunks(PAGE_BYTES))
            .map(|(number, bytes)| {
                let mut page = [0; PAGE_BYTES];
                page[..bytes.len()].copy_from_slice(bytes);
                (number, page)
            })
            .collect();
        Self { pieces, pages }
    }

    /// All pages that the database has.
    pub(super) fn stored(
        database: &Database,
        info_hash: &InfoHash,
        pieces: u32,
    ) -> Result<Self, StoreError> {
        let mut stored = Self::new(pieces);
        for row in database.scan(&Row::Page.of(info_hash)) {
            let (key, body) = row?;
            let page = schema::number_of(&key)
                .filter(|number| u64::from(*number) * u64::from(PAGE_BITS) < u64::from(pieces))
                .zip(decode(&body));
            let Some((number, page)) = page else {
                return Err(database.damaged_row(&key));
            };
            stored.pages.insert(number, page);
        }
        Ok(stored)
    }

    /// Adds the page of `piece` from the database, unless it is here.
    pub(super) fn fetch(
        &mut self,
        database: &Database,
        info_hash: &InfoHash,
        piece: u32,
    ) -> Result<(), StoreError> {
        let number = piece / PAGE_BITS;
        if self.pages.contains_key(&number) {
            return Ok(());
        }
        let key = Row::Page.numbered(info_hash, number);
        let page = match database.get(&key)? {
            None => [0; PAGE_BYTES],
            Some(body) => decode(&body).ok_or_else(|| database.damaged_row(&key))?,
        };
        self.pages.insert(number, page);
        Ok(())
    }

    /// Sets or clears the bit of `piece`, whose page is here; true if that changed it.
    pub(super) fn set(&mut self, piece: u32, durable: bool) -> bool {
        let page = self
            .pages
            .entry(piece / PAGE_BITS)
            .or_insert([0; PAGE_BYTES]);
        let bit = piece % PAGE_BITS;
        let byte = &mut page[bit as usize / 8];
        let mask = 0x80 >> (bit % 8);
        let changed = (*byte & mask != 0) != durable;
        if durable {
            *byte |= mask;
        } else {
            *byte &= !mask;
        }
        changed
    }

    /// Takes over every page of `other`.
    pub(super) fn extend(&mut self, other: Self) {
        self.pages.extend(other.pages);
    }

    /// The set, if all pages are here; `None` if a bit is set that stands for no piece.
    pub(super) fn bits(&self) -> Option<Bitfield> {
        let mut bytes = vec![0; self.pieces.div_ceil(8) as usize];
        for (number, page) in &self.pages {
            let within = bytes.get_mut(*number as usize * PAGE_BYTES..)?;
            let len = within.len().min(PAGE_BYTES);
            within[..len].copy_from_slice(&page[..len]);
            if page[len..].iter().any(|byte| *byte != 0) {
                return None;
            }
        }
        Bitfield::from_bytes(&bytes, self.pieces).ok()
    }

    /// Adds these pages to `batch`; a page without a bit is removed.
    pub(super) fn put(&self, batch: &mut Batch, info_hash: &InfoHash, sequence: u64) {
        for (number, page) in &self.pages {
            let key = Row::Page.numbered(info_hash, *number);
            if page.iter().all(|byte| *byte == 0) {
                batch.remove(&key);
            } else {
                let mut body = Vec::with_capacity(8 + PAGE_BYTES);
                body.extend_from_slice(&sequence.to_be_bytes());
                body.extend_from_slice(page);
                batch.put(&key, &body);
            }
        }
    }
}

/// The bits of a row; the sequence number before them only helps whoever looks into a broken database.
pub(super) fn decode(body: &[u8]) -> Option<Page> {
    let mut reader = Reader(body);
    reader.u64()?;
    let page = *reader.array()?;
    reader.end(page)
}
