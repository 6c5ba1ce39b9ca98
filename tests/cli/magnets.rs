//! Magnet links and bare info-hashes: `get`, `show` and `verify` fetch the metadata from peers.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Ended, Running, World, bytes, event};

const UNKNOWN: &str = "0123456789abcdef0123456789abcdef01234567";
/// No DHT, and a port of its own.
const APART: [&str; 4] = ["--tcp-listen", "127.0.0.1:0", "--dht-listen", ""];

/// A world with the folder `f` of two files, seeded from the state folder `seeder`.
struct Shared {
    world: World,
    seeder: Running,
    hash: String,
    /// Where the seeder takes connections.
    peer: String,
}

impl Shared {
    fn new(more: &[&str]) -> Self {
        let world = World::new();
        world.file("f/one", &bytes(300_000, 1));
        world.file("f/two", &bytes(50_000, 2));
        let made = world.ok(&["create", "f", "--piece-length", "16KiB"]);
        let hash = made.lines().last().unwrap().to_owned();
        let args = ["seed", "f.torrent", "--state", "seeder"];
        let network = if more.is_empty() { &APART } else { more };
        let args = [&args[..], network].concat();
        let mut seeder = Running::start(world.command(&args));
        let listening = seeder.wait_for("listening");
        seeder.wait_for("resume");
        let peer = listening["tcp"].as_str().unwrap().to_owned();
        // Nobody shall find it but by asking.
        fs::remove_file(world.path("f.torrent")).unwrap();
        fs::remove_file(world.path("f.bit")).unwrap();
        Self {
            world,
            seeder,
            hash,
            peer,
        }
    }

    fn magnet(&self, hints: &str) -> String {
        format!("magnet:?xt=urn:btih:{}&dn=of+no+matter{hints}", self.hash)
    }

    fn run(&self, args: &[&str]) -> Ended {
        self.world.run(&[args, &APART].concat())
    }

    fn assert_fetched(&self, dest: &str) {
        for name in ["one", "two"] {
            let wanted = fs::read(self.world.path(&format!("f/{name}"))).unwrap();
            let found = fs::read(self.world.path(&format!("{dest}/f/{name}"))).unwrap();
            assert!(wanted == found, "{name} differs");
        }
    }
}

fn events(ended: &Ended) -> Vec<Value> {
    ended.stdout.lines().map(event).collect()
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events
        .iter()
        .filter(|event| event["event"] == name)
        .collect()
}

#[test]
fn a_link_with_a_peer_is_all_that_a_download_takes() {
    let shared = Shared::new(&[]);
    let hint = format!("&x.pe={}&x.pe=no-such-host.invalid:1&so=0", shared.peer);
    let magnet = shared.magnet(&hint);
    let args = [
        "get",
        &magnet,
        "--dest",
        "d",
        "--state",
        "s",
        "--save-metainfo",
    ];
    let ended = shared.run(&args);
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (0, ""),
        "{}",
        ended.stdout
    );
    shared.assert_fetched("d");

    let told = events(&ended);
    let metadata = named(&told, "metadata");
    assert_eq!(metadata.len(), 1);
    assert_eq!(metadata[0]["info_hash"], shared.hash.as_str());
    assert_eq!(metadata[0]["name"], "f");
    assert_eq!(metadata[0]["length"], 350_000);
    assert_eq!(metadata[0]["pieces"], 22);
    let files = json!([{"path": "f/one", "length": 300_000}, {"path": "f/two", "length": 50_000}]);
    assert_eq!(metadata[0]["files"], files);
    let place = |name: &str| {
        told.iter()
            .position(|event| event["event"] == name)
            .unwrap()
    };
    assert!(place("metadata") < place("resume"), "told too late");
    let warned = |kind: &str| {
        let warnings = named(&told, "warning");
        warnings.iter().any(|warning| warning["kind"] == kind)
    };
    assert!(
        warned("peer"),
        "a peer without an address is worth a warning"
    );
    assert!(warned("select"), "what is not done is said");

    for name in ["d/f.torrent", "d/f.bit"] {
        let shown = shared.run(&["show", "--json", name]).json();
        assert_eq!(shown["info_hash"], shared.hash.as_str());
    }
}

