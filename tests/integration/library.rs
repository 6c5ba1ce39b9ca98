//! A library of many torrents comes back at once after a kill, and looks only at what was in flight.
//!
//! `SEEDBANK_LIBRARY=1000` takes so many torrents of 1 GiB (sparse files) instead of a few, and holds the restart to 2 s from the
//! start of the process to the last `resume`, and Ctrl-C to another 2 s. More than that many are of 64 MiB, and are held to 3 s and
//! 200 MB: `SEEDBANK_LIBRARY=10000`. With a binary that was optimised (`SEEDBANK_BINARY`).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::seedbank::base::{FileIdentity, InfoHash};
use ::seedbank::store::{Choices, Commit, Opened, Store};
use sha1::{Digest, Sha1};

use crate::common::metainfo::Torrent;
use crate::common::seedbank::{self, Seedbank, number};
use crate::common::wire::one_file;
use crate::common::{World, payload, wait};

const PIECE_LEN: u64 = 256 << 10;
/// Torrents that are downloading when the kill comes.
const IN_FLIGHT: usize = 5;
/// A library, and what its restart may cost.
struct Scale {
    torrents: usize,
    /// Bytes of each.
    len: u64,
    /// From the start to the last `resume`, and from Ctrl-C to the end.
    limit: Duration,
    /// Bytes of memory that no file backs.
    memory: u64,
}

fn scale() -> Scale {
    let Ok(count) = std::env::var("SEEDBANK_LIBRARY") else {
        return Scale {
            torrents: 60,
            len: 4 << 20,
            limit: wait::TRANSFER,
            memory: 100_000_000,
        };
    };
    let torrents = count.parse().unwrap();
    let (len, seconds) = match torrents {
        ..=1_000 => (1 << 30, 2),
        _ => (64 << 20, 3),
    };
    Scale {
        torrents,
        len,
        limit: Duration::from_secs(seconds),
        memory: 200_000_000,
    }
}

/// A torrent whose payload is one hole.
struct Hole {
    info_hash: InfoHash,
    torrent: PathBuf,
    metainfo: Vec<u8>,
    payload: PathBuf,
}

impl Hole {
    fn new(world: &World, number: usize, len: u64, pieces: &[u8]) -> Self {
        let name = format!("hole-{number:05}.bin");
        let payload = world.path("dest").join(&name);
        File::create(&payload).unwrap().set_len(len).unwrap();
        let head = format!(
            "d6:lengthi{len}e4:name{}:{name}12:piece lengthi{PIECE_LEN}e6:pieces{}:",
            name.len(),
            pieces.len()
        );
        let info = [head.as_bytes(), pieces, b"e"].concat();
        let metainfo = [b"d4:info", &info[..], b"e"].concat();
        let torrent = world.path("metainfo").join(format!("{name}.torrent"));
        fs::write(&torrent, &metainfo).unwrap();
        Self {
            info_hash: InfoHash(Sha1::digest(&info).into()),
            torrent,
            metainfo,
            payload,
        }
    }

    /// What a run that hashed all of it would have left in the store: hashing a terabyte of holes takes too long for a test.
    async fn remember(&self, store: &Store, pieces: u32) {
        let meta = fs::metadata(&self.payload).unwrap();
        let identity = FileIdentity {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            mtime_ns: meta.mtime() * 1_000_000_000 + meta.mtime_nsec(),
        };
        let choices = Choices::new(self.payload.parent().unwrap().to_owned());
        let metainfo = self.metainfo.clone();
        store
            .put_torrent(self.info_hash, metainfo, choices)
            .await
            .unwrap();
        store.load(self.info_hash, pieces, 1).await.unwrap();
        let commit = Commit {
            durable: (0..pieces).collect(),
            identities: vec![(0, identity)],
            finished: true,
            clean: true,
            partial: Some(Vec::new()),
            ..Commit::default()
        };
        store.commit(self.info_hash, commit).await.unwrap();
    }
}

fn make_holes(world: &World, count: usize, len: u64) -> Vec<Hole> {
    for name in ["dest", "metainfo"] {
        world.dir(name);
    }
    let count_of_pieces = usize::try_from(len / PIECE_LEN).unwrap();
    let pieces = Sha1::digest(vec![0; PIECE_LEN as usize]).repeat(count_of_pieces);
    let holes = (0..count).map(|number| Hole::new(world, number, len, &pieces));
    let holes: Vec<Hole> = holes.collect();
    let state = world.path("state");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let Opened { store, .. } = Store::open(state).await.unwrap();
        for hole in &holes {
            hole.remember(&store, count_of_pieces as u32).await;
        }
        store.close().await.unwrap();
    });
    holes
}

