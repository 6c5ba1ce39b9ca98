//! The rules of the source tree that the compiler does not check: imports point down, the pure layers are pure, and
//! each dangerous or noisy thing has one place.

use std::fs;
use std::path::{Path, PathBuf};

/// Every layer and what it may import, the crate's own names only.
const LAYERS: [(&str, &[&str]); 9] = [
    ("base", &[]),
    ("format", &["base"]),
    ("proto", &["base", "format"]),
    ("swarm", &["base", "format", "proto"]),
    ("net", &["base", "format", "proto", "swarm"]),
    ("disk", &["base", "format", "proto", "swarm"]),
    ("store", &["base", "format", "proto", "swarm"]),
    (
        "engine",
        &["base", "format", "proto", "swarm", "net", "disk", "store"],
    ),
    (
        "cli",
        &[
            "base", "format", "proto", "swarm", "net", "disk", "store", "engine",
        ],
    ),
];

/// Layers that take time, randomness and bytes as arguments.
const PURE: [&str; 4] = ["base", "format", "proto", "swarm"];

/// What a pure layer must not name.
const EFFECTS: [&str; 14] = [
    "tokio",
    "std::fs",
    "std::thread",
    "std::process",
    "std::env",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant::now",
    "SystemTime",
    "rand::rng",
    "rand::random",
    "rustix",
    "libc",
];

/// The files that may hold `unsafe`.
const UNSAFE: [&str; 3] = ["disk/map.rs", "disk/sigbus.rs", "disk/sha1x2.rs"];

/// Lines of code, tests left out, after which a file is two.
const LONGEST: usize = 600;

/// A file of `src/` or `migrations/`: what the compiler sees of it outside tests, comments and literals blanked.
struct Source {
    /// Relative to its root, with `/`.
    name: String,
    layer: String,
    code: String,
}

#[test]
fn imports_point_down_and_siblings_never_name_each_other() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == source.layer) else {
            continue;
        };
        for (other, _) in LAYERS {
            if other == source.layer || allowed.contains(&other) {
                continue;
            }
            for line in lines_naming(&source, &mentions(other)) {
                wrong.push(format!("{line} names {other}"));
            }
        }
    }
    none(&wrong);
}

#[test]
fn every_folder_of_the_source_tree_is_a_layer() {
    let known = |source: &Source| {
        source.layer.is_empty() || LAYERS.iter().any(|(layer, _)| *layer == source.layer)
    };
    let unknown: Vec<String> = sources()
        .into_iter()
        .filter(|source| !known(source))
        .map(|source| source.name)
        .collect();
    none(&unknown);
}

#[test]
fn pure_layers_take_time_and_randomness_and_bytes_as_arguments() {
    let mut wrong = Vec::new();
    for source in sources() {
        if PURE.contains(&source.layer.as_str()) {
            let effects: Vec<String> = EFFECTS.map(str::to_owned).to_vec();
            wrong.extend(lines_naming(&source, &effects));
        }
    }
    none(&wrong);
}

#[test]
fn each_of_these_has_one_home() {
    type Home = fn(&Source) -> bool;
    let homes: [(&str, Home); 4] = [
        ("sled", |source| source.layer == "store"),
        ("clap", |source| source.layer == "cli"),
        ("tokio", |source| {
            ["", "net", "disk", "store", "engine", "cli"].contains(&source.layer.as_str())
        }),
        ("memmap2", |source| source.layer == "disk"),
    ];
    let mut wrong = Vec::new();
    for source in sources() {
        for (name, at_home) in homes {
            if !at_home(&source) {
                wrong.extend(lines_naming(&source, &[name.to_owned()]));
            }
        }
    }
    none(&wrong);
}

#[test]
fn unsafe_is_in_three_files() {
    let mut wrong = Vec::new();
    for source in sources() {
        if !UNSAFE.contains(&source.name.as_str()) {
            wrong.extend(lines_naming(&source, &["unsafe".to_owned()]));
        }
    }
    none(&wrong);
}

#[test]
fn every_use_of_unsafe_says_why_it_is_sound() {
    let mut wrong = Vec::new();
    for path in UNSAFE {
        let Ok(text) = fs::read_to_string(root().join("src").join(path)) else {
            continue;
        };
        let uses = text.matches("unsafe {").count() + text.matches("unsafe impl").count();
        let reasons = text.matches("SAFETY:").count();
        if reasons < uses {
            wrong.push(format!("{path}: {uses} uses, {reasons} SAFETY comments"));
        }
    }
    none(&wrong);
}

#[test]
fn printing_is_in_one_file() {
    let printers = ["println!", "print!", "eprintln!", "eprint!", "dbg!"].map(str::to_owned);
    let mut wrong = Vec::new();
    for source in sources() {
        if source.name != "cli/output.rs" {
            wrong.extend(lines_naming(&source, &printers));
        }
    }
    none(&wrong);
}

#[test]
fn a_file_is_one_noun_and_not_long() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|source| source.code.trim_end().lines().count() > LONGEST)
        .map(|source| {
            let lines = source.code.trim_end().lines().count();
            format!("{}: {lines} lines without tests", source.name)
        })
        .collect();
    none(&long);
}

#[test]
fn no_file_is_called_after_nothing() {
    let vague = [
        "util", "utils", "helpers", "misc", "common", "manager", "context",
    ];
    let wrong: Vec<String> = sources()
        .into_iter()
        .map(|source| source.name)
        .filter(|name| {
            let stem = Path::new(name).file_stem().and_then(|stem| stem.to_str());
            stem.is_some_and(|stem| vague.contains(&stem))
        })
        .collect();
    none(&wrong);
}

