//! Scenarios and a random driver for a whole [`Swarm`], in virtual time.

mod connections;
mod download;
mod random;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::*;
use crate::base::{BLOCK_LEN, Checked, PeerId};

const ME: PeerId = PeerId([0xee; 20]);

/// A swarm with scripted peers: keeps what was granted to whom, as their sessions would.
struct Scene {
    swarm: Swarm,
    geometry: Geometry,
    now: Instant,
    granted: BTreeMap<PeerKey, Vec<BlockRange>>,
    actions: Vec<Action>,
}

impl Scene {
    fn new(pieces: u32, blocks: u32, change: impl FnOnce(&mut Config, &mut Start)) -> Self {
        let len = blocks * BLOCK_LEN;
        let geometry = Geometry::new(u64::from(pieces) * u64::from(len), len).unwrap();
        let mut config = Config {
            geometry,
            seed: 42,
            id: ME,
            max_peers: 40,
            upload_slots: 8,
            own: vec![],
        };
        let mut start = Start::empty(&geometry);
        change(&mut config, &mut start);
        let now = Instant::now();
        Self {
            swarm: Swarm::new(now, config, start),
            geometry,
            now,
            granted: BTreeMap::new(),
            actions: Vec::new(),
        }
    }

    fn info(n: u8) -> PeerInfo {
        PeerInfo {
            addr: ([10, 0, 0, n], 6881).into(),
            listen: None,
            id: PeerId([n; 20]),
            incoming: false,
            fast: true,
        }
    }

    fn connect(&mut self, n: u8) -> PeerKey {
        self.swarm.on_connected(self.now, Self::info(n)).unwrap()
    }

    /// A seed that unchoked us.
    fn seed(&mut self, n: u8) -> PeerKey {
        let key = self.connect(n);
        let full = Bitfield::full(self.geometry.pieces());
        self.swarm.on_pieces(self.now, key, full);
        self.swarm.on_unchoked(self.now, key);
        key
    }

    fn leech(&mut self, n: u8) -> PeerKey {
        let key = self.connect(n);
        self.swarm.on_interested(self.now, key);
        key
    }

    fn hungry(&mut self, key: PeerKey, blocks: u32) {
        self.swarm.on_hungry(self.now, key, blocks);
        self.drain();
    }

    fn piece(&self, n: u32) -> PieceIndex {
        self.geometry.piece(n).unwrap()
    }

    fn after(&mut self, millis: u64) {
        self.now += Duration::from_millis(millis);
        self.swarm.handle_timeout(self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(action) = self.swarm.poll() {
            if let Action::Grant { key, range } = action {
                let piece = range.piece();
                assert!(
                    !self.swarm.verified().contains(piece),
                    "verified: {range:?}"
                );
                assert!(!self.swarm.pieces.is_checking(piece), "checking: {range:?}");
                assert!(self.geometry.is_aligned(range));
                self.granted.entry(key).or_default().push(range);
            }
            self.actions.push(action);
        }
        self.check();
    }

    /// The invariants of the whole.
    fn check(&self) {
        let requests = &self.swarm.requests;
        let asked = |piece, block| {
            let keys = self.granted.keys();
            keys.filter(|&&key| requests.holds(key, piece, block))
                .count()
        };
        self.swarm.pieces.assert_consistent(asked);
        for (&key, ranges) in &self.granted {
            let blocks: u32 = ranges.iter().map(|range| range.blocks().len() as u32).sum();
            assert_eq!(blocks, requests.blocks_of(key), "grants of {key:?}");
        }
        for piece in self.geometry.all_pieces() {
            let begun = self.swarm.pieces.partial(piece).is_some();
            let verified = self.swarm.verified().contains(piece);
            let pending = self.swarm.blame.is_pending(piece);
            let pickable = self.swarm.availability.pickable().contains(piece);
            assert_eq!(pickable, !begun && !verified && !pending, "{piece}");
        }
        let staying = self.swarm.peers.iter().filter(|(_, peer)| !peer.closing);
        assert_eq!(staying.count(), self.swarm.peers.staying());
        for (key, peer) in self.swarm.peers.iter() {
            let missing =
                |p: &PieceIndex| peer.have.contains(*p) && !self.swarm.verified().contains(*p);
            let wanted = self.geometry.all_pieces().any(|piece| missing(&piece));
            assert_eq!(wanted, peer.lure.is_some());
            assert!(peer.lure.is_none_or(|lure| missing(&lure)), "{key:?}");
        }
        let lures = self.swarm.peers.iter();
        let lures = lures.filter_map(|(key, peer)| Some((peer.lure?, key)));
        self.swarm.lures.assert_are(lures);
    }

    fn take(&mut self, key: PeerKey) -> Option<BlockRange> {
        let ranges = self.granted.get_mut(&key)?;
        (!ranges.is_empty()).then(|| ranges.remove(0))
    }

    /// The peer delivers its oldest grant. Writes are carried out at once; checks are answered by `good`.
    fn deliver(&mut self, key: PeerKey, good: impl Fn(PieceIndex) -> Checked) -> Verdict {
        let range = self.take(key).expect("the peer was granted something");
        self.deliver_range(key, range, good)
    }

    fn deliver_range(
        &mut self,
        key: PeerKey,
        range: BlockRange,
        good: impl Fn(PieceIndex) -> Checked,
    ) -> Verdict {
        let verdict = self.swarm.on_run(self.now, key, range);
        self.drain();
        match &verdict {
            Verdict::Discard => {}
            Verdict::Check { .. } => {
                let piece = range.piece();
                self.swarm.on_checked(self.now, piece, good(piece));
            }
            Verdict::Write(ranges) => {
                for &range in ranges {
                    self.swarm.on_written(self.now, range);
                    let mark = self.actions.len();
                    self.drain();
                    let checks: Vec<_> = self.actions[mark..].to_vec();
                    for action in checks {
                        if let Action::Check { piece, .. } = action {
                            self.swarm.on_checked(self.now, piece, good(piece));
                        }
                    }
                }
            }
        }
        self.drain();
        verdict
    }

    fn give_back(&mut self, key: PeerKey) {
        for range in self.granted.remove(&key).unwrap_or_default() {
            self.swarm.on_returned(self.now, key, range);
        }
        self.drain();
    }

    fn leave(&mut self, key: PeerKey) {
        self.swarm.on_closing(key);
        self.give_back(key);
        self.swarm.on_disconnected(self.now, key, true);
        self.drain();
    }

    fn banned(&self) -> Vec<SocketAddr> {
        let banned = self.actions.iter().filter_map(|action| match action {
            Action::Banned { addr, .. } => Some(*addr),
            _ => None,
        });
        banned.collect()
    }
}

fn good(blocks: u32) -> impl Fn(PieceIndex) -> Checked {
    move |_| Checked::Good {
        digests: Some(vec![[1; 32]; blocks as usize]),
    }
}

fn bad(digests: &[u8]) -> impl Fn(PieceIndex) -> Checked {
    let digests: Vec<_> = digests.iter().map(|&n| [n; 32]).collect();
    move |_| Checked::Bad {
        digests: digests.clone(),
    }
}
