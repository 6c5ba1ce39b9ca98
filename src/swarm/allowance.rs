//! How much may be asked for: bounds what is verified and not durable (durability rule R2), before it is fetched.
//!
//! The owner says how many bytes may still be verified. Against them counts what would be verified if all that is asked for came,
//! and nothing more is granted once that is used up. Whoever goes short stays hungry and is fed when there is room again.

use std::time::Instant;

use super::Swarm;
use super::action::PeerKey;
use crate::base::limits::CHECKPOINT_BYTES;
use crate::base::{BLOCK_LEN, PieceIndex};

/// What may be granted.
#[derive(Debug)]
pub(super) struct Allowance {
    /// Bytes that may be verified beyond those that are, told of or not.
    bytes: u64,
    /// Bytes of verified pieces that [`Swarm::poll`] has yet to tell of, so that the owner does not count them.
    untold: u64,
    /// Somebody went short.
    short: bool,
    /// Bytes that each may hold for now: many are fed after they went short.
    ration: Option<u64>,
}

impl Allowance {
    /// No bound until the owner sets one.
    pub(super) fn unbounded() -> Self {
        Self {
            bytes: u64::MAX,
            untold: 0,
            short: false,
            ration: None,
        }
    }

    /// A piece was verified.
    pub(super) fn verified(&mut self, len: u32) {
        self.untold += u64::from(len);
        self.bytes = self.bytes.saturating_sub(u64::from(len));
    }

    /// The owner was told of a verified piece.
    pub(super) fn told(&mut self, len: u32) {
        self.untold -= u64::from(len);
    }

    /// Whether somebody went short.
    pub(super) fn is_short(&self) -> bool {
        self.short
    }

    /// Everybody who goes short will be noted anew. While `mouths` are fed, each may hold an equal part.
    pub(super) fn share_out(&mut self, mouths: usize) {
        self.short = false;
        self.ration = Some(self.bytes / mouths.max(1) as u64);
    }

    /// Whoever is hungry still may have what is left.
    pub(super) fn shared_out(&mut self) {
        self.ration = None;
    }
}

impl Swarm {
    /// Says how many bytes may be verified beyond those that the caller knows of: the room until too much is verified and not
    /// durable. Without a call there is no bound. To be called after each change and before time passes; a value that is no
    /// news costs nothing.
    ///
    /// What is granted keeps to it: at any time the pieces that would be verified if all came that is asked for, and what is asked
    /// for of others, take no more. Only while nothing is at stake ([`CHECKPOINT_BYTES`] or more are allowed) and nothing
    /// else is under way, one piece of any length may pass.
    pub fn set_allowance(&mut self, now: Instant, bytes: u64) {
        let bytes = bytes.saturating_sub(self.allowance.untold);
        let rose = bytes > self.allowance.bytes;
        self.allowance.bytes = bytes;
        if rose && self.allowance.short {
            self.freed = true;
            self.settle(now);
        }
    }

    /// Bytes that would be verified if all came that is asked for, and bytes that are asked for besides. Copies count once.
    pub fn promised(&self) -> u64 {
        self.pieces.promised()
    }

    /// Whether the peer must wait, whatever it could be asked for: the allowance is used up, or more than half of it is and the
    /// peer has had its share of it, and a piece.
    pub(super) fn must_wait(&mut self, key: PeerKey) -> bool {
        let (promised, bytes) = (self.pieces.promised(), self.allowance.bytes);
        let held = u64::from(self.requests.blocks_of(key)) * u64::from(BLOCK_LEN);
        let others = self.requests.holding().max(self.starved.len() + 1);
        let ration = self.allowance.ration;
        let share = ration.unwrap_or(bytes / others as u64);
        let piece = u64::from(self.config.geometry.piece_len());
        let scarce = promised >= bytes / 2 || ration.is_some();
        let greedy = scarce && held >= share.max(piece);
        let wait = promised >= bytes || greedy;
        self.allowance.short |= wait;
        wait
    }

    /// Whether that many more blocks of a piece under way keep to the allowance.
    pub(super) fn is_allowed(&mut self, piece: PieceIndex, more: u32) -> bool {
        let (others, this) = self.pieces.promised_with(piece, more);
        let alone = others == 0 && self.allowance.bytes >= CHECKPOINT_BYTES;
        let allowed = alone || others + this <= self.allowance.bytes;
        self.allowance.short |= !allowed;
        allowed
    }
}
