//! Hashing payloads: pieces (SHA-1, BEP 3), their blocks and whole payloads (BLAKE3).
//!
//! [`hash_payload`] blocks the calling thread and uses threads of its own: it is for the command line.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use sha1::{Digest, Sha1};

use super::place::{Place, identity};
use super::reader::Reader;
use super::{DiskError, Layout};
use crate::base::{BLOCK_LEN, FileIdentity, PieceIndex};

/// Bytes read and hashed at once: a multiple of the block, small enough to be hashed out of the processor's cache.
pub(super) const CHUNK: usize = 256 << 10;
/// Bytes of pieces that wait for a hash, beyond the one piece for each thread that there must be.
const AHEAD: usize = 16 << 20;

/// Bytes of pieces that are being hashed, beyond the one piece that there must be.
const HELD: usize = 256 << 20;

/// SHA-1 of `data`.
pub fn sha1(data: &[u8]) -> [u8; 20] {
    Sha1::digest(data).into()
}

/// SHA-1 of `len` zeros.
pub(super) fn sha1_of_zeros(len: u32) -> [u8; 20] {
    let len = len as usize;
    let zeros = vec![0; CHUNK.min(len)];
    let mut hasher = PieceHasher::new(false);
    for at in (0..len).step_by(CHUNK) {
        hasher.update(&zeros[..CHUNK.min(len - at)]);
    }
    hasher.finish().0
}

/// BLAKE3 of each block of a piece.
pub fn block_digests(piece: &[u8]) -> Vec<[u8; 32]> {
    let blocks = piece.chunks(BLOCK_LEN as usize);
    blocks
        .map(|block| *blake3::hash(block).as_bytes())
        .collect()
}

/// Hashes a piece that comes in chunks; all but the last must be whole blocks if digests are wanted.
pub(super) struct PieceHasher {
    sha1: Sha1,
    digests: Option<Vec<[u8; 32]>>,
}

impl PieceHasher {
    pub(super) fn new(digests: bool) -> Self {
        Self {
            sha1: Sha1::new(),
            digests: digests.then(Vec::new),
        }
    }

    pub(super) fn update(&mut self, chunk: &[u8]) {
        self.sha1.update(chunk);
        if let Some(digests) = &mut self.digests {
            digests.extend(block_digests(chunk));
        }
    }

    /// SHA-1 of the whole and BLAKE3 of the blocks; none of those unless asked for.
    pub(super) fn finish(self) -> ([u8; 20], Vec<[u8; 32]>) {
        (
            self.sha1.finalize().into(),
            self.digests.unwrap_or_default(),
        )
    }
}

/// What a payload hashes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// SHA-1 of each piece.
    pub pieces: Vec<[u8; 20]>,
    /// BLAKE3 of the files' bytes in torrent order, without pads.
    pub blake3: [u8; 32],
    /// What each file (pads and links left out) was before it was read, and still was afterwards, in torrent order.
    pub identities: Vec<FileIdentity>,
}

/// Reads and hashes a whole payload, on `threads` threads (at least one) besides one that reads and one that runs BLAKE3. `progress` is
/// told the bytes of each piece as it is read.
///
/// # Errors
/// [`DiskError::NotFound`], [`DiskError::CannotOpen`], [`DiskError::Io`], or [`DiskError::Vanished`] if a file is not as long as the layout has it or
/// changes meanwhile.
pub fn hash_payload(
    layout: &Layout,
    threads: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Hashed, DiskError> {
    let place = Place::open(layout.root())?;
    let identities = identities(layout, &place)?;
    let piece_len = layout.geometry().piece_len() as usize;
    // Each thread holds a piece: with very long ones fewer threads must do.
    let threads = threads.clamp(1, (HELD / piece_len).max(1));
    let ahead = (AHEAD / piece_len).clamp(1, 2 * threads);
    let spare = Spare::default();
    let (to_sha1, pieces) = sync_channel(ahead);
    let (to_blake3, stream) = sync_channel(ahead);
    let pieces = Mutex::new(pieces);
    let (hashed, blake3) = thread::scope(|scope| {
        let sha1: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| hash_pieces(&pieces, &spare)))
            .collect();
        let blake3 = scope.spawn(|| hash_stream(layout, stream, &spare));
        // The senders go with it, which ends the others.
        let read = read_pieces(layout, &place, &spare, (to_sha1, to_blake3), progress);
        let hashed: Vec<_> = sha1.into_iter().flat_map(join).collect();
        let blake3 = join(blake3);
        read.map(|()| (hashed, blake3))
    })?;
    if self::identities(layout, &place)? != identities {
        return Err(DiskError::vanished(layout.root()));
    }
    let mut pieces = vec![[0; 20]; layout.geometry().pieces() as usize];
    for (piece, hash) in hashed {
        pieces[piece.index()] = hash;
    }
    Ok(Hashed {
        pieces,
        blake3,
        identities,
    })
}

/// The bytes of a piece on their way to both hashes.
type Read = (PieceIndex, Arc<Vec<u8>>);

/// Buffers to be used again.
#[derive(Default)]
struct Spare(Mutex<Vec<Vec<u8>>>);

impl Spare {
    fn take(&self, len: usize) -> Vec<u8> {
        let mut buffer = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default();
        buffer.resize(len, 0);
        buffer
    }

    /// Takes the buffer back from its last user.
    fn put(&self, bytes: Arc<Vec<u8>>) {
        if let Some(buffer) = Arc::into_inner(bytes) {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(buffer);
        }
    }
}

/// What a thread ended with; its panic is ours.
pub(super) fn join<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    handle
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn read_pieces(
    layout: &Layout,
    place: &Place,
    spare: &Spare,
    (to_sha1, to_blake3): (SyncSender<Read>, SyncSender<Read>),
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), DiskError> {
    let geometry = layout.geometry();
    let mut reader = Reader::new(layout, place);
    for piece in geometry.all_pieces() {
        let mut buffer = spare.take(geometry.len_of(piece) as usize);
        reader.read(geometry.offset_of(piece), &mut buffer)?;
        let bytes = Arc::new(buffer);
        let sent = to_sha1.send((piece, Arc::clone(&bytes)));
        if sent.is_err() || to_blake3.send((piece, bytes)).is_err() {
            // A hashing thread panicked, which joining it tells.
            break;
        }
        progress(u64::from(geometry.len_of(piece)));
    }
    Ok(())
}

fn hash_pieces(pieces: &Mutex<Receiver<Read>>, spare: &Spare) -> Vec<(PieceIndex, [u8; 20])> {
    let mut hashed = Vec::new();
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok((piece, bytes)) = next() {
        hashed.push((piece, sha1(&bytes)));
        spare.put(bytes);
    }
    hashed
}

fn hash_stream(layout: &Layout, stream: Receiver<Read>, spare: &Spare) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (piece, bytes) in stream {
        let mut rest = &bytes[..];
        for span in layout.piece_spans(piece) {
            let (now, later) = rest.split_at(span.len as usize);
            rest = later;
            if !span.pad {
                hasher.update(now);
            }
        }
        spare.put(bytes);
    }
    *hasher.finalize().as_bytes()
}

fn identities(layout: &Layout, place: &Place) -> Result<Vec<FileIdentity>, DiskError> {
    let look = |(_, file): (usize, &super::FileSpec)| {
        let path = file.path.clone();
        let found = place.look(layout.relative(&file.path))?;
        let found = found.ok_or(DiskError::NotFound { path })?;
        if found.len() != file.length {
            return Err(DiskError::vanished(&file.path));
        }
        Ok(identity(&found))
    };
    layout.payload_files().map(look).collect()
}
