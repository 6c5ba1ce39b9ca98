//! Scenarios and a random driver for a whole [`Swarm`], in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::base::{BLOCK_LEN, PeerId};

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
        for (_, peer) in self.swarm.peers.iter() {
            let missing =
                |p: &PieceIndex| peer.have.contains(*p) && !self.swarm.verified().contains(*p);
            let wanted = self.geometry.all_pieces().filter(missing).count();
            assert_eq!(wanted as u32, peer.wanted);
        }
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

#[test]
fn a_grant_is_a_whole_piece_and_its_good_copy_is_announced() {
    let mut scene = Scene::new(3, 4, |_, _| {});
    let key = scene.seed(1);
    scene.hungry(key, 1);
    let range = scene.granted[&key][0];
    assert!(scene.geometry.is_whole(range));
    let verdict = scene.deliver(key, good(4));
    assert_eq!(verdict, Verdict::Check { digests: false });
    let from = Some(Scene::info(1).addr);
    let piece = range.piece();
    assert!(scene.actions.contains(&Action::Verified { piece, from }));
    assert!(scene.swarm.verified().contains(piece));
    assert!(!scene.swarm.durable().contains(piece));
    scene.swarm.on_durable(&[piece]);
    assert!(scene.swarm.durable().contains(piece));
}

#[test]
fn a_download_from_one_seed_completes_once_and_parts_from_the_seed() {
    let mut scene = Scene::new(20, 2, |_, _| {});
    let key = scene.seed(1);
    scene.hungry(key, 1_000);
    assert_eq!(scene.granted[&key].len(), 20);
    for _ in 0..20 {
        scene.after(10);
        scene.deliver(key, good(2));
    }
    let complete = scene.actions.iter().filter(|a| **a == Action::Complete);
    assert_eq!(complete.count(), 1);
    let reason = DropReason::BothSeeds;
    assert!(scene.actions.contains(&Action::Disconnect { key, reason }));
    assert_eq!(scene.swarm.tally(scene.now).wasted, 0);
}

#[test]
fn a_slow_peer_gets_short_runs_and_others_finish_the_piece() {
    let mut scene = Scene::new(4, 64, |_, _| {});
    let slow = scene.seed(1);
    scene.hungry(slow, 1);
    assert_eq!(scene.granted[&slow][0].blocks().len(), 16, "speed unknown");
    scene.after(16_000);
    scene.deliver(slow, good(64));
    scene.hungry(slow, 1);
    let next = scene.granted[&slow][0];
    assert_eq!(next.blocks(), 16..20, "one block a second for five seconds");
    let fast = scene.seed(2);
    scene.hungry(fast, 1);
    let continued = scene.granted[&fast][0];
    assert_eq!(
        (continued.piece(), continued.blocks()),
        (next.piece(), 20..36)
    );
}

#[test]
fn stored_blocks_of_an_earlier_run_are_not_asked_for_again() {
    let mut scene = Scene::new(2, 4, |config, start| {
        let geometry = config.geometry;
        let piece = geometry.piece(1).unwrap();
        start.partial = vec![geometry.run(piece, 1..3).unwrap()];
    });
    let key = scene.seed(1);
    scene.hungry(key, 100);
    let second = scene.piece(1);
    let asked: BTreeSet<_> = scene.granted[&key]
        .iter()
        .filter(|range| range.piece() == second)
        .flat_map(|range| range.blocks())
        .collect();
    assert_eq!(asked, [0, 3].into());
    assert_eq!(scene.swarm.stored_blocks().count(), 1);
}

#[test]
fn a_piece_whose_blocks_are_all_stored_at_the_start_is_hashed_first() {
    let mut scene = Scene::new(2, 4, |config, start| {
        let geometry = config.geometry;
        start.partial = vec![geometry.whole(geometry.piece(0).unwrap())];
    });
    scene.drain();
    let piece = scene.piece(0);
    let digests = false;
    assert_eq!(scene.actions, [Action::Check { piece, digests }]);
    scene
        .swarm
        .on_checked(scene.now, piece, bad(&[0; 4])(piece));
    scene.drain();
    assert_eq!(scene.banned(), []);
    assert!(scene.swarm.pieces.is_missing(piece));
}

