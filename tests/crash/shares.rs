//! What there is to download, and an engine on a plain disk that seeds it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use seedbank::base::{Geometry, PieceIndex};
use seedbank::disk::sha1;
use seedbank::engine::{AddTorrent, Config, Engine, Goal, IoMode};
use seedbank::format::metainfo::create::Draft;
use seedbank::format::metainfo::{Metainfo, PlainFile};
use tempfile::TempDir;

use crate::common::payload::Random;

/// Piece lengths of the torrents that are shared.
const PIECES: [u32; 4] = [16 << 10, 32 << 10, 64 << 10, 32 << 10];
/// The one of them that is a folder of many files, which are synced with their filesystem.
pub(crate) const MANY: usize = 3;
/// Names and lengths of the files of the others, in torrent order: pieces reach across files, of which one is tiny and one empty.
const FILES: [(&str, usize); 5] = [
    ("a", 70_001),
    ("deep/b", 5),
    ("deep/empty", 0),
    ("deep/er/c", 200_000),
    ("z", 150_500),
];

/// Names and lengths of the files of a torrent.
fn files(number: usize) -> Vec<(String, usize)> {
    if number == MANY {
        let file = |at: usize| (format!("{}/{at:03}", at % 3), 100 + at * 379 % 3_000);
        return (0..90).map(file).collect();
    }
    FILES.map(|(name, len)| (name.to_owned(), len)).into()
}

/// A torrent and the bytes that belong to it.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) metainfo: Metainfo,
    /// All files, one after the other.
    bytes: Vec<u8>,
    /// Where each file begins, and how long it is.
    files: Vec<(PathBuf, usize, usize)>,
}

/// Everything that is shared, and who shares it.
#[derive(Debug)]
pub(crate) struct Shares {
    pub(crate) all: Vec<Share>,
    pub(crate) addr: SocketAddr,
    engine: Engine,
    _home: TempDir,
}

/// A folder on a filesystem in memory, if there is one with enough room: what is synced here need not be.
pub(crate) fn temporary() -> TempDir {
    let memory = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).map(|found| found.f_bavail * found.f_frsize);
    let builder = tempfile::Builder::new();
    match room {
        Ok(room) if room > 512 << 20 => builder.to_owned().tempdir_in(memory).unwrap(),
        _ => builder.to_owned().tempdir().unwrap(),
    }
}

/// Settings of an engine that takes no part in anything but what it is told.
pub(crate) fn config(state: PathBuf, listens: bool) -> Config {
    Config {
        state,
        tcp_listen: listens.then(|| ([127, 0, 0, 1], 0).into()),
        dht: None,
        io: IoMode::Auto,
        max_down: None,
        max_up: None,
        scrub: None,
    }
}

impl Share {
    fn new(number: usize, random: &mut Random, source: &Path) -> Self {
        let (name, piece_len) = (format!("share-{number}"), PIECES[number]);
        // In torrent order.
        let list: BTreeMap<String, usize> = files(number).into_iter().collect();
        let mut bytes = vec![0; list.values().sum()];
        random.fill(&mut bytes);
        let mut files = Vec::new();
        let mut at = 0;
        for (file, &length) in &list {
            let path = Path::new(&name).join(file);
            let target = source.join(&path);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(target, &bytes[at..at + length]).unwrap();
            files.push((path, at, length));
            at += length;
        }
        let plain = |(path, length): (&String, &usize)| PlainFile {
            path: path.split('/').map(str::to_owned).collect(),
            length: *length as u64,
        };
        let mut draft = Draft::folder(&name, list.iter().map(plain).collect());
        draft.piece_length = piece_len;
        draft.pieces = bytes.chunks(piece_len as usize).map(sha1).collect();
        let metainfo = draft.finish().unwrap();
        Self {
            metainfo,
            bytes,
            files,
        }
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        self.metainfo.info.geometry()
    }

    pub(crate) fn torrent(&self, dest: &Path, goal: Goal, peers: Vec<SocketAddr>) -> AddTorrent {
        AddTorrent {
            metainfo: self.metainfo.clone(),
            dest: dest.to_owned(),
            goal,
            peers,
            found: vec![],
            overwrite: false,
            hashed: None,
        }
    }

    /// Whether the bytes from `from` to `to` of `piece` are in the files below `dest`.
    pub(crate) fn is_there(&self, dest: &Path, piece: PieceIndex, from: u32, to: u32) -> bool {
        let start = self.geometry().offset_of(piece) as usize;
        let (from, to) = (start + from as usize, start + to as usize);
        self.files.iter().all(|(path, at, length)| {
            let (from, to) = (from.max(*at), to.min(at + length));
            let found = || fs::read(dest.join(path)).unwrap_or_default();
            from >= to || found().get(from - at..to - at) == Some(&self.bytes[from..to])
        })
    }

    /// Whether all files are below `dest`, with the right bytes and lengths.
    pub(crate) fn is_whole(&self, dest: &Path) -> bool {
        self.files.iter().all(|(path, at, length)| {
            fs::read(dest.join(path)).is_ok_and(|found| found == self.bytes[*at..at + length])
        })
    }

    /// Puts all files below `dest`.
    pub(crate) fn put(&self, dest: &Path) {
        for (path, at, length) in &self.files {
            let target = dest.join(path);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::write(target, &self.bytes[*at..at + length]).unwrap();
        }
    }
}

impl Shares {
    pub(crate) async fn new() -> Self {
        let home = temporary();
        let source = home.path().join("source");
        let mut random = Random::new(4);
        let share = |number| Share::new(number, &mut random, &source);
        let all: Vec<Share> = (0..PIECES.len()).map(share).collect();
        let engine = Engine::start(config(home.path().join("state"), true));
        let engine = engine.await.unwrap();
        for share in &all {
            let torrent = share.torrent(&source, Goal::Seed, vec![]);
            let torrent = engine.add(torrent).await.unwrap();
            torrent.completed().await.unwrap();
        }
        Self {
            all,
            addr: engine.tcp_addr().unwrap(),
            engine,
            _home: home,
        }
    }

    pub(crate) async fn close(self) {
        self.engine.shutdown().await;
    }
}
