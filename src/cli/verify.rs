//! `seedbank verify`: hashes what is on disk against the metainfo and says, by piece and file, what is not right.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use indicatif::BinaryBytes;
use seedbank::base::PieceIndex;
use seedbank::disk::{DiskError, Layout, PieceState, SpecKind, verify};
use seedbank::format::metainfo::{FileEntry, FileKind, Info, Metainfo};
use serde::Serialize;

use super::args::VerifyArgs;
use super::exit::{Exit, Failure};
use super::inquiry;
use super::output::Output;
use super::payload;
use super::progress;
use super::source::Loaded;

/// The document that `--json` prints; counts are of pieces.
#[derive(Serialize)]
struct Verified {
    info_hash: String,
    pieces: u32,
    good: u32,
    bad: u32,
    missing: u32,
    /// Bytes of the pieces that were there to be hashed.
    bytes: u64,
    seconds: f64,
    files: Vec<VerifiedFile>,
}

#[derive(Serialize)]
struct VerifiedFile {
    path: String,
    length: u64,
    good: u32,
    bad: u32,
    missing: u32,
}

/// Hashes, reports, and ends with 0 only if every byte is right.
///
/// # Errors
/// If the metainfo cannot be had or a file that is there cannot be read.
pub(crate) fn run(args: &VerifyArgs, out: &Arc<Output>) -> Result<Exit, Failure> {
    let loaded = inquiry::obtain(&args.source, &args.fetch, out)?;
    let metainfo = &loaded.metainfo;
    let layout = locate(&loaded, args)?;
    let started = Instant::now();
    let (states, digest) =
        hash(metainfo, &layout, out).map_err(|error| payload::of_disk(&error))?;
    let verified = count(&metainfo.info, &states, started.elapsed().as_secs_f64());
    if args.json || out.wants_json() {
        out.json(&verified);
    } else {
        human(&metainfo.info, &states, &verified, out);
    }
    let whole = verified.good == verified.pieces;
    if whole && metainfo.blake3.is_some() && digest != metainfo.blake3 {
        let message = "every piece is good, but the BLAKE3 digest of the whole is not the one in the metainfo";
        return Err(Failure::new(Exit::HashCheck, message)
            .hint("the .bit is wrong or someone forged pieces; get it again from its maker"));
    }
    let absent = empty_files_missing(&layout);
    for path in &absent {
        out.say(format_args!("missing: {} (an empty file)", path.display()));
    }
    Ok(if whole && absent.is_empty() {
        Exit::Done
    } else {
        Exit::HashCheck
    })
}

type Hashes = (Vec<PieceState>, Option<[u8; 32]>);

/// Pieces on all cores and, where the metainfo has one, the digest of the whole beside them while the bytes are in memory.
fn hash(metainfo: &Metainfo, layout: &Layout, out: &Output) -> Result<Hashes, DiskError> {
    let info = &metainfo.info;
    let bar = progress::bytes(out, info.name(), info.geometry().total());
    let hashed = thread::scope(|scope| {
        let digest = metainfo.blake3.map(|_| scope.spawn(|| digest(layout)));
        let expected = |piece: PieceIndex| *info.piece_hash(piece);
        let states = verify(layout, &expected, payload::threads(), &|bytes| {
            bar.inc(bytes);
        })?;
        let digest = digest.and_then(|thread| thread.join().ok().flatten());
        Ok((states, digest))
    });
    bar.finish_and_clear();
    hashed
}

/// BLAKE3 of the files in order, nothing if one is not there in full.
fn digest(layout: &Layout) -> Option<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    let payload = layout
        .files()
        .iter()
        .filter(|file| file.length > 0 && matches!(file.kind, SpecKind::Payload));
    for file in payload {
        // Opening a pipe would wait for someone to write to it.
        let found = file.path.metadata().ok()?;
        if !found.is_file() || found.len() != file.length {
            return None;
        }
        let mut reader = File::open(&file.path).ok()?.take(file.length);
        let read = std::io::copy(&mut reader, &mut hasher).ok()?;
        if read != file.length {
            return None;
        }
    }
    Some(*hasher.finalize().as_bytes())
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
fn empty_files_missing(layout: &Layout) -> Vec<PathBuf> {
    let empty = layout.files().iter();
    let empty = empty.filter(|file| file.length == 0 && matches!(file.kind, SpecKind::Payload));
    empty
        .filter(|file| !file.path.exists())
        .map(|file| file.path.clone())
        .collect()
}

fn count(info: &Info, states: &[PieceState], seconds: f64) -> Verified {
    let geometry = info.geometry();
    let all = tally(geometry.all_pieces(), states);
    let hashed = geometry
        .all_pieces()
        .filter(|piece| states[piece.index()] != PieceState::Missing)
        .map(|piece| u64::from(geometry.len_of(piece)));
    let files = payload_files(info).map(|file| {
        let bytes = file.offset()..file.offset() + file.length();
        let (good, bad, missing) = tally(geometry.pieces_touching(bytes), states);
        VerifiedFile {
            path: file.path().as_str().to_owned(),
            length: file.length(),
            good,
            bad,
            missing,
        }
    });
    Verified {
        info_hash: info.info_hash().to_string(),
        pieces: geometry.pieces(),
        good: all.0,
        bad: all.1,
        missing: all.2,
        bytes: hashed.sum(),
        seconds,
        files: files.collect(),
    }
}

fn payload_files(info: &Info) -> impl Iterator<Item = &FileEntry> {
    info.files()
        .iter()
        .filter(|file| matches!(file.kind(), FileKind::Payload))
}

/// Good, bad and missing ones among `pieces`.
fn tally(pieces: impl Iterator<Item = PieceIndex>, states: &[PieceState]) -> (u32, u32, u32) {
    pieces.fold((0, 0, 0), |(good, bad, missing), piece| {
        match states[piece.index()] {
            PieceState::Good => (good + 1, bad, missing),
            PieceState::Bad => (good, bad + 1, missing),
            PieceState::Missing => (good, bad, missing + 1),
        }
    })
}

fn human(info: &Info, states: &[PieceState], verified: &Verified, out: &Output) {
    let geometry = info.geometry();
    for piece in geometry
        .all_pieces()
        .filter(|piece| states[piece.index()] == PieceState::Bad)
    {
        out.clean_line(format_args!("bad piece {piece}: {}", touched(info, piece)));
    }
    for file in verified.files.iter().filter(|file| file.missing > 0) {
        let all = file.good + file.bad + file.missing;
        out.clean_line(format_args!(
            "missing: {} of {all} pieces of {}",
            file.missing, file.path
        ));
    }
    out.line(format_args!(
        "{} pieces: {} good, {} bad, {} missing ({} in {:.1} s)",
        verified.pieces,
        verified.good,
        verified.bad,
        verified.missing,
        BinaryBytes(verified.bytes),
        verified.seconds
    ));
}

/// The files that a piece lies in, each with the range of its bytes there.
fn touched(info: &Info, piece: PieceIndex) -> String {
    let begin = info.geometry().offset_of(piece);
    let end = begin + u64::from(info.geometry().len_of(piece));
    let parts = payload_files(info).filter_map(|file| {
        let from = begin.max(file.offset());
        let to = end.min(file.offset() + file.length());
        (from < to).then(|| {
            let (first, last) = (from - file.offset(), to - file.offset() - 1);
            format!("{} bytes {first}-{last}", file.path().as_str())
        })
    });
    parts.collect::<Vec<_>>().join(", ")
}