#[test]
fn the_sole_sender_of_a_bad_piece_is_banned_and_not_let_in_again() {
    let mut scene = Scene::new(3, 2, |_, _| {});
    let key = scene.seed(1);
    scene.hungry(key, 1);
    scene.deliver(key, bad(&[0, 0]));
    assert_eq!(scene.banned(), [Scene::info(1).addr]);
    let reason = DropReason::Banned;
    assert!(scene.actions.contains(&Action::Disconnect { key, reason }));
    scene.leave(key);
    let again = scene.swarm.on_connected(scene.now, Scene::info(1));
    assert_eq!(again, Err(Refusal::Banned));
}

/// Two seeds share a piece of 32 blocks, and it fails; returns them.
fn shared_failure(scene: &mut Scene, liar_first: bool) -> (PeerKey, PeerKey) {
    let (a, b) = (scene.seed(1), scene.seed(2));
    scene.hungry(a, 1);
    scene.hungry(b, 1);
    let mut digests = [1; 32];
    digests[if liar_first { 3 } else { 20 }] = 9;
    scene.after(100);
    scene.deliver(a, bad(&digests));
    scene.deliver(b, bad(&digests));
    assert_eq!(scene.banned(), []);
    (a, b)
}

#[test]
fn of_two_suspects_the_one_whose_block_differs_is_banned_once_a_clean_peer_sends_the_piece() {
    for liar_first in [false, true] {
        let mut scene = Scene::new(1, 32, |_, _| {});
        shared_failure(&mut scene, liar_first);
        let clean = scene.seed(3);
        scene.hungry(clean, 1);
        let range = scene.granted[&clean][0];
        assert!(scene.geometry.is_whole(range), "evidence comes whole");
        let verdict = scene.deliver(clean, good(32));
        assert_eq!(verdict, Verdict::Check { digests: true });
        let liar = if liar_first { 1 } else { 2 };
        assert_eq!(scene.banned(), [Scene::info(liar).addr]);
    }
}

#[test]
fn blocks_of_a_banned_peer_in_other_pieces_are_fetched_again() {
    let mut scene = Scene::new(2, 32, |_, _| {});
    let liar = scene.seed(1);
    scene.hungry(liar, 1);
    scene.deliver(liar, good(32));
    assert_eq!(scene.swarm.stored_blocks().count(), 1);
    let suspect = scene.swarm.peers.get(liar).unwrap().suspect(liar);
    let why = BanReason::WholePiece(scene.piece(1));
    scene.swarm.ban(&suspect, why);
    scene.drain();
    assert_eq!(scene.swarm.stored_blocks().count(), 0);
}

#[test]
fn suspects_wait_while_a_clean_peer_can_send_the_piece() {
    let mut scene = Scene::new(1, 32, |_, _| {});
    let clean = scene.seed(3);
    let (a, b) = shared_failure(&mut scene, true);
    scene.hungry(a, 10);
    scene.hungry(b, 10);
    assert!(scene.granted[&a].is_empty() && scene.granted[&b].is_empty());
    scene.leave(clean);
    scene.hungry(a, 10);
    scene.hungry(b, 10);
    let held = scene.granted[&a].len() + scene.granted[&b].len();
    assert_eq!(held, 1, "one suspect at a time");
}

#[test]
fn a_suspect_that_lies_again_alone_is_banned() {
    let mut scene = Scene::new(1, 32, |_, _| {});
    let (a, b) = shared_failure(&mut scene, true);
    scene.leave(b);
    scene.hungry(a, 10);
    scene.deliver(a, bad(&[9; 32]));
    assert_eq!(scene.banned(), [Scene::info(1).addr]);
}

