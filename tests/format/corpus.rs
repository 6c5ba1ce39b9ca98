//! Inputs that other projects wrote, with the verdict of the client that most others follow.

use std::fs;
use std::path::PathBuf;

use seedbank::base::InfoHash;
use seedbank::format::bencode::Document;
use seedbank::format::magnet::Magnet;
use seedbank::format::metainfo::{FileKind, Metainfo, MetainfoError};

/// The folder of the corpus; says that the test is skipped where there is none.
fn corpus() -> Option<PathBuf> {
    let folder = std::env::var_os("SEEDBANK_CORPUS").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: SEEDBANK_CORPUS is not set");
    }
    folder
}

/// The rows of a table below its heading, by column.
fn rows(path: &str) -> Option<Vec<Vec<String>>> {
    let text = fs::read_to_string(corpus()?.join(path)).unwrap();
    let cells = |line: &str| line.split('\t').map(str::to_owned).collect();
    Some(
        text.split('\n')
            .skip(1)
            .filter(|line| line.contains('\t'))
            .map(cells)
            .collect(),
    )
}

fn torrent(name: &str) -> Option<Metainfo> {
    let path = corpus()?.join("libtorrent/test/test_torrents").join(name);
    Some(Metainfo::parse(&fs::read(path).unwrap()).unwrap())
}

#[test]
fn every_torrent_gets_the_verdict_and_the_info_hash_of_the_manifest() {
    let Some(rows) = rows("MANIFEST.tsv") else {
        return;
    };
    let folder = corpus().unwrap();
    let (mut taken, mut refused) = (0, 0);
    for row in rows {
        let [path, _, _, verdict, why, v1, v2, ..] = &row[..] else {
            panic!("{row:?} has too few columns")
        };
        if !path.ends_with(".torrent") {
            continue;
        }
        let found = Metainfo::parse(&fs::read(folder.join(path)).unwrap());
        match (verdict.as_str(), found) {
            ("valid", Ok(metainfo)) => {
                assert_eq!(&metainfo.info.info_hash().to_string(), v1, "{path}");
                let found_v2 = metainfo
                    .info
                    .info_hash_v2()
                    .map(|hash| hash.map(|b| format!("{b:02x}")).concat());
                assert_eq!(&found_v2.unwrap_or_default(), v2, "{path}");
                check_invariants(&metainfo);
                check_round_trips(&metainfo);
                taken += 1;
            }
            ("valid", Err(error)) => {
                assert!(v1.is_empty(), "{path} is valid but: {error}");
                assert_eq!(error, MetainfoError::V2Only, "{path}");
                refused += 1;
            }
            ("invalid" | "tolerate", Err(error)) => {
                assert_ne!(
                    error,
                    MetainfoError::V2Only,
                    "{path} is invalid for another reason: {why}"
                );
                eprintln!("{path}: {error}");
                refused += 1;
            }
            (verdict, found) => panic!("{path} is {verdict} ({why}) but gave {found:?}"),
        }
    }
    assert!(
        taken > 30 && refused > 20,
        "{taken} taken, {refused} refused"
    );
}

fn check_invariants(metainfo: &Metainfo) {
    let info = &metainfo.info;
    let mut end = 0;
    for file in info.files() {
        assert_eq!(file.offset(), end);
        end += file.length();
        let first = file.path().components().next().unwrap();
        assert_eq!(first, info.name());
    }
    assert_eq!(end, info.geometry().total());
    for piece in info.geometry().all_pieces() {
        assert_eq!(info.piece_hash(piece).len(), 20);
    }
}

fn check_round_trips(metainfo: &Metainfo) {
    assert_eq!(
        Metainfo::from_torrent(&metainfo.to_torrent()).as_ref(),
        Ok(metainfo)
    );
    let bit = metainfo.to_bit();
    assert_eq!(
        Metainfo::parse(bit.as_bytes()).as_ref(),
        Ok(metainfo),
        "{bit}"
    );
    let magnet = Magnet::from_metainfo(metainfo);
    assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
}

#[test]
fn odd_paths_become_what_libtorrent_makes_of_them() {
    let expected: &[(&str, &[&str])] = &[
        ("absolute_filename", &["temp/abcde", "temp/foobar"]),
        (
            "duplicate_files",
            &["temp/foo/bar.txt", "temp/foo/bar.1.txt"],
        ),
        ("empty_path", &["temp/_/_"]),
        ("empty_path_multi", &["temp/abcde", "temp/_", "temp/_.1"]),
        ("invalid_directory_name", &["test2/_/foo", "test2/_/foo.1"]),
        (
            "invalid_name3",
            &["foobar /foo/bar.txt", "foobar /foo/var.txt"],
        ),
        ("parent_path", &["temp/_/_/bar"]),
        ("slash_path2", &["temp/abc....def/_/bar"]),
        ("slash_path3", &["temp....abc"]),
        ("v2", &["test64K"]),
    ];
    for (name, paths) in expected {
        let Some(metainfo) = torrent(&format!("{name}.torrent")) else {
            return;
        };
        let found: Vec<_> = metainfo
            .info
            .files()
            .iter()
            .map(|file| file.path().as_str())
            .collect();
        assert_eq!(&found, paths, "{name}");
    }
}

#[test]
fn padding_and_links_are_told_from_files() {
    for name in ["pad_file.torrent", "pad_file_no_path.torrent"] {
        let Some(metainfo) = torrent(name) else {
            return;
        };
        let pads: Vec<_> = metainfo
            .info
            .files()
            .iter()
            .map(seedbank::format::metainfo::FileEntry::is_pad)
            .collect();
        assert_eq!(pads, [false, true], "{name}");
    }
    let Some(metainfo) = torrent("symlink1.torrent") else {
        return;
    };
    let link = &metainfo.info.files()[1];
    assert!(matches!(link.kind(), FileKind::Symlink(target) if target.as_str() == "temp/a/b/bar"));
    assert_eq!(link.length(), 0);
}

