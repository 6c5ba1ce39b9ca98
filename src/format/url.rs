//! What passes as the address of a tracker or web seed.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::base::limits::URL_LEN_MAX;

/// Bytes that RFC 3986 allows nowhere in a URL; `%` stays, for what is escaped already.
const NEVER: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The address without surrounding space and with what no URL may contain escaped; `None` if it has no scheme, nothing
/// after it, or is longer than [`URL_LEN_MAX`].
pub(crate) fn clean(text: &str) -> Option<String> {
    let text = text.trim();
    let (scheme, rest) = text.split_once("://")?;
    let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !scheme_fits || rest.is_empty() || text.len() > URL_LEN_MAX {
        return None;
    }
    Some(utf8_percent_encode(text, NEVER).to_string())
}

/// Appends `text` to `list` unless it is there.
pub(crate) fn push_new(
    list: &mut Vec<String>,
    seen: &mut std::collections::HashSet<String>,
    text: String,
) {
    if seen.insert(text.clone()) {
        list.push(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_url_may_contain_is_escaped_once() {
        let clean_url = clean(" http://a.com/x y%20é ").unwrap();
        assert_eq!(clean_url, "http://a.com/x%20y%20%C3%A9");
        assert_eq!(clean(&clean_url), Some(clean_url.clone()));
    }

    #[test]
    fn what_has_no_scheme_is_no_address() {
        for text in ["", "a.com", "://a", "1http://a", "http://", "ht tp://a"] {
            assert_eq!(clean(text), None, "{text}");
        }
        assert_eq!(clean(&format!("http://{}", "a".repeat(URL_LEN_MAX))), None);
    }
}