#[test]
fn the_end_game_asks_a_fast_peer_for_late_blocks_and_cancels_the_other_copy() {
    let mut scene = Scene::new(2, 4, |_, _| {});
    let slow = scene.seed(1);
    scene.hungry(slow, 4);
    let fast = scene.seed(2);
    scene.hungry(fast, 4);
    scene.after(10);
    scene.deliver(fast, good(4));
    scene.hungry(fast, 100);
    assert!(scene.granted[&fast].is_empty(), "nobody is late yet");
    for _ in 0..40 {
        scene.after(250);
    }
    let copy = scene.granted[&fast][0];
    let asked: u32 = scene.granted[&fast]
        .iter()
        .map(|r| r.blocks().len() as u32)
        .sum();
    assert_eq!(asked, 4, "no block twice of the same peer");
    scene.deliver(fast, good(4));
    let revoked = scene.actions.contains(&Action::Revoke {
        key: slow,
        range: copy,
    });
    assert!(revoked);
    let late = scene.take(slow).unwrap();
    scene.now += Duration::from_millis(1);
    let verdict = scene.deliver_range(slow, late, good(4));
    assert_eq!(verdict, Verdict::Discard);
    assert_eq!(scene.swarm.tally(scene.now).wasted, u64::from(late.len()));
    assert!(scene.swarm.is_complete());
}

#[test]
fn a_snubbing_peer_loses_its_grants_to_others_and_gets_single_blocks() {
    let mut scene = Scene::new(1, 16, |_, _| {});
    let (snub, other) = (scene.seed(1), scene.seed(2));
    scene.hungry(snub, 16);
    scene.hungry(other, 16);
    assert!(!scene.granted.contains_key(&other));
    scene.swarm.on_snubbed(scene.now, snub);
    scene.drain();
    scene.give_back(snub);
    assert_eq!(scene.granted[&other][0].blocks(), 0..16);
    scene.give_back(other);
    scene.leave(other);
    scene.hungry(snub, 16);
    assert_eq!(scene.granted[&snub][0].blocks().len(), 1);
}

#[test]
fn a_choked_peer_is_asked_for_allowed_pieces_only() {
    let mut scene = Scene::new(9, 1, |_, _| {});
    let key = scene.connect(1);
    scene.swarm.on_pieces(scene.now, key, Bitfield::full(9));
    scene.hungry(key, 9);
    assert!(!scene.granted.contains_key(&key));
    let piece = scene.piece(5);
    scene.swarm.on_allowed_fast(scene.now, key, piece);
    scene.drain();
    assert_eq!(scene.granted[&key].len(), 1);
    assert_eq!(scene.granted[&key][0].piece(), piece);
}

#[test]
fn lost_pieces_are_fetched_again_and_completion_is_said_again() {
    let mut scene = Scene::new(2, 1, |config, start| {
        *start = Start::complete(&config.geometry);
    });
    scene.drain();
    assert!(
        !scene.actions.contains(&Action::Complete),
        "it was so at the start"
    );
    let piece = scene.piece(1);
    scene.swarm.on_lost(scene.now, &[piece]);
    assert!(!scene.swarm.durable().contains(piece));
    let key = scene.seed(1);
    scene.hungry(key, 10);
    scene.deliver(key, good(1));
    assert!(scene.actions.contains(&Action::Complete));
}

#[test]
fn found_pieces_are_taken_back_from_whoever_was_asked() {
    let mut scene = Scene::new(2, 1, |_, _| {});
    let key = scene.seed(1);
    scene.hungry(key, 1);
    let range = scene.granted[&key][0];
    scene.swarm.on_found(scene.now, &[range.piece()]);
    scene.drain();
    assert!(scene.actions.contains(&Action::Revoke { key, range }));
    assert_eq!(scene.deliver(key, good(1)), Verdict::Discard);
}

#[test]
fn pausing_takes_everything_back_and_resuming_goes_on() {
    let mut scene = Scene::new(4, 1, |_, _| {});
    let key = scene.seed(1);
    let leech = scene.leech(2);
    scene.hungry(key, 2);
    scene.swarm.set_paused(scene.now, true);
    scene.drain();
    assert_eq!(scene.swarm.next_deadline(), None);
    let choked = Action::Choke {
        key: leech,
        on: true,
    };
    assert!(scene.actions.contains(&choked));
    assert!(scene.actions.contains(&Action::Interest { key, on: false }));
    scene.give_back(key);
    scene.hungry(key, 4);
    assert!(!scene.granted.contains_key(&key));
    scene.actions.clear();
    scene.swarm.set_paused(scene.now, false);
    scene.drain();
    assert_eq!(scene.granted[&key].len(), 4);
    let unchoked = Action::Choke {
        key: leech,
        on: false,
    };
    assert!(scene.actions.contains(&unchoked));
}

