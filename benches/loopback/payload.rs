//! What is transferred: bytes that no compression and no deduplication makes less of, and torrents of them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use seedbank::disk::sha1;
use seedbank::format::metainfo::create::Draft;
use seedbank::format::metainfo::{Metainfo, PlainFile};

/// Files of the torrent that is a folder.
const FILES: u64 = 5_000;
const KIB: u32 = 1 << 10;

/// The payload and its torrents, all in one folder.
pub(crate) struct Payload {
    folder: PathBuf,
    /// Bytes.
    pub(crate) size: u64,
}

impl Payload {
    /// Makes `size` bytes in `folder` and their torrents with the tracker `announce`, as far as they are not there already.
    pub(crate) fn make(folder: &Path, size: u64, announce: Option<&str>) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let payload = Self {
            folder: folder.to_owned(),
            size,
        };
        let path = payload.path();
        if fs::metadata(&path).map_or(0, |found| found.len()) != size {
            write_random(&path, size)?;
        }
        payload.torrent(
            "256k",
            Draft::file("payload.bin", size),
            256 * KIB,
            announce,
        )?;
        payload.torrent("2m", Draft::file("payload.bin", size), 2048 * KIB, announce)?;
        payload.torrent(
            "folder",
            Draft::folder("folder", files(size)),
            256 * KIB,
            announce,
        )?;
        Ok(payload)
    }

    /// All bytes in a row.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("payload.bin")
    }

    /// The torrent with 256 KiB pieces ("256k"), with 2 MiB pieces ("2m"), or of 5,000 files ("folder").
    pub(crate) fn torrent_path(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("{kind}.torrent"))
    }

    fn torrent(
        &self,
        kind: &str,
        mut draft: Draft,
        piece_length: u32,
        announce: Option<&str>,
    ) -> io::Result<()> {
        let tiers: Vec<_> = announce.iter().map(|url| vec![(*url).to_owned()]).collect();
        let path = self.torrent_path(kind);
        let same = |found: &Metainfo| {
            found.announce == tiers && found.info.geometry().total() == self.size
        };
        if path.exists() && same(&read(&path)?) {
            return Ok(());
        }
        draft.piece_length = piece_length;
        draft.announce = tiers;
        let mut file = File::open(self.path())?;
        let mut piece = Vec::new();
        loop {
            piece.clear();
            let part = Read::take(&mut file, piece_length.into()).read_to_end(&mut piece)?;
            if part == 0 {
                break;
            }
            draft.pieces.push(sha1(&piece));
        }
        let metainfo = draft.finish().map_err(io::Error::other)?;
        fs::write(path, metainfo.to_torrent())
    }
}

/// The torrent at `path`.
pub(crate) fn read(path: &Path) -> io::Result<Metainfo> {
    Metainfo::parse(&fs::read(path)?).map_err(io::Error::other)
}

/// The files in which a folder of `size` bytes is cut: from a few bytes to twice the mean.
fn files(size: u64) -> Vec<PlainFile> {
    let (mut state, mut left) = (7, size);
    let mean = size / FILES;
    let file = |(n, length)| PlainFile {
        path: vec![format!("{:02}", n / 100), format!("{n:04}.bin")],
        length,
    };
    let lengths = (0..FILES).map(|n| {
        let length = if n + 1 == FILES {
            left
        } else {
            (1 + next(&mut state) % (2 * mean)).min(left)
        };
        left -= length;
        (n, length)
    });
    lengths.map(file).collect()
}

fn write_random(path: &Path, size: u64) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let (mut state, mut left) = (1, size);
    while left > 0 {
        let bytes = next(&mut state).to_le_bytes();
        let part = left.min(8);
        file.write_all(&bytes[..part as usize])?;
        left -= part;
    }
    file.into_inner()?.sync_all()
}

/// xorshift64*: fast, and random enough that nothing repeats.
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}
