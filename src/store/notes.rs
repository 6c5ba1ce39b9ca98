//! Notes: what is verified or received but not durable yet (rule R2b of the durability rules).
//!
//! A note is in the kernel's hands when [`NoteLog::append`] returns and is never synced, so that it survives the process
//! but maybe not the machine. It claims nothing; it says which pieces are worth hashing after an unclean end. The database
//! cannot hold notes: it keeps writes to itself until it flushes, and a flush waits for the medium.
//!
//! The file is a run of records of 24 bytes: `kind u8 · 3 zeros · piece u32 · first block u32 · end block u32 · checksum (8)`.
//! The checksum is keyed with the torrent and the [`Epoch`] of the database, so that notes made beside a database that is
//! gone are not believed. A record that does not check is skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::codec::Reader;
use super::database::Epoch;
use super::durable;
use super::error::StoreError;
use crate::base::InfoHash;
use crate::base::limits::NOTES_MAX;

const RECORD_LEN: usize = 24;
const CHECKED_LEN: usize = 16;

/// Something that is so now and may be lost in a power cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The hash of this piece matched.
    Verified(u32),
    /// Blocks of this unfinished piece were written to its file.
    Blocks {
        /// The piece.
        piece: u32,
        /// Numbers of the blocks within it.
        blocks: Range<u32>,
    },
}

/// The notes of one torrent, to be written by whoever has something to note. Clones share them.
#[derive(Clone, Debug)]
pub struct Notebook(Arc<Mutex<NoteLog>>);

impl Notebook {
    pub(super) fn open(folder: &Path, info_hash: &InfoHash, epoch: &Epoch) -> Self {
        let log = NoteLog::open(folder, info_hash, epoch);
        Self(Arc::new(Mutex::new(log)))
    }

    /// R2b, as [`Store::note`](super::Store::note), here and now: it costs a system call, which may wait for others that write notes of the same
    /// torrent.
    ///
    /// # Errors
    /// As [`Store::note`](super::Store::note).
    pub fn write(&self, notes: &[Note]) -> Result<(), StoreError> {
        self.log().append(notes)
    }

