//! What an unfinished `verify` found so far, so that the same command goes on where it was stopped or killed.
//!
//! ```text
//! verify/<ih>-<what>   records, appended: piece u32 · good (1) or bad (0) · BLAKE3 node (32), if those are wanted · seal (8)
//! ```
//!
//! It lies in the state folder but needs nothing else there, so it works beside a running seedbank, with a lock of its own. The
//! seal covers what the files of the piece are as well: a record of a file that was touched since does not fit any more, and a
//! torn one never does. Nothing is synced: what a power cut takes is hashed again. A run that is over soon leaves no trace.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use data_encoding::HEXLOWER;
use seedbank::base::{FileIdentity, InfoHash, PieceIndex};
use seedbank::disk::{Layout, Subtree};

/// A run that takes less is repeated, not resumed.
const FIRST: Duration = Duration::from_millis(250);
/// How often records are handed to the kernel: the most that a kill costs.
const INTERVAL: Duration = Duration::from_secs(1);
/// A journal that nobody came back for.
const STALE: Duration = Duration::from_secs(30 * 24 * 3_600);

const NODE_LEN: usize = 32;
const SEAL_LEN: usize = 8;

/// What is known of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Which.
    pub(super) piece: PieceIndex,
    /// Whether it is good; otherwise it is bad.
    pub(super) good: bool,
    /// Its node, if it is good and nodes are wanted.
    pub(super) subtree: Option<Subtree>,
}

/// What a journal is about.
#[derive(Debug)]
pub(super) struct Subject<'a> {
    /// The torrent.
    pub(super) info_hash: InfoHash,
    /// Where its files are.
    pub(super) layout: &'a Layout,
    /// What they are, by place in the layout.
    pub(super) identities: Vec<Option<FileIdentity>>,
    /// Whether nodes are wanted.
    pub(super) subtrees: bool,
    /// Which files were asked for, if not all.
    pub(super) only: &'a [String],
}

/// The journal of one run.
#[derive(Debug)]
pub(super) struct Journal<'a> {
    subject: Subject<'a>,
    path: Option<PathBuf>,
    file: Option<File>,
    waiting: Vec<u8>,
    write_at: Instant,
    /// Why nothing more is written.
    failed: Option<io::Error>,
}

impl Subject<'_> {
    fn record_len(&self) -> usize {
        4 + 1 + if self.subtrees { NODE_LEN } else { 0 } + SEAL_LEN
    }

    /// What the journal is called: runs over other files, or for more, do not get in each other's way.
    fn name(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut add = |part: &[u8]| {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        };
        for (_, file) in self.layout.payload_files() {
            add(file.path.as_os_str().as_encoded_bytes());
        }
        add(&[u8::from(self.subtrees)]);
        self.only.iter().for_each(|only| add(only.as_bytes()));
        let what = HEXLOWER.encode(&hasher.finalize().as_bytes()[..8]);
        format!("{}-{what}", self.info_hash)
    }

    fn encode(&self, entry: &Entry) -> Option<Vec<u8>> {
        let mut record = Vec::with_capacity(self.record_len());
        record.extend_from_slice(&entry.piece.get().to_be_bytes());
        record.push(u8::from(entry.good));
        if self.subtrees {
            record.extend_from_slice(&entry.subtree.map_or([0; NODE_LEN], |node| node.0));
        }
        let seal = self.seal(entry.piece, &record)?;
        record.extend_from_slice(&seal);
        Some(record)
    }

    fn decode(&self, record: &[u8]) -> Option<Entry> {
        let (body, seal) = record.split_last_chunk::<SEAL_LEN>()?;
        let (piece, rest) = body.split_first_chunk()?;
        let piece = self.layout.geometry().piece(u32::from_be_bytes(*piece))?;
        if self.seal(piece, body)? != *seal {
            return None;
        }
        let (&good, node) = rest.split_first()?;
        let good = good == 1;
        let node = <[u8; NODE_LEN]>::try_from(node).ok().map(Subtree);
        let subtree = node.filter(|_| good);
        Some(Entry {
            piece,
            good,
            subtree,
        })
    }

    /// `None` if a file of the piece is not there.
    fn seal(&self, piece: PieceIndex, body: &[u8]) -> Option<[u8; SEAL_LEN]> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.info_hash.as_bytes());
        hasher.update(body);
        for span in self.layout.piece_spans(piece).filter(|span| !span.pad) {
            let file = self.identities.get(span.file).copied().flatten()?;
            for number in [file.device, file.inode, file.size, file.mtime_ns as u64] {
                hasher.update(&number.to_be_bytes());
            }
        }
        let mut seal = [0; SEAL_LEN];
        seal.copy_from_slice(&hasher.finalize().as_bytes()[..SEAL_LEN]);
        Some(seal)
    }
}

