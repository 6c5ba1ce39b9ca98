//! The promise: a kill at any moment costs at most what was in flight, and nothing durable is hashed or fetched again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::metainfo::Torrent;
use crate::common::payload::{self, MIB, Random};
use crate::common::seedbank::{self, Run, Seedbank, number};
use crate::common::wire::one_file;
use crate::common::{World, asked_for, wait};
use crate::transfer::seeder;

/// The most that may ever be hashed again after a crash.
const WINDOW: u64 = 64 * MIB;

/// What a kill may cost: bytes of pieces under way and bytes in the sockets of both ends.
const IN_FLIGHT: u64 = 16 * MIB;

/// A download of one torrent that is started again and again.
struct Download {
    world: World,
    torrent: Torrent,
    dest: PathBuf,
    seeder: Seedbank,
    addr: SocketAddr,
}

impl Download {
    fn new(len: u64, seed: u64) -> Self {
        let world = World::new();
        let torrent = one_file(&world.dir("payload"), "precious.bin", len, seed);
        let (seeder, addr) = seeder(&torrent, &world.path("seeder"));
        Self {
            dest: world.dir("dest"),
            world,
            torrent,
            seeder,
            addr,
        }
    }

    fn run(&self) -> Run {
        let state = self.world.path("state");
        seedbank::get(&self.torrent.path, &self.dest, &state).peer(self.addr)
    }

    /// Pieces in a number of bytes.
    fn pieces(&self, bytes: u64) -> u64 {
        bytes / u64::from(self.torrent.piece_len)
    }

    /// Payload bytes that the seeder has sent, once every connection is closed.
    fn sent(&self) -> u64 {
        let left = wait::until("every connection is closed", wait::SOON, || {
            let left = self.seeder.all("left_peer");
            (left.len() == self.seeder.all("joined_to_peer").len()).then_some(left)
        });
        left.iter().map(|event| number(event, "uploaded")).sum()
    }
}

/// How many kills, of a download of how many bytes at which rate.
fn kills() -> (usize, u64, &'static str) {
    let few = if asked_for("SEEDBANK_CRASH_FULL") {
        20
    } else {
        5
    };
    let asked = std::env::var("SEEDBANK_KILLS").ok();
    let kills = asked.map_or(few, |text| text.parse().unwrap());
    if kills > 5 {
        (kills, 512 * MIB, "48MiB")
    } else {
        (kills, 64 * MIB, "16MiB")
    }
}

#[test]
fn kills_at_random_moments_cost_at_most_what_was_in_flight() {
    let (kills, len, rate) = kills();
    let mut random = Random::of_this_run("kills_at_random_moments");
    let download = Download::new(len, 21);
    let total = u64::from(download.torrent.pieces);
    let mut moments: Vec<u64> = (0..kills)
        .map(|_| 1 + random.below(total * 9 / 10))
        .collect();
    moments.sort_unstable();

    // Which run each piece was fetched in: a piece must not be fetched in two.
    let mut fetched: BTreeMap<u64, usize> = BTreeMap::new();
    let mut twice = Vec::new();
    let mut durable = 0;
    let runs = moments.iter().map(|&moment| Some(moment)).chain([None]);
    for (run, moment) in runs.enumerate() {
        let mut getter = download.run().flag("--max-down", rate).spawn();
        let at_start = moment.is_some() && random.below(5) == 0;
        if at_start {
            // The moment is passed over: files are looked at, opened, or made.
            wait::within(Duration::from_millis(random.below(80)), || None::<()>);
            getter.process.kill();
        } else if let Some(moment) = moment {
            let there = |have: &serde_json::Value| number(have, "verified") >= moment;
            let resumed = getter.wait_for("resume", wait::SOON, |_| true);
            if total - number(&resumed, "missing") < moment {
                getter.wait_for("have", wait::TRANSFER, there);
            }
            wait::within(Duration::from_millis(random.below(60)), || None::<()>);
            getter.process.kill();
        } else {
            getter.succeed();
        }
        let Some(resume) = getter.all("resume").pop() else {
            assert!(at_start, "run {run}: {}", getter.process.transcript());
            continue;
        };
        // Before anything was fetched all is a hole, which is known without hashing.
        let rechecked = number(&resume, "rechecked");
        let few = rechecked <= download.pieces(WINDOW) || fetched.is_empty();
        assert!(few, "run {run}: {resume}");
        assert!(
            number(&resume, "trusted") >= durable,
            "run {run}: {durable} pieces were durable, {resume}"
        );
        for have in getter.all("have") {
            let piece = number(&have, "piece");
            if !have["peer"].is_null() && fetched.insert(piece, run).is_some() {
                twice.push(piece);
            }
        }
        if let Some(event) = getter.all("durable").last() {
            durable = number(event, "pieces");
        }
    }
    let at = download.dest.join(download.torrent.name());
    payload::assert_same(&download.torrent.payload, &at);
    assert!(
        twice.is_empty(),
        "verified before a kill and fetched again: {twice:?}"
    );
    let sent = download.sent();
    let most = len + IN_FLIGHT * moments.len() as u64;
    eprintln!(
        "{} kills, but for some at the start at {moments:?} of {total} pieces: {:.3} × the payload was sent",
        moments.len(),
        sent as f64 / len as f64
    );
    assert!(sent <= most, "{sent} bytes sent, at most {most}");
}

