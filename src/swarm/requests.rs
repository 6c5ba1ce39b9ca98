//! Who was granted which blocks, and since when. A grant leaves this table exactly when it comes back, as bytes or empty-handed,
//! or with its peer.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use super::action::PeerKey;
use crate::base::PieceIndex;

/// Blocks of one piece that one peer was asked for at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) piece: PieceIndex,
    pub(super) blocks: Range<u32>,
    pub(super) at: Instant,
}

#[derive(Debug, Default)]
struct Queue {
    /// Oldest first: the order in which peers serve them.
    grants: Vec<Grant>,
    blocks: u32,
}

/// All grants that are outstanding.
#[derive(Debug, Default)]
pub(super) struct Requests {
    queues: BTreeMap<PeerKey, Queue>,
    holders: BTreeMap<PieceIndex, Vec<PeerKey>>,
}

impl Requests {
    /// Notes that `key` was asked for `blocks` of `piece`, of which it holds none yet.
    pub(super) fn add(&mut self, key: PeerKey, grant: Grant) {
        let holders = self.holders.entry(grant.piece).or_default();
        if !holders.contains(&key) {
            holders.push(key);
        }
        let queue = self.queues.entry(key).or_default();
        queue.blocks += grant.blocks.len() as u32;
        queue.grants.push(grant);
    }

    /// Takes out what `key` holds of `blocks` of `piece`.
    pub(super) fn take(
        &mut self,
        key: PeerKey,
        piece: PieceIndex,
        blocks: &Range<u32>,
    ) -> Vec<Grant> {
        let mut taken = Vec::new();
        let Some(queue) = self.queues.get_mut(&key) else {
            return taken;
        };
        let mut left = false;
        let mut at = 0;
        while at < queue.grants.len() {
            let grant = &mut queue.grants[at];
            if grant.piece != piece {
                at += 1;
                continue;
            }
            let part = grant.blocks.start.max(blocks.start)..grant.blocks.end.min(blocks.end);
            if part.is_empty() {
                left = true;
                at += 1;
                continue;
            }
            queue.blocks -= part.len() as u32;
            let before = grant.blocks.start..part.start;
            let after = part.end..grant.blocks.end;
            let since = grant.at;
            taken.push(Grant {
                piece,
                blocks: part,
                at: since,
            });
            let rest = [before, after].into_iter().filter(|rest| !rest.is_empty());
            let rest: Vec<Grant> = rest
                .map(|blocks| Grant {
                    piece,
                    blocks,
                    at: since,
                })
                .collect();
            left |= !rest.is_empty();
            let next = at + rest.len();
            queue.grants.splice(at..=at, rest);
            at = next;
        }
        if queue.grants.is_empty() {
            self.queues.remove(&key);
        }
        if !taken.is_empty() && !left {
            self.forget_holder(piece, key);
        }
        taken
    }

    /// Takes out everything that `key` holds.
    pub(super) fn take_all(&mut self, key: PeerKey) -> Vec<Grant> {
        let grants = self.queues.remove(&key).unwrap_or_default().grants;
        for grant in &grants {
            self.forget_holder(grant.piece, key);
        }
        grants
    }

    /// What `key` holds, oldest first.
    pub(super) fn of(&self, key: PeerKey) -> &[Grant] {
        self.queues.get(&key).map_or(&[], |queue| &queue.grants)
    }

    /// Blocks that `key` holds.
    pub(super) fn blocks_of(&self, key: PeerKey) -> u32 {
        self.queues.get(&key).map_or(0, |queue| queue.blocks)
    }

    /// Peers that hold blocks of `piece`.
    pub(super) fn holders(&self, piece: PieceIndex) -> &[PeerKey] {
        self.holders.get(&piece).map_or(&[], Vec::as_slice)
    }

    /// All grants of blocks of `piece`, with their holders.
    pub(super) fn of_piece(&self, piece: PieceIndex) -> impl Iterator<Item = (PeerKey, &Grant)> {
        self.holders(piece).iter().flat_map(move |&key| {
            let grants = self.of(key).iter().filter(move |g| g.piece == piece);
            grants.map(move |grant| (key, grant))
        })
    }

    /// Whether `key` holds this block.
    pub(super) fn holds(&self, key: PeerKey, piece: PieceIndex, block: u32) -> bool {
        self.holders(piece).contains(&key)
            && self
                .of(key)
                .iter()
                .any(|g| g.piece == piece && g.blocks.contains(&block))
    }

    /// Peers that hold anything, with what they hold.
    pub(super) fn queues(&self) -> impl Iterator<Item = (PeerKey, &[Grant])> {
        self.queues.iter().map(|(&key, q)| (key, &q.grants[..]))
    }

    /// How many peers hold anything.
    pub(super) fn holding(&self) -> usize {
        self.queues.len()
    }

    /// Whether nothing is outstanding.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    fn forget_holder(&mut self, piece: PieceIndex, key: PeerKey) {
        if let Some(holders) = self.holders.get_mut(&piece) {
            holders.retain(|&holder| holder != key);
            if holders.is_empty() {
                self.holders.remove(&piece);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Geometry;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn what_is_taken_is_what_was_granted(steps in prop::collection::vec((any::<bool>(), 0u64..3, 0u32..3, 0u32..12, 1u32..6), 0..80)) {
            let geometry = Geometry::new(3, 1).unwrap();
            let now = Instant::now();
            let mut requests = Requests::default();
            let mut model = BTreeSet::new();
            for (add, key, piece, start, len) in steps {
                let key = PeerKey(key);
                let piece = geometry.piece(piece).unwrap();
                let blocks = start..start + len;
                let cells: BTreeSet<_> = blocks.clone().map(|b| (key, piece, b)).collect();
                if add {
                    if model.is_disjoint(&cells) {
                        requests.add(key, Grant { piece, blocks, at: now });
                        model.extend(cells);
                    }
                } else {
                    let taken = requests.take(key, piece, &blocks);
                    let taken: BTreeSet<_> = taken.into_iter().flat_map(|g| g.blocks).map(|b| (key, piece, b)).collect();
                    let expected: BTreeSet<_> = model.intersection(&cells).copied().collect();
                    prop_assert_eq!(&taken, &expected);
                    model.retain(|cell| !expected.contains(cell));
                }
                for key in (0..3).map(PeerKey) {
                    prop_assert_eq!(requests.blocks_of(key) as usize, model.iter().filter(|c| c.0 == key).count());
                }
                for piece in geometry.all_pieces() {
                    let holders: BTreeSet<_> = requests.holders(piece).iter().copied().collect();
                    let expected: BTreeSet<_> = model.iter().filter(|c| c.1 == piece).map(|c| c.0).collect();
                    prop_assert_eq!(holders, expected);
                }
            }
        }
    }
}
