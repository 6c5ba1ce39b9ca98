//! One name of a path.

use crate::base::limits::NAME_LEN_MAX;

/// Where a name that is too long is cut, in bytes; libtorrent cuts there too, so that both name the file alike.
const CUT: usize = 240;
/// The longest extension that is kept, in bytes with its dot.
const EXTENSION: usize = 9;

/// `name` as a safe path component; `None` if nothing of it can stay.
///
/// Separators, NUL and invisible characters are dropped; control characters and what is not UTF-8 become `_`; a name that Windows reserves gets
/// a `_` in front; one longer than [`NAME_LEN_MAX`] is cut, its extension kept. The rules are libtorrent's wherever that has one, since what
/// it saved is to be found again.
pub fn sanitise(name: &[u8]) -> Option<String> {
    if name.is_empty() {
        return Some("_".to_owned());
    }
    let mut safe = String::with_capacity(name.len().min(NAME_LEN_MAX));
    let mut rest = name;
    while let Some((c, tail)) = next_char(rest) {
        rest = tail;
        match c {
            Some(c) if is_dropped(c) => {}
            Some(c) if !c.is_control() => safe.push(c),
            _ => safe.push('_'),
        }
    }
    if matches!(safe.as_str(), "" | "." | "..") {
        return None;
    }
    if is_reserved_on_windows(&safe) {
        safe.insert(0, '_');
    }
    if safe.len() > NAME_LEN_MAX {
        safe = shortened(&safe);
    }
    Some(safe)
}

/// The first character of `bytes`, `None` if it is malformed, and what follows it. As in libtorrent, a malformed sequence is as long
/// as its first byte says.
fn next_char(bytes: &[u8]) -> Option<(Option<char>, &[u8])> {
    let len = match bytes.first()? {
        0xc0..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf7 => 4,
        0xf8..=0xfb => 5,
        0xfc..=0xfd => 6,
        _ => 1,
    };
    let (sequence, rest) = bytes.split_at(len.min(bytes.len()));
    let text = std::str::from_utf8(sequence).ok();
    Some((text.and_then(|text| text.chars().next()), rest))
}

/// Separators, NUL, and characters that nobody sees but that make one name look like another.
fn is_dropped(c: char) -> bool {
    matches!(c, '\0' | '/' | '\\' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Whether Windows takes it for a device, which it does whatever the extension.
fn is_reserved_on_windows(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end();
    let is = |device: &str| stem.eq_ignore_ascii_case(device);
    let numbered = stem.len() == 4
        && stem.is_char_boundary(3)
        && ["com", "lpt"]
            .iter()
            .any(|port| stem[..3].eq_ignore_ascii_case(port))
        && stem.ends_with(|c: char| c.is_ascii_digit());
    numbered
        || ["con", "prn", "aux", "nul", "clock$", "conin$", "conout$"]
            .into_iter()
            .any(is)
}

fn shortened(name: &str) -> String {
    let (stem, extension) = split_extension(name);
    let kept = if extension.len() <= EXTENSION {
        extension
    } else {
        ""
    };
    let stem = if kept.is_empty() { name } else { stem };
    format!("{}{kept}", cut(stem, CUT))
}

/// The longest beginning of `text` of at most `len` bytes that ends between characters.
pub(super) fn cut(text: &str, len: usize) -> &str {
    let mut end = text.len().min(len);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// What stands before the last dot and what from it.
pub(super) fn split_extension(name: &str) -> (&str, &str) {
    name.split_at(name.rfind('.').unwrap_or(name.len()))
}
