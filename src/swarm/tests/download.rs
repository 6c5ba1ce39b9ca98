//! What is asked of whom, what becomes of it, and who is blamed.

use std::collections::BTreeSet;

use super::*;

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
fn a_peer_left_hungry_at_completion_is_asked_for_what_is_lost_later() {
    let mut scene = Scene::new(2, 1, |config, start| {
        *start = Start::complete(&config.geometry);
    });
    let key = scene.connect(1);
    let piece = scene.piece(0);
    scene.swarm.on_have(scene.now, key, piece);
    scene.swarm.on_unchoked(scene.now, key);
    scene.hungry(key, 4);
    assert!(!scene.granted.contains_key(&key));
    scene.swarm.on_lost(scene.now, &[piece]);
    scene.drain();
    assert_eq!(scene.granted[&key][0].piece(), piece);
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
fn a_seed_that_loses_pieces_and_gains_them_again_counts_as_it_says() {
    let mut scene = Scene::new(8, 1, |_, _| {});
    let key = scene.seed(1);
    let pieces: Vec<_> = scene.geometry.all_pieces().collect();
    for _ in 0..3 {
        for &piece in &pieces {
            scene.swarm.on_dont_have(scene.now, key, piece);
            scene.swarm.on_dont_have(scene.now, key, piece);
            assert_eq!(scene.swarm.copies(piece), 0);
        }
        scene.drain();
        assert!(scene.actions.contains(&Action::Interest { key, on: false }));
        for &piece in &pieces {
            scene.swarm.on_have(scene.now, key, piece);
            assert_eq!(scene.swarm.copies(piece), 1);
        }
        scene.drain();
    }
    scene.hungry(key, 100);
    assert_eq!(scene.granted[&key].len(), 8);
    scene.leave(key);
    assert!(pieces.iter().all(|&piece| scene.swarm.copies(piece) == 0));
}

#[test]
fn losing_and_gaining_a_piece_in_turns_costs_the_same_however_many_pieces_there_are() {
    // Were the cost in the number of pieces, this would take hours.
    let geometry = Geometry::new(2_000_000 * 16_384, 16_384).unwrap();
    let mut scene = Scene::new(1, 1, |config, start| {
        config.geometry = geometry;
        *start = Start::empty(&geometry);
    });
    let (key, now) = (scene.connect(1), scene.now);
    scene
        .swarm
        .on_pieces(now, key, Bitfield::full(geometry.pieces()));
    let piece = geometry.piece(1_234_567).unwrap();
    for _ in 0..1_000_000 {
        scene.swarm.on_dont_have(now, key, piece);
        scene.swarm.on_have(now, key, piece);
    }
    assert_eq!(scene.swarm.copies(piece), 1);
    let other = scene.swarm.on_connected(now, Scene::info(2)).unwrap();
    for _ in 0..1_000_000 {
        scene.swarm.on_have(now, other, piece);
        scene.swarm.on_dont_have(now, other, piece);
    }
    assert_eq!(scene.swarm.copies(piece), 1);
}

/// 640 pieces in extents of 64, so many verified that rarity counts, and who is there.
fn extents(seeds: u8, leechers: u8) -> (Scene, PeerKey) {
    let mut scene = Scene::new(640, 1, |config, start| {
        let some = config.geometry.all_pieces().take(10);
        start.verified.extend(some);
        start.durable = start.verified.clone();
    });
    for n in 0..leechers {
        scene.leech(100 + n);
    }
    let keys: Vec<_> = (0..seeds).map(|n| scene.seed(n)).collect();
    (scene, keys[0])
}

/// Grants that are of the piece right after that of the one before.
fn neighbours(scene: &Scene, key: PeerKey) -> usize {
    let granted = &scene.granted[&key];
    let pairs = granted.iter().zip(&granted[1..]);
    let follow =
        |(one, next): &(&BlockRange, &BlockRange)| one.piece().get() + 1 == next.piece().get();
    pairs.filter(follow).count()
}

#[test]
fn where_seeds_abound_neighbours_are_fetched_together() {
    let (mut scene, key) = extents(4, 1);
    scene.hungry(key, 200);
    assert_eq!(scene.granted[&key].len(), 200);
    assert!(neighbours(&scene, key) > 190);
}

#[test]
fn among_leechers_ties_are_broken_at_random() {
    let (mut scene, key) = extents(4, 2);
    scene.hungry(key, 200);
    assert_eq!(scene.granted[&key].len(), 200);
    assert!(neighbours(&scene, key) < 20);
}

#[test]
fn an_extent_goes_on_where_the_allowance_stopped_it() {
    let (mut scene, key) = extents(1, 0);
    scene
        .swarm
        .set_allowance(scene.now, 5 * u64::from(BLOCK_LEN));
    scene.hungry(key, 50);
    assert_eq!(scene.granted[&key].len(), 5);
    scene
        .swarm
        .set_allowance(scene.now, 50 * u64::from(BLOCK_LEN));
    scene.drain();
    assert_eq!(scene.granted[&key].len(), 50);
    assert_eq!(neighbours(&scene, key), 49);
}