impl<'a> Journal<'a> {
    /// The journal in the folder `folder`, if there is one, and what an earlier run wrote there that still holds. Changes
    /// nothing yet.
    pub(super) fn open(
        now: Instant,
        folder: Option<&Path>,
        subject: Subject<'a>,
    ) -> (Self, Vec<Entry>) {
        let mut journal = Self {
            path: folder.map(|folder| folder.join(subject.name())),
            subject,
            file: None,
            waiting: Vec::new(),
            write_at: now + FIRST,
            failed: None,
        };
        let found = journal.load().unwrap_or_default();
        (journal, found)
    }

    fn load(&mut self) -> Option<Vec<Entry>> {
        let path = self.path.as_deref()?;
        let mut file = File::options().read(true).append(true).open(path).ok()?;
        if file.try_lock().is_err() {
            // Another run is at it; two would write everything twice.
            self.path = None;
            return None;
        }
        let record_len = self.subject.record_len();
        // Pieces of files that changed are there once more each time.
        let bound = 4 * record_len as u64 * u64::from(self.subject.layout.geometry().pieces());
        let mut bytes = Vec::new();
        (&mut file).take(bound).read_to_end(&mut bytes).ok()?;
        let found = bytes.chunks_exact(record_len);
        let found = found
            .filter_map(|record| self.subject.decode(record))
            .collect();
        // A torn record at the end would shift all that follow; and what is beyond the bound would never be read.
        let whole = bytes.len() - bytes.len() % record_len;
        let keep = if bytes.len() as u64 == bound {
            0
        } else {
            whole
        };
        file.set_len(keep as u64).ok()?;
        self.file = Some(file);
        Some(found)
    }

    /// Takes in what was found of a piece, and writes what waits if it is time. A failure matters only to who is stopped.
    pub(super) fn note(&mut self, now: Instant, entry: &Entry) {
        if self.path.is_none() {
            return;
        }
        self.waiting
            .extend(self.subject.encode(entry).into_iter().flatten());
        if now >= self.write_at {
            self.write_at = now + INTERVAL;
            self.write();
        }
    }

    /// Writes what waits. True if a later run can go on from it.
    ///
    /// # Errors
    /// If it, or something before it, could not be written.
    pub(super) fn keep(mut self) -> io::Result<bool> {
        self.write();
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.file.is_some()),
        }
    }

    /// The run is over: nothing is left to go on with.
    pub(super) fn remove(self) {
        if let (Some(path), Some(_)) = (self.path, self.file) {
            // Left behind, it would only take a little space until it is stale.
            let _ = fs::remove_file(path);
        }
    }

    fn write(&mut self) {
        if let Err(error) = self.try_write() {
            self.path = None;
            self.file = None;
            self.failed = Some(error);
        }
        self.waiting.clear();
    }

    fn try_write(&mut self) -> io::Result<()> {
        let Some(path) = self.path.as_deref().filter(|_| !self.waiting.is_empty()) else {
            return Ok(());
        };
        if self.file.is_none() {
            let folder = path.parent().unwrap_or(path);
            fs::create_dir_all(folder)?;
            sweep(folder);
            let file = File::options().create(true).append(true).open(path)?;
            file.try_lock()?;
            self.file = Some(file);
        }
        match &mut self.file {
            Some(file) => file.write_all(&self.waiting),
            None => Ok(()),
        }
    }
}

