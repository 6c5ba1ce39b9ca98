//! Pieces that came whole: hashed in memory, several at a time where several wait, and written if they are good.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::DiskError;
use super::files::Files;
use super::hash::block_digests;
use super::lane::Together;
use super::sha1x2::sha1_of_each;
use crate::base::{Checked, PieceIndex};

/// Pieces that are hashed together: SHA-1 of four takes less than twice as long as that of one.
const AT_ONCE: usize = 4;

/// Which pieces are hashed together. Where pieces come fast, waiting for a few of them costs less than hashing each as it comes: of
/// 2 MiB each, at 1.2 GB/s, a tenth of all processor time. Where they come slowly, what they wait is nothing to the time they took. More
/// bytes would fill most of [`WRITE_BUDGET`](crate::base::limits::WRITE_BUDGET).
pub(super) const TOGETHER: Together<Arrival> = Together {
    most: AT_ONCE,
    bytes: 4 << 20,
    size: |arrival| arrival.data().len(),
    with: Arrival::goes_with,
    patience: Duration::from_millis(5),
};

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
    /// Hashes and writes those in `batch`, at most [`AT_ONCE`], and takes them out of it.
    pub(super) fn settle(batch: &mut Vec<Self>) {
        let data = |at| batch.get(at).map_or(&[][..], Self::data);
        let hashes = sha1_of_each::<AT_ONCE>(std::array::from_fn(data));
        for (arrival, hash) in batch.drain(..).zip(hashes) {
            // A panic costs the asker of one only; it was told when it came about.
            let _ = catch_unwind(AssertUnwindSafe(|| arrival.store(hash)));
        }
    }

    /// Whether `next` may share a batch: of another torrent it could be on another disk, and must not wait for this one's.
    fn goes_with(&self, next: &Self) -> bool {
        Arc::ptr_eq(&self.files, &next.files)
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
