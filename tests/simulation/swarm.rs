//! What a swarm of our own clients does as a whole.

use std::net::SocketAddr;
use std::time::Duration;

use seedbank::base::{BLOCK_LEN, Geometry};

use crate::world::{Node, World};

const MB: u64 = 1_000_000;

fn world(pieces: u32, blocks: u32, seed: u64) -> World {
    println!("seed {seed}");
    let len = blocks * BLOCK_LEN;
    // The last piece is shorter by a block and a bit.
    let total =
        u64::from(pieces) * u64::from(len) - u64::from(BLOCK_LEN + 1_234).min(u64::from(len) - 1);
    World::new(Geometry::new(total, len).unwrap(), seed)
}

fn all_complete(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| node.swarm.is_complete())
}

/// Lets everyone find the others and runs to the end; checks that all completed and prints how it went.
fn run(world: &mut World, what: &str, limit: u64) -> Duration {
    for n in 0..world.nodes.len() {
        world.announce(n);
    }
    let took = world.run(Duration::from_secs(limit), all_complete);
    let mut times: Vec<_> = world
        .nodes
        .iter()
        .filter_map(|node| node.completed)
        .collect();
    times.sort_unstable();
    let downloaded: u64 = world.nodes.iter().map(|node| node.downloaded).sum();
    let wasted: u64 = world.nodes.iter().map(|node| node.wasted).sum();
    println!(
        "{what}: {} completed, first {:.1} s, median {:.1} s, last {:.1} s; wasted {:.2} % of {} MB",
        times.len(),
        times[0].as_secs_f64(),
        times[times.len() / 2].as_secs_f64(),
        times[times.len() - 1].as_secs_f64(),
        wasted as f64 * 100.0 / downloaded as f64,
        downloaded / MB,
    );
    let missing = world.nodes.iter().filter(|node| !node.swarm.is_complete());
    assert_eq!(missing.count(), 0, "all complete within {limit} s");
    took
}

fn wasted_share(world: &World) -> f64 {
    let downloaded: u64 = world.nodes.iter().map(|node| node.downloaded).sum();
    let wasted: u64 = world.nodes.iter().map(|node| node.wasted).sum();
    wasted as f64 / downloaded as f64
}

#[test]
fn thirty_leechers_share_what_one_seed_gives() {
    for seed in [1, 2, 3] {
        let mut world = world(160, 16, seed);
        world.add(true, 2 * MB, None);
        for _ in 0..30 {
            world.add(false, MB, None);
        }
        let total = world.geometry.total();
        let took = run(&mut world, "1 seed, 30 leechers", 600);
        // Everyone's upload together could do it in this time, if nobody ever waited.
        let ideal = 30 * total / (2 * MB + 30 * MB);
        assert!(took.as_secs() < 2 * ideal + 10, "{took:?}, ideal {ideal} s");
        assert!(wasted_share(&world) < 0.015);
    }
}

#[test]
fn large_pieces_are_shared_between_slow_peers() {
    let mut world = world(64, 256, 4);
    world.add(true, MB, None);
    for _ in 0..10 {
        world.add(false, MB / 2, None);
    }
    let took = run(&mut world, "4 MiB pieces", 900);
    let ideal = 10 * world.geometry.total() / (MB + 10 * MB / 2);
    assert!(took.as_secs() < ideal * 5 / 4, "{took:?}, ideal {ideal} s");
    assert!(wasted_share(&world) < 0.02);
}

#[test]
fn a_peer_that_never_delivers_does_not_hold_up_the_end() {
    let mut world = world(64, 16, 11);
    world.add(true, 2 * MB, None);
    world.add(true, 100, None);
    world.add(false, MB, None);
    let took = run(&mut world, "a seed that stalls", 200);
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let runs = [12, 12, 13].map(|seed| {
        let mut world = world(30, 16, seed);
        world.add(true, 2 * MB, None);
        for _ in 0..8 {
            world.add(false, MB, None);
        }
        run(&mut world, "repeated", 200)
    });
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}

#[test]
fn one_slow_peer_does_not_hold_up_the_end() {
    let mut world = world(64, 16, 5);
    world.add(true, 2 * MB, None);
    world.add(true, 20_000, None);
    world.add(false, MB, None);
    let took = run(&mut world, "a slow seed beside a fast one", 200);
    assert!(took < Duration::from_secs(13), "{took:?}");
    assert!(wasted_share(&world) < 0.02);
}

#[test]
fn a_liar_is_banned_by_all_it_lied_to_and_nobody_else_is() {
    for (seed, blocks) in [(6, 16), (7, 16), (8, 128)] {
        let mut world = world(2_560 / blocks, blocks, seed);
        world.add(true, 2 * MB, None);
        let liar = world.add(true, 2 * MB, Some(100));
        for _ in 0..15 {
            world.add(false, MB, None);
        }
        run(&mut world, "a liar: 1 block in 100", 900);
        let liar: SocketAddr = world.nodes[liar].addr;
        let mut banning = 0;
        for node in &world.nodes {
            assert!(
                node.banned.iter().all(|&addr| addr == liar),
                "{:?}",
                node.banned
            );
            banning += usize::from(!node.banned.is_empty());
        }
        let deceived = world
            .nodes
            .iter()
            .filter(|node| node.bad_blocks > 0)
            .count();
        println!("deceived {deceived}, banning {banning}");
        assert!(deceived > 0 && banning >= deceived.saturating_sub(2));
    }
}

#[test]
fn a_swarm_with_peers_that_come_and_go_completes() {
    for seed in [9, 10] {
        let mut world = world(120, 16, seed);
        world.add(true, 2 * MB, None);
        for n in 1..=20 {
            world.add(false, MB, None);
            for _ in 0..world.dice.below(3) {
                let at = Duration::from_millis(2_000 + world.dice.below(30_000));
                let away = Duration::from_millis(500 + world.dice.below(15_000));
                world.plan_absence(n, at, away);
            }
        }
        run(&mut world, "churn", 600);
        assert!(wasted_share(&world) < 0.02);
    }
}
