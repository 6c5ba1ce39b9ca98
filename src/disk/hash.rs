//! Hashing payloads: pieces (SHA-1, BEP 3), their blocks and whole payloads (BLAKE3).
//!
//! [`hash_payload`] blocks the calling thread and uses threads of its own: it is for the command line.

use std::array::from_fn;
use std::thread::{self, ScopedJoinHandle};

use sha1::{Digest, Sha1};

use super::batch::{Batch, LANES, Plan, Queue, Sum};
use super::place::{Place, identity};
use super::reader::Reader;
use super::{DiskError, Layout, SpecKind, Subtree};
use crate::base::{BLOCK_LEN, FileIdentity, PieceIndex};

/// Bytes read and hashed at once: a multiple of the block, small enough to be hashed out of the processor's cache.
pub(super) const CHUNK: usize = 256 << 10;
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

/// Reads and hashes a whole payload, on `threads` threads (at least one; fewer where pieces are very long). `progress` is told how
/// many bytes were hashed, again and again, on those threads.
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
    let sums = sums(layout, &place, threads, progress)?;
    let subtrees: Option<Vec<_>> = sums.iter().map(|sum| sum.subtree).collect();
    let blake3 = match subtrees.and_then(|subtrees| Subtree::merge(&subtrees)) {
        Some(blake3) => blake3,
        // Of one piece, or of files with pads between them: short, or rare.
        None => digest(layout, Reader::new(layout, &place))?,
    };
    if self::identities(layout, &place)? != identities {
        return Err(DiskError::vanished(layout.root()));
    }
    Ok(Hashed {
        pieces: sums.iter().map(|sum| sum.sha1).collect(),
        blake3,
        identities,
    })
}

/// BLAKE3 of the payload files, one after the other; pads are no files.
///
/// # Errors
/// As [`Reader::read`].
pub(super) fn digest(layout: &Layout, mut reader: Reader<'_>) -> Result<[u8; 32], DiskError> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0;
    for file in layout.files() {
        let end = offset + file.length;
        while file.kind == SpecKind::Payload && offset < end {
            let chunk = &mut buffer[..(end - offset).min(CHUNK as u64) as usize];
            reader.read(offset, chunk)?;
            hasher.update(chunk);
            offset += chunk.len() as u64;
        }
        offset = end;
    }
    Ok(*hasher.finalize().as_bytes())
}

/// Hashes all pieces; gives their sums in order.
fn sums(
    layout: &Layout,
    place: &Place,
    threads: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Sum>, DiskError> {
    let geometry = layout.geometry();
    let plan = Plan::new(layout, place);
    let threads = plan.threads(threads);
    let pieces: Vec<PieceIndex> = geometry.all_pieces().collect();
    let queue = Queue::new(&plan, &pieces, threads);
    let work = || {
        let fits = Subtree::fits(layout);
        let readers: [_; LANES] = from_fn(|_| Reader::new(layout, place));
        let mut buffer = Vec::new();
        let mut batch = Batch::new(layout, &plan, fits, readers, &mut buffer);
        let mut hashed = Vec::new();
        while let Some(mut stretch) = queue.take() {
            while let Some(some) = batch.split(&mut stretch) {
                // One who failed has the others stop.
                let sums = batch.hash(some).inspect_err(|_| queue.close())?;
                hashed.extend(some.iter().copied().zip(sums));
                progress(
                    some.iter()
                        .map(|&piece| u64::from(geometry.len_of(piece)))
                        .sum(),
                );
            }
        }
        Ok(hashed)
    };
    let shares: Vec<Result<Vec<_>, DiskError>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(join).collect()
    });
    let shares: Vec<_> = shares.into_iter().collect::<Result<_, _>>()?;
    let mut hashed: Vec<_> = shares.into_iter().flatten().collect();
    hashed.sort_unstable_by_key(|(piece, _)| *piece);
    Ok(hashed.into_iter().map(|(_, sum)| sum).collect())
}

/// What a thread ended with; its panic is ours.
pub(super) fn join<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    handle
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
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
