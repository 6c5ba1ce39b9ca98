//! What `verify` found, for people and for programs.

use indicatif::BinaryBytes;
use seedbank::base::PieceIndex;
use seedbank::disk::PieceState;
use seedbank::format::metainfo::{FileEntry, Info};
use serde::Serialize;

use crate::cli::output::Output;

/// The document that `--json` prints; counts are of pieces.
#[derive(Serialize)]
pub(super) struct Verified {
    info_hash: String,
    pieces: u32,
    good: u32,
    bad: u32,
    missing: u32,
    /// Bytes of the pieces that this run found there.
    bytes: u64,
    /// What this run took.
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

/// What this run cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Bytes of the pieces that it found there.
    pub(super) bytes: u64,
    /// How long it took.
    pub(super) seconds: f64,
}

impl Verified {
    /// Counts the `states` of all pieces over `files`.
    pub(super) fn new(
        info: &Info,
        files: &[&FileEntry],
        states: &[Option<PieceState>],
        cost: Cost,
    ) -> Self {
        let geometry = info.geometry();
        let all = tally(geometry.all_pieces(), states);
        let files = files.iter().map(|file| {
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
        Self {
            info_hash: info.info_hash().to_string(),
            pieces: all.0 + all.1 + all.2,
            good: all.0,
            bad: all.1,
            missing: all.2,
            bytes: cost.bytes,
            seconds: cost.seconds,
            files: files.collect(),
        }
    }

    /// Whether every piece is good.
    pub(super) fn is_whole(&self) -> bool {
        self.good == self.pieces
    }

    /// Bad pieces, then the files: those that are not whole or, if asked for, all. Then the sum.
    pub(super) fn print(&self, info: &Info, states: &[Option<PieceState>], out: &Output) {
        let is_bad = |piece: &PieceIndex| states[piece.index()] == Some(PieceState::Bad);
        for piece in info.geometry().all_pieces().filter(is_bad) {
            out.clean_line(format_args!(
                "bad piece {piece}: {}",
                info.whereabouts(piece)
            ));
        }
        for file in &self.files {
            file.print(out);
        }
        out.line(format_args!(
            "{} pieces: {} good, {} bad, {} missing ({} in {:.1} s)",
            self.pieces,
            self.good,
            self.bad,
            self.missing,
            BinaryBytes(self.bytes),
            self.seconds
        ));
    }
}

impl VerifiedFile {
    fn print(&self, out: &Output) {
        let all = self.good + self.bad + self.missing;
        let mut wrong = Vec::new();
        for (count, what) in [(self.bad, "bad"), (self.missing, "missing")] {
            if count > 0 {
                wrong.push(format!("{count} of {all} pieces {what}"));
            }
        }
        if !wrong.is_empty() {
            out.clean_line(format_args!("{}: {}", self.path, wrong.join(", ")));
        } else if out.is_verbose() {
            out.clean_line(format_args!("{}: good", self.path));
        }
    }
}

/// Good, bad and missing ones among `pieces`.
fn tally(
    pieces: impl Iterator<Item = PieceIndex>,
    states: &[Option<PieceState>],
) -> (u32, u32, u32) {
    pieces.fold((0, 0, 0), |(good, bad, missing), piece| {
        match states[piece.index()] {
            Some(PieceState::Good) => (good + 1, bad, missing),
            Some(PieceState::Bad) => (good, bad + 1, missing),
            Some(PieceState::Missing) => (good, bad, missing + 1),
            None => (good, bad, missing),
        }
    })
}
