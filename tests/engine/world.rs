//! A place to run engines in, and something to share.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use seedbank::disk::Medium;
use seedbank::engine::{AddTorrent, Config, DhtConfig, Engine, Footing, Goal, IoMode, Torrent};
use seedbank::format::metainfo::create::Draft;
use seedbank::format::metainfo::{Metainfo, PlainFile};
use tempfile::TempDir;

pub(crate) const PIECE: u32 = 32 * 1024;

/// A folder with payloads, states and destinations, and what there is to share in it.
pub(crate) struct World {
    pub(crate) root: TempDir,
    pub(crate) metainfo: Metainfo,
}

/// Bytes that differ from piece to piece and from `salt` to `salt`.
pub(crate) fn bytes(len: usize, salt: u64) -> Vec<u8> {
    let mut state = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(step).take(len).collect()
}

impl World {
    /// A folder `pair` of two files, `a` and `b`, of whole pieces each, under `source/`.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("source/pair");
        fs::create_dir_all(&folder).unwrap();
        let files = [
            ("a", bytes(10 * PIECE as usize, 1)),
            ("b", bytes(6 * PIECE as usize, 2)),
        ];
        for (name, content) in &files {
            fs::write(folder.join(name), content).unwrap();
        }
        let plain = |(name, content): &(&str, Vec<u8>)| PlainFile {
            path: vec![(*name).to_owned()],
            length: content.len() as u64,
        };
        let mut draft = Draft::folder("pair", files.iter().map(plain).collect());
        draft.piece_length = PIECE;
        let all: Vec<u8> = files.into_iter().flat_map(|(_, content)| content).collect();
        draft.pieces = all
            .chunks(PIECE as usize)
            .map(seedbank::disk::sha1)
            .collect();
        let metainfo = draft.finish().unwrap();
        Self { root, metainfo }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// An engine without DHT.
    pub(crate) async fn engine(&self, state: &str) -> Engine {
        self.start(state, None).await
    }

    /// The same, re-reading everything every second, on a disk of its own kind.
    pub(crate) async fn scrubber(&self, state: &str, disk: Arc<dyn Medium>) -> Engine {
        let config = Config {
            scrub: Some(Duration::from_secs(1)),
            ..self.config(state, None)
        };
        Self::start_on(config, disk).await
    }

    /// An engine without DHT on a disk of its own kind.
    pub(crate) async fn engine_on(&self, state: &str, disk: Arc<dyn Medium>) -> Engine {
        Self::start_on(self.config(state, None), disk).await
    }

    async fn start_on(config: Config, medium: Arc<dyn Medium>) -> Engine {
        let footing = Footing {
            medium,
            ..Footing::default()
        };
        Engine::start_on(config, footing).await.unwrap()
    }

    /// An engine with a DHT node that starts from `bootstrap`.
    pub(crate) async fn node(&self, state: &str, bootstrap: &[SocketAddr]) -> Engine {
        let bootstrap = bootstrap.iter();
        let dht = DhtConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            bootstrap: bootstrap
                .map(|addr| (addr.ip().to_string(), addr.port()))
                .collect(),
        };
        self.start(state, Some(dht)).await
    }

    async fn start(&self, state: &str, dht: Option<DhtConfig>) -> Engine {
        let config = self.config(state, dht);
        Engine::start(config).await.unwrap()
    }

    fn config(&self, state: &str, dht: Option<DhtConfig>) -> Config {
        Config {
            state: self.path(state),
            tcp_listen: Some(([127, 0, 0, 1], 0).into()),
            dht,
            io: IoMode::Auto,
            max_down: None,
            max_up: None,
            scrub: None,
        }
    }

    pub(crate) fn torrent(&self, dest: &str, goal: Goal, peers: Vec<SocketAddr>) -> AddTorrent {
        AddTorrent {
            metainfo: self.metainfo.clone(),
            dest: self.path(dest),
            goal,
            peers,
            found: vec![],
            overwrite: false,
            hashed: None,
        }
    }

    pub(crate) async fn seeder(&self) -> (Engine, Torrent) {
        let engine = self.engine("seeder").await;
        let torrent = self.torrent("source", Goal::Seed, vec![]);
        let torrent = engine.add(torrent).await.unwrap();
        torrent.completed().await.unwrap();
        (engine, torrent)
    }

    /// Downloads everything to `dest` with the state folder `state`.
    pub(crate) async fn fetch(&self, state: &str, dest: &str) {
        let (seeder, _) = self.seeder().await;
        let peers = seeder.tcp_addr().into_iter().collect();
        let engine = self.engine(state).await;
        let torrent = self.torrent(dest, Goal::Download, peers);
        let torrent = engine.add(torrent).await.unwrap();
        torrent.completed().await.unwrap();
        engine.shutdown().await;
        seeder.shutdown().await;
        self.assert_whole(dest);
    }

    pub(crate) fn assert_whole(&self, dest: &str) {
        for name in ["a", "b"] {
            let expected = fs::read(self.path("source/pair").join(name)).unwrap();
            let found = fs::read(self.path(dest).join("pair").join(name)).unwrap();
            assert!(expected == found, "{name} in {dest}");
        }
    }
}
