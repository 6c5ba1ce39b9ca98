//! A connection to a peer that may have metadata: what it says, what it owes, and what it is worth.

use std::time::{Duration, Instant};

use super::super::action::{PeerInfo, PeerKey};
use super::super::blame::Suspect;
use super::action::CloseReason;

/// A peer that owes us something and brings nothing for this long gives way to others.
pub(super) const STALLED: Duration = Duration::from_secs(4);
/// After this long the peer that is furthest from being done gives way to others.
const PATIENCE: Duration = Duration::from_secs(15);

/// One connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) info: PeerInfo,
    /// When it came, or when it could be asked first.
    pub(super) since: Instant,
    /// The size that it claims.
    pub(super) claim: Option<u32>,
    /// Memory for a copy of that size is set aside, so it may be asked.
    pub(super) admitted: bool,
    /// What it owes, and since when.
    pub(super) asked: Vec<(u32, Instant)>,
    /// When it last brought something, or the first was asked for after nothing was.
    pub(super) progress: Instant,
    pub(super) bytes: u64,
    /// Pipelines turned down since it last brought something.
    pub(super) rejects: u32,
    pub(super) paused_until: Option<Instant>,
    /// Where the next piece is looked for.
    pub(super) next: u32,
    pub(super) closing: Option<CloseReason>,
}

impl Peer {
    pub(super) fn new(now: Instant, info: PeerInfo) -> Self {
        Self {
            info,
            since: now,
            claim: None,
            admitted: false,
            asked: Vec::new(),
            progress: now,
            bytes: 0,
            rejects: 0,
            paused_until: None,
            next: 0,
            closing: None,
        }
    }

    /// Since when it owes `piece`, if it does; it does not any more.
    pub(super) fn owes(&mut self, piece: u32) -> Option<Instant> {
        let at = self.asked.iter().position(|&(asked, _)| asked == piece);
        at.map(|at| self.asked.swap_remove(at).1)
    }

    pub(super) fn suspect(&self, key: PeerKey) -> Suspect {
        let dialled = (!self.info.incoming).then_some(self.info.addr);
        Suspect {
            key,
            addr: self.info.addr,
            listen: self.info.listen.or(dialled),
            id: self.info.id,
        }
    }

    /// Whether it could send something if memory were set aside for it.
    pub(super) fn waits(&self) -> bool {
        self.claim.is_some() && !self.admitted && self.closing.is_none()
    }

    /// Whether it owes us something, be it the word whether it has anything, and has been silent for `time`.
    pub(super) fn is_stalled(&self, now: Instant, time: Duration) -> bool {
        let owes = self.claim.is_none() || !self.asked.is_empty();
        owes && now >= self.progress + time
    }

    pub(super) fn gives_way(&self, now: Instant) -> bool {
        self.is_stalled(now, STALLED) || now >= self.since + PATIENCE
    }

    /// Seconds until it has sent all of what it claims, at the speed that it has had since it is here.
    pub(super) fn remaining(&self, now: Instant) -> u64 {
        let here = now.saturating_duration_since(self.since).as_secs() + 1;
        let left = self.claim.map_or(u64::MAX, u64::from);
        let left = left.saturating_sub(self.bytes);
        left.saturating_mul(here) / self.bytes.max(1)
    }
}
