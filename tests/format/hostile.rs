//! Torrents made to hurt, and valid ones with bytes changed.

use proptest::prelude::*;
use seedbank::base::limits::{BENCODE_VALUES_MAX, METAINFO_MAX, PIECES_MAX};
use seedbank::format::bencode::{BencodeError, Document, Writer};
use seedbank::format::metainfo::create::Draft;
use seedbank::format::metainfo::{Info, Metainfo, MetainfoError, PlainFile};

fn sample() -> Metainfo {
    let file = |path: &[&str], length| PlainFile {
        path: path.iter().map(|&name| name.to_owned()).collect(),
        length,
    };
    let mut draft = Draft::folder(
        "sample",
        vec![
            file(&["b"], 20_000),
            file(&["a", "c.txt"], 3),
            file(&["empty"], 0),
        ],
    );
    draft.piece_length = 16_384;
    draft.pieces = vec![[1; 20], [2; 20]];
    draft.announce = vec![
        vec!["http://one/announce".to_owned(), "udp://two:1".to_owned()],
        vec!["http://three".to_owned()],
    ];
    draft.nodes = vec![("router.example".to_owned(), 6881), ("::1".to_owned(), 1)];
    draft.web_seeds = vec!["https://seed.example/files/".to_owned()];
    draft.comment = Some("a \"comment\"\n".to_owned());
    draft.created_by = Some("a test".to_owned());
    draft.creation_date = Some(1_769_860_800);
    draft.blake3 = Some([7; 32]);
    draft.finish().unwrap()
}

#[test]
fn a_length_that_asks_for_more_pieces_than_there_are_hashes_is_refused_at_once() {
    for length in [i64::MAX, 1 << 40, 16_385] {
        let mut writer = Writer::new();
        writer.dict(|dict| {
            dict.int("length", length);
            dict.bytes("name", "x");
            dict.int("piece length", 16_384);
            dict.bytes("pieces", [0; 20]);
        });
        let error = Info::from_raw(writer.finish()).unwrap_err();
        assert!(
            matches!(
                error,
                MetainfoError::TooManyPieces | MetainfoError::PiecesMismatch { .. }
            ),
            "{error}"
        );
    }
}

#[test]
fn lengths_whose_sum_overflows_are_refused() {
    let mut writer = Writer::new();
    writer.dict(|dict| {
        dict.list("files", |files| {
            for _ in 0..3 {
                files.dict(|file| {
                    file.int("length", i64::MAX);
                    file.list("path", |path| path.bytes("x"));
                });
            }
        });
        dict.bytes("name", "x");
        dict.int("piece length", 16_384);
        dict.bytes("pieces", "");
    });
    assert_eq!(
        Info::from_raw(writer.finish()),
        Err(MetainfoError::InvalidLength)
    );
}

#[test]
fn a_document_past_a_bound_is_refused() {
    let zeros = vec![b'0'; METAINFO_MAX + 1];
    assert_eq!(
        Document::parse(&zeros).unwrap_err(),
        BencodeError::TooLarge { len: zeros.len() }
    );
    assert_eq!(
        Metainfo::parse(&zeros),
        Err(MetainfoError::TooLarge(zeros.len()))
    );
    let many = [b"l".as_slice(), &b"0:".repeat(BENCODE_VALUES_MAX), b"e"].concat();
    assert_eq!(
        Document::parse(&many).unwrap_err(),
        BencodeError::TooManyValues
    );
}

#[test]
fn the_torrent_of_the_most_pieces_fits_both_encodings() {
    let mut draft = Draft::file("x", u64::from(PIECES_MAX) * 16_384);
    draft.piece_length = 16_384;
    draft.pieces = vec![[0xa5; 20]; PIECES_MAX as usize];
    let metainfo = draft.finish().unwrap();
    let (torrent, bit) = (metainfo.to_torrent(), metainfo.to_bit());
    assert!(torrent.len() <= METAINFO_MAX && bit.len() <= METAINFO_MAX);
    assert!(Metainfo::parse(&torrent).as_ref() == Ok(&metainfo));
    assert!(Metainfo::parse(bit.as_bytes()).as_ref() == Ok(&metainfo));
}

