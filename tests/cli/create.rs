//! `create`, `show` and `magnet`.

use std::fs;
use std::process::Stdio;

use serde_json::json;

use crate::support::{World, bytes};

#[test]
fn both_formats_are_written_beside_the_payload_with_one_info_hash() {
    let world = World::new();
    world.file("d/film.mp4", &bytes(600_000, 1));
    let said = world.ok(&["create", "d/film.mp4"]);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].ends_with("/d/film.mp4.bit") && lines[1].ends_with("/d/film.mp4.torrent"));
    for source in ["d/film.mp4.bit", "d/film.mp4.torrent"] {
        let shown = world.run(&["show", "--json", source]).json();
        assert_eq!(shown["info_hash"], lines[2]);
        assert_eq!(shown["pieces"], 3);
        assert_eq!(shown["piece_length"], 262_144);
        assert_eq!(shown["length"], 600_000);
        assert_eq!(
            shown["files"],
            json!([{"path": "film.mp4", "length": 600_000}])
        );
        assert_eq!(shown["private"], false);
        assert_eq!(shown["announce"], json!([]));
        assert!(shown.get("comment").is_none());
    }
}

#[test]
fn everything_asked_for_is_in_the_metainfo() {
    let world = World::new();
    world.file("f/b", b"bb");
    world.file("f/a/ü.txt", b"a");
    let args = [
        "create",
        "f",
        "--format",
        "torrent",
        "-o",
        "x.torrent",
        "--piece-length",
        "32KiB",
        "--announce",
        "http://t/announce",
        "--announce",
        "udp://u:6969",
        "--web-seed",
        "https://w/f/",
        "--node",
        "h:1,[::1]:2",
        "--private",
        "--comment",
        "hi",
    ];
    world.ok(&args);
    assert!(!world.path("x.bit").exists() && !world.path("f.torrent").exists());
    let shown = world.run(&["show", "--json", "x.torrent"]).json();
    assert_eq!(shown["name"], "f");
    assert_eq!(shown["piece_length"], 32_768);
    let announce = json!([["http://t/announce"], ["udp://u:6969"]]);
    assert_eq!(shown["announce"], announce);
    assert_eq!(shown["web_seeds"], json!(["https://w/f/"]));
    assert_eq!(shown["nodes"], json!(["h:1", "[::1]:2"]));
    assert_eq!(shown["private"], true);
    assert_eq!(shown["comment"], "hi");
    assert!(
        shown["created_by"]
            .as_str()
            .unwrap()
            .starts_with("seedbank ")
    );
    assert!(shown["creation_date"].as_str().unwrap().ends_with('Z'));
    let files = json!([{"path": "f/a/ü.txt", "length": 1}, {"path": "f/b", "length": 2}]);
    assert_eq!(shown["files"], files);
}

#[test]
fn only_metainfo_files_are_overwritten() {
    let world = World::new();
    world.file("p", b"payload");
    world.ok(&["create", "p"]);
    world.file("p", b"payload, changed");
    world.ok(&["create", "p"]);
    let diary = world.file("x.torrent", b"my diary");
    world.refused(&["create", "p", "-o", "x.torrent"], 13, "x.torrent");
    world.refused(
        &["create", "p", "-o", "p", "--format", "bit"],
        13,
        "p exists",
    );
    assert_eq!(fs::read(diary).unwrap(), b"my diary");
    assert_eq!(fs::read(world.path("p")).unwrap(), b"payload, changed");
}

#[test]
fn a_payload_that_cannot_be_shared_is_refused_and_nothing_is_written() {
    let world = World::new();
    world.file("empty", b"");
    fs::create_dir(world.path("void")).unwrap();
    world.file("p", b"x");
    world.refused(&["create", "empty"], 1, "empty");
    world.refused(&["create", "void"], 1, "void");
    world.refused(&["create", "none"], 3, "none");
    world.refused(
        &["create", "p", "--piece-length", "20000"],
        28,
        "power of two",
    );
    world.refused(
        &["create", "p", "--piece-length", "8KiB"],
        28,
        "power of two",
    );
    world.refused(&["create", "p", "--announce", "t"], 28, "--announce");
    world.refused(&["create", "p", "-o", "no/such/folder/x.bit"], 16, "x.bit");
    let left = fs::read_dir(world.path(".")).unwrap().count();
    assert_eq!(left, 3, "something was written");
}

#[test]
fn a_magnet_link_names_the_torrent_its_name_and_its_trackers() {
    let world = World::new();
    world.file("a b", b"x");
    let said = world.ok(&["create", "a b", "--announce", "http://t/a"]);
    let hash = said.lines().last().unwrap();
    let link = world.ok(&["magnet", "a b.torrent"]);
    assert!(
        link.starts_with(&format!("magnet:?xt=urn:btih:{hash}")),
        "{link}"
    );
    assert!(
        link.contains("&dn=a%20b") && link.contains("&tr=http%3A%2F%2Ft%2Fa"),
        "{link}"
    );
    assert_eq!(link.lines().count(), 1);
    assert_eq!(world.ok(&["magnet", link.trim()]), link);
}

#[test]
fn log_json_makes_every_result_one_json_document() {
    let world = World::new();
    world.file("p", b"x");
    let made = world.run(&["create", "p", "--log", "json"]).json();
    assert_eq!(made["paths"].as_array().unwrap().len(), 2);
    let mut show = world.command(&["show", "p.bit"]);
    let shown =
        crate::support::Ended::of(show.env("SEEDBANK_LOG", "json").output().unwrap()).json();
    assert_eq!(shown["info_hash"], made["info_hash"]);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let world = World::new();
    for number in 0..3_000 {
        world.file(&format!("many/{number}"), b"x");
    }
    world.ok(&["create", "many"]);
    let mut command = world.command(&["show", "many.bit"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = crate::support::Ended::of(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
}
