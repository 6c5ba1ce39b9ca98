//! The files of one torrent, and everything about them that blocks.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::file::OpenFile;
use super::handles::Handles;
use super::hash::{CHUNK, PieceHasher, sha1_of_zeros};
use super::lock::{self, Hold};
use super::look::FileState;
use super::open::Ready;
use super::place::{Place, identity};
use super::volume::Volume;
use super::{DiskError, Layout, SpecKind};
use crate::base::{Checked, FileIdentity, PieceIndex};

/// The files themselves; everything here blocks.
#[derive(Debug)]
pub(super) struct Files {
    id: u64,
    handles: Arc<Handles>,
    pub(super) layout: Arc<Layout>,
    pub(super) place: Place,
    /// By which many of them are synced at once; none if there are few, or they are only read.
    volume: Option<Arc<Volume>>,
    /// The files that are locked, open as long as we live.
    locked: HashMap<usize, Arc<OpenFile>>,
    poisoned: Vec<Arc<AtomicBool>>,
    /// Device and inode of each file when first seen: another file under its name is not ours.
    inodes: Vec<OnceLock<(u64, u64)>>,
    /// What each file was when its content was judged.
    judged: Vec<OnceLock<FileIdentity>>,
    /// Files whose times may not be on the medium as they are.
    stale_times: Vec<AtomicBool>,
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
    /// `mapped` says whether files are mapped; `None` if they are only read.
    pub(super) fn new(
        id: u64,
        handles: Arc<Handles>,
        layout: Arc<Layout>,
        ready: Ready,
        mapped: Option<bool>,
    ) -> Self {
        let Ready {
            place,
            volume,
            locked,
            poisoned,
            states,
        } = ready;
        let made = |at| {
            let file: &Arc<OpenFile> = locked.get(&at)?;
            let found = identity(&file.file().metadata().ok()?);
            Some((found.device, found.inode))
        };
        let inodes = states.iter().enumerate().map(|(at, state)| match state {
            FileState::Existing(found) | FileState::WrongLength(found) => {
                OnceLock::from((found.device, found.inode))
            }
            FileState::Virtual | FileState::Missing => {
                made(at).map_or_else(OnceLock::new, OnceLock::from)
            }
        });
        let inodes = inodes.collect();
        Self {
            id,
            handles,
            place,
            volume,
            locked,
            poisoned,
            inodes,
            judged: layout.files().iter().map(|_| OnceLock::new()).collect(),
            stale_times: layout
                .files()
                .iter()
                .map(|_| AtomicBool::new(false))
                .collect(),
            writable: AtomicBool::new(mapped.is_some()),
            mapped: mapped.unwrap_or(false),
            zeros: OnceLock::new(),
            layout,
        }
    }

    pub(super) fn file(&self, at: usize) -> Result<Arc<OpenFile>, DiskError> {
        match self.locked.get(&at) {
            Some(file) => Ok(Arc::clone(file)),
            None => self.handles.get((self.id, at), || self.open(at)),
        }
    }

    pub(super) fn open(&self, at: usize) -> Result<OpenFile, DiskError> {
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
        let (mapped, medium) = (write && self.mapped, Arc::clone(self.place.medium()));
        let open = OpenFile::new(path, file, spec.length, mapped, mark, medium);
        let here = |volume: &&Arc<Volume>| write && volume.holds(found.device);
        let volume = self.volume.as_ref().filter(here).cloned();
        Ok(open.on(volume))
    }

