use super::create::Draft;
use super::*;
use crate::base::InfoHash;
use crate::format::bencode::Writer;
use serde_json::{Value, json};

fn plain(path: &str, length: u64) -> PlainFile {
    PlainFile {
        path: path.split('/').map(str::to_owned).collect(),
        length,
    }
}

fn single() -> Metainfo {
    let mut draft = Draft::file("a.bin", 300_000);
    draft.pieces = vec![[1; 20], [2; 20]];
    draft.finish().unwrap()
}

fn folder(files: Vec<PlainFile>) -> Result<Metainfo, MetainfoError> {
    let mut draft = Draft::folder("folder", files);
    draft.pieces = vec![[3; 20]];
    draft.finish()
}

/// Reads the `.bit` of [`single`] with `field` set to `value`, or taken out.
fn changed(field: &str, value: Option<Value>) -> Result<Metainfo, MetainfoError> {
    let mut bit: Value = serde_json::from_str(&single().to_bit()).unwrap();
    let fields = bit.as_object_mut().unwrap();
    match value {
        Some(value) => fields.insert(field.to_owned(), value),
        None => fields.remove(field),
    };
    Metainfo::from_bit(bit.to_string().as_bytes())
}

#[test]
fn a_draft_holds_the_basics_and_nothing_else() {
    let expected = [
        b"d6:lengthi300000e4:name5:a.bin12:piece lengthi262144e6:pieces40:".as_slice(),
        &[1; 20],
        &[2; 20],
        b"e",
    ];
    assert_eq!(single().info.raw(), expected.concat());
}

#[test]
fn files_go_in_the_order_of_the_bytes_of_their_paths() {
    let paths = ["é", "a/b/y", "a/x", "a.b/z", "a-file", "Z", "a b/r", ".dot"];
    let metainfo = folder(paths.iter().map(|path| plain(path, 1)).collect()).unwrap();
    let found: Vec<_> = metainfo
        .info
        .files()
        .iter()
        .map(|file| &file.path().as_str()[7..])
        .collect();
    assert_eq!(
        found,
        [".dot", "Z", "a b/r", "a-file", "a.b/z", "a/b/y", "a/x", "é"]
    );
}

#[test]
fn a_folder_of_one_file_is_not_a_file() {
    let one = folder(vec![plain("a.bin", 5)]).unwrap();
    assert!(!one.info.is_single_file() && single().info.is_single_file());
    assert_eq!(one.info.files()[0].path().as_str(), "folder/a.bin");
    assert_eq!(single().info.files()[0].path().as_str(), "a.bin");
}

#[test]
fn what_would_be_saved_under_another_name_is_not_shared() {
    for files in [
        vec!["README", "readme"],
        vec!["aux.c"],
        vec!["a\\b"],
        vec![".."],
        vec!["bell\u{7}"],
    ] {
        let files = files.into_iter().map(|path| plain(path, 1)).collect();
        let error = folder(files).unwrap_err();
        assert!(matches!(error, MetainfoError::UnportableName(_)), "{error}");
    }
}

#[test]
fn a_draft_that_contradicts_itself_is_refused() {
    assert_eq!(
        folder(vec![plain("empty", 0)]).unwrap_err(),
        MetainfoError::Empty
    );
    let error = folder(vec![plain("long", 300_000)]).unwrap_err();
    assert_eq!(
        error,
        MetainfoError::PiecesMismatch {
            expected: 40,
            found: 20
        }
    );
    let mut draft = Draft::file("x", 5);
    draft.piece_length = 100_000;
    assert_eq!(
        draft.finish().unwrap_err(),
        MetainfoError::InvalidPieceLength
    );
    let mut draft = Draft::file("x", 5);
    draft.pieces = vec![[0; 20]];
    draft.announce = vec![vec!["tracker".to_owned()]];
    assert_eq!(
        draft.finish().unwrap_err(),
        MetainfoError::InvalidAddress("tracker".to_owned())
    );
}

#[test]
fn a_bit_of_the_basics_spells_them_out() {
    let bit: Value = serde_json::from_str(&single().to_bit()).unwrap();
    let expected = json!({
        "bit": 1, "info_hash": single().info.info_hash().to_string(), "name": "a.bin", "piece_length": 262_144,
        "length": 300_000, "pieces": ["01".repeat(20), "02".repeat(20)],
    });
    assert_eq!(bit, expected);
    assert_eq!(changed("private", Some(json!(false))), Ok(single()));
}

