//! Who is dialled, let in, let go and served.

use super::*;

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

#[test]
fn without_a_place_nobody_is_dialled_for_a_while_and_no_address_is_blamed() {
    let mut scene = Scene::new(4, 1, |_, _| {});
    let addrs: Vec<SocketAddr> = (1..=40).map(|n| ([10, 0, 1, n], 6881).into()).collect();
    scene.swarm.on_addresses(scene.now, Source::Tracker, &addrs);
    let mut dials = 0;
    for _ in 0..6 {
        dials += refuse_places(&mut scene);
        let next = scene
            .swarm
            .next_deadline()
            .expect("somebody is to be dialled");
        assert!(next >= scene.now + Duration::from_secs(9), "not at once");
        scene.after(1_000);
        assert_eq!(refuse_places(&mut scene), 0);
        scene.after(9_000);
    }
    assert!(dials >= 6, "{dials}");
    assert!(scene.swarm.addresses().all(|known| known.failures == 0));
}

/// Answers every dial with "no place"; says how many there were.
fn refuse_places(scene: &mut Scene) -> usize {
    scene.drain();
    let actions = std::mem::take(&mut scene.actions);
    let mut count = 0;
    for action in actions {
        if let Action::Dial(addr) = action {
            scene.swarm.on_dial_postponed(scene.now, addr);
            count += 1;
        }
    }
    count
}

#[test]
fn a_seed_does_not_dial_again_whom_it_owes_nothing() {
    let mut scene = Scene::new(4, 1, |config, start| {
        *start = Start::complete(&config.geometry);
    });
    let addr = Scene::info(1).addr;
    scene.swarm.on_addresses(scene.now, Source::User, &[addr]);
    let key = scene.connect(1);
    scene.swarm.on_upload_only(scene.now, key, true);
    scene.leave(key);
    let minutes = scene.now + Duration::from_secs(600);
    let dialled = |scene: &Scene| scene.actions.contains(&Action::Dial(addr));
    scene.actions.clear();
    while scene.now < minutes {
        scene.after(5_000);
        assert!(!dialled(&scene));
    }
}