    pub(super) fn write(&self, offset: u64, data: &[u8]) -> Result<(), DiskError> {
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
            let stale = &self.stale_times[span.file];
            // Before and after, for a sync may come in between.
            stale.store(true, Ordering::Release);
            let written = self.file(span.file)?.write_at(span.offset, now);
            stale.store(true, Ordering::Release);
            written?;
        }
        Ok(())
    }

    /// File number `at`, if it is open.
    pub(super) fn file_if_open(&self, at: usize) -> Option<Arc<OpenFile>> {
        let locked = self.locked.get(&at).cloned();
        locked.or_else(|| self.handles.find((self.id, at)))
    }

    pub(super) fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Acquire)
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.read_by(offset, buffer, |_, _| {})
    }

    /// Reads, and tells of each file that it reads from.
    pub(super) fn read_by(
        &self,
        offset: u64,
        buffer: &mut [u8],
        mut tell: impl FnMut(usize, Arc<OpenFile>),
    ) -> Result<(), DiskError> {
        let mut rest = buffer;
        for span in self.layout.spans(offset, rest.len() as u64) {
            let (now, later) = rest.split_at_mut(span.len as usize);
            rest = later;
            if span.pad {
                now.fill(0);
                continue;
            }
            let file = self.file(span.file)?;
            file.read_at(span.offset, now)?;
            tell(span.file, file);
        }
        Ok(())
    }

    pub(super) fn judge_by(&self, identities: &[(usize, FileIdentity)]) {
        for &(at, identity) in identities {
            self.judged[at].get_or_init(|| identity);
        }
    }

    /// What a file was when its content was judged, if it was.
    pub(super) fn judged(&self, at: usize) -> Option<FileIdentity> {
        self.judged[at].get().copied()
    }

    pub(super) fn check(
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

    pub(super) fn digest(&self) -> Result<[u8; 32], DiskError> {
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

    pub(super) fn is_unwritten(&self, piece: PieceIndex) -> Result<bool, DiskError> {
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

    /// Lets go of cached pages of file number `at`, if it is there.
    pub(super) fn drop_cache(&self, at: usize) -> Result<(), DiskError> {
        match self.file(at) {
            Ok(file) => {
                file.drop_cache();
                Ok(())
            }
            Err(error) if error.spares_pages() => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn hash_of_zeros(&self, piece: PieceIndex) -> [u8; 20] {
        let geometry = self.layout.geometry();
        match geometry.len_of(piece) {
            len if len == geometry.piece_len() => *self.zeros.get_or_init(|| sha1_of_zeros(len)),
            shorter => sha1_of_zeros(shorter),
        }
    }

    /// Nobody knows whether the times of the files are on the medium.
    pub(super) fn doubt_times(&self) {
        for (at, _) in self.layout.payload_files() {
            self.stale_times[at].store(true, Ordering::Release);
        }
    }

    /// Files whose times may not be on the medium.
    pub(super) fn with_stale_times(&self) -> impl Iterator<Item = usize> + '_ {
        let stale = self.stale_times.iter().enumerate();
        stale
            .filter(|(_, stale)| stale.load(Ordering::Acquire))
            .map(|(at, _)| at)
    }

    pub(super) fn sync(&self, at: usize) -> Result<FileIdentity, DiskError> {
        let file = self.file(at)?;
        file.sync()?;
        self.identity(&file)
    }

    /// Whether syncs of so many files are worth trying to do [together](Files::sync_together).
    pub(super) fn may_sync_together(files: usize) -> bool {
        Volume::is_worth(files)
    }

    /// As [`Files::sync_with_times`] of all of `touched`, at once. `None` if that cannot be done.
    pub(super) fn sync_together(
        &self,
        touched: &[usize],
    ) -> Result<Option<Vec<(usize, FileIdentity)>>, DiskError> {
        let Some(volume) = &self.volume else {
            return Ok(None);
        };
        let here = |&at: &usize| {
            let inode = self.inodes[at].get();
            inode.is_some_and(|&(device, _)| volume.holds(device))
        };
        // As of now: what is written meanwhile is stale again.
        let stale: Vec<usize> = self.with_stale_times().filter(here).collect();
        let set_stale = |to| {
            for &at in &stale {
                self.stale_times[at].store(to, Ordering::Release);
            }
        };
        set_stale(false);
        // A filesystem that is mounted below the folder is not synced.
        if !touched.iter().all(here) || !self.sync_volume() {
            set_stale(true);
            return Ok(None);
        }
        let identified = touched.iter().map(|&at| Ok((at, self.identity_of(at)?)));
        let identities = DiskError::gravest(identified)?;
        if !self.place.is_there() {
            return Err(DiskError::vanished(self.layout.root()));
        }
        Ok(Some(identities))
    }

    /// Syncs the whole filesystem and with it every file that is not synced; false if that cannot be done. Only what was written
    /// after this payload was opened is certain then: of what failed before, perhaps another was told.
    fn sync_volume(&self) -> bool {
        let is_here = |file: &&Arc<OpenFile>| file.volume().is_some();
        let (Some(volume), Some(some)) = (&self.volume, self.locked.values().find(is_here)) else {
            return false;
        };
        let open = self.open_files().into_iter();
        let (here, elsewhere): (Vec<_>, Vec<_>) = open
            .filter(|file| file.is_dirty())
            .partition(|file| file.volume().is_some());
        elsewhere.is_empty() && volume.sync(&here, some)
    }

    /// What a file is that was synced.
    fn identity_of(&self, at: usize) -> Result<FileIdentity, DiskError> {
        let path = || self.layout.files()[at].path.clone();
        // Files are synced before they are closed, and this remembers which of these syncs failed.
        if self.poisoned[at].load(Ordering::Acquire) {
            return Err(DiskError::Poisoned { path: path() });
        }
        let named = self.named(at)?;
        let gone = || DiskError::vanished(&path());
        let found = named.filter(|found| found.size == self.layout.files()[at].length);
        let found = found.ok_or_else(gone)?;
        Ok(found)
    }

    /// As [`Files::sync`], and the times of the file with it.
    pub(super) fn sync_with_times(&self, at: usize) -> Result<FileIdentity, DiskError> {
        let file = self.file(at)?;
        self.stale_times[at].store(false, Ordering::Release);
        if let Err(error) = file.sync_with_times() {
            self.stale_times[at].store(true, Ordering::Release);
            return Err(error);
        }
        self.identity(&file)
    }

    fn identity(&self, file: &OpenFile) -> Result<FileIdentity, DiskError> {
        let found = file.identity()?;
        // The descriptor is in order, but does its name still lead to it?
        let named = self.place.look(self.layout.relative(file.path()))?;
        let named = named.map(|named| identity(&named));
        if named.is_none_or(|named| (named.device, named.inode) != (found.device, found.inode)) {
            return Err(DiskError::vanished(file.path()));
        }
        // Nor does a folder that was moved or unmounted under us lose anything, but who looks for the payload finds none.
        if !self.place.is_there() {
            return Err(DiskError::vanished(self.layout.root()));
        }
        Ok(found)
    }

    /// What lies there now under the name of file number `at`; `None` for nothing, pads and links.
    pub(super) fn named(&self, at: usize) -> Result<Option<FileIdentity>, DiskError> {
        let spec = &self.layout.files()[at];
        if spec.kind != SpecKind::Payload {
            return Ok(None);
        }
        let named = self.place.look(self.layout.relative(&spec.path))?;
        let named = named.map(|named| identity(&named));
        let is_it = |inode: &(u64, u64)| {
            named.is_some_and(|now| (now.device, now.inode) == *inode && now.size == spec.length)
        };
        match self.inodes[at].get() {
            Some(inode) if !is_it(inode) => Err(DiskError::vanished(&spec.path)),
            _ => Ok(named),
        }
    }

    pub(super) fn open_files(&self) -> Vec<Arc<OpenFile>> {
        let mut open = self.handles.of(self.id);
        open.extend(self.locked.values().cloned());
        open
    }

    /// Syncs every file with bytes that are not; tries all, and gives the first error.
    pub(super) fn sync_dirty(&self) -> Result<(), DiskError> {
        let open = self.open_files();
        let dirty = || open.iter().filter(|file| file.is_dirty());
        if Self::may_sync_together(dirty().count()) && self.sync_volume() {
            return Ok(());
        }
        dirty().map(|file| file.sync()).fold(Ok(()), Result::and)
    }

    /// As [`OpenFile::forget_if_poisoned`], for every open file.
    pub(super) fn forget_if_poisoned(&self) {
        for file in self.open_files() {
            file.forget_if_poisoned();
        }
    }

    pub(super) fn close(&self) -> Result<(), DiskError> {
        self.writable.store(false, Ordering::Release);
        let synced = self.sync_dirty();
        // Also those that a read still uses, which would outlive this.
        self.forget_if_poisoned();
        self.handles.forget(self.id);
        for file in self.locked.values() {
            lock::release(file.file());
        }
        synced
    }

    pub(super) fn downgrade(&self) -> Result<(), DiskError> {
        self.writable.store(false, Ordering::Release);
        self.sync_dirty()?;
        self.open_files().iter().for_each(|file| file.unmap());
        // Opened again when needed, then for reading.
        self.handles.forget(self.id);
        let hold = |file: &Arc<OpenFile>| lock::hold(file.file(), file.path(), Hold::Shared);
        self.locked.values().try_for_each(hold)
    }
}
