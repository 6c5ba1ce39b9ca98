//! `seedbank verify`: hashes what is on disk against the metainfo and says, by piece and file, what is not right.

mod journal;
mod report;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use seedbank::base::PieceIndex;
use seedbank::disk::{
    Finding, Layout, PieceState, SpecKind, Subtree, Verification, digest, identities,
};
use seedbank::format::metainfo::{FileEntry, FileKind, Info, Metainfo};

use super::args::VerifyArgs;
use super::exit::{Exit, Failure};
use super::inquiry;
use super::output::Output;
use super::payload;
use super::progress;
use super::signals::Stop;
use super::source::Loaded;
use super::state;
use journal::{Entry, Journal, Subject};
use report::{Cost, Verified};

/// Hashes, reports, and ends with 0 only if every byte is right. What an earlier run found that was stopped is not hashed
/// again.
///
/// # Errors
/// If the metainfo cannot be had or a file that is there cannot be opened.
pub(crate) fn run(args: &VerifyArgs, out: &Arc<Output>) -> Result<Exit, Failure> {
    let loaded = inquiry::obtain(&args.source, &args.fetch, out)?;
    let stop = Stop::install()?;
    let metainfo = &loaded.metainfo;
    let info = &metainfo.info;
    let layout = locate(&loaded, args)?;
    let files = chosen(info, &args.only)?;
    let wants_digest = metainfo.blake3.is_some() && args.only.is_empty();
    let started = Instant::now();

    let subject = Subject {
        info_hash: info.info_hash(),
        layout: &layout,
        identities: identities(&layout).map_err(|error| payload::of_disk(&error))?,
        subtrees: wants_digest && Subtree::fits(&layout),
        only: &args.only,
    };
    let subtrees = subject.subtrees;
    let (journal, known) = Journal::open(started, journals(args).as_deref(), subject);
    let mut look = Look::new(info, journal);
    look.take_over(&known);
    let pieces = look.left(info, &files);
    if !known.is_empty() {
        out.say(format_args!(
            "going on with a run that was stopped: {} pieces were verified then",
            known.len()
        ));
    }
    let bytes = pieces.iter().map(|&piece| len(info, piece)).sum();
    let bar = progress::bytes(out, info.name(), bytes);
    let look = Mutex::new(look);
    let verification = Verification {
        layout: &layout,
        pieces: &pieces,
        expected: &|piece| *info.piece_hash(piece),
        threads: payload::threads(),
        subtrees,
    };
    let ended = verification.run(&|finding| {
        bar.inc(len(info, finding.piece));
        lock(&look).on_finding(Instant::now(), info, &finding, out);
        match stop.asked() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    bar.finish_and_clear();
    let look = look.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = ended {
        // What was found until then still holds.
        let _ = look.journal.keep();
        return Err(payload::of_disk(&error));
    }
    let left = look.left(info, &files).len();
    if left > 0 {
        return Ok(stopped(look, left, out));
    }
    let seconds = started.elapsed().as_secs_f64();
    let Look {
        states,
        nodes,
        bytes,
        journal,
    } = look;
    let verified = Verified::new(info, &files, &states, Cost { bytes, seconds });
    if args.json || out.wants_json() {
        out.json(&verified);
    } else {
        verified.print(info, &states, out);
    }
    journal.remove();
    if wants_digest && verified.is_whole() {
        check_digest(metainfo, &layout, subtrees.then_some(&nodes))?;
    }
    let absent = empty_files_missing(&layout, info, &files);
    for path in &absent {
        out.say(format_args!("missing: {} (an empty file)", path.display()));
    }
    Ok(if verified.is_whole() && absent.is_empty() {
        Exit::Done
    } else {
        Exit::HashCheck
    })
}

/// What is known of the pieces, from this run and an earlier one.
struct Look<'a> {
    states: Vec<Option<PieceState>>,
    nodes: Vec<Option<Subtree>>,
    /// Of the pieces that this run found there.
    bytes: u64,
    journal: Journal<'a>,
}

impl<'a> Look<'a> {
    fn new(info: &Info, journal: Journal<'a>) -> Self {
        let pieces = info.geometry().pieces() as usize;
        Self {
            states: vec![None; pieces],
            nodes: vec![None; pieces],
            bytes: 0,
            journal,
        }
    }

    fn take_over(&mut self, known: &[Entry]) {
        for entry in known {
            let state = match entry.good {
                true => PieceState::Good,
                false => PieceState::Bad,
            };
            self.states[entry.piece.index()] = Some(state);
            self.nodes[entry.piece.index()] = entry.subtree;
        }
    }

    /// Pieces of `files` that nothing is known of, in order.
    fn left(&self, info: &Info, files: &[&FileEntry]) -> Vec<PieceIndex> {
        let geometry = info.geometry();
        let pieces = files.iter().flat_map(|file| {
            let bytes = file.offset()..file.offset() + file.length();
            geometry.pieces_touching(bytes)
        });
        let mut left: Vec<_> = pieces
            .filter(|piece| self.states[piece.index()].is_none())
            .collect();
        // A piece that ends one file and begins the next comes twice in a row.
        left.dedup();
        left
    }

    fn on_finding(&mut self, now: Instant, info: &Info, finding: &Finding, out: &Output) {
        let Finding { piece, state, .. } = *finding;
        self.states[piece.index()] = Some(state);
        self.nodes[piece.index()] = finding.subtree;
        if state != PieceState::Missing {
            self.bytes += len(info, piece);
        }
        if let Some(trouble) = &finding.trouble {
            out.warn("unreadable", format!("piece {piece}: {trouble}"));
        } else if state != PieceState::Missing {
            let entry = Entry {
                piece,
                good: state == PieceState::Good,
                subtree: finding.subtree,
            };
            self.journal.note(now, &entry);
        }
    }
}

/// Bytes of a piece.
fn len(info: &Info, piece: PieceIndex) -> u64 {
    u64::from(info.geometry().len_of(piece))
}

/// A panic while a piece is taken in leaves nothing half done that matters.
fn lock<'m, 'a>(look: &'m Mutex<Look<'a>>) -> MutexGuard<'m, Look<'a>> {
    look.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The user stopped it.
fn stopped(look: Look<'_>, left: usize, out: &Output) -> Exit {
    let done = look.states.iter().flatten().count();
    let total = done + left;
    let then = match look.journal.keep() {
        Ok(true) => "run the same command again to go on".to_owned(),
        Ok(false) => "the same command begins anew".to_owned(),
        Err(error) => format!("the same command begins anew, as nothing could be kept: {error}"),
    };
    out.say(format_args!(
        "stopped after {done} of {total} pieces; {then}"
    ));
    Exit::Stopped
}

/// Where journals are kept, if there is such a place.
fn journals(args: &VerifyArgs) -> Option<PathBuf> {
    let network = &args.fetch.network;
    let folder = state::folder(network.state.state.as_deref(), network.dht_listen.as_ref());
    Some(folder.ok()?.join("verify"))
}

/// The files that are asked for: all, or those that `only` names with or without the torrent's own folder, themselves or by a
/// folder above them.
fn chosen<'a>(info: &'a Info, only: &[String]) -> Result<Vec<&'a FileEntry>, Failure> {
    let all: Vec<_> = payload_files(info).collect();
    if only.is_empty() {
        return Ok(all);
    }
    let matches = |file: &FileEntry, name: &str| {
        let path = file.path().as_str();
        let below = path.split_once('/').map_or(path, |(_, below)| below);
        let is_at = |path: &str| {
            let rest = path.strip_prefix(name.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        is_at(path) || is_at(below)
    };
    for name in only {
        if !all.iter().any(|file| matches(file, name)) {
            let message = format!("--only {name}: the torrent has no such file or folder");
            return Err(Failure::new(Exit::Usage, message).hint("`seedbank show` names its files"));
        }
    }
    let is_chosen = |file: &&FileEntry| only.iter().any(|name| matches(file, name));
    Ok(all.into_iter().filter(is_chosen).collect())
}

/// Compares the digest of the whole, from the nodes of its pieces if they give it.
fn check_digest(
    metainfo: &Metainfo,
    layout: &Layout,
    nodes: Option<&Vec<Option<Subtree>>>,
) -> Result<(), Failure> {
    let nodes: Option<Vec<Subtree>> = nodes.and_then(|nodes| nodes.iter().copied().collect());
    let found = match nodes.and_then(|nodes| Subtree::merge(&nodes)) {
        Some(found) => found,
        None => digest(layout).map_err(|error| payload::of_disk(&error))?,
    };
    if metainfo.blake3 == Some(found) {
        return Ok(());
    }
    let message =
        "every piece is good, but the BLAKE3 digest of the whole is not the one in the metainfo";
    Err(Failure::new(Exit::HashCheck, message)
        .hint("the .bit is wrong or someone forged pieces; get it again from its maker"))
}

/// Where the payload is: at PATH itself, in the folder PATH, or beside the metainfo.
fn locate(loaded: &Loaded, args: &VerifyArgs) -> Result<Layout, Failure> {
    let info = &loaded.metainfo.info;
    let beside = || loaded.beside.clone().unwrap_or_else(|| PathBuf::from("."));
    let path = args
        .path
        .clone()
        .or_else(|| args.dest.clone())
        .unwrap_or_else(beside);
    let opened = |error: std::io::Error| Failure::open(&path, &error);
    let path = std::path::absolute(&path).map_err(opened)?;
    let is_folder = path
        .metadata()
        .map_err(|error| Failure::open(&path, &error))?
        .is_dir();
    if !is_folder && !info.is_single_file() {
        let message = format!("{} is a file, but the torrent is a folder", path.display());
        return Err(
            Failure::new(Exit::Usage, message).hint("name that folder, or the one that holds it")
        );
    }
    if !is_folder || is_payload_folder(info, &path) {
        return payload::layout_at(info, &path);
    }
    payload::layout(info, &path)
}

/// Whether `folder` is the torrent's own folder rather than the one that holds it.
fn is_payload_folder(info: &Info, folder: &Path) -> bool {
    let below = |file: &FileEntry| payload::within(file.path(), folder);
    let top = info
        .files()
        .first()
        .and_then(|file| file.path().components().next());
    let Some(top) = top.filter(|_| !info.is_single_file()) else {
        return false;
    };
    let named_alike = folder.file_name() == Some(top.as_ref());
    !folder.join(top).exists()
        && (named_alike || info.files().iter().any(|file| below(file).exists()))
}

/// No piece speaks for an empty file, but a payload without it is not whole.
fn empty_files_missing(layout: &Layout, info: &Info, files: &[&FileEntry]) -> Vec<PathBuf> {
    // Both lists are in torrent order.
    let pairs = info.files().iter().zip(layout.files());
    let mut chosen = files.iter().peekable();
    let mut absent = Vec::new();
    for (entry, spec) in pairs {
        if chosen
            .next_if(|file| file.offset() == entry.offset() && file.path() == entry.path())
            .is_none()
        {
            continue;
        }
        if spec.length == 0 && spec.kind == SpecKind::Payload && !spec.path.exists() {
            absent.push(spec.path.clone());
        }
    }
    absent
}

fn payload_files(info: &Info) -> impl Iterator<Item = &FileEntry> {
    info.files()
        .iter()
        .filter(|file| matches!(file.kind(), FileKind::Payload))
}
