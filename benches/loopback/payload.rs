//! What is transferred: bytes that no compression and no deduplication makes less of, and torrents of them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, Write};
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
    /// Makes `size` bytes in `folder`, unless they are there, and their torrents with the tracker `announce`.
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
        let mut file = File::open(&path)?;
        let tiers: Vec<_> = announce.iter().map(|url| vec![(*url).to_owned()]).collect();
        for (kind, mut draft, piece_length) in [
            ("256k", Draft::file("payload.bin", size), 256 * KIB),
            ("2m", Draft::file("payload.bin", size), 2048 * KIB),
            ("folder", Draft::folder("folder", files(size)), 256 * KIB),
        ] {
            draft.piece_length = piece_length;
            draft.announce.clone_from(&tiers);
            draft.pieces = pieces(&mut file, piece_length)?;
            let metainfo = draft.finish().map_err(io::Error::other)?;
            fs::write(payload.torrent_path(kind), metainfo.to_torrent())?;
        }
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
}

/// SHA-1 of each piece of `file`.
fn pieces(file: &mut File, piece_length: u32) -> io::Result<Vec<[u8; 20]>> {
    file.rewind()?;
    let (mut pieces, mut piece) = (Vec::new(), Vec::new());
    while Read::take(&mut *file, piece_length.into()).read_to_end(&mut piece)? > 0 {
        pieces.push(sha1(&piece));
        piece.clear();
    }
    Ok(pieces)
}

/// The torrent at `path`.
pub(crate) fn read(path: &Path) -> io::Result<Metainfo> {
    Metainfo::parse(&fs::read(path)?).map_err(io::Error::other)
}

/// The files in which a folder of `size` bytes is cut: from half to one and a half times the mean, a hundred in each of fifty folders
/// that lie in five. The order of their paths is that of their bytes in the payload, however many paths are sorted.
fn files(size: u64) -> Vec<PlainFile> {
    let (mut state, mut begin) = (7, 0);
    let wobble = size / FILES / 2;
    let file = |n| {
        // The ends are spread evenly, and each moved back by at most half a file.
        let end = match n + 1 {
            FILES => size,
            next_file => next_file * size / FILES - next(&mut state) % (wobble + 1),
        };
        let length = end - begin;
        begin = end;
        PlainFile {
            path: vec![
                format!("{}", n / 1_000),
                format!("{:02}", n / 100),
                format!("{n:04}.bin"),
            ],
            length,
        }
    };
    (0..FILES).map(file).collect()
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