#[test]
fn the_reader_of_this_file_sees_code_and_only_code() {
    let text = r##"
use crate::net; // not this: sled
/* nor /* this: sled */ sled */
const A: &str = "sled \" sled";
const B: &[u8] = br#"sled " sled"#;
const C: char = '"'; const B: u8 = b'"'; const D: char = '\''; fn e<'a>(x: &'a str) {}
#[cfg(test)]
mod tests { use sled::X; fn f() { "}" } }
#[cfg(test)]
use sled::Y;
fn after() { tokio::spawn() }
"##;
    let code = without_tests(&blank(text));
    assert!(!code.contains("sled"), "{code}");
    assert!(
        code.contains("crate::net") && code.contains("tokio::spawn"),
        "{code}"
    );
    assert_eq!(code.lines().count(), text.lines().count());
}

/// How a file may name a layer: through `crate`, the crate's name, or enough `super`s.
fn mentions(layer: &str) -> Vec<String> {
    ["crate::", "seedbank::", "super::super::"]
        .map(|prefix| format!("{prefix}{layer}"))
        .to_vec()
}

/// `file:line: text` of the lines of code in which one of `words` stands as a word.
fn lines_naming(source: &Source, words: &[String]) -> Vec<String> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let stands = |line: &str, word: &str| {
        line.match_indices(word).any(|(at, _)| {
            !line[..at].ends_with(part) && !line[at + word.len()..].starts_with(part)
        })
    };
    let numbered = (1..).zip(source.code.lines());
    numbered
        .filter(|(_, line)| words.iter().any(|word| stands(line, word)))
        .map(|(number, line)| format!("{}:{number}: {}", source.name, line.trim()))
        .chain(grouped_imports(source, words))
        .collect()
}

/// Imports of the form `use crate::{base, net}`, which no line names in full.
fn grouped_imports(source: &Source, words: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for prefix in ["crate", "seedbank"] {
        let open = format!("{prefix}::{{");
        for (at, _) in source.code.match_indices(&open) {
            let inside = group(&source.code[at + open.len()..]);
            for name in inside {
                let full = format!("{prefix}::{name}");
                if words.contains(&full) {
                    found.push(format!("{}: use {open}…{name}…}}", source.name));
                }
            }
        }
    }
    found
}

/// First path segments of the items in an import group whose brace was just opened.
fn group(text: &str) -> Vec<String> {
    let mut depth = 0;
    let mut names = vec![String::new()];
    let mut in_first = true;
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(String::new());
                in_first = true;
            }
            ':' => in_first = false,
            c if depth == 0 && in_first && !c.is_whitespace() => {
                names.last_mut().expect("starts with one").push(c);
            }
            _ => {}
        }
    }
    names
}

#[track_caller]
fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut all = Vec::new();
    let mut open = vec![src.clone()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the source tree") {
            let path = entry.expect("an entry").path();
            let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
            if path.is_dir() && !is_test {
                open.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") && !is_test {
                all.push(Source::read(&src, &path));
            }
        }
    }
    assert!(all.len() > 10, "the source tree was found");
    all
}

impl Source {
    fn read(src: &Path, path: &Path) -> Self {
        let name = path.strip_prefix(src).expect("below src");
        let name = name.to_str().expect("UTF-8").replace('\\', "/");
        let text = fs::read_to_string(path).expect("readable");
        let layer = name.split_once('/').map_or("", |(layer, _)| layer);
        Self {
            layer: layer.to_owned(),
            code: without_tests(&blank(&text)),
            name,
        }
    }
}

/// `code` (already blanked) without items under `#[cfg(test)]`; lines stay where they are.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let rest = &out[start..];
        let brace = rest.find('{').unwrap_or(rest.len());
        let semicolon = rest.find(';').unwrap_or(rest.len());
        let end = if semicolon < brace {
            semicolon + 1
        } else {
            closing(rest, brace)
        };
        let removed: String = rest[..end].chars().filter(|&c| c == '\n').collect();
        out.replace_range(start..start + end, &removed);
    }
    out
}

/// Where the block that opens at `brace` ends.
fn closing(text: &str, brace: usize) -> usize {
    let mut depth = 0;
    for (at, c) in text[brace..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return brace + at + 1;
        }
    }
    text.len()
}

/// `text` with comments and the insides of literals turned to spaces, newlines kept.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(len) = literal(rest, out.chars().next_back()) {
            len
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        let blanked = rest[..skip]
            .chars()
            .map(|c| if c == '\n' { c } else { ' ' });
        out.extend(blanked);
        rest = &rest[skip..];
    }
    out
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Length of the string, raw string or character literal that begins here, if one does.
fn literal(text: &str, before: Option<char>) -> Option<usize> {
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        // The prefix of a byte literal came before; a lifetime never follows a letter.
        let quote = text.chars().next().filter(|c| ['"', '\''].contains(c))?;
        return Some(quoted(text, quote));
    }
    let raw = text.trim_start_matches(['b', 'c']);
    if let Some(hashes) = raw.strip_prefix('r') {
        let count = hashes.len() - hashes.trim_start_matches('#').len();
        if hashes[count..].starts_with('"') && text.len() - raw.len() <= 1 {
            let end = format!("\"{}", "#".repeat(count));
            let from = text.len() - hashes.len() + count + 1;
            let len = text[from..].find(&end).map(|at| from + at + end.len());
            return Some(len.unwrap_or(text.len()));
        }
    }
    if text.starts_with('"') {
        return Some(quoted(text, '"'));
    }
    let mut chars = text.strip_prefix('\'')?.chars();
    let (first, second) = (chars.next()?, chars.next()?);
    // Anything else after the quote is a lifetime.
    (first == '\\' || second == '\'').then(|| quoted(text, '\''))
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}