#[test]
fn hints_are_read_and_junk_among_them_is_passed_over() {
    let Some(nodes) = torrent("dht_nodes.torrent") else {
        return;
    };
    assert_eq!(
        nodes.nodes,
        [
            ("127.0.0.1".to_owned(), 6881),
            ("192.168.1.1".to_owned(), 6881)
        ]
    );
    assert_eq!(
        torrent("duplicate_web_seeds.torrent")
            .unwrap()
            .web_seeds
            .len(),
        3
    );
    assert_eq!(torrent("url_list.torrent").unwrap().web_seeds, [""; 0]);
    let spaces = torrent("url_seed_multi_space.torrent").unwrap();
    assert_eq!(spaces.web_seeds, ["http://test.com/test%20file/foo%20bar/"]);
    assert_eq!(
        torrent("no_creation_date.torrent").unwrap().creation_date,
        None
    );
    assert_eq!(
        torrent("base.torrent").unwrap().creation_date,
        Some(1_359_599_503)
    );
}

#[test]
fn every_message_of_the_bug_reports_can_be_read() {
    let Some(folder) = corpus() else { return };
    let mut read = 0;
    for entry in fs::read_dir(folder.join("issue-repros")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let parsed = Document::parse(&bytes);
        let bencoded = !path.to_string_lossy().contains("len_prefix");
        assert_eq!(parsed.is_ok(), bencoded, "{}: {parsed:?}", path.display());
        read += usize::from(bencoded);
    }
    assert!(read >= 6, "{read}");
}

#[test]
fn bencode_vectors_hold() {
    let Some(rows) = rows("vectors/bencode.tsv") else {
        return;
    };
    let mut count = 0;
    for row in rows {
        let bytes = unescape(&row[0]);
        let found = Document::parse(&bytes);
        let says = format!("{} is {} but gave {found:?}", row[0], row[1]);
        match row[1].as_str() {
            "ok" => assert!(
                found.is_ok_and(|document| document.is_canonical()),
                "{says}"
            ),
            "ok-noncanonical" | "noncanonical" => {
                assert!(
                    found.is_ok_and(|document| !document.is_canonical()),
                    "{says}"
                );
            }
            "trailing-bytes" => {
                assert!(found.is_err(), "{says}");
                assert_eq!(Document::parse_prefix(&bytes).unwrap().1, 2, "{says}");
            }
            "reject" | "reject-by-depth" | "reject-or-bigint" => assert!(found.is_err(), "{says}"),
            "ok-or-reject" => {}
            other => panic!("what does {other} mean?"),
        }
        count += 1;
    }
    assert!(count > 50, "{count}");
}

#[test]
fn magnet_vectors_hold() {
    let Some(rows) = rows("vectors/magnet.tsv") else {
        return;
    };
    let mut count = 0;
    for row in rows {
        let text = String::from_utf8(unescape(&row[0])).unwrap();
        let found = Magnet::parse(&text);
        let says = format!("{} is {} ({}) but gave {found:?}", row[0], row[1], row[2]);
        match row[1].as_str() {
            "ok" | "ok-but-no-fetch" => {
                let magnet = found.expect(&says);
                if let Some(v1) = row[2].strip_prefix("v1=") {
                    let hash = v1.get(..40).and_then(|hex| hex.parse::<InfoHash>().ok());
                    assert_eq!(magnet.info_hash, hash, "{says}");
                }
                check_detail(&magnet, &row[2], &says);
                assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet), "{says}");
            }
            "reject" => assert!(found.is_err(), "{says}"),
            "optional" => {}
            other => panic!("what does {other} mean?"),
        }
        count += 1;
    }
    assert!(count > 30, "{count}");
}

fn check_detail(magnet: &Magnet, detail: &str, says: &str) {
    let selected: Vec<u32> = magnet.select_only.iter().cloned().flatten().collect();
    match detail {
        "select 0,2,4,6,7,8" => assert_eq!(selected, [0, 2, 4, 6, 7, 8], "{says}"),
        "only 10 selected; inverted range and huge index ignored" => {
            assert_eq!(selected, [10], "{says}");
        }
        "only 1" => assert_eq!(selected, [1], "{says}"),
        "2 peers, bad ones skipped" => assert_eq!(magnet.peers.len(), 2, "{says}"),
        "hybrid" => assert!(
            magnet.info_hash.is_some() && magnet.info_hash_v2.is_some(),
            "{says}"
        ),
        "v2 only" => assert!(
            magnet.info_hash.is_none() && magnet.info_hash_v2.is_some(),
            "{says}"
        ),
        detail if detail.contains("trackers=3 unique") || detail.starts_with("3 trackers") => {
            assert_eq!(magnet.trackers.len(), 3, "{says}");
        }
        "mixed-case keys" => {
            assert_eq!(magnet.name.as_deref(), Some("foobar"));
            assert_eq!(magnet.web_seeds, ["http://foo.com/bar"]);
        }
        _ => {}
    }
}

/// Resolves the escapes of a Python literal that the tables use.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap() as u8;
                out.push(digit(high) * 16 + digit(low));
                rest = tail;
            }
            (b'\\', [b'n', tail @ ..]) => {
                out.push(b'\n');
                rest = tail;
            }
            _ => out.push(*first),
        }
    }
    out
}