#[test]
fn an_interested_peer_is_unchoked_at_once_while_slots_are_free() {
    let mut scene = Scene::new(4, 1, |config, _| config.upload_slots = 3);
    let keys: Vec<_> = (1..=5).map(|n| scene.leech(n)).collect();
    scene.drain();
    let unchoked = |scene: &Scene| -> usize {
        scene
            .swarm
            .peers(scene.now)
            .filter(|peer| peer.unchoked)
            .count()
    };
    assert_eq!(unchoked(&scene), 3);
    scene.swarm.on_not_interested(scene.now, keys[0]);
    scene.after(10_000);
    assert_eq!(unchoked(&scene), 3);
}

#[test]
fn a_full_torrent_lets_a_newcomer_in_for_an_idle_peer_only() {
    let mut scene = Scene::new(4, 1, |config, _| config.max_peers = 2);
    let idle = scene.connect(1);
    scene.connect(2);
    let newcomer = PeerInfo {
        incoming: true,
        ..Scene::info(3)
    };
    let refused = scene.swarm.on_connected(scene.now, newcomer);
    assert_eq!(refused, Err(Refusal::Full));
    scene.after(61_000);
    assert!(scene.swarm.on_connected(scene.now, newcomer).is_ok());
    scene.drain();
    let reason = DropReason::Idle;
    let dropped = Action::Disconnect { key: idle, reason };
    assert!(scene.actions.contains(&dropped));
}

#[test]
fn a_connection_to_ourselves_is_refused_and_the_address_never_dialled_again() {
    let mut scene = Scene::new(4, 1, |_, _| {});
    let mirror = PeerInfo {
        id: ME,
        ..Scene::info(9)
    };
    let addrs = [mirror.addr];
    scene.swarm.on_addresses(scene.now, Source::User, &addrs);
    assert_eq!(scene.swarm.poll(), Some(Action::Dial(mirror.addr)));
    let refused = scene.swarm.on_connected(scene.now, mirror);
    assert_eq!(refused, Err(Refusal::Ourselves));
    scene.swarm.on_addresses(scene.now, Source::User, &addrs);
    scene.after(600_000);
    assert_eq!(scene.actions, []);
}

#[test]
fn when_both_sides_dial_at_once_both_keep_the_same_connection() {
    // The ids decide, so each order of arrival must leave the connection that the greater id made.
    for (id, incoming_first, kept_incoming) in [
        (PeerId([0xff; 20]), true, true),
        (PeerId([0xff; 20]), false, true),
        (PeerId([0x01; 20]), true, false),
        (PeerId([0x01; 20]), false, false),
    ] {
        let mut scene = Scene::new(4, 1, |_, _| {});
        let info = |incoming| PeerInfo {
            id,
            incoming,
            ..Scene::info(1)
        };
        let first = scene
            .swarm
            .on_connected(scene.now, info(incoming_first))
            .unwrap();
        let second = scene.swarm.on_connected(scene.now, info(!incoming_first));
        if incoming_first == kept_incoming {
            assert_eq!(second, Err(Refusal::Duplicate));
        } else {
            assert!(second.is_ok());
            let reason = DropReason::Duplicate;
            let dropped = Action::Disconnect { key: first, reason };
            assert_eq!(scene.swarm.poll(), Some(dropped));
        }
    }
}

#[test]
fn dials_at_once_are_bounded() {
    let mut scene = Scene::new(4, 1, |_, _| {});
    let addrs: Vec<SocketAddr> = (1..=30).map(|n| Scene::info(n).addr).collect();
    scene.swarm.on_addresses(scene.now, Source::Tracker, &addrs);
    scene.drain();
    let most = crate::base::limits::DIALS_PER_TORRENT;
    assert_eq!(scene.actions.len(), most);
    scene.swarm.on_dial_failed(scene.now, addrs[0]);
    scene.drain();
    assert!(scene.actions.len() <= most + 1);
}

