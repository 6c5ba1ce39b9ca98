//! Metadata of one size, as several peers send it, until the info-hash tells which of it is true.
//!
//! Nothing is thrown away while it may be true: of each piece every content that came is kept once, with all who sent it. So
//! the first mix of pieces can be tried, and when that is wrong each sender's own copy, without fetching anything twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use sha1::{Digest, Sha1};

use super::super::blame::Suspect;
use crate::base::InfoHash;
use crate::proto::wire::metadata::{METADATA_PIECE_LEN, metadata_pieces};

/// One content of a piece.
#[derive(Debug)]
struct Variant {
    bytes: Vec<u8>,
    /// Who sent just this.
    from: Vec<SocketAddr>,
}

/// Somebody who sent pieces.
#[derive(Debug)]
struct Sender {
    who: Suspect,
    pieces: u32,
}

/// What the pieces that are there amount to.
#[derive(Debug)]
pub(super) enum Judgement {
    /// More has to come.
    Open,
    /// This is the metadata.
    True(Vec<u8>),
    /// This peer sent a whole copy, which is wrong.
    Lied(Suspect),
}

/// All that came for one claimed size.
#[derive(Debug)]
pub(super) struct Claim {
    size: u32,
    pieces: BTreeMap<u32, Vec<Variant>>,
    /// Pieces that nobody has sent.
    open: BTreeSet<u32>,
    senders: BTreeMap<SocketAddr, Sender>,
    /// The mix of first contents is wrong: somebody lied, and each sender has to bring a whole copy of his own.
    disproved: bool,
    /// Bytes held.
    held: usize,
}

impl Claim {
    pub(super) fn new(size: u32) -> Self {
        Self {
            size,
            pieces: BTreeMap::new(),
            open: (0..metadata_pieces(size)).collect(),
            senders: BTreeMap::new(),
            disproved: false,
            held: 0,
        }
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    pub(super) fn is_disproved(&self) -> bool {
        self.disproved
    }

    pub(super) fn senders(&self) -> impl Iterator<Item = &Suspect> {
        self.senders.values().map(|sender| &sender.who)
    }

    /// A piece that `addr` could still send, looked for from `start` on and then from 0, for which `free` holds.
    pub(super) fn next(
        &self,
        addr: &SocketAddr,
        start: u32,
        free: impl Fn(u32) -> bool,
    ) -> Option<u32> {
        if self.disproved {
            let all = (start..metadata_pieces(self.size)).chain(0..start);
            let mut lacking = all.filter(|&piece| !self.was_sent(piece, addr));
            return lacking.find(|&piece| free(piece));
        }
        let (before, after) = (self.open.range(..start), self.open.range(start..));
        after.chain(before).copied().find(|&piece| free(piece))
    }

    /// Takes in a piece of the right length.
    pub(super) fn take(&mut self, who: &Suspect, piece: u32, bytes: Vec<u8>) {
        if self.was_sent(piece, &who.addr) {
            return;
        }
        let sender = self.senders.entry(who.addr).or_insert(Sender {
            who: *who,
            pieces: 0,
        });
        sender.pieces += 1;
        self.open.remove(&piece);
        let variants = self.pieces.entry(piece).or_default();
        if let Some(same) = variants.iter_mut().find(|variant| variant.bytes == bytes) {
            same.from.push(who.addr);
        } else {
            self.held += bytes.len();
            let from = vec![who.addr];
            variants.push(Variant { bytes, from });
        }
    }

    /// Draws the next conclusion from what is there; to be called until nothing new comes of it.
    pub(super) fn judge(&mut self, info_hash: &InfoHash) -> Judgement {
        if !self.disproved && self.open.is_empty() {
            let mix = self.copy(|variants| variants.first());
            if is(&mix, info_hash) {
                return Judgement::True(mix);
            }
            self.disproved = true;
        }
        let pieces = metadata_pieces(self.size);
        let whole = |sender: &&Sender| self.disproved && sender.pieces == pieces;
        let Some(who) = self.senders.values().find(whole).map(|sender| sender.who) else {
            return Judgement::Open;
        };
        let own = |variants: &[Variant]| {
            let own = variants.iter().position(|v| v.from.contains(&who.addr));
            own.unwrap_or(0)
        };
        let copy = self.copy(|variants| variants.get(own(variants)));
        if is(&copy, info_hash) {
            Judgement::True(copy)
        } else {
            Judgement::Lied(who)
        }
    }

    /// Forgets all that `addr` sent; what is left may be tried again.
    pub(super) fn forget(&mut self, addr: &SocketAddr) {
        if self.senders.remove(addr).is_none() {
            return;
        }
        for (&piece, variants) in &mut self.pieces {
            for variant in &mut *variants {
                variant.from.retain(|from| from != addr);
                if variant.from.is_empty() {
                    self.held -= variant.bytes.len();
                }
            }
            variants.retain(|variant| !variant.from.is_empty());
            if variants.is_empty() {
                self.open.insert(piece);
            }
        }
        self.pieces.retain(|_, variants| !variants.is_empty());
        self.disproved = false;
    }

    /// Those who sent something else than `truth`, which is of this size.
    pub(super) fn liars(&self, truth: &[u8]) -> Vec<Suspect> {
        let good = truth.chunks(METADATA_PIECE_LEN as usize);
        let mut wrong = BTreeSet::new();
        for (piece, good) in (0..).zip(good) {
            let variants = self.pieces.get(&piece).into_iter().flatten();
            let bad = variants.filter(|variant| variant.bytes != good);
            wrong.extend(bad.flat_map(|variant| variant.from.iter().copied()));
        }
        let senders = self.senders();
        let liars = senders.filter(|sender| wrong.contains(&sender.addr));
        liars.copied().collect()
    }

    fn was_sent(&self, piece: u32, addr: &SocketAddr) -> bool {
        let mut variants = self.pieces.get(&piece).into_iter().flatten();
        variants.any(|variant| variant.from.contains(addr))
    }

    fn copy<'a>(&'a self, choose: impl Fn(&'a [Variant]) -> Option<&'a Variant>) -> Vec<u8> {
        let mut copy = Vec::with_capacity(self.size as usize);
        let chosen = self.pieces.values().filter_map(|variants| choose(variants));
        chosen.for_each(|variant| copy.extend_from_slice(&variant.bytes));
        copy
    }
}

fn is(copy: &[u8], info_hash: &InfoHash) -> bool {
    Sha1::digest(copy).as_slice() == info_hash.as_bytes()
}