#[test]
fn what_is_complete_is_neither_hashed_nor_fetched_again() {
    let download = Download::new(24 * MIB, 22);
    download.run().spawn().succeed();
    let mut again = download.run().spawn();
    again.succeed();
    let resume = again.last("resume");
    assert_eq!(number(&resume, "rechecked"), 0, "{resume}");
    assert_eq!(number(&resume, "missing"), 0, "{resume}");
    assert!(resume["seconds"].as_f64().unwrap() < 1.0, "{resume}");
    assert!(again.all("have").is_empty());
    assert_eq!(number(&again.last("complete"), "downloaded"), 0);
}

#[test]
fn a_seeder_that_starts_again_hashes_nothing() {
    let mut download = Download::new(24 * MIB, 23);
    download.seeder.stop(Duration::from_secs(5));
    let (again, _) = seeder(&download.torrent, &download.world.path("seeder"));
    let resume = again.wait_for("resume", wait::SOON, |_| true);
    assert_eq!(number(&resume, "rechecked"), 0, "{resume}");
    assert!(resume["seconds"].as_f64().unwrap() < 1.0, "{resume}");
}

#[test]
fn a_file_that_changed_while_nobody_looked_is_checked_again_and_mended() {
    let download = Download::new(8 * MIB, 24);
    download.run().spawn().succeed();
    let path = download.dest.join(download.torrent.name());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3_000_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let mut again = download.run().spawn();
    again.succeed();
    let resume = again.last("resume");
    assert_eq!(number(&resume, "missing"), 1, "{resume}");
    payload::assert_same(&download.torrent.payload, &path);
    let downloaded = number(&again.last("complete"), "downloaded");
    assert_eq!(downloaded, u64::from(download.torrent.piece_len));
}

#[test]
fn a_killed_run_with_its_state_lost_hashes_what_is_there_and_fetches_the_rest() {
    let download = Download::new(12 * MIB, 25);
    let mut getter = download.run().flag("--max-down", "4MiB").spawn();
    getter.wait_for("have", wait::SOON, |have| number(have, "verified") >= 8);
    getter.process.kill();
    let verified = number(&getter.last("have"), "verified");
    std::fs::remove_dir_all(download.world.path("state").join("db")).unwrap();
    let mut again = download.run().spawn();
    again.succeed();
    payload::assert_same(
        &download.torrent.payload,
        &download.dest.join(download.torrent.name()),
    );
    let downloaded = number(&again.last("complete"), "downloaded");
    let missing = download.torrent.len - verified * u64::from(download.torrent.piece_len);
    assert!(downloaded <= missing, "{downloaded} of {missing} missing");
}
