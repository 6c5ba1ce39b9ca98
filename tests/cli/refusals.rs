//! Bad input of every kind: one line, the right status, nothing lost.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use crate::support::{Ended, World, is_empty};

const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

#[test]
fn sources_that_are_no_torrents_are_refused_by_every_command() {
    let world = World::new();
    for (name, content) in [
        ("noise", &b"\x89PNG"[..]),
        ("empty.torrent", b""),
        ("cut.torrent", b"d8:announce"),
        ("deep.torrent", &[b'l'; 100_000]),
        ("cut.bit", b"{\"bit\": 1"),
        ("terminal.bit", b"{\"\x1b[2J\": 1}"),
    ] {
        world.file(name, content);
        for command in ["show", "magnet", "verify"] {
            world.refused(&[command, name], 1, name);
        }
        let ended = world.run(&["get", name, "--state", "s"]);
        ended.refused(1, name);
        assert!(!ended.stderr.contains('\x1b'));
    }
    world.refused(&["show", "none.torrent"], 3, "none.torrent");
    world.refused(&["show", "."], 15, "folder");
    assert!(is_empty(&world.path("s")), "a refused command wrote state");
}

#[test]
fn usage_errors_end_with_28() {
    let world = World::new();
    for line in [
        &["--bogus"][..],
        &["bogus"],
        &["get"],
        &["seed"],
        &["get", "x", "--max-up", "fast"],
        &["get", "x", "--keep", "a while"],
        &["get", "x", "--tcp-listen", "6881"],
        &["get", "x", "--peer", ":1,nonsense"],
        &["get", "x", "--io", "magic"],
        &["state", "forget", "xyz"],
        &[],
    ] {
        let ended = world.run(line);
        assert_eq!(ended.code, 28, "{line:?}: {}", ended.stderr);
        assert!(
            ended.stdout.is_empty() && !ended.stderr.is_empty(),
            "{line:?}"
        );
    }
}

#[test]
fn help_and_version_are_results() {
    let world = World::new();
    assert!(world.ok(&["--version"]).starts_with("seedbank "));
    assert!(world.ok(&["--help"]).contains("Examples:"));
    for command in [
        "get", "seed", "create", "show", "magnet", "verify", "state", "dht", "demo",
    ] {
        assert!(
            world.ok(&[command, "--help"]).contains("Usage: seedbank"),
            "{command}"
        );
    }
}

#[test]
fn what_names_no_torrent_is_refused() {
    let world = World::new();
    for command in ["show", "get", "magnet", "verify"] {
        world.refused(&[command, "magnet:?xt=nonsense"], 28, "magnet");
        let malformed = "magnet:?xt=urn:btih:0123";
        world.refused(&[command, malformed], 28, "malformed");
    }
    let second_version = format!("magnet:?xt=urn:btmh:1220{}", "ab".repeat(32));
    for command in ["show", "get", "verify"] {
        world.refused(&[command, &second_version, "--state", "s"], 1, "v2-only");
    }
    assert!(is_empty(&world.path("s")), "a refused command wrote state");
}

#[test]
fn a_dht_node_needs_an_address_and_nodes_that_can_be_called() {
    let world = World::new();
    world.refused(&["dht", "--dht-listen", ""], 28, "--dht-listen");
    world.refused(
        &["-dht-listen", "", "-tcp-listen", ":0"],
        28,
        "--dht-listen",
    );
    world.refused(
        &["dht", "lookup", HASH, "--dht-listen", ""],
        28,
        "--dht-listen",
    );
    world.refused(&["dht", "--bootstrap", ":0"], 28, "port 0");
    world.refused(&["get", HASH, "--bootstrap", "h:0"], 28, "port 0");
    for line in [
        &["dht", "--bootstrap", "nonsense"][..],
        &["dht", "--bootstrap", "h:1,nonsense"],
        &["dht", "--dht-listen", "6881"],
        &["dht", "lookup"],
        &["dht", "lookup", "0123"],
        &["dht", "lookup", HASH, "--timeout", "0"],
        &["dht", "look-up", HASH],
        &["show", HASH, "--timeout", "soon"],
    ] {
        let ended = world.run(line);
        assert_eq!(ended.code, 28, "{line:?}: {}", ended.stderr);
        assert!(
            ended.stdout.is_empty() && !ended.stderr.is_empty(),
            "{line:?}"
        );
    }
}

#[test]
fn a_seed_needs_a_payload_that_its_metainfo_describes() {
    let world = World::new();
    world.refused(&["seed", "none"], 3, "none");
    world.file("p", b"payload");
    world.ok(&["create", "p"]);
    world.file("p", b"another payload");
    world.refused(&["seed", "p"], 13, "p.bit");
    world.file("q", b"payload");
    world.file("q.bit", b"my diary");
    world.refused(&["seed", "q"], 1, "q.bit");
}

#[test]
fn a_peer_on_port_zero_or_at_no_host_is_refused() {
    let world = World::new();
    world.file("p", b"x");
    world.ok(&["create", "p"]);
    world.refused(&["get", "p.bit", "--peer", ":0"], 28, "port 0");
    world.refused(
        &["get", "p.bit", "--peer", "no-such-host.invalid:1"],
        3,
        "no-such-host.invalid",
    );
}

/// Answers one request with `answer` and returns the address to ask at.
fn serve(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            request.push(byte[0]);
        }
        // A client that has seen enough hangs up.
        let _ = stream.write_all(&answer);
    });
    format!("http://{address}/x.torrent")
}

fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

#[test]
fn metainfo_comes_from_a_web_server_too() {
    let world = World::new();
    world.file("p", b"x");
    let hash = world
        .ok(&["create", "p"])
        .lines()
        .last()
        .unwrap()
        .to_owned();
    let torrent = std::fs::read(world.path("p.torrent")).unwrap();
    let url = serve(answer("200 OK", &torrent));
    assert_eq!(
        world.run(&["show", "--json", &url]).json()["info_hash"],
        hash
    );
}

#[test]
fn a_web_server_is_not_trusted() {
    let world = World::new();
    let url = serve(answer("404 Not Found", b""));
    world.refused(&["show", &url], 3, &url);
    let url = serve(answer("200 OK", b"<html>"));
    world.refused(&["show", &url], 1, &url);
    let endless = [
        b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
        vec![b'd'; (64 << 20) + 1],
    ]
    .concat();
    let url = serve(endless);
    world.refused(&["show", &url], 1, "64 MiB");
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{closed}/");
    let ended = Ended::of(world.command(&["show", &url]).output().unwrap());
    ended.refused(1, &url);
}
