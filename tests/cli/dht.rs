//! `dht` and `dht lookup`: a node alone, and the peers that the DHT knows.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Ended, Running, World, bytes, event};

const UNKNOWN: &str = "0123456789abcdef0123456789abcdef01234567";

/// A node on a free port; its address.
fn node(world: &World, state: &str, bootstrap: &str) -> (Running, SocketAddr) {
    let args = [
        "dht",
        "--dht-listen",
        "127.0.0.1:0",
        "--bootstrap",
        bootstrap,
        "--state",
        state,
    ];
    let mut running = Running::start(world.command(&args));
    let listening = running.wait_for("listening");
    assert!(listening["tcp"].is_null(), "{listening}");
    let addr = listening["udp"].as_str().unwrap().parse().unwrap();
    (running, addr)
}

/// A seeder of a small file that the node at `bootstrap` knows of; its info-hash and where it takes connections.
fn seeder(world: &World, bootstrap: SocketAddr) -> (Running, String, String) {
    world.file("shared", &bytes(100_000, 1));
    let hash = world.ok(&["create", "shared"]);
    let bootstrap = bootstrap.to_string();
    let args = [
        "seed",
        "shared.bit",
        "--tcp-listen",
        "127.0.0.1:0",
        "--dht-listen",
        "127.0.0.1:0",
        "--bootstrap",
        &bootstrap,
        "--state",
        "seeder",
    ];
    let mut running = Running::start(world.command(&args));
    let listening = running.wait_for("listening");
    running.announced();
    let hash = hash.lines().last().unwrap().to_owned();
    (running, hash, listening["tcp"].as_str().unwrap().to_owned())
}

fn lookup(world: &World, hash: &str, more: &[&str]) -> Ended {
    let args = ["dht", "lookup", hash, "--dht-listen", "127.0.0.1:0"];
    world.run(&[&args, more].concat())
}

#[test]
fn a_node_runs_until_it_is_stopped() {
    let world = World::new();
    let (running, _) = node(&world, "n", "");
    running.signal(Signal::INT);
    assert_eq!(running.end(), 0);
}

#[test]
fn the_original_flags_without_a_mode_are_a_node() {
    let world = World::new();
    let args = ["-dht-listen", "127.0.0.1:0", "-tcp-listen", "127.0.0.1:0"];
    let mut running = Running::start(world.command(&args));
    let listening = running.wait_for("listening");
    for transport in ["tcp", "udp"] {
        let addr: SocketAddr = listening[transport].as_str().unwrap().parse().unwrap();
        assert!(addr.ip().is_loopback() && addr.port() > 0, "{listening}");
    }
    let state = listening["state"].as_str().unwrap();
    assert!(state.ends_with("/seedbank/default"), "{state}");
    running.signal(Signal::TERM);
    assert_eq!(running.end(), 0);
}

#[test]
fn without_a_host_it_listens_to_every_interface() {
    let world = World::new();
    let args = [
        "dht",
        "--dht-listen",
        ":0",
        "--tcp-listen",
        ":0",
        "--state",
        "s",
    ];
    let mut running = Running::start(world.command(&args));
    let listening = running.wait_for("listening");
    for transport in ["tcp", "udp"] {
        let addr: SocketAddr = listening[transport].as_str().unwrap().parse().unwrap();
        assert!(addr.ip().is_unspecified(), "{listening}");
    }
}

#[test]
fn a_taken_dht_port_is_an_error_only_if_it_was_asked_for() {
    let world = World::new();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let args = ["dht", "--dht-listen", &addr, "--state", "s"];
    world.run(&args).refused(1, "--dht-listen");
    // If another program has it already, so much the better.
    let _usual = UdpSocket::bind("0.0.0.0:6881");
    let mut running = Running::start(world.command(&["dht", "--state", "s"]));
    let listening = running.wait_for("listening");
    let addr: SocketAddr = listening["udp"].as_str().unwrap().parse().unwrap();
    assert!(addr.port() != 0 && addr.port() != 6881, "{addr}");
}

#[test]
fn a_lookup_prints_who_announced_the_torrent() {
    let world = World::new();
    let (_node, addr) = node(&world, "n", "");
    let (_seeder, hash, peer) = seeder(&world, addr);
    let bootstrap = addr.to_string();
    let more = ["--bootstrap", &bootstrap, "--state", "l"];
    let ended = lookup(&world, &hash, &more);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let events = ended.stdout.lines().map(event);
    let found: Vec<_> = events.filter(|event| event["event"] == "peer").collect();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["peer"], peer.as_str());
    assert_eq!(found[0]["info_hash"], hash.as_str());

    // Again with what the first one left behind, for people.
    let ended = lookup(&world, &hash, &["--log", "human", "--state", "l"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(ended.stdout, format!("{peer}\n"));

    // Beside a process that uses the same state folder.
    let more = ["--log", "human", "--bootstrap", &bootstrap, "--state", "n"];
    let ended = lookup(&world, &hash, &more);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(ended.stdout, format!("{peer}\n"));
}

#[test]
fn a_torrent_that_nobody_announced_is_not_found() {
    let world = World::new();
    let (_node, addr) = node(&world, "n", "");
    let bootstrap = addr.to_string();
    let ended = lookup(
        &world,
        UNKNOWN,
        &["--bootstrap", &bootstrap, "--state", "l"],
    );
    assert_eq!(ended.code, 3, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains(UNKNOWN), "{}", ended.stderr);
    assert!(!ended.stdout.contains(r#""event":"peer""#));
}

#[test]
fn a_lookup_that_reaches_nobody_ends_in_time() {
    let world = World::new();
    let since = Instant::now();
    let more = ["--timeout", "1", "--state", "l", "--log", "human"];
    let ended = lookup(&world, UNKNOWN, &more);
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""));
    assert!(ended.stderr.contains("--bootstrap"), "{}", ended.stderr);
    assert!(since.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_lookup_that_is_stopped_says_so_with_7() {
    let world = World::new();
    let args = [
        "dht",
        "lookup",
        UNKNOWN,
        "--dht-listen",
        "127.0.0.1:0",
        "--state",
        "l",
    ];
    let mut running = Running::start(world.command(&args));
    running.wait_for("listening");
    running.signal(Signal::INT);
    assert_eq!(running.end(), 7);
}