#[test]
fn metadata_that_was_fetched_once_is_kept() {
    let shared = Shared::new(&[]);
    let magnet = shared.magnet(&format!("&x.pe={}", shared.peer));
    let first = shared.run(&["get", &magnet, "--dest", "d", "--state", "s"]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    // With nobody left to ask.
    shared.seeder.signal(Signal::INT);
    let world = shared.world;
    assert_eq!(shared.seeder.end(), 0);
    for source in [magnet.as_str(), &shared.hash] {
        let args = ["get", source, "--state", "s"];
        let again = world.run(&[&args[..], &APART].concat());
        assert_eq!(again.code, 0, "{}", again.stderr);
        let told = events(&again);
        assert!(named(&told, "metadata").is_empty(), "it was fetched again");
        assert_eq!(named(&told, "complete")[0]["downloaded"], 0);
    }
    let shown = world.run(&["show", "--json", &shared.hash, "--state", "s"]);
    assert_eq!(shown.json()["name"], "f");
}

#[test]
fn an_info_hash_and_the_dht_are_enough() {
    let world = World::new();
    let args = ["dht", "--dht-listen", "127.0.0.1:0", "--state", "n"];
    let mut node = Running::start(world.command(&args));
    let listening = node.wait_for("listening");
    let bootstrap = listening["udp"].as_str().unwrap();
    let in_dht = [
        "--tcp-listen",
        "127.0.0.1:0",
        "--dht-listen",
        "127.0.0.1:0",
        "--bootstrap",
        bootstrap,
    ];
    let mut shared = Shared::new(&in_dht);
    shared.seeder.announced();
    let args = ["get", &shared.hash, "--dest", "d", "--state", "s"];
    let ended = shared.world.run(&[&args, &in_dht[..]].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    shared.assert_fetched("d");
}

#[test]
fn a_link_and_a_file_are_fetched_side_by_side() {
    let shared = Shared::new(&[]);
    let world = &shared.world;
    world.file("other/p", &bytes(40_000, 3));
    world.ok(&["create", "other/p"]);
    let args = ["seed", "other/p", "--state", "other-seeder"];
    let mut other = Running::start(world.command(&[&args, &APART[..]].concat()));
    let other_peer = other.wait_for("listening")["tcp"]
        .as_str()
        .unwrap()
        .to_owned();
    let peers = format!("{},{other_peer}", shared.peer);
    let missing = shared.magnet("");
    let args = [
        "get",
        &missing,
        "other/p.torrent",
        &missing,
        "--peer",
        &peers,
        "--dest",
        "d",
        "--state",
        "s",
    ];
    let ended = shared.run(&args);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    shared.assert_fetched("d");
    assert!(world.path("d/p").is_file());
    let told = events(&ended);
    assert_eq!(named(&told, "complete").len(), 2);
    let warnings = named(&told, "warning");
    assert!(
        warnings
            .iter()
            .any(|warning| warning["kind"] == "duplicate")
    );
}

#[test]
fn a_link_and_the_file_of_one_torrent_help_each_other_in_any_order() {
    let shared = Shared::new(&[]);
    let world = &shared.world;
    world.ok(&[
        "create",
        "f",
        "-o",
        "kept.torrent",
        "--piece-length",
        "16KiB",
    ]);
    // The file alone leads to the metadata without a peer, and the link alone to the peer.
    let magnet = shared.magnet(&format!("&x.pe={}", shared.peer));
    for (sources, dest) in [
        ([magnet.as_str(), "kept.torrent"], "d1"),
        (["kept.torrent", magnet.as_str()], "d2"),
    ] {
        let args = [&["get", "--dest", dest, "--state", dest][..], &sources].concat();
        let ended = shared.run(&args);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        shared.assert_fetched(dest);
        let told = events(&ended);
        assert!(
            named(&told, "metadata").is_empty(),
            "what the file says was asked for"
        );
        assert_eq!(named(&told, "complete").len(), 1);
    }
}

#[test]
fn a_metainfo_file_about_something_else_is_not_replaced() {
    let shared = Shared::new(&[]);
    let mine = shared.world.file("d/f.torrent", b"my diary");
    let magnet = shared.magnet(&format!("&x.pe={}", shared.peer));
    let args = [
        "get",
        &magnet,
        "--dest",
        "d",
        "--state",
        "s",
        "--save-metainfo",
    ];
    let ended = shared.run(&args);
    assert_eq!(ended.code, 13, "{}", ended.stderr);
    assert!(ended.stderr.contains("f.torrent"), "{}", ended.stderr);
    shared.assert_fetched("d");
    assert_eq!(fs::read(mine).unwrap(), b"my diary");
}

#[test]
fn show_fetches_what_a_link_stands_for_and_changes_nothing() {
    let shared = Shared::new(&[]);
    let magnet = shared.magnet("&tr=http%3A%2F%2F127.0.0.1%3A9%2Fannounce&ws=http%3A%2F%2Fw%2F");
    let args = [
        "show",
        "--json",
        &magnet,
        "--peer",
        &shared.peer,
        "--state",
        "s",
    ];
    let ended = shared.run(&args);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let shown = ended.json();
    assert_eq!(shown["name"], "f");
    assert_eq!(shown["length"], 350_000);
    assert_eq!(shown["announce"], json!([["http://127.0.0.1:9/announce"]]));
    assert_eq!(shown["web_seeds"], json!(["http://w/"]));
    let listed = shared
        .world
        .run(&["state", "list", "--json", "--state", "s"]);
    assert_eq!(
        listed.json(),
        json!([]),
        "a look at a torrent put it into the catalog"
    );

    // Whoever has it in the catalog need not ask, even while another process uses that.
    let ended = shared.run(&["show", "--json", &shared.hash, "--state", "seeder"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert_eq!(ended.json()["name"], "f");
    // And a state folder in use does not keep anyone from asking peers.
    let folder = shared.world.path("other");
    let args = ["seed", "f", "--state", "other"];
    let mut other = Running::start(shared.world.command(&[&args, &APART[..]].concat()));
    other.wait_for("resume");
    assert!(folder.exists());
    let magnet = format!("magnet:?xt=urn:btih:{}", shared.hash);
    let args = [
        "show",
        "--json",
        &magnet,
        "--peer",
        &shared.peer,
        "--state",
        "other",
    ];
    assert_eq!(shared.run(&args).json()["name"], "f");
}

#[test]
fn verify_fetches_it_too() {
    let shared = Shared::new(&[]);
    let magnet = shared.magnet(&format!("&x.pe={}", shared.peer));
    let ended = shared.run(&["verify", &magnet, "f", "--json", "--state", "s"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(ended.json()["good"], 22);
    shared.world.file("f/two", b"damaged");
    let ended = shared.run(&["verify", &magnet, "f", "--json", "--state", "s"]);
    assert_eq!(ended.code, 32, "{}", ended.stderr);
}

#[test]
fn nobody_to_ask_is_a_matter_of_time() {
    let world = World::new();
    let since = Instant::now();
    let args = ["show", UNKNOWN, "--timeout", "1", "--state", "s"];
    let ended = world.run(&[&args, &APART[..]].concat());
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""));
    assert!(ended.stderr.contains("--peer"), "{}", ended.stderr);
    assert!(since.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_download_that_is_stopped_before_the_metadata_is_there_says_so_with_7() {
    let world = World::new();
    let args = ["get", UNKNOWN, "--state", "s"];
    let mut getter = Running::start(world.command(&[&args, &APART[..]].concat()));
    getter.wait_for("listening");
    let since = Instant::now();
    getter.signal(Signal::INT);
    assert_eq!(getter.end(), 7);
    assert!(since.elapsed() < Duration::from_secs(5));
}

#[test]
fn metadata_is_kept_though_the_download_is_refused() {
    let shared = Shared::new(&[]);
    let mine = shared.world.file("d/f/one", &bytes(300_000, 77));
    let magnet = shared.magnet(&format!("&x.pe={}", shared.peer));
    let refused = shared.run(&["get", &magnet, "--dest", "d", "--state", "s"]);
    assert_eq!(refused.code, 13, "{}", refused.stderr);
    assert_eq!(fs::read(mine).unwrap(), bytes(300_000, 77));
    let list = ["state", "list", "--json", "--state", "s"];
    let listed = shared.world.run(&list).json();
    assert_eq!(listed[0]["info_hash"], shared.hash);
    assert_eq!(listed[0]["unbegun"], true, "{listed}");
    let listed = shared.world.ok(&["state", "list", "--state", "s"]);
    assert!(listed.contains("(not begun)"), "{listed}");
    // Asked of nobody; and not held to the folder where it was refused: what is here is adopted.
    let ended = shared.run(&["get", &shared.hash, "--state", "s"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let told = events(&ended);
    assert!(named(&told, "metadata").is_empty());
    assert_eq!(named(&told, "resume")[0]["rechecked"], 22);
    let listed = shared.world.run(&list).json();
    assert!(listed[0].get("unbegun").is_none(), "{listed}");
}