#[test]
fn both_encodings_of_a_torrent_say_the_same() {
    let metainfo = sample();
    assert_eq!(
        Metainfo::parse(&metainfo.to_torrent()),
        Ok(metainfo.clone())
    );
    assert_eq!(Metainfo::parse(metainfo.to_bit().as_bytes()), Ok(metainfo));
}

#[test]
fn no_truncation_of_a_torrent_is_a_torrent() {
    let (torrent, bit) = (sample().to_torrent(), sample().to_bit());
    for cut in 0..torrent.len() {
        assert!(Metainfo::parse(&torrent[..cut]).is_err(), "{cut}");
    }
    for cut in 0..bit.trim_end().len() {
        assert!(Metainfo::parse(&bit.as_bytes()[..cut]).is_err(), "{cut}");
    }
}

/// A bencoded text in which the keys of an info dictionary are likely, so that checks behind the first are reached.
fn any_info() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec![
        "",
        "a",
        "A",
        ".",
        "..",
        "a/b",
        "con",
        "\u{202e}x",
        "_",
    ]);
    let path = prop::collection::vec(name.clone(), 0..4);
    let attr = prop::sample::select(vec!["", "p", "l", "x", "pl"]);
    let length = prop_oneof![Just(0i64), 1..40_000i64, any::<i64>()];
    let file = (path, length.clone(), attr);
    (
        name,
        prop::collection::vec(file, 0..6),
        length,
        0..5usize,
        any::<bool>(),
    )
        .prop_map(|(name, files, length, pieces, single)| {
            let mut writer = Writer::new();
            writer.dict(|dict| {
                if !single {
                    dict.list("files", |list| {
                        for (path, length, attr) in &files {
                            list.dict(|file| {
                                file.bytes("attr", attr);
                                file.int("length", *length);
                                file.list("path", |list| {
                                    path.iter().for_each(|name| list.bytes(name));
                                });
                                file.list("symlink path", |list| {
                                    path.iter().for_each(|name| list.bytes(name));
                                });
                            });
                        }
                    });
                }
                dict.int("length", length);
                dict.bytes("name", name);
                dict.int("piece length", 16_384);
                dict.bytes("pieces", vec![0; pieces * 20]);
            });
            writer.finish()
        })
}

proptest! {
    #[test]
    fn changed_bytes_never_panic_nor_pass_under_the_old_info_hash(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        bit in any::<bool>(),
    ) {
        let original = sample();
        let mut bytes = if bit { original.to_bit().into_bytes() } else { original.to_torrent() };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(found) = Metainfo::parse(&bytes) {
            let same = found.info.info_hash() == original.info.info_hash();
            prop_assert_eq!(same, found.info.raw() == original.info.raw());
        }
    }

    #[test]
    fn whatever_is_taken_keeps_every_promise(raw in any_info()) {
        let Ok(info) = Info::from_raw(raw.clone()) else { return Ok(()) };
        prop_assert_eq!(info.raw(), &raw);
        let mut end = 0;
        let mut on_disk = std::collections::HashSet::new();
        for file in info.files() {
            prop_assert_eq!(file.offset(), end);
            end += file.length();
            for name in file.path().components() {
                prop_assert!(!["", ".", ".."].contains(&name));
            }
            prop_assert!(file.is_pad() || on_disk.insert(file.path().as_str().to_lowercase()), "two files in one place");
        }
        prop_assert_eq!(end, info.geometry().total());
        let metainfo = Metainfo::new(info);
        let torrent = Metainfo::from_torrent(&metainfo.to_torrent());
        let bit = Metainfo::from_bit(metainfo.to_bit().as_bytes());
        prop_assert_eq!((torrent, bit), (Ok(metainfo.clone()), Ok(metainfo)));
    }
}