/// The number of the last commit.
fn commits(state: &Path) -> u64 {
    let bytes = fs::read(state.join("db.sequence")).unwrap();
    u64::from_be_bytes(bytes[..8].try_into().unwrap())
}

/// Every file of the catalog with what changes when it is replaced.
fn catalog(state: &Path) -> BTreeSet<(PathBuf, u64)> {
    let files = payload::files(&state.join("torrents"));
    let inode = |path: &PathBuf| fs::metadata(path).unwrap().ino();
    files
        .into_values()
        .map(|path| (path.clone(), inode(&path)))
        .collect()
}

/// Waits until each of `count` torrents has resumed; how long that took, and the events.
fn resumed(run: &Seedbank, since: Instant, count: usize) -> (Duration, Vec<serde_json::Value>) {
    let mut seen = BTreeSet::new();
    run.wait_for("resume", wait::TRANSFER, |event| {
        seen.insert(event["info_hash"].to_string());
        seen.len() == count
    });
    (since.elapsed(), run.all("resume"))
}

#[test]
fn a_library_comes_back_after_a_kill_hashing_only_what_was_in_flight() {
    let scale = scale();
    let count = scale.torrents;
    let world = World::new();
    let holes = make_holes(&world, count - IN_FLIGHT, scale.len);
    let source = world.dir("source");
    let flying: Vec<Torrent> = (0..IN_FLIGHT)
        .map(|n| {
            one_file(
                &source,
                &format!("flying-{n}.bin"),
                16 << 20,
                900 + n as u64,
            )
        })
        .collect();
    let paths: Vec<&Path> = flying
        .iter()
        .map(|torrent| torrent.path.as_path())
        .collect();
    let seeder = seedbank::seed_all(&paths, &source, &world.path("seeder")).spawn();
    let addr = seeder.ready(IN_FLIGHT);

    let mut sources: Vec<&Path> = holes.iter().map(|hole| hole.torrent.as_path()).collect();
    sources.extend(&paths);
    let (dest, state) = (world.path("dest"), world.path("state"));
    let start = |rate: &str| {
        seedbank::get_all(&sources, &dest, &state)
            .peer(addr)
            .flag("--keep", "forever")
            .flag("--max-down", rate)
            .spawn()
    };
    let mut first = start("4MiB");
    let mut under_way = BTreeSet::new();
    first.wait_for("have", wait::TRANSFER, |have| {
        under_way.insert(have["info_hash"].to_string());
        under_way.len() == IN_FLIGHT && number(have, "verified") > 4
    });
    let (_, resumes) = resumed(&first, Instant::now(), count);
    for hole in resumes.iter().filter(|event| number(event, "missing") == 0) {
        assert_eq!(number(hole, "rechecked"), 0, "{hole}");
    }
    first.process.kill();

    let (made, known) = (commits(&state), catalog(&state));
    let since = Instant::now();
    let mut again = start("4MiB");
    let (took, resumes) = resumed(&again, since, count);
    assert_eq!(
        catalog(&state),
        known,
        "files of the catalog were written again"
    );
    // One to settle each that was in flight; what it downloads meanwhile is told, but for the last commit of each.
    let durable = again.all("durable").len();
    let new = commits(&state) - made;
    assert!(
        new <= (IN_FLIGHT + durable + IN_FLIGHT + 1) as u64,
        "{new} commits, {durable} of downloads"
    );
    let names: BTreeSet<String> = flying.iter().map(Torrent::hex).collect();
    let mut hashed = 0;
    for event in &resumes {
        let is_flying = names.contains(event["info_hash"].as_str().unwrap());
        hashed += number(event, "rechecked");
        assert_eq!(number(event, "missing") > 0, is_flying, "{event}");
        assert!(is_flying || number(event, "rechecked") == 0, "{event}");
    }
    let memory = again.process.anonymous_memory();
    let since = Instant::now();
    let status = again.stop(wait::SOON);
    let stopped = since.elapsed();
    assert_eq!(status, Some(7), "{}", again.process.transcript());
    eprintln!(
        "{count} torrents: back after {took:?}, {hashed} pieces hashed, {} MiB of memory, stopped after {stopped:?}",
        memory >> 20
    );
    assert!(took < scale.limit && stopped < scale.limit);
    assert!(memory < scale.memory);
    // And what was in flight ends right.
    let last = start("1GiB");
    for torrent in &flying {
        last.wait_for("complete", wait::TRANSFER, |event| {
            event["info_hash"] == torrent.hex().as_str()
        });
        payload::assert_same(&torrent.payload, &dest.join(torrent.name()));
    }
}