#[derive(Clone, Debug)]
enum Step {
    Hungry(u8, u32),
    Deliver(u8, bool),
    Part(u8),
    Return(u8),
    Snub(u8),
    Choke(u8),
    Unchoke(u8),
    Leave(u8),
    Have(u8, u32),
    DontHave(u8, u32),
    Lose(u32),
    Find(u32),
    Pause(bool),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 1u8..6;
    prop_oneof![
        6 => (peer.clone(), 1u32..80).prop_map(|(p, n)| Step::Hungry(p, n)),
        6 => (peer.clone(), prop::bool::weighted(0.9)).prop_map(|(p, good)| Step::Deliver(p, good)),
        2 => peer.clone().prop_map(Step::Part),
        1 => peer.clone().prop_map(Step::Return),
        1 => peer.clone().prop_map(Step::Snub),
        1 => peer.clone().prop_map(Step::Choke),
        3 => peer.clone().prop_map(Step::Unchoke),
        1 => peer.clone().prop_map(Step::Leave),
        4 => (peer.clone(), 0u32..12).prop_map(|(p, n)| Step::Have(p, n)),
        1 => (peer, 0u32..12).prop_map(|(p, n)| Step::DontHave(p, n)),
        1 => (0u32..12).prop_map(Step::Lose),
        1 => (0u32..12).prop_map(Step::Find),
        1 => any::<bool>().prop_map(Step::Pause),
        3 => (1u64..6_000).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_block_is_missing_asked_for_or_stored_whatever_happens(blocks in 1u32..24, steps in prop::collection::vec(step(), 1..250)) {
        let mut scene = Scene::new(12, blocks, |_, _| {});
        let mut keys: BTreeMap<u8, PeerKey> = (1..6)
                .map(|n| (n, if n < 3 { scene.seed(n) } else { scene.connect(n) }))
                .collect();
        for step in steps {
            let now = scene.now;
            match step {
                Step::Hungry(p, n) => { let key = keys[&p]; scene.hungry(key, n); }
                Step::Deliver(p, fine) => {
                    let key = keys[&p];
                    if let Some(range) = scene.take(key) {
                        let digest = if fine { 1 } else { p };
                        let answer = move |piece| match fine {
                            true => good(blocks)(piece),
                            false => bad(&vec![digest; blocks as usize])(piece),
                        };
                        scene.deliver_range(key, range, answer);
                    }
                }
                Step::Part(p) => {
                    let key = keys[&p];
                    if let Some(range) = scene.take(key) {
                        let (first, last) = (range.blocks().start, range.blocks().end);
                        let middle = first + (last - first) / 2;
                        if let Some(rest) = scene.geometry.run(range.piece(), middle..last) {
                            scene.swarm.on_returned(now, key, rest);
                        }
                        if let Some(front) = scene.geometry.run(range.piece(), first..middle) {
                            scene.deliver_range(key, front, good(blocks));
                        }
                    }
                }
                Step::Return(p) => { let key = keys[&p]; scene.give_back(key); }
                Step::Snub(p) => scene.swarm.on_snubbed(now, keys[&p]),
                Step::Choke(p) => scene.swarm.on_choked(now, keys[&p]),
                Step::Unchoke(p) => scene.swarm.on_unchoked(now, keys[&p]),
                Step::Leave(p) => {
                    let key = keys[&p];
                    scene.leave(key);
                    if let Ok(key) = scene.swarm.on_connected(now, Scene::info(p)) {
                        keys.insert(p, key);
                    }
                }
                Step::Have(p, n) => { let piece = scene.piece(n); scene.swarm.on_have(now, keys[&p], piece); }
                Step::DontHave(p, n) => { let piece = scene.piece(n); scene.swarm.on_dont_have(now, keys[&p], piece); }
                Step::Lose(n) => { let piece = scene.piece(n); scene.swarm.on_lost(now, &[piece]); }
                Step::Find(n) => { let piece = scene.piece(n); scene.swarm.on_found(now, &[piece]); }
                Step::Pause(on) => scene.swarm.set_paused(now, on),
                Step::Wait(millis) => scene.after(millis),
            }
            scene.drain();
        }
    }
}
