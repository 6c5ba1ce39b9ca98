//! Anything may happen in any order, and the invariants hold.

use proptest::prelude::*;

use super::*;

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
