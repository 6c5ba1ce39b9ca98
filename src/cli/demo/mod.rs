//! `seedbank demo`: a whole swarm of real processes on this machine. A seeder shares a payload; two leechers fetch it
//! and trade with each other; one of them is killed on the way and started again, and has to go on where it was.
//!
//! Nobody is given the address of a peer. All find one another through a DHT that begins with a node of its own, and the
//! leecher that was killed is not even given that again: its table of nodes is all it has.
//!
//! Whatever happens, the processes are ended and the folder of the demo is removed.

mod child;
mod files;
mod report;
mod swarm;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::BinaryBytes;

use super::args::DemoArgs;
use super::create;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::payload::{self, Place, Wishes};
use super::signals::Stop;
use super::temporary::Folder;
use report::{Report, Times};
use swarm::{Role, Swarm};

/// Part of its pieces that the leecher has when it is killed, in percent.
const KILL_AT: u64 = 40;
/// The seeder's rate is such that it takes about this long to send the payload once.
const SECONDS: u64 = 8;
/// Everything that should be a matter of moments.
const SOON: Duration = Duration::from_secs(15);
/// Peers notice this soon that someone is gone.
const NOTICED: Duration = Duration::from_secs(2);
/// A node has announced itself this soon; if not, whoever looks for it has to look again.
const ANNOUNCED: Duration = Duration::from_secs(3);
/// Smallest payload that leaves time to kill someone in the middle.
const SIZE_MIN: u64 = 4 << 20;
/// Bytes of a piece.
const PIECE_LENGTH: u32 = 256 << 10;

/// Runs the swarm and reports; 0 only if everything that is promised held.
///
/// # Errors
/// If a process does not do its part in time, or the user stops the demo.
pub(crate) fn run(args: &DemoArgs, out: &Output) -> Result<Exit, Failure> {
    let stop = Stop::install()?;
    let started = Instant::now();
    // First, so that it goes last, after every process that has files in it.
    let folder = Folder::new("demo")?;
    let stage = Stage::set(args, &folder, out)?;
    let mut swarm = Swarm::new(stop, out);
    let report = play(&stage, &mut swarm, out)?;
    drop(swarm);
    let held = report.print(started.elapsed(), out);
    Ok(if held { Exit::Done } else { Exit::HashCheck })
}

/// What the processes are given.
struct Stage<'a> {
    folder: &'a Folder,
    metainfo: PathBuf,
    payload: PathBuf,
    name: String,
    size: u64,
}

impl<'a> Stage<'a> {
    fn set(args: &DemoArgs, folder: &'a Folder, out: &Output) -> Result<Self, Failure> {
        let payload = match &args.file {
            Some(file) => {
                let found = file
                    .metadata()
                    .map_err(|error| Failure::open(file, &error))?;
                if !found.is_file() {
                    let message = format!("{} is not a file", file.display());
                    return Err(Failure::new(Exit::Usage, message).hint("--file takes one file"));
                }
                check_size(found.len(), "--file")?;
                files::check_room(folder.path(), 2 * found.len())?;
                file.clone()
            }
            None => {
                let size = args.size.0;
                check_size(size, "--size")?;
                files::check_room(folder.path(), size.saturating_mul(3))?;
                let seed = args.random.unwrap_or_else(rand::random);
                out.say(format_args!(
                    "making {} of random bytes (--random {seed})",
                    BinaryBytes(size)
                ));
                let path = folder.join("payload.bin");
                files::random(&path, size, seed)?;
                path
            }
        };
        let place = Place::of(&payload)?;
        let wishes = Wishes {
            piece_length: PIECE_LENGTH,
            ..Wishes::default()
        };
        let described = payload::describe(&place, &wishes, out)?;
        let metainfo = folder.join("demo.bit");
        create::write(&metainfo, described.metainfo.to_bit().as_bytes())?;
        let size = described.metainfo.info.geometry().total();
        let name = described.metainfo.info.name().to_owned();
        Ok(Self {
            folder,
            metainfo,
            payload: place.path,
            name,
            size,
        })
    }

    fn dest(&self, role: Role) -> PathBuf {
        self.folder.join(role.folder())
    }

    /// What every process is told: how to be reached, where its state is, and the only address it ever learns from us.
    fn common(&self, role: Role, bootstrap: Option<SocketAddr>) -> Vec<OsString> {
        let state = self.folder.join(&format!("state-{}", role.folder()));
        let bootstrap = bootstrap.map_or_else(String::new, |node| node.to_string());
        let flags = [
            ("--tcp-listen", "127.0.0.1:0".into()),
            ("--dht-listen", "127.0.0.1:0".into()),
            ("--bootstrap", bootstrap.into()),
            ("--log", "json".into()),
            ("--state", state.into()),
        ];
        let flags: [(&str, OsString); 5] = flags;
        let words = flags.into_iter();
        words
            .flat_map(|(flag, value)| [flag.into(), value])
            .collect()
    }

    fn node(&self) -> Vec<OsString> {
        [vec!["dht".into()], self.common(Role::Node, None)].concat()
    }

    fn seeder(&self, node: Option<SocketAddr>) -> Vec<OsString> {
        let dest = self.payload.parent().unwrap_or(Path::new("/"));
        let rate = (self.size / SECONDS).to_string();
        let own: [OsString; 6] = [
            "seed".into(),
            self.metainfo.clone().into(),
            "--dest".into(),
            dest.into(),
            "--max-up".into(),
            rate.into(),
        ];
        [own.to_vec(), self.common(Role::Seeder, node)].concat()
    }

