//! Carrying out what the swarm decided. No decisions are made here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::active::{Active, Done};
use super::events::{Event, Hex};
use crate::base::{BlockRange, PieceIndex};
use crate::net::peer::Command;
use crate::store::Note;
use crate::swarm::{Action, PeerKey};

impl Active<'_> {
    /// Carries out everything that the swarm has decided.
    pub(super) fn perform_all(&mut self, now: Instant) {
        self.swarm.set_allowance(now, self.checkpoint.room());
        while let Some(action) = self.swarm.poll() {
            self.perform(now, action);
        }
        self.announce_haves();
        self.write_notes();
    }

    fn perform(&mut self, now: Instant, action: Action) {
        match action {
            Action::Dial(addr) => self.dial(addr),
            Action::Disconnect { key, reason } => self
                .links
                .send(key, Command::Close(reason.as_str().to_owned())),
            Action::Interest { key, on } => self.links.send(key, Command::Interest(on)),
            Action::Choke { key, on } => self.links.send(key, Command::Choke(on)),
            Action::Grant { key, range } => self.grant(key, range),
            Action::Revoke { key, range } => self.links.send(key, Command::Revoke(range)),
            Action::Check { piece, digests } => self.check(piece, digests),
            Action::Verified { piece, from } => self.verified(now, piece, from),
            Action::HashFailed { piece, peers } => self.resources.tell(Event::HashFailed {
                info_hash: Hex(self.info.info_hash()),
                piece: piece.get(),
                peers,
            }),
            Action::Banned { addr, why } => self.resources.tell(Event::Warning {
                info_hash: Some(Hex(self.info.info_hash())),
                kind: "banned",
                message: format!("{addr} is banned: {why}"),
            }),
            Action::Complete => {
                self.checkpoint.force();
                self.links.upload_only();
            }
        }
    }

    fn grant(&mut self, key: PeerKey, range: BlockRange) {
        let pieces = self.info.geometry().pieces();
        if let Some(link) = self.links.get_mut(key)
            && link.asks_first(range.piece(), pieces)
        {
            let (piece, peer) = (range.piece().get(), link.addr);
            let info_hash = Hex(self.info.info_hash());
            self.resources.tell(Event::Request {
                info_hash,
                piece,
                peer,
            });
        }
        self.links.send(key, Command::Grant(range));
    }

    fn verified(&mut self, now: Instant, piece: PieceIndex, from: Option<SocketAddr>) {
        self.served.insert(piece);
        self.checkpoint
            .on_verified(now, piece, self.info.geometry().len_of(piece));
        self.haves.push(piece);
        self.resources.tell(Event::Have {
            info_hash: Hex(self.info.info_hash()),
            piece: piece.get(),
            peer: from,
            verified: self.swarm.verified().count(),
            total: self.info.geometry().pieces(),
        });
    }

    fn announce_haves(&mut self) {
        if !self.haves.is_empty() {
            let haves = std::mem::take(&mut self.haves).into();
            self.links.announce(&haves);
        }
    }

    /// R2b: a piece is noted before anybody hears that it is verified, so that a kill right after costs nothing.
    pub(super) fn noting(&self, piece: PieceIndex) -> impl FnOnce() + Send + use<> {
        let resources = Arc::clone(&self.resources);
        let (info_hash, notebook) = (self.info.info_hash(), self.notebook.clone());
        move || {
            let noted = notebook.write(&[Note::Verified(piece.get())]);
            resources.heed(info_hash, noted);
        }
    }

    fn write_notes(&mut self) {
        if self.notes.is_empty() {
            return;
        }
        let notes = std::mem::take(&mut self.notes);
        let resources = Arc::clone(&self.resources);
        let info_hash = self.info.info_hash();
        self.jobs.spawn(async move {
            resources.note(info_hash, notes).await;
            Done::Noted
        });
    }

    fn check(&mut self, piece: PieceIndex, digests: bool) {
        let payload = self.payload.clone();
        let expected = *self.info.piece_hash(piece);
        let noted = self.noting(piece);
        self.jobs.spawn(async move {
            let result = payload.check(piece, expected, digests, noted).await;
            Done::Checked { piece, result }
        });
    }
}