#[test]
fn a_bit_with_anything_unknown_or_wrong_is_refused() {
    let both = json!([{"path": ["x"], "length": 300_000}]);
    let changes = [
        ("unknown field", "extra", Some(json!(1))),
        ("version", "bit", Some(json!(2))),
        ("not both", "files", Some(both)),
        ("not both", "length", None),
        ("name is missing", "name", None),
        ("info_hash", "info_hash", None),
        ("claims the info-hash", "private", Some(json!(true))),
        ("piece hashes", "length", Some(json!(600_000))),
        ("length of a file", "length", Some(json!(u64::MAX))),
        ("hexadecimal", "pieces", Some(json!(["01"]))),
        ("piece length", "piece_length", Some(json!(0))),
        ("host:port", "nodes", Some(json!(["nowhere"]))),
        ("not an address", "web_seeds", Some(json!(["nowhere"]))),
        ("not a date", "creation_date", Some(json!("yesterday"))),
        ("base64", "info", Some(json!("!"))),
    ];
    for (reason, field, value) in changes {
        let error = changed(field, value).unwrap_err().to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

/// An info dictionary with a key beyond the basics and a name that is not UTF-8.
fn with_source() -> Vec<u8> {
    let mut writer = Writer::new();
    writer.dict(|dict| {
        dict.int("length", 5);
        dict.bytes("name", b"caf\xe9");
        dict.int("piece length", 16_384);
        dict.bytes("pieces", [9; 20]);
        dict.bytes("source", "somewhere");
    });
    writer.finish()
}

#[test]
fn a_dictionary_with_more_than_the_basics_is_carried_whole() {
    let metainfo = Metainfo::new(Info::from_raw(with_source()).unwrap());
    let bit = metainfo.to_bit();
    assert_eq!(Metainfo::from_bit(bit.as_bytes()).as_ref(), Ok(&metainfo));
    let mut value: Value = serde_json::from_str(&bit).unwrap();
    assert!(value.get("info").is_some() && value.get("pieces").is_none());
    value["length"] = json!(6);
    let error = Metainfo::from_bit(value.to_string().as_bytes()).unwrap_err();
    assert!(
        error.to_string().contains("length does not agree"),
        "{error}"
    );
}

#[test]
fn the_info_hash_is_that_of_the_raw_bytes_however_they_are_ordered() {
    // The SHA-1 was computed elsewhere.
    let raw = [
        b"d4:name1:x6:lengthi5e12:piece lengthi16384e6:pieces20:".as_slice(),
        &[b'A'; 20],
        b"e",
    ]
    .concat();
    let info = Info::from_raw(raw).unwrap();
    let expected: InfoHash = "a39018d415f557db2ac6d1a2d068f91abbce92e9".parse().unwrap();
    assert_eq!(info.info_hash(), expected);
    assert_eq!(info.info_hash_v2(), None);
}

/// A torrent around [`with_source`] with `entries` before and after the dictionary.
fn torrent(before: &str, after: &str) -> Metainfo {
    let bytes = [
        b"d",
        before.as_bytes(),
        b"4:info",
        &with_source(),
        after.as_bytes(),
        b"e",
    ]
    .concat();
    Metainfo::parse(&bytes).unwrap()
}

#[test]
fn announce_counts_only_without_a_list() {
    let metainfo = torrent("8:announce8:http://a13:announce-listll8:http://bee", "");
    assert_eq!(metainfo.announce, [["http://b"]]);
    for empty in ["le", "llee", "0:", "i5e", "lleli1eee"] {
        let metainfo = torrent(&format!("8:announce8:http://a13:announce-list{empty}"), "");
        assert_eq!(metainfo.announce, [["http://a"]], "{empty}");
    }
    let flat = torrent("13:announce-listl8:http://b8:http://ce", "");
    assert_eq!(flat.announce, [["http://b"], ["http://c"]]);
}

#[test]
fn junk_where_a_hint_is_due_is_passed_over() {
    for junk in ["0:", "i-5e", "le", "de", "li5e0:lleee", "1:\u{7f}"] {
        let before = format!("8:announce{junk}7:comment{junk}13:creation date{junk}");
        let metainfo = torrent(&before, &format!("5:nodes{junk}8:url-list{junk}"));
        assert_eq!(metainfo.creation_date, None);
        assert!(
            metainfo.announce.is_empty()
                && metainfo.nodes.is_empty()
                && metainfo.web_seeds.is_empty()
        );
    }
    let metainfo = torrent(
        "",
        "5:nodesll1:ai6881eel1:bi0eel1:ci65536eel1:dee8:url-list8:http://s",
    );
    assert_eq!(metainfo.nodes, [("a".to_owned(), 6881)]);
    assert_eq!(metainfo.web_seeds, ["http://s"]);
}

#[test]
fn a_torrent_cut_off_or_followed_by_other_data_is_refused() {
    let torrent = single().to_torrent();
    assert_eq!(
        Metainfo::parse(&[&torrent, b"\r\n".as_slice()].concat()),
        Ok(single())
    );
    assert!(Metainfo::parse(&[&torrent, b"x".as_slice()].concat()).is_err());
    assert!(Metainfo::parse(&torrent[..torrent.len() - 1]).is_err());
    assert_eq!(Metainfo::parse(b"4:spam"), Err(MetainfoError::NotDict));
    assert_eq!(
        Metainfo::parse(b"d4:infoi1ee"),
        Err(MetainfoError::MissingInfo)
    );
}

/// A hybrid torrent of one file of two and a half pieces whose blocks are zero, with `root` and `layer`.
fn hybrid(root: &[u8], layer: &[u8], length: i64) -> Result<Metainfo, MetainfoError> {
    let mut writer = Writer::new();
    writer.dict(|dict| {
        dict.dict("info", |info| {
            info.dict("file tree", |tree| {
                tree.dict("x", |node| {
                    node.dict("", |file| {
                        file.int("length", 40_960);
                        file.bytes("pieces root", root);
                    });
                });
            });
            info.int("length", length);
            info.int("meta version", 2);
            info.bytes("name", "x");
            info.int("piece length", 16_384);
            info.bytes("pieces", [0; 60]);
        });
        dict.dict("piece layers", |layers| layers.bytes(root, layer));
    });
    Metainfo::parse(&writer.finish())
}

#[test]
fn the_halves_of_a_hybrid_have_to_agree() {
    use sha2::{Digest, Sha256};
    let leaf = |bytes: usize| Sha256::digest(vec![0; bytes]);
    let parent = |left: &[u8], right: &[u8]| {
        Sha256::new()
            .chain_update(left)
            .chain_update(right)
            .finalize()
    };
    let (whole, half) = (leaf(16_384), leaf(8_192));
    let root = parent(&parent(&whole, &whole), &parent(&half, &[0; 32]));
    let layer = [whole, whole, half].concat();
    let metainfo = hybrid(&root, &layer, 40_960).unwrap();
    assert!(metainfo.info.info_hash_v2().is_some());
    assert_eq!(
        hybrid(&root, &layer, 40_961),
        Err(MetainfoError::InconsistentFiles)
    );
    assert_eq!(
        hybrid(&root, &layer[32..], 40_960),
        Err(MetainfoError::InvalidPieceLayer)
    );
    assert_eq!(
        hybrid(&[1; 32], &layer, 40_960),
        Err(MetainfoError::InvalidPieceLayer)
    );
    assert_eq!(
        hybrid(&[0; 32], &layer, 40_960),
        Err(MetainfoError::MissingPiecesRoot)
    );
}

#[test]
fn hints_are_added_once_and_after_those_that_are_there() {
    let mut metainfo = single();
    metainfo.announce = vec![vec!["http://a/".to_owned(), "http://b/".to_owned()]];
    metainfo.nodes = vec![("n".to_owned(), 1)];
    let trackers = ["http://b/", "http://c/", "http://c/"].map(str::to_owned);
    let nodes = [("n".to_owned(), 1), ("n".to_owned(), 2)];
    let seeds = ["http://s/", "http://s/"].map(str::to_owned);
    for _ in 0..2 {
        metainfo.add_hints(&trackers, &nodes, &seeds);
        let tiers = [vec!["http://a/", "http://b/"], vec!["http://c/"]];
        assert_eq!(metainfo.announce, tiers);
        assert_eq!(metainfo.nodes, nodes);
        assert_eq!(metainfo.web_seeds, ["http://s/"]);
    }
}
