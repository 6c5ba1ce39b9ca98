//! `seed`, `get` and `demo`: processes that run, and what they say while they do.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Ended, Running, World, bytes, event};

fn seed(world: &World, path: &str, state: &str) -> Running {
    let args = [
        "seed",
        path,
        "--tcp-listen",
        "127.0.0.1:0",
        "--dht-listen",
        "",
        "--state",
        state,
    ];
    Running::start(world.command(&args))
}

fn listening(running: &mut Running) -> SocketAddr {
    running.wait_for("listening")["tcp"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_payload_is_shared_and_fetched_and_every_line_is_an_event() {
    let world = World::new();
    let payload = bytes(3_000_000, 1);
    world.file("a/film.mp4", &payload);
    let mut seeder = seed(&world, "a/film.mp4", "s1");
    let addr = listening(&mut seeder).to_string();
    assert!(world.path("a/film.mp4.bit").is_file());
    let args = [
        "get",
        "a/film.mp4.bit",
        "--dest",
        "d",
        "--peer",
        &addr,
        "--tcp-listen",
        "127.0.0.1:0",
        "--dht-listen",
        "",
        "--state",
        "s2",
    ];
    let ended = world.run(&args);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert_eq!(fs::read(world.path("d/film.mp4")).unwrap(), payload);
    let events: Vec<_> = ended.stdout.lines().map(event).collect();
    assert_eq!(events[0]["event"], "listening");
    let complete = events
        .iter()
        .find(|event| event["event"] == "complete")
        .unwrap();
    assert_eq!(complete["bytes"], 3_000_000);
    let listed = world
        .run(&["state", "list", "--json", "--state", "s2"])
        .json();
    assert_eq!(listed[0]["name"], "film.mp4");
    assert_eq!(listed[0]["durable"], listed[0]["pieces"]);
    let hash = listed[0]["info_hash"].as_str().unwrap();
    assert_eq!(
        world.run(&["show", "--json", hash, "--state", "s2"]).json()["name"],
        "film.mp4"
    );
    world.ok(&["verify", hash, "--state", "s2"]);
    world.ok(&["state", "check", "--state", "s2"]);
    world.ok(&["state", "forget", hash, "--state", "s2"]);
    assert_eq!(
        world
            .run(&["state", "list", "--json", "--state", "s2"])
            .json(),
        serde_json::json!([])
    );
    assert!(
        world.path("d/film.mp4").exists(),
        "forgetting took the payload"
    );
    seeder.signal(Signal::INT);
    assert_eq!(seeder.end(), 0);
}

#[test]
fn a_download_that_is_stopped_says_so_with_7() {
    let world = World::new();
    world.file("p", &bytes(300_000, 2));
    world.ok(&["create", "p"]);
    fs::create_dir(world.path("d")).unwrap();
    for asked in [Signal::INT, Signal::TERM] {
        let args = [
            "get",
            "p.bit",
            "--dest",
            "d",
            "--tcp-listen",
            "127.0.0.1:0",
            "--dht-listen",
            "",
            "--state",
            "s",
        ];
        let mut getter = Running::start(world.command(&args));
        getter.wait_for("resume");
        let since = Instant::now();
        getter.signal(asked);
        assert_eq!(getter.end(), 7);
        assert!(
            since.elapsed() < Duration::from_secs(5),
            "{:?}",
            since.elapsed()
        );
    }
}

#[test]
fn a_taken_port_is_an_error_only_if_it_was_asked_for() {
    let world = World::new();
    world.file("p", b"payload");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let args = [
        "seed",
        "p",
        "--tcp-listen",
        &addr,
        "--dht-listen",
        "",
        "--state",
        "s",
    ];
    world.run(&args).refused(1, &addr);
    // If another program has it already, so much the better.
    let _usual = TcpListener::bind("0.0.0.0:6881");
    let mut seeder = Running::start(world.command(&["seed", "p", "--state", "s"]));
    let port = listening(&mut seeder).port();
    assert!(port != 0 && port != 6881, "{port}");
}

#[test]
fn a_second_process_on_the_same_state_is_refused_with_path_and_pid() {
    let world = World::new();
    world.file("p", b"payload");
    let mut seeder = seed(&world, "p", "s");
    listening(&mut seeder);
    let pid = seeder.pid().to_string();
    let args = [
        "seed",
        "p",
        "--tcp-listen",
        "127.0.0.1:0",
        "--dht-listen",
        "",
        "--state",
        "s",
    ];
    let ended = world.run(&args);
    ended.refused(15, &pid);
    assert!(
        ended.stderr.contains(world.path("s").to_str().unwrap()),
        "{}",
        ended.stderr
    );
    world.refused(&["state", "list", "--state", "s"], 15, &pid);
}

#[test]
fn the_demo_holds_what_it_promises() {
    let world = World::new();
    let mut command = world.command(&["demo", "--size", "16MiB", "--random", "7", "--log", "json"]);
    fs::create_dir(world.path("tmp")).unwrap();
    let ended = Ended::of(command.env("TMPDIR", world.path("tmp")).output().unwrap());
    assert_eq!(ended.code, 0, "{}{}", ended.stdout, ended.stderr);
    let report = ended.json();
    assert_eq!(report["held"], true);
    assert!(report["report"]["warm"].as_u64().unwrap() > 0);
    assert_eq!(report["report"]["size"], 16 << 20);
    let left = fs::read_dir(world.path("tmp")).unwrap().count();
    assert_eq!(left, 0, "the demo left files behind");
}
