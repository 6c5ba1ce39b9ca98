use super::*;
use crate::base::limits::BENCODE_DEPTH_MAX;
use proptest::prelude::*;

fn canonical(bytes: &[u8]) -> bool {
    Document::parse(bytes).unwrap().is_canonical()
}

#[test]
fn the_raw_span_of_a_value_is_exact() {
    let bytes = b"d4:infod1:ai1ee3:xyzli5e0:ee";
    let document = Document::parse(bytes).unwrap();
    let root = document.root();
    assert_eq!(root.raw(), bytes);
    assert_eq!(root.get(b"info").unwrap().raw(), b"d1:ai1ee");
    let list = root.get(b"xyz").unwrap();
    assert_eq!(list.raw(), b"li5e0:e");
    let raws: Vec<_> = list.list().map(|item| item.raw()).collect();
    assert_eq!(raws, [b"i5e".as_slice(), b"0:"]);
}

#[test]
fn a_prefix_is_read_and_its_length_told() {
    let (document, used) = Document::parse_prefix(b"d8:msg_typei1eeREST").unwrap();
    assert_eq!(used, 15);
    assert_eq!(
        document.root().get(b"msg_type").and_then(|v| v.as_int()),
        Some(1)
    );
    assert_eq!(
        Document::parse(b"d8:msg_typei1eeREST").unwrap_err(),
        BencodeError::TrailingBytes { at: 15 }
    );
}

#[test]
fn of_duplicate_keys_the_first_is_taken() {
    let document = Document::parse(b"d1:ai1e1:ai2ee").unwrap();
    assert!(!document.is_canonical());
    assert_eq!(document.root().get(b"a").unwrap().as_int(), Some(1));
    assert_eq!(document.root().dict().count(), 2);
}

#[test]
fn what_only_old_clients_write_is_read_and_flagged() {
    assert!(canonical(b"i0e"));
    assert!(!canonical(b"i-0e"));
    assert!(!canonical(b"i007e"));
    assert!(!canonical(b"01:x"));
    assert!(!canonical(b"d1:bi1e1:ai1ee"));
    assert!(
        canonical(b"d1:ad1:zi1ee1:bi1ee"),
        "keys are compared within one dictionary"
    );
}

#[test]
fn integers_end_where_64_bits_do() {
    for value in [i64::MIN, i64::MAX, -1, 0] {
        let bytes = format!("i{value}e");
        let document = Document::parse(bytes.as_bytes()).unwrap();
        assert_eq!(document.root().as_int(), Some(value));
    }
    let overflow = BencodeError::IntegerOverflow { at: 0 };
    assert_eq!(
        Document::parse(b"i9223372036854775808e").unwrap_err(),
        overflow
    );
    assert_eq!(
        Document::parse(b"i-9223372036854775809e").unwrap_err(),
        overflow
    );
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| [vec![b'l'; depth], vec![b'e'; depth]].concat();
    assert!(Document::parse(&nested(BENCODE_DEPTH_MAX)).is_ok());
    assert_eq!(
        Document::parse(&nested(BENCODE_DEPTH_MAX + 1)).unwrap_err(),
        BencodeError::TooDeep {
            at: BENCODE_DEPTH_MAX
        }
    );
}

#[test]
#[should_panic(expected = "out of order")]
#[cfg(debug_assertions)]
fn the_writer_does_not_write_unsorted_keys() {
    Writer::new().dict(|dict| {
        dict.int("b", 1);
        dict.int("a", 1);
    });
}

#[derive(Clone, Debug)]
enum Tree {
    Int(i64),
    Bytes(Vec<u8>),
    List(Vec<Tree>),
    Dict(std::collections::BTreeMap<Vec<u8>, Tree>),
}

fn write(tree: &Tree, writer: &mut Writer) {
    match tree {
        Tree::Int(value) => writer.int(*value),
        Tree::Bytes(value) => writer.bytes(value),
        Tree::List(items) => writer.list(|list| items.iter().for_each(|item| write(item, list))),
        Tree::Dict(entries) => writer.dict(|dict| {
            for (key, value) in entries {
                let mut inner = Writer::new();
                write(value, &mut inner);
                dict.raw(key, &inner.finish());
            }
        }),
    }
}

fn agrees(tree: &Tree, value: Value<'_>) -> bool {
    match tree {
        Tree::Int(int) => value.as_int() == Some(*int) && value.as_bytes().is_none(),
        Tree::Bytes(bytes) => value.as_bytes() == Some(bytes) && value.as_int().is_none(),
        Tree::List(items) => {
            value.is_list()
                && value.list().count() == items.len()
                && items
                    .iter()
                    .zip(value.list())
                    .all(|(item, value)| agrees(item, value))
        }
        Tree::Dict(entries) => {
            value.is_dict()
                && value.dict().count() == entries.len()
                && entries
                    .iter()
                    .all(|(key, item)| value.get(key).is_some_and(|value| agrees(item, value)))
        }
    }
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Tree::Int),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Tree::Bytes),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Tree::List),
            prop::collection::btree_map(prop::collection::vec(any::<u8>(), 0..6), inner, 0..6)
                .prop_map(Tree::Dict),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(tree in any_tree()) {
        let mut writer = Writer::new();
        write(&tree, &mut writer);
        let bytes = writer.finish();
        let document = Document::parse(&bytes).unwrap();
        prop_assert!(document.is_canonical());
        prop_assert!(agrees(&tree, document.root()));
        for cut in 0..bytes.len() {
            prop_assert!(Document::parse(&bytes[..cut]).is_err(), "a proper prefix is no document");
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(prop::sample::select(b"dlie0123456789-:a\xff".as_slice()), 0..60)) {
        if let Ok((document, used)) = Document::parse_prefix(&bytes) {
            prop_assert_eq!(document.root().raw(), &bytes[..used]);
            prop_assert!(document.tape.len() <= bytes.len() / 2 + 1);
            let _ = format!("{:?}", document.root());
        }
    }
}
