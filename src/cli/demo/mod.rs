//! `seedbank demo`: a whole swarm of real processes on this machine. A seeder shares a payload; two leechers fetch it
//! and trade with each other; one of them is killed on the way and started again, and has to go on where it was.
//!
//! Whatever happens, the processes are ended and the folder of the demo is removed.

mod child;
mod files;
mod report;
mod swarm;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::BinaryBytes;

use super::args::DemoArgs;
use super::create;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::payload::{self, Place, Wishes};
use super::signals::Stop;
use files::Folder;
use report::Report;
use swarm::{Role, Swarm};

/// Part of its pieces that the leecher has when it is killed, in percent.
const KILL_AT: u64 = 40;
/// The seeder's rate is such that it takes about this long to send the payload once.
const SECONDS: u64 = 8;
/// Everything that should be a matter of moments.
const SOON: Duration = Duration::from_secs(15);
/// The seeder notices this soon that everyone is gone.
const ALONE: Duration = Duration::from_secs(2);
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
    let folder = Folder::new()?;
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
                folder.check_room(2 * found.len())?;
                file.clone()
            }
            None => {
                let size = args.size.0;
                check_size(size, "--size")?;
                folder.check_room(size.saturating_mul(3))?;
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

    fn common(&self, command: &str, role: Role, dest: &Path) -> Vec<OsString> {
        let state = self.folder.join(&format!("state-{}", role.folder()));
        let mut args: Vec<OsString> = vec![command.into(), self.metainfo.clone().into()];
        args.extend(
            [
                "--tcp-listen",
                "127.0.0.1:0",
                "--dht-listen",
                "",
                "--log",
                "json",
            ]
            .map(OsString::from),
        );
        args.extend(["--state".into(), state.into(), "--dest".into(), dest.into()]);
        args
    }

    fn seeder(&self) -> Vec<OsString> {
        let dest = self.payload.parent().unwrap_or(Path::new("/"));
        let mut args = self.common("seed", Role::Seeder, dest);
        let rate = (self.size / SECONDS).to_string();
        args.extend(["--max-up".into(), rate.into()]);
        args
    }

    fn leecher(&self, role: Role, swarm: &Swarm<'_>, peers: &[Role]) -> Vec<OsString> {
        let mut args = self.common("get", role, &self.dest(role));
        let addresses = peers.iter().filter_map(|&peer| swarm.seen(peer).tcp);
        let addresses: Vec<String> = addresses.map(|tcp| tcp.to_string()).collect();
        args.extend(["--keep", "forever", "--peer"].map(OsString::from));
        args.push(addresses.join(",").into());
        args
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
    swarm.start(Role::Seeder, &stage.seeder())?;
    swarm.wait("the seeder to listen", SOON + patience, |swarm| {
        swarm.seen(Role::Seeder).tcp.is_some()
    })?;
    let args = stage.leecher(Role::First, swarm, &[Role::Seeder]);
    swarm.start(Role::First, &args)?;
    // With the first connection made, its address at the seeder is known for sure.
    swarm.wait("the first leecher to join", SOON, |swarm| {
        swarm.seen(Role::First).tcp.is_some() && !swarm.seen(Role::Seeder).joined.is_empty()
    })?;
    let args = stage.leecher(Role::Second, swarm, &[Role::Seeder, Role::First]);
    swarm.start(Role::Second, &args)?;
    swarm.wait("the first leecher to be at 40 %", patience, |swarm| {
        let seen = swarm.seen(Role::First);
        seen.total > 0 && u64::from(seen.verified) * 100 >= u64::from(seen.total) * KILL_AT
    })?;
    swarm.kill(Role::First)?;
    swarm.wait("the end of what it had to say", SOON, |swarm| {
        swarm.seen(Role::First).ended
    })?;
    let verified = swarm.seen(Role::First).verified;
    out.say(format_args!(
        "killed the first leecher with {verified} pieces verified; starting it again"
    ));
    let killed = Instant::now();
    // The same folders as before the kill: that is what it has to make do with.
    let args = stage.leecher(Role::Again, swarm, &[Role::Seeder, Role::Second]);
    swarm.start(Role::Again, &args)?;
    swarm.wait("the killed leecher to be back", SOON + patience, |swarm| {
        swarm.seen(Role::Again).resume.is_some()
    })?;
    let back = killed.elapsed();
    swarm.wait("both leechers to be complete", patience, |swarm| {
        [Role::Again, Role::Second]
            .iter()
            .all(|&role| swarm.seen(role).complete.is_some())
    })?;
    let mut orderly = swarm.stop(Role::Again)? & swarm.stop(Role::Second)?;
    // The seeder tells what it sent to whom when they leave; if it does not, the figures are the poorer for it.
    let _ = swarm.wait("the seeder to be alone", ALONE, |swarm| {
        let seeder = swarm.seen(Role::Seeder);
        seeder.sent.len() >= seeder.joined.len()
    });
    orderly &= swarm.stop(Role::Seeder)?;
    swarm.wait("the last words", SOON, |swarm| {
        let all = [Role::Again, Role::Second, Role::Seeder];
        all.iter().all(|&role| swarm.seen(role).ended)
    })?;
    let same = |role| files::same(&stage.payload, &stage.dest(role).join(&stage.name));
    let equal = [same(Role::First)?, same(Role::Second)?];
    Ok(Report::new(stage.size, swarm, back, orderly, equal))
}
