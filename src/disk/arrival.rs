//! Pieces that came whole: hashed in memory, two at a time where two wait, and written if they are good.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::DiskError;
use super::files::Files;
use super::hash::{block_digests, sha1};
use super::sha1x2::sha1_of_two;
use crate::base::{Checked, PieceIndex};

/// A piece that came, and what is to be done with it.
pub(super) struct Arrival {
    pub(super) files: Arc<Files>,
    pub(super) piece: PieceIndex,
    pub(super) data: Box<dyn AsRef<[u8]> + Send>,
    pub(super) expected: [u8; 20],
    /// Whether the digests of its blocks are asked for though it is good.
    pub(super) digests: bool,
    /// Done once it is written, before anybody hears of it.
    pub(super) written: Box<dyn FnOnce() + Send>,
    pub(super) answer: oneshot::Sender<Result<Checked, DiskError>>,
}

impl Arrival {
    /// Hashes and writes `one`, and the `other` with it if there is one: two hashes take hardly longer than one.
    pub(super) fn settle(one: Self, other: Option<Self>) {
        let Some(other) = other else {
            let hash = sha1(one.data());
            return one.store(hash);
        };
        let [hash_one, hash_other] = sha1_of_two(one.data(), other.data());
        // A panic costs the asker of one only; it was told when it came about.
        let _ = catch_unwind(AssertUnwindSafe(|| one.store(hash_one)));
        other.store(hash_other);
    }

    fn data(&self) -> &[u8] {
        (*self.data).as_ref()
    }

    fn store(self, hash: [u8; 20]) {
        let result = self.check_and_write(hash);
        let Self {
            files,
            data,
            written,
            answer,
            ..
        } = self;
        if let Ok(Checked::Good { .. }) = result {
            written();
        }
        // Whoever waits for the answer may want the memory, or to be the last who has the files.
        drop((data, files));
        // Whoever asked may have gone; the piece is stored all the same.
        let _ = answer.send(result);
    }

    fn check_and_write(&self, hash: [u8; 20]) -> Result<Checked, DiskError> {
        let (data, geometry) = (self.data(), self.files.layout.geometry());
        if data.len() != geometry.len_of(self.piece) as usize || hash != self.expected {
            let digests = block_digests(data);
            return Ok(Checked::Bad { digests });
        }
        self.files.write(geometry.offset_of(self.piece), data)?;
        let digests = self.digests.then(|| block_digests(data));
        Ok(Checked::Good { digests })
    }
}
