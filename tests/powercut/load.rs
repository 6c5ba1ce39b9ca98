//! What the client downloads while its power is cut, and what is right of it.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::SeekFrom;
use sha1::{Digest, Sha1};

use crate::common::World;
use crate::common::metainfo::Torrent;
use crate::common::payload::{self, MIB, Random};
use crate::common::seedbank::{self, Seedbank};

const KIB: u64 = 1024;

/// Three torrents: a big file, a folder of small files with pieces that span them, and a file of small pieces.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) torrents: Vec<Torrent>,
    _world: World,
}

impl Load {
    /// With a big file of `big` bytes: one larger than what a checkpoint may hold puts its bound to the test.
    pub(crate) fn new(big: u64) -> Self {
        let world = World::new();
        let folder = world.dir("payload");
        payload::file(&folder.join("big.bin"), big, 1);
        make_small(&folder, 150);
        payload::file(&folder.join("fine.bin"), 8 * MIB + 12_345, 3);
        let of = |name: &str, piece_len: u64| {
            let piece_len = u32::try_from(piece_len).unwrap();
            Torrent::of(&folder.join(name), piece_len, &folder)
        };
        let torrents = vec![
            of("big.bin", 256 * KIB),
            of("small", 64 * KIB),
            of("fine.bin", 16 * KIB),
        ];
        Self {
            torrents,
            _world: world,
        }
    }

    /// Nothing but a folder of many small files.
    pub(crate) fn of_small_files() -> Self {
        let world = World::new();
        let folder = world.dir("payload");
        make_small(&folder, 400);
        let torrent = Torrent::of(&folder.join("small"), (64 * KIB) as u32, &folder);
        Self {
            torrents: vec![torrent],
            _world: world,
        }
    }

    /// Bytes of all torrents.
    pub(crate) fn len(&self) -> u64 {
        self.torrents.iter().map(|torrent| torrent.len).sum()
    }

    /// The `.torrent` files.
    pub(crate) fn sources(&self) -> Vec<&Path> {
        let paths = self.torrents.iter().map(|torrent| torrent.path.as_path());
        paths.collect()
    }

    /// A running seeder of all of them that keeps its state in `state`, and where it listens.
    pub(crate) fn seeder(&self, state: &Path) -> (Seedbank, SocketAddr) {
        let dest = self.torrents[0].payload.parent().unwrap();
        let seeder = seedbank::seed_all(&self.sources(), dest, state).spawn();
        let addr = seeder.ready(self.torrents.len());
        (seeder, addr)
    }
}

/// Makes the folder `small` of so many files.
fn make_small(folder: &Path, files: u64) {
    let mut random = Random::new(2);
    for at in 0..files {
        let path = format!("small/{}/{at:03}.bin", at % 7);
        payload::file(&folder.join(path), random.below(160 * KIB), at);
    }
}

/// Why the bytes of `piece` below `dest` are not those of the torrent, if they are not.
pub(crate) fn fault(torrent: &Torrent, dest: &Path, piece: u32) -> Option<String> {
    let mut bytes = Vec::new();
    for span in spans(torrent, piece) {
        let mut part = vec![0; usize::try_from(span.len).unwrap()];
        let read = File::open(span.path(torrent, dest))
            .and_then(|file| file.read_exact_at(&mut part, span.offset));
        if let Err(error) = read {
            return Some(error.to_string());
        }
        bytes.append(&mut part);
    }
    let hash: [u8; 20] = Sha1::digest(&bytes).into();
    if hash == torrent.hashes[piece as usize] {
        return None;
    }
    let zeros = bytes
        .chunks(4096)
        .filter(|page| page.iter().all(|&byte| byte == 0));
    Some(format!(
        "wrong bytes, {} of {} pages zeros",
        zeros.count(),
        bytes.len().div_ceil(4096)
    ))
}

/// Whether anything was ever written where `piece` lies below `dest`. A client need not hash what is nothing but a hole.
pub(crate) fn is_touched(torrent: &Torrent, dest: &Path, piece: u32) -> bool {
    spans(torrent, piece).any(|span| {
        let Ok(file) = File::open(span.path(torrent, dest)) else {
            return false;
        };
        match rustix::fs::seek(&file, SeekFrom::Data(span.offset)) {
            Ok(data) => data < span.offset + span.len,
            Err(error) => io::Error::from(error).raw_os_error() != Some(libc::ENXIO),
        }
    })
}

/// The part of a piece that lies in one file.
struct Span {
    file: usize,
    offset: u64,
    len: u64,
}

impl Span {
    fn path(&self, torrent: &Torrent, dest: &Path) -> std::path::PathBuf {
        let payload = dest.join(torrent.name());
        let within = &torrent.files[self.file].0;
        if within.as_os_str().is_empty() {
            payload
        } else {
            payload.join(within)
        }
    }
}

fn spans(torrent: &Torrent, piece: u32) -> impl Iterator<Item = Span> + '_ {
    let begin = u64::from(piece) * u64::from(torrent.piece_len);
    let end = (begin + u64::from(torrent.piece_len)).min(torrent.len);
    let mut at = 0;
    let files = torrent.files.iter().enumerate();
    files.filter_map(move |(file, (_, length))| {
        let (from, to) = (begin.max(at), end.min(at + length));
        let offset = from.saturating_sub(at);
        at += length;
        (from < to).then(|| Span {
            file,
            offset,
            len: to - from,
        })
    })
}
