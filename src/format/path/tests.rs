use super::*;
use crate::base::limits::{NAME_LEN_MAX, RENAMES_MAX};
use proptest::prelude::*;

fn safe(name: &str) -> Option<String> {
    sanitise(name.as_bytes())
}

#[test]
fn nothing_that_leads_elsewhere_stays() {
    for name in [
        ".",
        "..",
        "/",
        "\\",
        "../",
        "/..\\",
        "\u{200b}.",
        "\u{feff}",
    ] {
        assert_eq!(safe(name), None, "{name:?}");
    }
    assert_eq!(safe("").as_deref(), Some("_"));
    assert_eq!(safe("...").as_deref(), Some("..."));
    assert_eq!(safe("/etc/passwd").as_deref(), Some("etcpasswd"));
    assert_eq!(safe("temp/../../abc").as_deref(), Some("temp....abc"));
    assert_eq!(safe("..\\..\\x").as_deref(), Some("....x"));
    assert_eq!(safe("a\0b\x07c\u{7f}d\u{85}").as_deref(), Some("ab_c_d_"));
    assert_eq!(sanitise(b"\xff\xfea\xc3").as_deref(), Some("__a_"));
    assert_eq!(
        sanitise(b"\xed\xa0\x80").as_deref(),
        Some("_"),
        "one for a sequence"
    );
    assert_eq!(safe("exe.\u{202e}gpj").as_deref(), Some("exe.gpj"));
}

#[test]
fn names_that_windows_reserves_get_a_mark() {
    for name in ["con", "NUL", "Aux.c", "com1", "LPT9.tar.gz", "nul .x"] {
        assert_eq!(safe(name), Some(format!("_{name}")));
    }
    for name in ["icon", "com", "com10", "console", "comé", "aux2"] {
        assert_eq!(safe(name).as_deref(), Some(name));
    }
}

#[test]
fn long_names_are_cut_and_keep_their_extension() {
    let name = format!("{}.torrent", "é".repeat(200));
    let cut = safe(&name).unwrap();
    assert_eq!(cut.len(), 248);
    assert!(cut.ends_with("é.torrent"));
    assert_eq!(
        safe(&"x".repeat(255)).unwrap().len(),
        255,
        "what fits stays"
    );
    assert_eq!(safe(&"x".repeat(256)).unwrap().len(), 240);
}

#[test]
fn a_path_is_bounded() {
    let root = SafePath::new(b"root");
    assert_eq!(
        root.join([b"x".as_slice(); 100])
            .unwrap()
            .components()
            .count(),
        101
    );
    assert_eq!(root.join([b"x".as_slice(); 101]), Err(PathTooLong));
    assert_eq!(root.join([[b'x'; 255].as_slice(); 13]), Err(PathTooLong));
}

fn renamed(paths: &[&str]) -> Vec<String> {
    let root = SafePath::new(b"r");
    let names = |path: &&str| root.join(path.split('/').map(str::as_bytes)).unwrap();
    let mut paths: Vec<_> = paths.iter().map(names).collect();
    make_unique(&mut paths.iter_mut().collect::<Vec<_>>()).unwrap();
    paths
        .iter()
        .map(|path| path.as_str()["r/".len()..].to_owned())
        .collect()
}

#[test]
fn files_that_collide_are_renamed_in_order() {
    assert_eq!(
        renamed(&["a.txt", "A.TXT", "a.1.txt"]),
        ["a.txt", "A.1.TXT", "a.1.1.txt"]
    );
    assert_eq!(
        renamed(&["x", "x/y"]),
        ["x.1", "x/y"],
        "a file where a folder is due"
    );
    assert_eq!(renamed(&["É", "é"]), ["É", "é.1"]);
    assert_eq!(renamed(&[".x", ".x"]), [".x", ".1.x"]);
    assert_eq!(renamed(&["x", "x"]), ["x", "x.1"]);
}

#[test]
fn a_torrent_of_nothing_but_collisions_is_refused() {
    let mut paths = vec![SafePath::new(b"same"); RENAMES_MAX];
    let mut paths: Vec<_> = paths.iter_mut().collect();
    assert_eq!(make_unique(&mut paths), Err(TooManyCollisions));
}

proptest! {
    #[test]
    fn any_bytes_become_a_plain_name(name in prop::collection::vec(any::<u8>(), 0..400)) {
        let safe = SafePath::new(&name);
        prop_assert!(!safe.as_str().is_empty() && safe.as_str().len() <= NAME_LEN_MAX);
        prop_assert!(!safe.as_str().contains(['/', '\\', '\0']) && !safe.as_str().contains(char::is_control));
        prop_assert!(![".", ".."].contains(&safe.as_str()));
        let components: Vec<_> = Path::new(safe.as_str()).components().collect();
        prop_assert!(matches!(components[..], [std::path::Component::Normal(_)]));
        prop_assert_eq!(&SafePath::new(safe.as_str().as_bytes()), &safe, "safe names stay as they are");
    }

    #[test]
    fn unique_paths_are_unique(paths in prop::collection::vec("[aB](/[aA]){0,2}(\\.x)?", 1..20)) {
        let paths: Vec<_> = paths.iter().map(String::as_str).collect();
        let lower: Vec<_> = renamed(&paths).iter().map(|path| path.to_lowercase()).collect();
        for (at, path) in lower.iter().enumerate() {
            for other in &lower[at + 1..] {
                prop_assert!(path != other);
                let within = |inner: &str, outer: &str| inner.starts_with(&format!("{outer}/"));
                prop_assert!(!within(path, other) && !within(other, path));
            }
        }
    }
}
