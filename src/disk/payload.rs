//! The open payload of one torrent.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::create::{FileState, Opened, Ready};
use super::file::OpenFile;
use super::handles::Handles;
use super::hash::{PieceHasher, block_digests, sha1};
use super::lock::{self, Hold};
use super::place::{Place, identity};
use super::{Disk, DiskError, FileSpec, Layout, SpecKind};
use crate::base::{BlockRange, FileIdentity, PieceIndex};

/// Bytes read and hashed at once: a multiple of the block, small enough to be hashed out of the processor's cache.
const CHUNK: usize = 256 << 10;

/// The files of one torrent, open. Clones share them; they are closed and unlocked when the last clone is gone, but only
/// [`Payload::close`] tells whether all went well.
#[derive(Clone, Debug)]
pub struct Payload {
    disk: Disk,
    files: Arc<Files>,
}

/// What became of a piece that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Its SHA-1 is the expected one.
    Good {
        /// BLAKE3 of each of its blocks, if asked for.
        digests: Option<Vec<[u8; 32]>>,
    },
    /// It is not.
    Bad {
        /// BLAKE3 of each of its blocks, to tell which were damaged once the good ones are known.
        digests: Vec<[u8; 32]>,
    },
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
        let Ready {
            place,
            locked,
            poisoned,
            states,
        } = ready;
        let inodes = states.iter().map(|state| match state {
            FileState::Existing(found) | FileState::WrongLength(found) => {
                OnceLock::from((found.device, found.inode))
            }
            FileState::Virtual | FileState::Missing => OnceLock::new(),
        });
        let files = Files {
            id,
            handles: Arc::clone(disk.handles()),
            place,
            locked,
            poisoned,
            inodes: inodes.collect(),
            writable: AtomicBool::new(mapped.is_some()),
            mapped: mapped.unwrap_or(false),
            zeros: OnceLock::new(),
            layout,
        };
        let files = Arc::new(files);
        let payload = Self { disk, files };
        Opened { payload, states }
    }

    /// How the payload is spread over files.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.files.layout
    }

    /// Hashes the piece `data` and writes it if it is good; what is bad never reaches the disk. `digests` asks for those of a good piece.
    ///
    /// # Errors
    /// As [`Payload::write`]; then the piece may be written in part.
    pub async fn check_and_write(
        &self,
        piece: PieceIndex,
        data: Vec<u8>,
        expected: [u8; 20],
        digests: bool,
    ) -> Result<Checked, DiskError> {
        let files = Arc::clone(&self.files);
        let job = move || {
            let geometry = files.layout.geometry();
            if data.len() != geometry.len_of(piece) as usize || sha1(&data) != expected {
                let digests = block_digests(&data);
                return Ok(Checked::Bad { digests });
            }
            files.write(geometry.offset_of(piece), &data)?;
            let digests = digests.then(|| block_digests(&data));
            Ok(Checked::Good { digests })
        };
        self.disk.run(piece, job).await
    }

    /// Writes `data`, unchecked.
    ///
    /// # Errors
    /// [`DiskError::ReadOnly`], [`DiskError::Full`], [`DiskError::Vanished`], [`DiskError::Poisoned`] or [`DiskError::Io`].
    ///
    /// # Panics
    /// If `data` is not as long as `range`.
    pub async fn write(&self, range: BlockRange, data: Vec<u8>) -> Result<(), DiskError> {
        assert_eq!(
            data.len(),
            range.len() as usize,
            "data of another length than its range"
        );
        let files = Arc::clone(&self.files);
        let job = move || files.write(files.layout.geometry().offset(range), &data);
        self.disk.run(range.piece(), job).await
    }

    /// Reads a piece back and hashes it. Digests of a bad piece are given only if asked for.
    ///
    /// # Errors
    /// As [`Payload::read`].
    pub async fn check(
        &self,
        piece: PieceIndex,
        expected: [u8; 20],
        digests: bool,
    ) -> Result<Checked, DiskError> {
        let files = Arc::clone(&self.files);
        let job = move || files.check(piece, expected, digests);
        self.disk.run(piece, job).await
    }

    /// Reads `ranges`, concatenated; ranges that follow one another are read at once. The caller bounds their sum.
    ///
    /// # Errors
    /// [`DiskError::NotFound`] if a file is not there, [`DiskError::Vanished`] if it is too short, [`DiskError::Io`].
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

    /// Puts everything written to the files of `pieces` on the medium (R3) and says what those files are now (R7), by place in the
    /// layout.
    ///
    /// # Errors
    /// [`DiskError::Io`] if a sync failed: then nothing written to that file since its last good sync can be trusted, and every later
    /// sync of it fails with [`DiskError::Poisoned`] until the payload is opened anew (R6). [`DiskError::Vanished`] if the
    /// file is no longer the one that was opened.
    pub async fn sync(
        &self,
        pieces: Vec<PieceIndex>,
    ) -> Result<Vec<(usize, FileIdentity)>, DiskError> {
        let spans = pieces
            .iter()
            .flat_map(|&piece| self.files.layout.piece_spans(piece));
        let touched: BTreeSet<usize> = spans
            .filter(|span| !span.pad)
            .map(|span| span.file)
            .collect();
        let touched: Vec<usize> = touched.into_iter().collect();
        let mut pending = Vec::new();
        // One share for each thread: more jobs would only crowd out the syncs of other torrents.
        for share in touched.chunks(touched.len().div_ceil(super::pool::SLOW_THREADS).max(1)) {
            let (files, share) = (Arc::clone(&self.files), share.to_vec());
            let job = move || share.iter().map(|&at| Ok((at, files.sync(at)?))).collect();
            pending.push(self.disk.submit_slow(job).await);
        }
        let mut synced = Vec::with_capacity(touched.len());
        let mut failed = None;
        // All are awaited, even after an error: when this returns, nothing is under way any more.
        for answer in pending {
            match answer.answer().await {
                Ok(share) => synced.extend::<Vec<_>>(share),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(synced), Err)
    }

    /// What each file of the layout is now; `None` for those that are not there, pads and links.
    ///
    /// # Errors
    /// If that cannot be told.
    pub async fn identities(&self) -> Result<Vec<Option<FileIdentity>>, DiskError> {
        let files = Arc::clone(&self.files);
        let look = move |file: &FileSpec| match file.kind {
            SpecKind::Payload => {
                let found = files.place.look(files.layout.relative(&file.path))?;
                Ok(found.map(|found| identity(&found)))
            }
            SpecKind::Pad | SpecKind::Symlink { .. } => Ok(None),
        };
        let layout = Arc::clone(&self.files.layout);
        let job = move || layout.files().iter().map(look).collect();
        self.disk.run_slow(job).await
    }

    /// Hashes `pieces` on all threads, a few ahead, so that other torrents get their turn. `progress` is called on those threads, once a
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
        for piece in pieces {
            if pending.len() >= ahead {
                checked.extend(next(&mut pending).await?);
            }
            let (files, hashes) = (Arc::clone(&self.files), Arc::clone(&hashes));
            let progress = Arc::clone(&progress);
            let job = move || {
                let good = files.is_good(piece, hashes(piece))?;
                progress(piece, good);
                Ok((piece, good))
            };
            pending.push_back(self.disk.submit(piece, job).await);
        }
        while let Some(answer) = next(&mut pending).await? {
            checked.push(answer);
        }
        Ok(checked)
    }

    /// The BLAKE3 digest of the payload files, one after the other; pads are no files.
    ///
    /// # Errors
    /// As [`Payload::read`].
    pub async fn digest(&self) -> Result<[u8; 32], DiskError> {
        let files = Arc::clone(&self.files);
        self.disk.run_slow(move || files.digest()).await
    }

    /// Whether nothing was ever written to file number `at`, as far as the filesystem tells: false where it cannot.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub async fn is_blank(&self, at: usize) -> Result<bool, DiskError> {
        let files = Arc::clone(&self.files);
        let job = move || {
            let length = files.layout.files()[at].length;
            Ok(files.file(at)?.is_hole(0, length))
        };
        self.disk.run_slow(job).await
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

