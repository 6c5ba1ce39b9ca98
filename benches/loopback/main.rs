//! The whole client against a peer that costs next to nothing, on loopback: wall time, the client's own CPU seconds per GiB, its
//! memory, and how often it waited for the medium.
//!
//! ```text
//! cargo bench --bench loopback               all of it
//! cargo bench --bench loopback -- folder     what has that word in its name
//! ```
//!
//! `SEEDBANK_BENCH_SIZE` is the payload in MiB (256), `SEEDBANK_BENCH_DIR` a folder on the filesystem to be measured (that for
//! temporary files), `SEEDBANK_BINARY` another binary. The same program is the partner of `benches/compare`: see [`helper`].
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement is printed"
)]

mod child;
mod floor;
mod null_peer;
mod payload;

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use child::{Cost, Measured};
use payload::Payload;
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The longest that one run may take.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if helper(&words)? {
        return Ok(());
    }
    // Only `cargo bench` says this; a test run must not take minutes.
    if !words.contains(&"--bench") {
        println!("skipped: run it with `cargo bench --bench loopback`");
        return Ok(());
    }
    let wanted = words.iter().find(|word| !word.starts_with('-'));
    Bench::new()?.run(wanted.copied().unwrap_or_default())
}

/// The partners of a measurement, each a process of its own. False if `words` are not for one of them.
fn helper(words: &[&str]) -> Result<bool> {
    match *words {
        ["make", folder, size, announce] => {
            Payload::make(Path::new(folder), size.parse()?, Some(announce))?;
        }
        ["seed", torrent, payload, listen] => {
            null_peer::seed(
                &payload::read(Path::new(torrent))?,
                Path::new(payload),
                listen.parse()?,
            )?;
        }
        ["seed", torrent, payload, listen, tracker, peers] => {
            let peers: std::result::Result<Vec<_>, _> = peers.split(',').map(str::parse).collect();
            null_peer::track(tracker.parse()?, &peers?)?;
            null_peer::seed(
                &payload::read(Path::new(torrent))?,
                Path::new(payload),
                listen.parse()?,
            )?;
        }
        ["leech", torrent, peer, links] => {
            let torrent = payload::read(Path::new(torrent))?;
            let took = null_peer::leech(&torrent, peer.parse()?, links.parse()?)?;
            println!("{}", took.as_secs_f64());
        }
        ["probe", torrent, peer, seconds] => {
            let patience = Duration::from_secs(seconds.parse()?);
            null_peer::probe(&payload::read(Path::new(torrent))?, peer.parse()?, patience)?;
        }
        ["floor-serve", payload, listen] => floor::serve(Path::new(payload), listen.parse()?)?,
        ["floor-get", torrent, dest, from] => {
            floor::get(
                &payload::read(Path::new(torrent))?,
                Path::new(dest),
                from.parse()?,
            )?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// One set of measurements in one folder, which is removed at the end.
struct Bench {
    folder: tempfile::TempDir,
    payload: Payload,
    binary: PathBuf,
}

impl Bench {
    fn new() -> Result<Self> {
        let mib: u64 = match env::var("SEEDBANK_BENCH_SIZE") {
            Ok(size) => size.parse()?,
            Err(_) => 256,
        };
        let parent = env::var_os("SEEDBANK_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
        let folder = tempfile::tempdir_in(parent)?;
        spread(folder.path())?;
        let payload = Payload::make(&folder.path().join("payload"), mib << 20, None)?;
        let binary = env::var_os("SEEDBANK_BINARY")
            .unwrap_or_else(|| OsString::from(env!("CARGO_BIN_EXE_seedbank")));
        Ok(Self {
            folder,
            payload,
            binary: binary.into(),
        })
    }

    fn run(&self, wanted: &str) -> Result<()> {
        println!(
            "{:34}{:>9}{:>9}{:>13}{:>15}{:>8}",
            format!("{} MiB", self.payload.size >> 20),
            "s",
            "MB/s",
            "CPU s/GiB",
            "MB of its own",
            "syncs"
        );
        let downloads = [
            ("download, 256 KiB pieces", "256k", 1),
            ("download, 2 MiB pieces", "2m", 1),
            ("download, folder of 5,000 files", "folder", 1),
            ("download, 50 seeders", "256k", 50),
        ];
        for (name, torrent, seeders) in downloads {
            if name.contains(wanted) {
                let (cost, syncs) = self.download(torrent, seeders)?;
                self.print(name, cost, syncs);
            }
        }
        let floors = [
            ("floor, receive + hash + write", "256k"),
            ("floor, folder of 5,000 files", "folder"),
        ];
        for (name, torrent) in floors {
            if name.contains(wanted) {
                self.print(name, self.floor(torrent)?, None);
            }
        }
        for (name, leechers) in [("seed to 1 leecher", 1), ("seed to 4 leechers", 4)] {
            if name.contains(wanted) {
                self.print(name, self.seed(leechers)?, None);
            }
        }
        Ok(())
    }

    fn print(&self, name: &str, cost: Cost, syncs: Option<usize>) {
        let wall = cost.wall.as_secs_f64();
        println!(
            "{name:34}{wall:>9.3}{:>9.0}{:>13.2}{:>15.1}{:>8}",
            self.payload.size as f64 / wall / 1e6,
            cost.cpu.as_secs_f64() * f64::from(1 << 30) / self.payload.size as f64,
            cost.anonymous as f64 / 1e6,
            syncs.map_or_else(|| "-".to_owned(), |syncs| syncs.to_string()),
        );
    }

    fn download(&self, torrent: &str, seeders: u8) -> Result<(Cost, Option<usize>)> {
        let torrent = self.payload.torrent_path(torrent);
        let seeder = Partner::start(&[
            "seed".as_ref(),
            torrent.as_os_str(),
            self.payload.path().as_os_str(),
            "0.0.0.0:0".as_ref(),
        ])?;
        // Every seeder has an address of its own, as out there.
        let peers: Vec<String> = (1..=seeders)
            .map(|n| format!("127.0.1.{n}:{}", seeder.port))
            .collect();
        let (dest, state) = (
            self.folder.path().join("dest"),
            self.folder.path().join("state"),
        );
        let mut get = Command::new(&self.binary);
        get.arg("get").arg(&torrent).arg("--dest").arg(&dest);
        get.arg("--state")
            .arg(&state)
            .args(["--peer", &peers.join(",")]);
        get.args([
            "--tcp-listen",
            "127.0.0.1:0",
            "--dht-listen",
            "",
            "--log",
            "human",
            "-q",
        ]);
        let cost = Measured::start(&mut get)?.wait(PATIENCE)?;
        self.compare(&torrent, &dest)?;
        self.clear(&dest)?;
        fs::remove_dir_all(&state)?;
        let syncs = child::count_syncs(&get, &self.folder.path().join("strace"))?;
        if syncs.is_none() {
            eprintln!("skipped: strace is not there to count syncs");
        } else {
            self.clear(&dest)?;
            fs::remove_dir_all(&state)?;
        }
        Ok((cost, syncs))
    }

    fn floor(&self, torrent: &str) -> Result<Cost> {
        let payload = self.payload.path();
        let words = [
            "floor-serve".as_ref(),
            payload.as_os_str(),
            "127.0.0.1:0".as_ref(),
        ];
        let server = Partner::start(&words)?;
        let (torrent, dest) = (
            self.payload.torrent_path(torrent),
            self.folder.path().join("dest"),
        );
        let mut get = Command::new(env::current_exe()?);
        get.arg("floor-get").arg(&torrent).arg(&dest);
        get.arg(format!("127.0.0.1:{}", server.port));
        let cost = Measured::start(&mut get)?.wait(PATIENCE)?;
        self.compare(&torrent, &dest)?;
        self.clear(&dest)?;
        Ok(cost)
    }

    fn seed(&self, leechers: u32) -> Result<Cost> {
        let (torrent, state) = (
            self.payload.torrent_path("256k"),
            self.folder.path().join("state"),
        );
        // A port that was free a moment ago; nothing else here takes ports in between.
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let listen = SocketAddr::from(([127, 0, 0, 1], port));
        let mut seed = Command::new(&self.binary);
        seed.arg("seed").arg(&torrent).arg("--state").arg(&state);
        seed.args([
            "--tcp-listen",
            &listen.to_string(),
            "--dht-listen",
            "",
            "--log",
            "human",
            "-q",
        ]);
        let mut seeder = Measured::start(&mut seed)?;
        let metainfo = payload::read(&torrent)?;
        null_peer::probe(&metainfo, listen, PATIENCE)?;
        let cost = seeder.during(|| null_peer::leech(&metainfo, listen, leechers))?;
        drop(seeder);
        fs::remove_dir_all(&state)?;
        Ok(cost)
    }

    /// Empties what a run left in `dest` and moves it aside. No file is deleted before the end: ext4 passes one by one over the inodes
    /// that were freed within the last minutes, which whoever makes files next would pay for.
    fn clear(&self, dest: &Path) -> io::Result<()> {
        for entry in walkdir::WalkDir::new(dest) {
            let entry = entry?;
            if entry.file_type().is_file() {
                let file = fs::File::options().write(true).open(entry.path())?;
                file.set_len(0)?;
            }
        }
        fs::rename(dest, tempfile::tempdir_in(self.folder.path())?.keep())
    }

    /// Fails unless the files of `torrent` in `dest` hold the payload.
    fn compare(&self, torrent: &Path, dest: &Path) -> Result<()> {
        let mut original = fs::File::open(self.payload.path())?;
        for file in payload::read(torrent)?.info.files() {
            let path = file.path().under(dest);
            let mut expected = Read::take(&mut original, file.length());
            if !same(&mut expected, &mut fs::File::open(&path)?)? {
                return Err(format!("{} has wrong bytes", path.display()).into());
            }
        }
        Ok(())
    }
}

/// Asks ext4 to put the folders in `folder` far from each other (`chattr +T`), and so from what other programs deleted; see
/// [`Bench::clear`].
fn spread(folder: &Path) -> io::Result<()> {
    let folder = fs::File::open(folder)?;
    // Another filesystem does not know this, and does not need it.
    if let Ok(flags) = ioctl_getflags(&folder) {
        let _ = ioctl_setflags(&folder, flags | IFlags::TOPDIR);
    }
    Ok(())
}

/// Whether both have the same bytes to their ends.
fn same(expected: &mut impl Read, found: &mut impl Read) -> io::Result<bool> {
    let (mut one, mut other) = (Vec::new(), Vec::new());
    loop {
        one.clear();
        other.clear();
        expected.take(1 << 20).read_to_end(&mut one)?;
        found.take(1 << 20).read_to_end(&mut other)?;
        if one != other || one.is_empty() {
            return Ok(one == other);
        }
    }
}

/// A helper process that listens; ended when this is dropped.
struct Partner {
    child: Child,
    port: u16,
}

impl Partner {
    fn start(words: &[&std::ffi::OsStr]) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        let mut child = command.args(words).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let mut partner = Self { child, port: 0 };
        let port = line.trim_end().rsplit(':').next().unwrap_or_default();
        partner.port = port.parse()?;
        Ok(partner)
    }
}

impl Drop for Partner {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
