//! Torrents made here have the info-hash of those that other programs make of the same payload.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use seedbank::format::metainfo::create::Draft;
use seedbank::format::metainfo::{Metainfo, PlainFile};
use sha1::{Digest, Sha1};

const PIECE_LENGTH: usize = 32_768;

/// Runs a program that writes `torrent`; `None`, and says so, if there is no such program.
fn made_by(program: &str, arguments: &[&str], torrent: &Path) -> Option<Metainfo> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match command.status() {
        Err(error) => {
            eprintln!("skipped: {program} cannot be run: {error}");
            None
        }
        Ok(status) => {
            assert!(status.success(), "{program} {arguments:?}: {status}");
            Some(Metainfo::parse(&fs::read(torrent).unwrap()).unwrap())
        }
    }
}

fn content(seed: usize) -> Vec<u8> {
    (0..20_000 + seed)
        .map(|at| (at * (seed + 7) / 3) as u8)
        .collect()
}

/// A folder of these files, on disk and as a draft.
fn folder(parent: &Path, paths: &[&str]) -> Draft {
    let mut contents = std::collections::HashMap::new();
    for (seed, path) in paths.iter().enumerate() {
        let file = parent.join("folder").join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content(seed)).unwrap();
        contents.insert(*path, content(seed));
    }
    let plain = |path: &&str| PlainFile {
        path: path.split('/').map(str::to_owned).collect(),
        length: contents[path].len() as u64,
    };
    let mut draft = Draft::folder("folder", paths.iter().map(plain).collect());
    let in_order = draft
        .files()
        .iter()
        .map(|file| contents[file.path.join("/").as_str()].clone());
    let payload: Vec<_> = in_order.collect::<Vec<_>>().concat();
    draft.piece_length = PIECE_LENGTH as u32;
    draft.pieces = payload
        .chunks(PIECE_LENGTH)
        .map(|piece| Sha1::digest(piece).into())
        .collect();
    draft
}

#[test]
fn a_folder_has_the_info_hash_that_mktorrent_gives_it() {
    let place = tempfile::tempdir().unwrap();
    let paths = [
        "a/b/y", "a/x", "a.b/z", "a-file", "a b/r", ".dot/s", "B", "Z", "é", "zz/t",
    ];
    let draft = folder(place.path(), &paths);
    let (source, torrent) = (
        place.path().join("folder"),
        place.path().join("made.torrent"),
    );
    let arguments = [
        "-l",
        "15",
        "-o",
        torrent.to_str().unwrap(),
        source.to_str().unwrap(),
    ];
    if let Some(theirs) = made_by("mktorrent", &arguments, &torrent) {
        assert_eq!(draft.finish().unwrap().info, theirs.info);
    }
}

#[test]
fn a_private_folder_has_the_info_hash_that_transmission_gives_it() {
    let place = tempfile::tempdir().unwrap();
    // Transmission ignores letter case in its order and leaves out files that begin with a dot.
    let mut draft = folder(place.path(), &["a/b", "a/c", "b", "c/d/e"]);
    draft.private = true;
    let (source, torrent) = (
        place.path().join("folder"),
        place.path().join("made.torrent"),
    );
    let (to, from) = (torrent.to_str().unwrap(), source.to_str().unwrap());
    // It writes `private` even if it is 0, so that its public torrents agree with nobody's.
    let arguments = [
        "-p",
        "-t",
        "http://127.0.0.1/announce",
        "-s",
        "32",
        "-o",
        to,
        from,
    ];
    if let Some(theirs) = made_by("transmission-create", &arguments, &torrent) {
        assert_eq!(draft.finish().unwrap().info, theirs.info);
    }
}
