//! The open payload of one torrent.

use std::collections::{BTreeSet, VecDeque};
use std::io::IoSliceMut;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::arrival::Arrival;
use super::batch::LANES;
use super::file::is_blank;
use super::files::Files;
use super::open::{Opened, Ready};
use super::recheck;
use super::scrub::{self, Scrubbed};
use super::{Disk, DiskError, Layout};
use crate::base::{BlockRange, Checked, FileIdentity, PieceDigest, PieceIndex};

/// The files of one torrent, open. Clones share them; they are closed and unlocked when the last clone is gone, but only
/// [`Payload::close`] tells whether all went well.
#[derive(Clone, Debug)]
pub struct Payload {
    disk: Disk,
    files: Arc<Files>,
}

impl Payload {
    /// `mapped` says whether files are mapped; `None` if they are only read.
    pub(super) fn opened(
        disk: Disk,
        id: u64,
        layout: Arc<Layout>,
        ready: Ready,
        mapped: Option<bool>,
    ) -> Opened {
        let states = ready.states.clone();
        let files = Files::new(id, Arc::clone(disk.handles()), layout, ready, mapped);
        let files = Arc::new(files);
        let payload = Self { disk, files };
        Opened { payload, states }
    }

    /// How the payload is spread over files.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.files.layout
    }

    /// Hashes the piece `data`, of which nothing else is being written or read, and writes it if it is good; what is bad never reaches the
    /// disk. `digests` asks for those of a good piece. Once that is written, and before this returns, `written` is done on a thread of the
    /// disk's, which it should not hold up for long.
    ///
    /// # Errors
    /// As [`Payload::write`]; then the piece may be written in part.
    pub async fn check_and_write(
        &self,
        piece: PieceIndex,
        data: impl AsRef<[u8]> + Send + 'static,
        expected: [u8; 20],
        digests: bool,
        written: impl FnOnce() + Send + 'static,
    ) -> Result<Checked, DiskError> {
        let (answer, checked) = oneshot::channel();
        let arrival = Arrival {
            files: Arc::clone(&self.files),
            piece,
            data: Box::new(data),
            expected,
            digests,
            written: Box::new(written),
            answer,
        };
        self.disk.settle(arrival).await;
        checked.await.unwrap_or(Err(DiskError::Stopped))
    }

    /// Writes `data`, unchecked.
    ///
    /// # Errors
    /// [`DiskError::ReadOnly`], [`DiskError::Full`], [`DiskError::Quota`], [`DiskError::Vanished`], [`DiskError::Poisoned`] or
    /// [`DiskError::Io`].
    ///
    /// # Panics
    /// If `data` is not as long as `range`.
    pub async fn write(
        &self,
        range: BlockRange,
        data: impl AsRef<[u8]> + Send + 'static,
    ) -> Result<(), DiskError> {
        assert_eq!(
            data.as_ref().len(),
            range.len() as usize,
            "data of another length than its range"
        );
        let files = Arc::clone(&self.files);
        let job = move || files.write(files.layout.geometry().offset(range), data.as_ref());
        self.disk.run(range.piece(), job).await
    }

    /// Reads a piece back and hashes it. Digests of a bad piece are given only if asked for. If it is good, `found` is done before this
    /// returns, on a thread of the disk's.
    ///
    /// # Errors
    /// As [`Payload::read`].
    pub async fn check(
        &self,
        piece: PieceIndex,
        expected: [u8; 20],
        digests: bool,
        found: impl FnOnce() + Send + 'static,
    ) -> Result<Checked, DiskError> {
        let files = Arc::clone(&self.files);
        let job = move || {
            let checked = files.check(piece, expected, digests)?;
            if let Checked::Good { .. } = checked {
                found();
            }
            Ok(checked)
        };
        self.disk.run(piece, job).await
    }

    /// Re-reads a piece, past the page cache and on a thread of its own behind which nothing else waits: one piece at a time
    /// over all payloads. A file that is not what it was [judged by](Payload::judge_by) did not rot. With the `digest` that the
    /// piece had, BLAKE3 decides; without one, and where that says no, SHA-1.
    ///
    /// # Errors
    /// [`DiskError::CannotOpen`] and its kin, or [`DiskError::Io`] if a file cannot be looked at. Bytes that cannot be read, and a
    /// file that is gone, are no error but [`Scrubbed`].
    pub async fn scrub(
        &self,
        piece: PieceIndex,
        expected: [u8; 20],
        digest: Option<PieceDigest>,
    ) -> Result<Scrubbed, DiskError> {
        let files = Arc::clone(&self.files);
        let job = move || scrub::scrub(&files, piece, expected, digest);
        self.disk.run_scrub(job).await
    }

    /// What these files, by place in the layout, were when their content was judged: once the payload is only read, what
    /// [`Payload::read`] gives is from files that nobody touched since. The first word on a file counts.
    pub fn judge_by(&self, identities: &[(usize, FileIdentity)]) {
        self.files.judge_by(identities);
    }

    /// Reads `ranges`, concatenated; ranges that follow one another are read at once. The caller bounds their sum.
    ///
    /// # Errors
    /// [`DiskError::NotFound`] if a file is not there; [`DiskError::Vanished`] if it was deleted or has another length than it should, or,
    /// unless we write to it ourselves, is not what it was [judged by](Payload::judge_by); [`DiskError::Io`].
    pub async fn read(&self, ranges: Vec<BlockRange>) -> Result<Vec<u8>, DiskError> {
        let Some(first) = ranges.first() else {
            return Ok(Vec::new());
        };
        let files = Arc::clone(&self.files);
        let piece = first.piece();
        self.disk
            .run(piece, move || files.read_ranges(&ranges))
            .await
    }

    /// Fills `blocks`, one for each of `ranges` and as long, if that can be done without waiting for the disk. If not, it says so,
    /// and their content is of no meaning. May be called from a task that must not block.
    ///
    /// # Errors
    /// [`DiskError::Vanished`] as [`Payload::read`].
    pub fn read_cached(
        &self,
        ranges: &[BlockRange],
        blocks: &mut [IoSliceMut<'_>],
    ) -> Result<bool, DiskError> {
        self.files.read_cached(ranges, blocks)
    }

    /// Puts everything written to the files of `pieces` on the medium (R3) and says what those files are now (R7), by place in the
    /// layout.
    ///
    /// # Errors
    /// [`DiskError::Io`], [`DiskError::Full`] or [`DiskError::Quota`] if a sync failed: then nothing written to that file since its last good sync can be trusted, and every later
    /// sync of it fails with [`DiskError::Poisoned`] until the payload is opened anew (R6). [`DiskError::Vanished`] if the
    /// file is no longer the one that was opened.
    pub async fn sync(
        &self,
        pieces: Vec<PieceIndex>,
    ) -> Result<Vec<(usize, FileIdentity)>, DiskError> {
        self.sync_by(pieces, false, true).await
    }

    /// As [`Payload::sync`], and the times of these files, of all that were written to, and of those in [doubt](Payload::doubt_times):
    /// what those files are now is what they are after a power cut, until the next write.
    ///
    /// # Errors
    /// As [`Payload::sync`].
    pub async fn sync_with_times(
        &self,
        pieces: Vec<PieceIndex>,
    ) -> Result<Vec<(usize, FileIdentity)>, DiskError> {
        self.sync_by(pieces, true, true).await
    }

    /// As [`Payload::sync`], or [`Payload::sync_with_times`], of pieces that were found in files rather than written to this payload: file by
    /// file, for of a write-back that failed before it was opened no more than the file itself may tell.
    ///
    /// # Errors
    /// As [`Payload::sync`].
    pub async fn sync_found(
        &self,
        pieces: Vec<PieceIndex>,
        times: bool,
    ) -> Result<Vec<(usize, FileIdentity)>, DiskError> {
        self.sync_by(pieces, times, false).await
    }

    /// Syncs the files of `pieces`, with or without times, and `together` if they are many.
    async fn sync_by(
        &self,
        pieces: Vec<PieceIndex>,
        times: bool,
        together: bool,
    ) -> Result<Vec<(usize, FileIdentity)>, DiskError> {
        let mut touched = self.touched(&pieces);
        if times {
            touched.extend(self.files.with_stale_times());
        }
        let touched: Vec<usize> = touched.into_iter().collect();
        if together && Files::may_sync_together(touched.len()) {
            let (files, touched) = (Arc::clone(&self.files), touched.clone());
            let job = move || files.sync_together(&touched);
            if let Some(synced) = self.disk.run_slow(job).await? {
                return Ok(synced);
            }
        }
        let sync = if times {
            Files::sync_with_times
        } else {
            Files::sync
        };
        self.sync_files(&touched, sync).await
    }

    /// An earlier run may have left the files with times that are not on the medium, though their bytes are.
    pub fn doubt_times(&self) {
        self.files.doubt_times();
    }

    /// The files of `pieces`.
    fn touched(&self, pieces: &[PieceIndex]) -> BTreeSet<usize> {
        let spans = pieces
            .iter()
            .flat_map(|&piece| self.files.layout.piece_spans(piece));
        let spans = spans.filter(|span| !span.pad);
        spans.map(|span| span.file).collect()
    }

    async fn sync_files(
        &self,
        touched: &[usize],
        sync: fn(&Files, usize) -> Result<FileIdentity, DiskError>,
    ) -> Result<Vec<(usize, FileIdentity)>, DiskError> {
        let mut pending = Vec::new();
        // One share for each thread: more jobs would only crowd out the syncs of other torrents.
        for share in touched.chunks(touched.len().div_ceil(super::pool::SLOW_THREADS).max(1)) {
            let (files, share) = (Arc::clone(&self.files), share.to_vec());
            let job = move || {
                share
                    .iter()
                    .map(|&at| Ok((at, sync(&files, at)?)))
                    .collect::<Result<Vec<_>, _>>()
            };
            pending.push(self.disk.submit_slow(job).await);
        }
        let mut shares = Vec::with_capacity(pending.len());
        // All are awaited, even after an error: when this returns, nothing is under way any more.
        for answer in pending {
            shares.push(answer.answer().await);
        }
        Ok(DiskError::gravest(shares)?.concat())
    }

    /// What each file of the layout is now; `None` for those that are not there, pads and links.
    ///
    /// # Errors
    /// [`DiskError::Vanished`] if one that we opened, or made, was deleted, replaced or brought to another length; or if it cannot be told.
    pub async fn identities(&self) -> Result<Vec<Option<FileIdentity>>, DiskError> {
        let files = Arc::clone(&self.files);
        let job = move || {
            (0..files.layout.files().len())
                .map(|at| files.named(at))
                .collect()
        };
        self.disk.run_slow(job).await
    }

    /// Hashes `pieces` on all threads, a few at a time and a few ahead, so that other torrents get their turn. `progress` is called on those threads, once a
    /// piece, in no particular order. A piece of which something is missing is not good; a piece that was never written is known without
    /// reading. Answers come in the order of `pieces`.
    ///
    /// # Errors
    /// [`DiskError::CannotOpen`], [`DiskError::Outside`] or [`DiskError::Io`].
    pub async fn recheck(
        &self,
        pieces: Vec<PieceIndex>,
        hashes: Arc<dyn Fn(PieceIndex) -> [u8; 20] + Send + Sync>,
        progress: impl Fn(PieceIndex, bool) + Send + Sync + 'static,
    ) -> Result<Vec<(PieceIndex, bool)>, DiskError> {
        let progress = Arc::new(progress);
        let ahead = 2 * self.disk.threads();
        let mut pending = VecDeque::with_capacity(ahead);
        let mut checked = Vec::with_capacity(pieces.len());
        for (turn, some) in pieces.chunks(LANES).enumerate() {
            if pending.len() >= ahead {
                checked.extend(next(&mut pending).await?.into_iter().flatten());
            }
            let (files, hashes) = (Arc::clone(&self.files), Arc::clone(&hashes));
            let (some, progress) = (some.to_vec(), Arc::clone(&progress));
            let job = move || {
                let good = recheck::are_good(&files, &some, &*hashes)?;
                let checked: Vec<_> = some.into_iter().zip(good).collect();
                checked
                    .iter()
                    .for_each(|&(piece, good)| progress(piece, good));
                Ok(checked)
            };
            pending.push_back(self.disk.submit_in_turn(turn, job).await);
        }
        while let Some(answer) = next(&mut pending).await? {
            checked.extend(answer);
        }
        Ok(checked)
    }

    /// Lets go of what the page cache has of the files of `pieces` and need not write, so that the next read asks the medium. For an
    /// earlier run may have been killed after a sync failed: what that lost, the kernel calls clean, and would sync well (R6).
    ///
    /// # Errors
    /// [`DiskError::CannotOpen`], [`DiskError::Outside`] or [`DiskError::Io`].
    pub async fn drop_cache(&self, pieces: Vec<PieceIndex>) -> Result<(), DiskError> {
        let (files, touched) = (Arc::clone(&self.files), self.touched(&pieces));
        let job = move || touched.into_iter().try_for_each(|at| files.drop_cache(at));
        self.disk.run_slow(job).await
    }

    /// The BLAKE3 digest of the payload files, one after the other; pads are no files.
    ///
    /// # Errors
    /// As [`Payload::read`].
    pub async fn digest(&self) -> Result<[u8; 32], DiskError> {
        let files = Arc::clone(&self.files);
        self.disk.run_slow(move || files.digest()).await
    }

    /// Whether file number `at` holds nothing but zeros.
    ///
    /// # Errors
    /// As [`Payload::read`].
    pub async fn is_blank(&self, at: usize) -> Result<bool, DiskError> {
        let files = Arc::clone(&self.files);
        let job = move || {
            let length = files.layout.files()[at].length;
            Ok(is_blank(files.file(at)?.file(), length))
        };
        self.disk.run_slow(job).await
    }

    /// Whether `hash` is that of a piece of nothing but zeros.
    pub fn is_of_zeros(&self, piece: PieceIndex, hash: &[u8; 20]) -> bool {
        self.files.hash_of_zeros(piece) == *hash
    }

    /// After a sync that failed: what the kernel keeps of the file in memory is not believed any more (R6).
    pub async fn forget_if_poisoned(&self) {
        let files = Arc::clone(&self.files);
        let forget = move || {
            files.forget_if_poisoned();
            Ok(())
        };
        // Only a worker that is gone fails here, and with it all that it would be needed for.
        let _ = self.disk.run_slow(forget).await;
    }

    /// The payload is complete: no more writes, and others may read it. Call it after the last sync.
    ///
    /// # Errors
    /// [`DiskError::InUse`] if another program snatched a lock; the files are then unlocked. [`DiskError::Io`] if something unsynced was left and
    /// could not be synced.
    pub async fn downgrade_to_shared(&self) -> Result<(), DiskError> {
        let files = Arc::clone(&self.files);
        self.disk.run_slow(move || files.downgrade()).await
    }

    /// Syncs what is left and unlocks and closes all files. Other clones can no longer write.
    ///
    /// # Errors
    /// [`DiskError::Io`] or [`DiskError::Poisoned`] if what is left could not be synced.
    pub async fn close(self) -> Result<(), DiskError> {
        let files = Arc::clone(&self.files);
        self.disk.run_slow(move || files.close()).await
    }
}

async fn next<T>(pending: &mut VecDeque<super::pool::Pending<T>>) -> Result<Option<T>, DiskError> {
    match pending.pop_front() {
        Some(answer) => answer.answer().await.map(Some),
        None => Ok(None),
    }
}
