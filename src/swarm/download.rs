//! The download: what becomes of blocks that come, pieces that are hashed, and bits that are taken back.

use std::ops::Range;
use std::time::Instant;

use super::Swarm;
use super::action::{Action, BanReason, PeerKey, Verdict};
use super::blame::Senders;
use super::requests::Grant;
use crate::base::{BLOCK_LEN, BlockRange, Checked, PieceIndex};

impl Swarm {
    /// The peer's pipeline has room for that many more blocks.
    pub fn on_hungry(&mut self, now: Instant, key: PeerKey, blocks: u32) {
        if let Some(peer) = self.peers.get_mut(key).filter(|peer| !peer.closing) {
            peer.hungry = blocks;
            self.feed(now, key);
            self.settle(now);
        }
    }

    /// Granted blocks will not come from this peer.
    pub fn on_returned(&mut self, now: Instant, key: PeerKey, range: BlockRange) {
        for grant in self.requests.take(key, range.piece(), &range.blocks()) {
            self.give_back(grant.piece, grant.blocks);
        }
        self.settle(now);
    }

    /// The peer stopped delivering. What it was asked for goes to others; it is tried with single blocks until one comes.
    pub fn on_snubbed(&mut self, now: Instant, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.snubbed = true;
            self.revoke_all(key);
            self.settle(now);
        }
    }

    /// Granted blocks came, and their bytes are in the caller's hand until the answer is carried out.
    pub fn on_run(&mut self, now: Instant, key: PeerKey, range: BlockRange) -> Verdict {
        let before = self.pieces.promised();
        let verdict = self.receive(now, key, range);
        // The run was part of a piece that nobody may be asked to finish yet, or its sender had all that it might.
        if self.allowance.is_short() && self.pieces.promised() < before {
            self.freed = true;
        } else if self.allowance.is_short() && self.starved.contains(&key) {
            self.feed(now, key);
        }
        self.settle(now);
        verdict
    }

    /// What [`Verdict::Write`] asked to store is stored.
    pub fn on_written(&mut self, _now: Instant, range: BlockRange) {
        self.pieces.store(range.piece(), range.blocks());
        self.check_if_stored(range.piece());
    }

    /// A piece was hashed. An answer that nobody waits for is passed over.
    pub fn on_checked(&mut self, now: Instant, piece: PieceIndex, outcome: Checked) {
        if !self.pieces.is_checking(piece) {
            return;
        }
        match outcome {
            Checked::Good { digests } => {
                for liar in self.blame.verified(piece, digests.as_deref()) {
                    self.ban(&liar, BanReason::Blocks(piece));
                }
                self.verify(now, piece);
            }
            Checked::Bad { digests } => self.fail(piece, digests),
        }
        self.settle(now);
    }

    /// These pieces survive a power cut from now on.
    pub fn on_durable(&mut self, pieces: &[PieceIndex]) {
        for &piece in pieces {
            self.pieces.make_durable(piece);
        }
    }

    /// What is on disk of these pieces can no longer be trusted: a file changed, or a sync failed. They are fetched again.
    pub fn on_lost(&mut self, now: Instant, pieces: &[PieceIndex]) {
        for &piece in pieces {
            self.pieces.lose(piece);
            self.refresh(piece);
        }
        self.wanted_again();
        // Once complete nobody was fed any more; some of these peers may have what is missing now.
        let hungry = self.peers.iter().filter(|(_, peer)| peer.hungry > 0);
        self.starved.extend(hungry.map(|(key, _)| key));
        self.freed = true;
        self.settle(now);
    }

    /// These pieces were found good on disk.
    pub fn on_found(&mut self, now: Instant, pieces: &[PieceIndex]) {
        for &piece in pieces {
            if self.pieces.verified().contains(piece) {
                continue;
            }
            let holders: Vec<_> = self
                .requests
                .of_piece(piece)
                .map(|(k, g)| (k, g.clone()))
                .collect();
            for (key, grant) in holders {
                self.revoke(key, &grant);
            }
            self.verify(now, piece);
        }
        self.settle(now);
    }

    /// The connection counted payload bytes that it threw away itself: they came too late, or unasked.
    pub fn on_wasted(&mut self, now: Instant, key: PeerKey, bytes: u32) {
        self.count_down(now, key, u64::from(bytes));
        self.tally.wasted(u64::from(bytes));
    }

    fn receive(&mut self, now: Instant, key: PeerKey, range: BlockRange) -> Verdict {
        let (piece, len) = (range.piece(), u64::from(range.len()));
        self.count_down(now, key, len);
        let grants = self.requests.take(key, piece, &range.blocks());
        let Some(peer) = self.peers.get_mut(key) else {
            self.tally.wasted(len);
            return Verdict::Discard;
        };
        peer.snubbed = false;
        if let Some(asked) = grants.iter().map(|grant| grant.at).min() {
            peer.service
                .delivered(now, asked, range.blocks().len() as u32);
        }
        let sender = peer.suspect(key);
        let mut fresh: Vec<Range<u32>> = Vec::new();
        for grant in grants {
            fresh.extend(self.pieces.receive(piece, grant.blocks, &sender));
        }
        self.refresh(piece);
        for blocks in &fresh {
            self.revoke_others(key, piece, blocks);
        }
        let ranges: Vec<_> = join(fresh)
            .into_iter()
            .filter_map(|blocks| self.config.geometry.run(piece, blocks))
            .collect();
        let kept: u64 = ranges.iter().map(|range| u64::from(range.len())).sum();
        self.tally.wasted(len - kept);
        match ranges[..] {
            [] => Verdict::Discard,
            [only] if self.config.geometry.is_whole(only) => {
                self.pieces.check(piece);
                let digests = self.blame.is_pending(piece);
                Verdict::Check { digests }
            }
            _ => Verdict::Write(ranges),
        }
    }

    fn count_down(&mut self, now: Instant, key: PeerKey, bytes: u64) {
        self.tally.down(now, bytes);
        if let Some(peer) = self.peers.get_mut(key) {
            peer.tally.down(now, bytes);
            peer.last_payload = now;
        }
    }

    /// Has a piece hashed once all of it is stored.
    pub(super) fn check_if_stored(&mut self, piece: PieceIndex) {
        if self.pieces.is_stored(piece) {
            self.pieces.check(piece);
            let digests = self.blame.is_pending(piece);
            self.actions.push_back(Action::Check { piece, digests });
        }
    }

    fn verify(&mut self, now: Instant, piece: PieceIndex) {
        let (new, senders) = self.pieces.verify(piece);
        self.refresh(piece);
        if !new {
            return;
        }
        self.allowance.verified(self.config.geometry.len_of(piece));
        let from = senders.as_ref().and_then(Senders::first);
        let from = from.map(|sender| sender.addr);
        self.actions.push_back(Action::Verified { piece, from });
        self.wanted_no_more(piece);
        if self.is_complete() {
            self.complete(now);
        }
    }

    fn complete(&mut self, now: Instant) {
        self.actions.push_back(Action::Complete);
        self.starved.clear();
        for key in self.peers.keys() {
            self.part_if_both_seed(key);
            self.unchoke_if_free(now, key);
        }
    }

    fn fail(&mut self, piece: PieceIndex, digests: Vec<[u8; 32]>) {
        let Some(senders) = self.pieces.fail(piece) else {
            return;
        };
        let received = (0..digests.len()).filter(|&block| senders.of(block).is_some());
        let received = received.count() as u64 * u64::from(BLOCK_LEN);
        let len = u64::from(self.config.geometry.len_of(piece));
        self.tally.wasted(received.min(len));
        let peers = senders.peers().iter().map(|peer| peer.addr).collect();
        self.actions.push_back(Action::HashFailed { piece, peers });
        // Older records may be dropped to make room, and their pieces are picked by rarity again.
        let changed: Vec<_> = self.blame.pending().chain([piece]).collect();
        let liar = self.blame.failed(piece, senders, digests);
        for piece in changed {
            self.refresh(piece);
        }
        self.freed = true;
        if let Some(liar) = liar {
            self.ban(&liar, BanReason::WholePiece(piece));
        }
    }

    /// Blocks that a peer was asked for are asked of it no longer.
    pub(super) fn give_back(&mut self, piece: PieceIndex, blocks: Range<u32>) {
        self.freed |= self.pieces.give_back(piece, blocks);
        self.refresh(piece);
    }

    /// Takes back everything that the peer was asked for.
    pub(super) fn revoke_all(&mut self, key: PeerKey) {
        for grant in self.requests.of(key).to_vec() {
            self.revoke(key, &grant);
        }
    }

    fn revoke_others(&mut self, but: PeerKey, piece: PieceIndex, blocks: &Range<u32>) {
        let held = self.requests.of_piece(piece).filter(|(key, _)| *key != but);
        let held: Vec<_> = held.map(|(key, grant)| (key, grant.clone())).collect();
        for (key, mut grant) in held {
            grant.blocks = grant.blocks.start.max(blocks.start)..grant.blocks.end.min(blocks.end);
            self.revoke(key, &grant);
        }
    }

    fn revoke(&mut self, key: PeerKey, grant: &Grant) {
        let range = self.config.geometry.run(grant.piece, grant.blocks.clone());
        if let Some(range) = range {
            self.actions.push_back(Action::Revoke { key, range });
        }
    }
}

/// Joins runs that touch, which come when several grants to one peer arrive as one run.
fn join(mut runs: Vec<Range<u32>>) -> Vec<Range<u32>> {
    runs.sort_by_key(|run| run.start);
    let mut joined: Vec<Range<u32>> = Vec::with_capacity(runs.len());
    for run in runs {
        match joined.last_mut() {
            Some(last) if last.end == run.start => last.end = run.end,
            _ => joined.push(run),
        }
    }
    joined
}
