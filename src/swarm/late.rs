//! The end game: blocks that somebody is late with, asked of a second peer.
//!
//! Who is late, and by how much, is worked out for all grants at once and holds for a moment, so that a thousand peers without
//! work can look at it without each going through the requests of all others.

use std::cmp::Reverse;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::Swarm;
use super::action::PeerKey;
use super::pieces::Partial;
use super::requests::Grant;
use crate::base::PieceIndex;
use crate::base::limits::BLOCK_COPIES_MAX;

/// Blocks that are asked of a second peer at once.
const LATE_BLOCKS: u32 = 4;
/// A grant is no older than this: nobody else is asked for its blocks yet. A fourth of it at a peer whose speed is known.
const GRACE: Duration = Duration::from_secs(2);
/// A copy that would be evidence is left to one sender for as long as it takes no longer than this.
const STALLED: Duration = Duration::from_secs(30);
/// For how long it is believed who is late.
const MOMENT: Duration = Duration::from_millis(50);
/// Grants of others for what a peer has that are looked at for it.
const LOOKS: usize = 64;
/// Grants that are passed over for that, which costs little.
const STEPS: usize = 1_024;

/// Grants by how long they will still take.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// When this was worked out.
    at: Option<Instant>,
    /// The longest wait comes last.
    grants: Vec<(Duration, PeerKey, Grant)>,
}

impl Swarm {
    /// Blocks that somebody is late with and that this peer would bring sooner: those that are expected last, from the end
    /// of what was asked, because peers serve it from the front.
    pub(super) fn late(&mut self, now: Instant, key: PeerKey) -> Option<(PieceIndex, Range<u32>)> {
        let peer = self.peers.get(key)?;
        let queued = self.requests.blocks_of(key) + LATE_BLOCKS;
        let ours = peer.service.time_for(queued);
        let enough = if self.is_end_game() {
            ours * 2 + Duration::from_millis(500)
        } else {
            ours * 4 + Duration::from_secs(10)
        };
        let mut late = self.who_is_late(now);
        let found = self.late_among(&mut late.grants, key, enough);
        self.late = late;
        found
    }

    fn late_among(
        &self,
        grants: &mut Vec<(Duration, PeerKey, Grant)>,
        key: PeerKey,
        enough: Duration,
    ) -> Option<(PieceIndex, Range<u32>)> {
        let peer = self.peers.get(key)?;
        let mut last = grants.len();
        let mut looks = 0;
        for _ in 0..STEPS {
            last = last.checked_sub(1)?;
            let (wait, holder, grant) = &grants[last];
            if *wait <= enough || looks == LOOKS {
                return None;
            }
            if *holder == key || !peer.serves(grant.piece) {
                continue;
            }
            looks += 1;
            let most = if *wait > 4 * enough {
                BLOCK_COPIES_MAX
            } else {
                2
            };
            let partial = self.pieces.partial(grant.piece);
            let mut blocks = grant.blocks.clone();
            if !partial.is_some_and(|partial| blocks.any(|block| one_more(partial, block, most))) {
                // All of it came meanwhile, or was asked of others.
                grants.remove(last);
                continue;
            }
            let evidence = self.blame.is_pending(grant.piece) && *wait < STALLED;
            if !evidence && let Some(blocks) = self.tail(key, grant, most) {
                return Some((grant.piece, blocks));
            }
        }
        None
    }

    /// What is late as of a moment ago. To be put back.
    fn who_is_late(&mut self, now: Instant) -> Late {
        let mut late = std::mem::take(&mut self.late);
        let fresh = |at: Instant| at <= now && now < at + MOMENT;
        if late.at.is_some_and(fresh) {
            return late;
        }
        late.at = Some(now);
        late.grants.clear();
        for (holder, grants) in self.requests.queues() {
            let waits = self.waits(now, holder, grants);
            late.grants
                .extend(waits.map(|(grant, wait)| (wait, holder, grant.clone())));
        }
        // Of equal waits the first comes first, as the end is looked at first.
        late.grants.reverse();
        late.grants.sort_by_key(|(wait, ..)| *wait);
        late
    }

    /// How long each grant of a peer will still take.
    fn waits<'a>(
        &self,
        now: Instant,
        holder: PeerKey,
        grants: &'a [Grant],
    ) -> impl Iterator<Item = (&'a Grant, Duration)> {
        let service = self.peers.get(holder).map(|peer| peer.service);
        let mut ahead = 0;
        grants.iter().filter_map(move |grant| {
            let service = service?;
            ahead += grant.blocks.len() as u32;
            let expected = service.last().max(grants[0].at) + service.time_for(ahead);
            let left = expected.saturating_duration_since(now);
            // Who is late will be later still.
            let overdue = now.saturating_duration_since(expected) / 2;
            // A peer whose speed nobody knows gets the time to show it.
            let grace = if service.is_known() { GRACE / 4 } else { GRACE };
            let age = now.saturating_duration_since(grant.at);
            (age >= grace).then_some((grant, left.max(overdue)))
        })
    }

    /// The last few blocks of a grant that may be asked of `key` as well, of at most so many peers in all.
    fn tail(&self, key: PeerKey, grant: &Grant, most: u8) -> Option<Range<u32>> {
        let partial = self.pieces.partial(grant.piece)?;
        let wanted = |block: u32| {
            one_more(partial, block, most) && !self.requests.holds(key, grant.piece, block)
        };
        let end = grant.blocks.clone().rev().find(|&b| wanted(b))? + 1;
        let run = grant.blocks.start..end;
        let run = run
            .rev()
            .take(LATE_BLOCKS as usize)
            .take_while(|&b| wanted(b));
        run.min_by_key(|&b| Reverse(end - b))
            .map(|start| start..end)
    }
}

/// Whether a block is asked of somebody and may be asked of one more, of at most so many in all. One that came back meanwhile is
/// granted as any other: against the allowance.
fn one_more(partial: &Partial, block: u32, most: u8) -> bool {
    partial.wants(block, most) && !partial.wants(block, 1)
}
