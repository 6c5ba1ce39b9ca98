//! Copies stand in for their originals: once their durable pieces were read back from the new disk and hashed.

use std::sync::Arc;

use super::Mover;
use crate::base::{FileIdentity, PieceIndex};
use crate::disk::{Access, Arrival, DiskError, Layout, Relocation, Step, WritePath};
use crate::engine::error::EngineError;
use crate::engine::resume;
use crate::store::{Commit, Record};

/// Pieces of copies that are hashed between two steps.
const BETWEEN_STEPS: usize = 64;

impl Mover<'_> {
    /// Makes what the store knows fit the copies, once their durable pieces are known to be good; the number of those that are not.
    pub(super) async fn vouch(
        &self,
        relocation: &Relocation,
        record: &Record,
        arrivals: &[Arrival],
    ) -> Result<u32, EngineError> {
        let is_new = |arrival: &Arrival| matches!(arrival, Arrival::Copied { .. });
        if !arrivals.iter().any(is_new) {
            return Ok(0);
        }
        let found: Vec<Option<FileIdentity>> = arrivals.iter().map(original).collect();
        let ours = resume::ours(&relocation.from, record, &found);
        let ours = ours.map_err(|missing| EngineError::Missing {
            path: missing.path,
            info_hash: self.info_hash(),
        })?;
        let copies = || (0..arrivals.len()).filter(|&at| ours[at] && is_new(&arrivals[at]));
        let geometry = self.info.geometry();
        let touched = copies().flat_map(|at| relocation.to.pieces_of(at));
        let mut pieces: Vec<PieceIndex> = touched
            .filter_map(|piece| geometry.piece(piece))
            .filter(|&piece| record.durable.contains(piece))
            .collect();
        pieces.dedup();
        let damaged = self.check(relocation, pieces).await?;
        if !damaged.is_empty() {
            let damaged = damaged.iter().map(|piece| piece.get()).collect();
            self.store.clear(self.info_hash(), damaged).await?;
        }
        let identities = copies().filter_map(|at| match arrivals[at] {
            Arrival::Copied { is, .. } => Some((at, is)),
            Arrival::Nothing | Arrival::Moved(_) => None,
        });
        let commit = Commit {
            identities: identities.collect(),
            finished: record.finished && damaged.is_empty(),
            clean: record.clean,
            totals: record.totals,
            ..Commit::default()
        };
        self.store.commit(self.info_hash(), commit).await?;
        self.step(Step::Done)?;
        Ok(damaged.len() as u32)
    }

    /// Reads `pieces` back from the new place and hashes them. Answers with those that were damaged already at the old one.
    async fn check(
        &self,
        relocation: &Relocation,
        pieces: Vec<PieceIndex>,
    ) -> Result<Vec<PieceIndex>, EngineError> {
        let bad = self.bad_of(&relocation.to, pieces, true).await?;
        if bad.is_empty() {
            return Ok(bad);
        }
        let damaged = self.bad_of(&relocation.from, bad.clone(), false).await?;
        if damaged.len() == bad.len() {
            return Ok(damaged);
        }
        let pieces = bad.len() - damaged.len();
        let what = format!("{pieces} pieces are not what was written there");
        Err(EngineError::Disk(DiskError::Io {
            path: relocation.to.root().to_owned(),
            op: "read the copies back from",
            source: Arc::new(std::io::Error::other(what)),
        }))
    }

    /// Those of `pieces` that are not good in the files of `layout`.
    async fn bad_of(
        &self,
        layout: &Arc<Layout>,
        pieces: Vec<PieceIndex>,
        told: bool,
    ) -> Result<Vec<PieceIndex>, EngineError> {
        if pieces.is_empty() {
            return Ok(pieces);
        }
        let geometry = self.info.geometry();
        let bytes = |pieces: &[PieceIndex]| {
            let lengths = pieces.iter().map(|&piece| geometry.len_of(piece));
            lengths.map(u64::from).sum()
        };
        if told {
            self.step(Step::Checking(bytes(&pieces)))?;
        }
        let opened = self
            .disk
            .open(Arc::clone(layout), Access::Read, WritePath::Auto)
            .await?;
        let info = Arc::clone(self.info);
        let expected: Arc<dyn Fn(PieceIndex) -> [u8; 20] + Send + Sync> =
            Arc::new(move |piece| *info.piece_hash(piece));
        let mut bad = Vec::new();
        for some in pieces.chunks(BETWEEN_STEPS) {
            let checked = opened
                .payload
                .recheck(some.to_vec(), Arc::clone(&expected), |_, _| {});
            let checked = checked.await?.into_iter();
            bad.extend(checked.filter(|&(_, good)| !good).map(|(piece, _)| piece));
            if told {
                self.step(Step::Checked(bytes(some)))?;
            }
        }
        opened.payload.close().await?;
        Ok(bad)
    }
}

/// What a file was at the old place.
fn original(arrival: &Arrival) -> Option<FileIdentity> {
    match *arrival {
        Arrival::Nothing => None,
        Arrival::Moved(is) => Some(is),
        Arrival::Copied { was, .. } => Some(was),
    }
}