    pub(super) fn log(&self) -> MutexGuard<'_, NoteLog> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file of the notes of one torrent, and what is in it.
#[derive(Debug)]
pub(super) struct NoteLog {
    path: PathBuf,
    key: [u8; 32],
    live: BTreeMap<u32, OfPiece>,
    /// Open for appending, from the first note on.
    file: Option<File>,
    len: u64,
}

/// What is noted of one piece: blocks, sorted and apart, or no block and that it is verified.
#[derive(Debug, Default)]
struct OfPiece {
    verified: bool,
    blocks: Vec<Range<u32>>,
}

impl OfPiece {
    fn add(&mut self, added: &Range<u32>) {
        if self.verified || added.is_empty() {
            return;
        }
        let first = self.blocks.partition_point(|run| run.end < added.start);
        let after = self.blocks.partition_point(|run| run.start <= added.end);
        let mut merged = added.clone();
        for run in &self.blocks[first..after] {
            merged = merged.start.min(run.start)..merged.end.max(run.end);
        }
        self.blocks.splice(first..after, [merged]);
    }
}

impl NoteLog {
    /// Reads what is left of the notes on `info_hash` in `folder`. Damage loses notes and nothing else.
    pub(super) fn open(folder: &Path, info_hash: &InfoHash, epoch: &Epoch) -> Self {
        let path = folder.join(info_hash.to_string());
        let mut keyed = blake3::Hasher::new();
        keyed.update(info_hash.as_bytes());
        keyed.update(epoch);
        let mut log = Self {
            path,
            key: *keyed.finalize().as_bytes(),
            live: BTreeMap::new(),
            file: None,
            len: 0,
        };
        let mut bytes = Vec::new();
        let read =
            File::open(&log.path).and_then(|file| file.take(NOTES_MAX).read_to_end(&mut bytes));
        match read {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %log.path.display(), %error, "notes cannot be read");
            }
            _ => {}
        }
        for record in bytes.chunks_exact(RECORD_LEN) {
            if let Some(note) = log.decode(record) {
                log.take_in(&note);
            }
        }
        log
    }

    /// When the last note was written, in nanoseconds since 1970.
    pub(super) fn written_ns(&self) -> Option<i64> {
        let written = std::fs::metadata(&self.path).ok()?;
        Some(
            written
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(written.mtime_nsec()),
        )
    }

    /// Hands `notes` to the kernel, with one write.
    pub(super) fn append(&mut self, notes: &[Note]) -> Result<(), StoreError> {
        for note in notes {
            self.take_in(note);
        }
        let bytes = self.encode(notes);
        let mut file = match self.file.take() {
            Some(file) if self.len + bytes.len() as u64 <= NOTES_MAX => file,
            // Also at the first note of a run: it clears away what a torn write may have left.
            _ => return self.rewrite(),
        };
        match file.write_all(&bytes) {
            Ok(()) => {
                self.len += bytes.len() as u64;
                self.file = Some(file);
                Ok(())
            }
            // The next note rewrites the file, and with it this one.
            Err(error) => Err(StoreError::io(&self.path, error)),
        }
    }

    /// What is noted now, in order of pieces.
    pub(super) fn notes(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        for (&piece, of_piece) in &self.live {
            if of_piece.verified {
                notes.push(Note::Verified(piece));
            }
            notes.extend(of_piece.blocks.iter().map(|blocks| Note::Blocks {
                piece,
                blocks: blocks.clone(),
            }));
        }
        notes
    }

    /// Drops the notes on `pieces`, and with `blocks_too` those on all blocks.
    pub(super) fn drop_covered(
        &mut self,
        pieces: &BTreeSet<u32>,
        blocks_too: bool,
    ) -> Result<(), StoreError> {
        let before = self.live.len();
        self.live.retain(|piece, of_piece| {
            !pieces.contains(piece) && (of_piece.verified || !blocks_too)
        });
        if self.live.len() == before {
            return Ok(());
        }
        if self.live.is_empty() {
            return self.remove();
        }
        // Notes that are gone cost little; one that stays may be believed of pages that never reached the disk (R6). On a
        // full disk a file can still be removed.
        self.rewrite().or_else(|_| self.remove_file())
    }

    /// Drops all notes and the file.
    pub(super) fn remove(&mut self) -> Result<(), StoreError> {
        self.live.clear();
        self.remove_file()
    }

    /// Drops the file; the next note writes it anew.
    fn remove_file(&mut self) -> Result<(), StoreError> {
        self.file = None;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io(&self.path, error))
            }
            _ => Ok(()),
        }
    }

    /// Writes what is noted now into a new file and puts it in place of the old one. Nothing is synced.
    fn rewrite(&mut self) -> Result<(), StoreError> {
        self.file = None;
        let mut bytes = self.encode(&self.notes());
        // Half the bound, so that the next note does not bring us here again.
        bytes.truncate(NOTES_MAX as usize / 2 / RECORD_LEN * RECORD_LEN);
        let beside = durable::beside(&self.path);
        let written = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(&beside)
            .and_then(|mut file| file.write_all(&bytes).map(|()| file));
        let file = written
            .and_then(|file| fs::rename(&beside, &self.path).map(|()| file))
            .map_err(|error| StoreError::create(&self.path, error))?;
        self.len = bytes.len() as u64;
        self.file = Some(file);
        Ok(())
    }

    fn take_in(&mut self, note: &Note) {
        match note {
            Note::Verified(piece) => {
                let of_piece = self.live.entry(*piece).or_default();
                of_piece.verified = true;
                of_piece.blocks.clear();
            }
            Note::Blocks { piece, blocks } => self.live.entry(*piece).or_default().add(blocks),
        }
    }

    fn encode(&self, notes: &[Note]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(notes.len() * RECORD_LEN);
        for note in notes {
            let (kind, piece, blocks) = match note {
                Note::Verified(piece) => (1, piece, 0..0),
                Note::Blocks { piece, blocks } => (2, piece, blocks.clone()),
            };
            let from = bytes.len();
            bytes.extend_from_slice(&[kind, 0, 0, 0]);
            bytes.extend_from_slice(&piece.to_be_bytes());
            bytes.extend_from_slice(&blocks.start.to_be_bytes());
            bytes.extend_from_slice(&blocks.end.to_be_bytes());
            let checksum = self.checksum(&bytes[from..]);
            bytes.extend_from_slice(&checksum);
        }
        bytes
    }

    fn decode(&self, record: &[u8]) -> Option<Note> {
        let (checked, checksum) = record.split_at_checked(CHECKED_LEN)?;
        if checksum != self.checksum(checked) {
            return None;
        }
        let mut reader = Reader(checked);
        let [kind, ..] = *reader.array::<4>()?;
        let piece = reader.u32()?;
        let blocks = reader.u32()?..reader.u32()?;
        match kind {
            1 => Some(Note::Verified(piece)),
            2 => Some(Note::Blocks { piece, blocks }),
            _ => None,
        }
    }

    fn checksum(&self, checked: &[u8]) -> [u8; RECORD_LEN - CHECKED_LEN] {
        let hash = blake3::keyed_hash(&self.key, checked);
        let mut checksum = [0; RECORD_LEN - CHECKED_LEN];
        checksum.copy_from_slice(&hash.as_bytes()[..RECORD_LEN - CHECKED_LEN]);
        checksum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IH: InfoHash = InfoHash([7; 20]);
    const EPOCH: Epoch = [9; 16];

    fn open(folder: &Path) -> NoteLog {
        NoteLog::open(folder, &IH, &EPOCH)
    }

    fn blocks(piece: u32, blocks: Range<u32>) -> Note {
        Note::Blocks { piece, blocks }
    }

    #[test]
    fn notes_are_merged_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path());
        log.append(&[blocks(3, 0..2), blocks(3, 4..5)]).unwrap();
        log.append(&[blocks(3, 2..4), blocks(1, 0..1)]).unwrap();
        log.append(&[Note::Verified(1)]).unwrap();
        let expected = vec![Note::Verified(1), blocks(3, 0..5)];
        assert_eq!(log.notes(), expected);
        assert_eq!(open(folder.path()).notes(), expected);
    }

    #[test]
    fn a_torn_or_flipped_record_loses_itself_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path());
        let notes: Vec<_> = (0..5).map(Note::Verified).collect();
        log.append(&notes).unwrap();
        let whole = fs::read(&log.path).unwrap();
        for len in 0..whole.len() {
            fs::write(&log.path, &whole[..len]).unwrap();
            assert_eq!(open(folder.path()).notes(), notes[..len / RECORD_LEN]);
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&log.path, &bytes).unwrap();
            let mut expected = notes.clone();
            expected.remove(at / RECORD_LEN);
            assert_eq!(open(folder.path()).notes(), expected);
        }
    }

    #[test]
    fn notes_after_a_torn_tail_are_readable() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path());
        log.append(&[Note::Verified(1), Note::Verified(2)]).unwrap();
        let whole = fs::read(&log.path).unwrap();
        fs::write(&log.path, &whole[..30]).unwrap();
        open(folder.path()).append(&[Note::Verified(3)]).unwrap();
        let expected = vec![Note::Verified(1), Note::Verified(3)];
        assert_eq!(open(folder.path()).notes(), expected);
    }

    #[test]
    fn notes_beside_another_database_or_of_another_torrent_are_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path());
        log.append(&[Note::Verified(1)]).unwrap();
        let other = NoteLog::open(folder.path(), &IH, &[0; 16]);
        assert_eq!(other.notes(), []);
        let moved = InfoHash([8; 20]);
        fs::rename(&log.path, folder.path().join(moved.to_string())).unwrap();
        let other = NoteLog::open(folder.path(), &moved, &EPOCH);
        assert_eq!(other.notes(), []);
    }

    #[test]
    fn the_file_stays_within_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = open(folder.path());
        for batch in 0..200u32 {
            // Runs that do not touch cannot be merged.
            let notes: Vec<_> = (0..500)
                .map(|n| blocks(n, batch * 2..batch * 2 + 1))
                .collect();
            log.append(&notes).unwrap();
            assert!(fs::metadata(&log.path).unwrap().len() <= NOTES_MAX);
        }
        assert!(!open(folder.path()).notes().is_empty());
    }

    proptest! {
        #[test]
        fn blocks_behave_like_a_set(runs in prop::collection::vec((0u32..60, 0u32..9), 0..30)) {
            let mut of_piece = OfPiece::default();
            let mut model = BTreeSet::new();
            for (start, len) in runs {
                of_piece.add(&(start..start + len));
                model.extend(start..start + len);
            }
            let found: Vec<u32> = of_piece.blocks.iter().cloned().flatten().collect();
            prop_assert_eq!(found, model.into_iter().collect::<Vec<_>>());
            for pair in of_piece.blocks.windows(2) {
                prop_assert!(pair[0].end < pair[1].start);
            }
        }
    }
}