/// The files themselves; everything here blocks.
#[derive(Debug)]
struct Files {
    id: u64,
    handles: Arc<Handles>,
    layout: Arc<Layout>,
    place: Place,
    /// The files that are locked, open as long as we live.
    locked: HashMap<usize, Arc<OpenFile>>,
    poisoned: Vec<Arc<AtomicBool>>,
    /// Device and inode of each file when first seen: another file under its name is not ours.
    inodes: Vec<OnceLock<(u64, u64)>>,
    writable: AtomicBool,
    mapped: bool,
    /// SHA-1 of a piece of zeros.
    zeros: OnceLock<[u8; 20]>,
}

impl Drop for Files {
    fn drop(&mut self) {
        self.handles.forget(self.id);
    }
}

impl Files {
    fn file(&self, at: usize) -> Result<Arc<OpenFile>, DiskError> {
        match self.locked.get(&at) {
            Some(file) => Ok(Arc::clone(file)),
            None => self.handles.get((self.id, at), || self.open(at)),
        }
    }

    fn open(&self, at: usize) -> Result<OpenFile, DiskError> {
        let spec = &self.layout.files()[at];
        let write = self.writable.load(Ordering::Acquire);
        let file = self
            .place
            .open_file(self.layout.relative(&spec.path), write)?;
        let found = file.metadata();
        let found = found.map_err(|error| DiskError::io(&spec.path, "look at", error))?;
        let found = identity(&found);
        let inode = (found.device, found.inode);
        let replaced = *self.inodes[at].get_or_init(|| inode) != inode;
        // To read, a wrong length is told by whoever reads past it.
        if replaced || (write && found.size != spec.length) {
            return Err(DiskError::vanished(&spec.path));
        }
        let (path, mark) = (spec.path.clone(), Arc::clone(&self.poisoned[at]));
        Ok(OpenFile::new(
            path,
            file,
            spec.length,
            write && self.mapped,
            mark,
        ))
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), DiskError> {
        let mut rest = data;
        for span in self.layout.spans(offset, data.len() as u64) {
            let (now, later) = rest.split_at(span.len as usize);
            rest = later;
            if span.pad {
                continue;
            }
            if !self.writable.load(Ordering::Acquire) {
                let path = self.layout.files()[span.file].path.clone();
                return Err(DiskError::ReadOnly { path });
            }
            self.file(span.file)?.write_at(span.offset, now)?;
        }
        Ok(())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let mut rest = buffer;
        for span in self.layout.spans(offset, rest.len() as u64) {
            let (now, later) = rest.split_at_mut(span.len as usize);
            rest = later;
            if span.pad {
                now.fill(0);
            } else {
                self.file(span.file)?.read_at(span.offset, now)?;
            }
        }
        Ok(())
    }