/// Removes journals that nobody came back for.
fn sweep(folder: &Path) {
    let stale = |entry: &fs::DirEntry| {
        let written = entry.metadata().and_then(|found| found.modified()).ok()?;
        SystemTime::now()
            .duration_since(written)
            .ok()
            .filter(|age| *age > STALE)
    };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if stale(&entry).is_some() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seedbank::base::Geometry;
    use seedbank::disk::{FileSpec, SpecKind};

    const PIECE: u64 = 16 << 10;

    /// Two files of two and a half pieces each: piece 2 lies in both.
    fn layout() -> Layout {
        let root = PathBuf::from("/payload");
        let file = |name: &str| FileSpec {
            path: root.join(name),
            length: 5 * PIECE / 2,
            kind: SpecKind::Payload,
        };
        let geometry = Geometry::new(5 * PIECE, PIECE as u32).unwrap();
        Layout::new(root.clone(), geometry, vec![file("a"), file("b")]).unwrap()
    }

    fn subject(layout: &Layout, mtimes: [Option<i64>; 2], subtrees: bool) -> Subject<'_> {
        let identity = |mtime_ns| FileIdentity {
            device: 1,
            inode: 2,
            size: 5 * PIECE / 2,
            mtime_ns,
        };
        Subject {
            info_hash: InfoHash([7; 20]),
            layout,
            identities: mtimes.map(|mtime| mtime.map(identity)).to_vec(),
            subtrees,
            only: &[],
        }
    }

    fn entries(layout: &Layout, subtrees: bool) -> Vec<Entry> {
        let pieces = layout.geometry().all_pieces();
        let entry = |piece: PieceIndex| {
            let good = piece.get() != 1;
            let subtree = (good && subtrees).then_some(Subtree([piece.get() as u8; 32]));
            Entry {
                piece,
                good,
                subtree,
            }
        };
        pieces.map(entry).collect()
    }

    /// A journal with all entries, left by a run that was stopped.
    fn stopped(folder: &Path, subject: Subject<'_>) -> PathBuf {
        let now = Instant::now();
        let all = entries(subject.layout, subject.subtrees);
        let path = folder.join(subject.name());
        let (mut journal, found) = Journal::open(now, Some(folder), subject);
        assert_eq!(found, []);
        for entry in &all {
            journal.note(now, entry);
        }
        assert!(!path.exists(), "a short run leaves no trace");
        assert!(journal.keep().unwrap());
        path
    }

    fn found(folder: &Path, subject: Subject<'_>) -> Vec<Entry> {
        Journal::open(Instant::now(), Some(folder), subject).1
    }

    #[test]
    fn a_later_run_takes_over_what_was_found_of_files_that_nobody_touched() {
        let layout = layout();
        for subtrees in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path().join("verify");
            stopped(&folder, subject(&layout, [Some(1), Some(2)], subtrees));
            let all = entries(&layout, subtrees);
            let again = subject(&layout, [Some(1), Some(2)], subtrees);
            assert_eq!(found(&folder, again), all);
            // The other file was written to, or is gone.
            for now in [Some(9), None] {
                let changed = subject(&layout, [Some(1), now], subtrees);
                assert_eq!(found(&folder, changed), all[..2]);
            }
            let other = subject(&layout, [Some(1), Some(2)], !subtrees);
            assert_eq!(found(&folder, other), [], "another kind of run");
        }
    }

    #[test]
    fn every_cut_and_every_flipped_bit_costs_the_records_that_it_hits() {
        let layout = layout();
        let folder = tempfile::tempdir().unwrap();
        let of = || subject(&layout, [Some(1), Some(2)], false);
        let path = stopped(folder.path(), of());
        let sound = fs::read(&path).unwrap();
        let len = of().record_len();
        let all = entries(&layout, false);
        for cut in 0..sound.len() {
            fs::write(&path, &sound[..cut]).unwrap();
            assert_eq!(found(folder.path(), of()), all[..cut / len]);
        }
        for bit in 0..sound.len() * 8 {
            let mut flipped = sound.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, flipped).unwrap();
            let mut rest = all.clone();
            rest.remove(bit / 8 / len);
            assert_eq!(found(folder.path(), of()), rest, "bit {bit}");
        }
    }

    #[test]
    fn two_runs_at_once_do_not_share_a_journal() {
        let layout = layout();
        let folder = tempfile::tempdir().unwrap();
        let of = || subject(&layout, [Some(1), Some(2)], false);
        stopped(folder.path(), of());
        let now = Instant::now();
        let (first, taken) = Journal::open(now, Some(folder.path()), of());
        assert_eq!(taken.len(), 5);
        let (mut second, none) = Journal::open(now, Some(folder.path()), of());
        assert_eq!(none, []);
        let entry = entries(&layout, false)[0];
        second.note(now + INTERVAL, &entry);
        assert!(!second.keep().unwrap());
        first.remove();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