    fn leecher(&self, role: Role, node: Option<SocketAddr>) -> Vec<OsString> {
        let own: [OsString; 6] = [
            "get".into(),
            self.metainfo.clone().into(),
            "--dest".into(),
            self.dest(role).into(),
            "--keep".into(),
            "forever".into(),
        ];
        [own.to_vec(), self.common(role, node)].concat()
    }
}

fn check_size(size: u64, flag: &str) -> Result<(), Failure> {
    if size >= SIZE_MIN {
        return Ok(());
    }
    let message = format!("{flag}: {size} bytes are gone before anyone can be killed");
    Err(Failure::new(Exit::Usage, message).hint("4MiB is the least"))
}

/// The story, from the first process to the last.
fn play(stage: &Stage<'_>, swarm: &mut Swarm<'_>, out: &Output) -> Result<Report, Failure> {
    // A disk that writes 10 MB a second is slow enough to wait for.
    let patience = Duration::from_secs(60 + stage.size / 10_000_000);
    begin(stage, swarm, patience)?;
    swarm.wait("the first leecher to be at 40 %", patience, |swarm| {
        let seen = swarm.seen(Role::First);
        seen.total > 0 && u64::from(seen.verified) * 100 >= u64::from(seen.total) * KILL_AT
    })?;
    let lost = kill(swarm)?;
    let verified = swarm.seen(Role::First).verified;
    out.say(format_args!(
        "killed the first leecher with {verified} pieces verified; starting it again with nothing but its state"
    ));
    let again = Instant::now();
    // The same folders as before the kill: that is what it has to make do with.
    swarm.start(Role::Again, &stage.leecher(Role::Again, None))?;
    swarm.wait("the killed leecher to be back", SOON + patience, |swarm| {
        swarm.seen(Role::Again).resume.is_some()
    })?;
    let back = again.elapsed();
    swarm.wait("the killed leecher to find a peer", patience, |swarm| {
        !swarm.seen(Role::Again).joined.is_empty()
    })?;
    let found = again.elapsed();
    swarm.wait("both leechers to be complete", patience, |swarm| {
        [Role::Again, Role::Second]
            .iter()
            .all(|&role| swarm.seen(role).complete.is_some())
    })?;
    let orderly = end(swarm)?;
    let same = |role| files::same(&stage.payload, &stage.dest(role).join(&stage.name));
    let equal = [same(Role::First)?, same(Role::Second)?];
    let times = Times { back, found };
    Ok(Report::new(stage.size, swarm, &times, lost, orderly, equal))
}

/// The DHT node, the seeder and both leechers, each when the one before it can be found.
fn begin(stage: &Stage<'_>, swarm: &mut Swarm<'_>, patience: Duration) -> Result<(), Failure> {
    swarm.start(Role::Node, &stage.node())?;
    swarm.wait("the DHT node to listen", SOON, |swarm| {
        swarm.seen(Role::Node).udp.is_some()
    })?;
    let node = swarm.seen(Role::Node).udp;
    swarm.start(Role::Seeder, &stage.seeder(node))?;
    swarm.wait("the seeder to listen", SOON + patience, |swarm| {
        swarm.seen(Role::Seeder).tcp.is_some()
    })?;
    announced(swarm, Role::Seeder)?;
    swarm.start(Role::First, &stage.leecher(Role::First, node))?;
    swarm.wait(
        "the first leecher to find the seeder",
        SOON + patience,
        |swarm| !swarm.seen(Role::First).joined.is_empty(),
    )?;
    announced(swarm, Role::First)?;
    swarm.start(Role::Second, &stage.leecher(Role::Second, node))
}

/// Waits until a process can be found through the DHT. If that takes too long, the others have to find it later.
fn announced(swarm: &mut Swarm<'_>, role: Role) -> Result<(), Failure> {
    let what = format!("the {role} to announce itself");
    match swarm.wait(&what, ANNOUNCED, |swarm| swarm.seen(role).announced) {
        Err(failure) if failure.exit == Exit::TimedOut => Ok(()),
        waited => waited,
    }
}

/// Kills the first leecher; the payload bytes that the others had sent it.
fn kill(swarm: &mut Swarm<'_>) -> Result<u64, Failure> {
    let others = [Role::Seeder, Role::Second];
    let sent = |swarm: &Swarm<'_>| -> u64 {
        let sent = others.iter().map(|&role| swarm.seen(role).sent);
        sent.sum()
    };
    let before = sent(swarm);
    swarm.kill(Role::First)?;
    swarm.wait("the end of what it had to say", SOON, |swarm| {
        swarm.seen(Role::First).ended
    })?;
    // Those that were connected to it tell what they had sent it; what is left are their connections to each other.
    let _ = swarm.wait("the others to notice", NOTICED, |swarm| {
        others
            .iter()
            .all(|&role| swarm.seen(role).connections() <= 1)
    });
    Ok(sent(swarm) - before)
}

/// Stops everyone; whether all ended in order.
fn end(swarm: &mut Swarm<'_>) -> Result<bool, Failure> {
    let mut orderly = swarm.stop(Role::Again)? & swarm.stop(Role::Second)?;
    // The seeder tells what it sent to whom when they leave; if it does not, the figures are the poorer for it.
    let _ = swarm.wait("the seeder to be alone", NOTICED, |swarm| {
        swarm.seen(Role::Seeder).connections() == 0
    });
    orderly &= swarm.stop(Role::Seeder)? & swarm.stop(Role::Node)?;
    swarm.wait("the last words", SOON, |swarm| {
        let all = [Role::Again, Role::Second, Role::Seeder, Role::Node];
        all.iter().all(|&role| swarm.seen(role).ended)
    })?;
    Ok(orderly)
}