    fn read_ranges(&self, ranges: &[BlockRange]) -> Result<Vec<u8>, DiskError> {
        let geometry = self.layout.geometry();
        let total = ranges.iter().map(|range| range.len() as usize).sum();
        let mut bytes = vec![0; total];
        let mut rest = &mut bytes[..];
        let follows = |one: &BlockRange, two: &BlockRange| {
            geometry.offset(*one) + u64::from(one.len()) == geometry.offset(*two)
        };
        for run in ranges.chunk_by(follows) {
            let len = run.iter().map(|range| range.len() as usize).sum();
            let (now, later) = rest.split_at_mut(len);
            self.read(geometry.offset(run[0]), now)?;
            rest = later;
        }
        Ok(bytes)
    }

    fn check(
        &self,
        piece: PieceIndex,
        expected: [u8; 20],
        digests: bool,
    ) -> Result<Checked, DiskError> {
        thread_local! {
            static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let geometry = self.layout.geometry();
        let (start, len) = (geometry.offset_of(piece), geometry.len_of(piece) as usize);
        let mut hasher = PieceHasher::new(digests);
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(CHUNK, 0);
            for at in (0..len).step_by(CHUNK) {
                let chunk = &mut buffer[..CHUNK.min(len - at)];
                self.read(start + at as u64, chunk)?;
                hasher.update(chunk);
            }
            Ok(())
        })?;
        let (found, blocks) = hasher.finish();
        Ok(if found == expected {
            let digests = digests.then_some(blocks);
            Checked::Good { digests }
        } else {
            Checked::Bad { digests: blocks }
        })
    }

    fn is_good(&self, piece: PieceIndex, expected: [u8; 20]) -> Result<bool, DiskError> {
        let good = if self.is_unwritten(piece)? {
            Ok(self.hash_of_zeros(piece) == expected)
        } else {
            let checked = self.check(piece, expected, false);
            checked.map(|checked| matches!(checked, Checked::Good { .. }))
        };
        match good {
            Err(DiskError::NotFound { .. } | DiskError::Vanished { .. }) => Ok(false),
            other => other,
        }
    }

    fn digest(&self) -> Result<[u8; 32], DiskError> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; CHUNK];
        for (at, spec) in self
            .layout
            .payload_files()
            .filter(|(_, spec)| spec.length > 0)
        {
            let file = self.file(at)?;
            let mut offset = 0;
            while offset < spec.length {
                let len = (spec.length - offset).min(CHUNK as u64);
                let chunk = &mut buffer[..len as usize];
                file.read_at(offset, chunk)?;
                hasher.update(chunk);
                offset += len;
            }
        }
        Ok(*hasher.finalize().as_bytes())
    }

    fn is_unwritten(&self, piece: PieceIndex) -> Result<bool, DiskError> {
        for span in self.layout.piece_spans(piece).filter(|span| !span.pad) {
            match self.file(span.file) {
                Ok(file) if file.is_hole(span.offset, span.len) => {}
                Ok(_) | Err(DiskError::NotFound { .. } | DiskError::Vanished { .. }) => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn hash_of_zeros(&self, piece: PieceIndex) -> [u8; 20] {
        let geometry = self.layout.geometry();
        let of = |len: u32| {
            let mut hasher = PieceHasher::new(false);
            let zeros = vec![0; CHUNK.min(len as usize)];
            for at in (0..len as usize).step_by(CHUNK) {
                hasher.update(&zeros[..CHUNK.min(len as usize - at)]);
            }
            hasher.finish().0
        };
        match geometry.len_of(piece) {
            len if len == geometry.piece_len() => *self.zeros.get_or_init(|| of(len)),
            shorter => of(shorter),
        }
    }

    fn sync(&self, at: usize) -> Result<FileIdentity, DiskError> {
        let file = self.file(at)?;
        file.sync()?;
        let found = file.identity()?;
        // The descriptor is in order, but does its name still lead to it?
        let named = self.place.look(self.layout.relative(file.path()))?;
        let named = named.map(|named| identity(&named));
        if named.is_none_or(|named| (named.device, named.inode) != (found.device, found.inode)) {
            return Err(DiskError::vanished(file.path()));
        }
        Ok(found)
    }

    fn open_files(&self) -> Vec<Arc<OpenFile>> {
        let mut open = self.handles.of(self.id);
        open.extend(self.locked.values().cloned());
        open
    }

    /// Syncs every file with bytes that are not; tries all, and gives the first error.
    fn sync_dirty(&self) -> Result<(), DiskError> {
        let open = self.open_files();
        let dirty = open.iter().filter(|file| file.is_dirty());
        dirty.map(|file| file.sync()).fold(Ok(()), Result::and)
    }

    fn close(&self) -> Result<(), DiskError> {
        self.writable.store(false, Ordering::Release);
        let synced = self.sync_dirty();
        self.handles.forget(self.id);
        for file in self.locked.values() {
            file.forget_if_poisoned();
            lock::release(file.file());
        }
        synced
    }

    fn downgrade(&self) -> Result<(), DiskError> {
        self.writable.store(false, Ordering::Release);
        self.sync_dirty()?;
        self.open_files().iter().for_each(|file| file.unmap());
        // Opened again when needed, then for reading.
        self.handles.forget(self.id);
        let hold = |file: &Arc<OpenFile>| lock::hold(file.file(), file.path(), Hold::Shared);
        self.locked.values().try_for_each(hold)
    }
}
