//! `verify`.

use std::fs;

use serde_json::json;

use crate::support::{World, bytes};

/// A folder of two files in three pieces of 16 KiB, with its metainfo beside it.
fn folder() -> World {
    let world = World::new();
    world.file("f/one", &bytes(20_000, 1));
    world.file("f/two", &bytes(20_000, 2));
    world.ok(&["create", "f", "--piece-length", "16KiB"]);
    world
}

#[test]
fn a_good_payload_is_found_beside_the_metainfo_in_a_folder_or_outright() {
    let world = folder();
    world.ok(&["verify", "f.bit"]);
    world.ok(&["verify", "f.torrent", "."]);
    world.ok(&["verify", "f.torrent", "f"]);
    fs::create_dir(world.path("else")).unwrap();
    fs::rename(world.path("f"), world.path("else/renamed")).unwrap();
    world.ok(&["verify", "f.torrent", "else/renamed"]);
    assert_eq!(world.run(&["verify", "f.torrent"]).code, 32);
    world.file("single", b"abc");
    world.ok(&["create", "single"]);
    fs::rename(world.path("single"), world.path("else/moved")).unwrap();
    world.ok(&["verify", "single.bit", "else/moved"]);
}

#[test]
fn a_bad_piece_is_named_with_the_files_and_bytes_it_touches() {
    let world = folder();
    let mut two = fs::read(world.path("f/two")).unwrap();
    two[0] ^= 1;
    fs::write(world.path("f/two"), &two).unwrap();
    let ended = world.run(&["verify", "f.bit"]);
    assert_eq!(ended.code, 32);
    let wanted = "bad piece 1: f/one bytes 16384-19999, f/two bytes 0-12767";
    assert_eq!(
        ended.stdout.lines().next(),
        Some(wanted),
        "{}",
        ended.stdout
    );
    assert_eq!(
        fs::read(world.path("f/two")).unwrap(),
        two,
        "verify changed a file"
    );
}

#[test]
fn the_json_document_counts_pieces_by_file() {
    let world = folder();
    fs::remove_file(world.path("f/two")).unwrap();
    let ended = world.run(&["verify", "f.bit", "--json"]);
    assert_eq!(ended.code, 32);
    let mut document = ended.json();
    assert!(document["seconds"].as_f64().unwrap() >= 0.0);
    assert_eq!(document["info_hash"].as_str().unwrap().len(), 40);
    let object = document.as_object_mut().unwrap();
    object.remove("seconds");
    object.remove("info_hash");
    let wanted = json!({
        "pieces": 3, "good": 1, "bad": 0, "missing": 2, "bytes": 16_384,
        "files": [
            {"path": "f/one", "length": 20_000, "good": 1, "bad": 0, "missing": 1},
            {"path": "f/two", "length": 20_000, "good": 0, "bad": 0, "missing": 2},
        ],
    });
    assert_eq!(document, wanted);
    assert!(!world.path("f/two").exists(), "verify made a file");
}

#[test]
fn the_digest_of_the_whole_is_checked_too() {
    let world = World::new();
    world.file("p", b"payload");
    world.ok(&["create", "p"]);
    let bit = fs::read_to_string(world.path("p.bit")).unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&bit).unwrap();
    assert!(document["blake3"].is_string());
    document["blake3"] = json!("00".repeat(32));
    world.file("p.bit", document.to_string().as_bytes());
    world.ok(&["verify", "p.torrent"]);
    world.run(&["verify", "p.bit"]).refused(32, "BLAKE3");
}

#[test]
fn an_empty_file_that_is_missing_counts() {
    let world = World::new();
    world.file("f/one", b"1");
    world.file("f/none", b"");
    world.ok(&["create", "f"]);
    world.ok(&["verify", "f.bit"]);
    fs::remove_file(world.path("f/none")).unwrap();
    let ended = world.run(&["verify", "f.bit"]);
    assert_eq!(ended.code, 32);
    assert!(ended.stderr.contains("f/none"), "{}", ended.stderr);
}

#[test]
fn a_place_that_does_not_exist_is_named() {
    let world = folder();
    world.refused(&["verify", "f.bit", "nowhere"], 3, "nowhere");
    world.refused(&["verify", "f.bit", "f.torrent"], 28, "f.torrent");
}
