//! The peer's requests that wait to be served, and which requests it may make.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::limits::UPLOAD_QUEUE_MAX;
use crate::base::{BlockRange, PieceIndex, SharedBitfield};

/// Requests of one peer.
#[derive(Debug)]
pub(super) struct Uploads {
    served: Arc<SharedBitfield>,
    queue: VecDeque<BlockRange>,
    choking: bool,
    /// Pieces that the peer may request while choked.
    allowed: Vec<PieceIndex>,
    /// Bytes of these that it may still request while choked.
    budget: u32,
}

impl Uploads {
    /// No request, and the peer choked.
    pub(super) fn new(served: Arc<SharedBitfield>) -> Self {
        Self {
            served,
            queue: VecDeque::new(),
            choking: true,
            allowed: Vec::new(),
            budget: 0,
        }
    }

    /// Whether the peer is choked.
    pub(super) fn choking(&self) -> bool {
        self.choking
    }

    /// Whether `piece` may be uploaded now.
    pub(super) fn serves(&self, piece: PieceIndex) -> bool {
        self.served.contains(piece)
    }

    /// Lets the peer request `bytes` bytes of `pieces` while it is choked.
    pub(super) fn allow(&mut self, pieces: Vec<PieceIndex>, bytes: u32) {
        self.allowed = pieces;
        self.budget = bytes;
    }

    /// Queues a request; false if it is refused.
    pub(super) fn request(&mut self, range: BlockRange) -> bool {
        if !self.served.contains(range.piece()) || self.queue.len() >= UPLOAD_QUEUE_MAX {
            return false;
        }
        if self.choking {
            let left = self.budget.checked_sub(range.len());
            let Some(left) = left.filter(|_| self.allowed.contains(&range.piece())) else {
                return false;
            };
            self.budget = left;
        }
        self.queue.push_back(range);
        true
    }

    /// Whether no request waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes a request back; false if it is not waiting.
    pub(super) fn cancel(&mut self, range: BlockRange) -> bool {
        let at = self.queue.iter().position(|&queued| queued == range);
        at.and_then(|at| self.queue.remove(at)).is_some()
    }

    /// Chokes or unchokes the peer. What is choked away is put into `refused`.
    pub(super) fn set_choking(&mut self, choking: bool, refused: &mut Vec<BlockRange>) {
        self.choking = choking;
        if choking {
            let allowed = &self.allowed;
            self.queue.retain(|range| {
                let keep = allowed.contains(&range.piece());
                if !keep {
                    refused.push(*range);
                }
                keep
            });
        }
    }

    /// The oldest requests, as many as fit `max_bytes` but at least one. Those whose piece is no longer served are
    /// put into `refused`.
    pub(super) fn next(
        &mut self,
        max_bytes: usize,
        refused: &mut Vec<BlockRange>,
    ) -> Vec<BlockRange> {
        let mut room = max_bytes;
        let mut next = Vec::new();
        while let Some(&range) = self.queue.front() {
            let len = range.len() as usize;
            if !self.served.contains(range.piece()) {
                refused.push(range);
            } else if next.is_empty() || len <= room {
                next.push(range);
                room = room.saturating_sub(len);
            } else {
                break;
            }
            self.queue.pop_front();
        }
        next
    }

    /// Takes `piece` out of what is served.
    #[cfg(test)]
    pub(super) fn unserve(&self, piece: PieceIndex) {
        self.served.remove(piece);
    }

    /// Forgets all requests.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }
}
