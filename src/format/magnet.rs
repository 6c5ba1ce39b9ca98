//! Magnet links (BEP 9, BEP 53): a torrent named by its hash, with hints where to find it.

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use data_encoding::{BASE32, HEXLOWER_PERMISSIVE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::host::{self, HostPort};
use super::metainfo::Metainfo;
use super::url;
use crate::base::InfoHash;
use crate::base::limits::{MAGNET_LEN_MAX, SELECT_INDEX_MAX};

/// What a magnet link says. It names a torrent by at least one of its two hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Magnet {
    /// The torrent's info-hash (`xt=urn:btih:`).
    pub info_hash: Option<InfoHash>,
    /// The SHA-256 info-hash of a v2 or hybrid torrent (`xt=urn:btmh:1220`, BEP 52).
    pub info_hash_v2: Option<[u8; 32]>,
    /// A name to show until the metadata is there (`dn`). As it came: no file may be named after it unchecked.
    pub name: Option<String>,
    /// Trackers, each its own tier, without duplicates (`tr`).
    pub trackers: Vec<String>,
    /// Peers to try (`x.pe`).
    pub peers: Vec<HostPort>,
    /// DHT nodes to try (`dht`).
    pub nodes: Vec<HostPort>,
    /// Web seeds (`ws`).
    pub web_seeds: Vec<String>,
    /// Indices of the files to fetch, ascending and apart (`so`, BEP 53); all if empty. Every index is below [`SELECT_INDEX_MAX`].
    pub select_only: Vec<RangeInclusive<u32>>,
}

/// Why a text names no torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MagnetError {
    /// Neither a magnet link nor a bare info-hash.
    #[error("this is neither a magnet link nor an info-hash of 40 hexadecimal or 32 base32 digits")]
    NotMagnet,
    /// Longer than [`MAGNET_LEN_MAX`].
    #[error("the magnet link is longer than {MAGNET_LEN_MAX} bytes")]
    TooLong,
    /// No `xt` names a torrent.
    #[error("the magnet link names no torrent: it needs xt=urn:btih: and an info-hash")]
    NoInfoHash,
    /// An `xt` for BitTorrent whose hash is malformed.
    #[error(
        "the info-hash in the magnet link is malformed: it is 40 hexadecimal or 32 base32 digits"
    )]
    InvalidInfoHash,
    /// An `xt` for BitTorrent v2 whose hash is malformed.
    #[error(
        "the v2 info-hash in the magnet link is malformed: it is 1220 and 64 hexadecimal digits"
    )]
    InvalidInfoHashV2,
}

impl Magnet {
    /// Reads a magnet link, or a bare info-hash in 40 hexadecimal or 32 base32 digits. Parameters that are unknown or
    /// malformed are passed over, as other clients do; only the hash has to be right.
    ///
    /// # Errors
    /// If it names no torrent.
    pub fn parse(text: &str) -> Result<Self, MagnetError> {
        if text.len() > MAGNET_LEN_MAX {
            return Err(MagnetError::TooLong);
        }
        if let Some(info_hash) = info_hash(text) {
            return Ok(Self::of(info_hash));
        }
        let (scheme, rest) = text.split_once('?').ok_or(MagnetError::NotMagnet)?;
        let scheme = scheme.trim_end_matches('/');
        if !scheme.eq_ignore_ascii_case("magnet:") && !scheme.eq_ignore_ascii_case("stream-magnet:")
        {
            return Err(MagnetError::NotMagnet);
        }
        let mut parser = Parser::default();
        for parameter in rest.split('&') {
            // Links copied out of HTML keep `&amp;`.
            let parameter = parameter.strip_prefix("amp;").unwrap_or(parameter);
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            parser.parameter(&key.to_ascii_lowercase(), value)?;
        }
        parser.finish()
    }

    /// The link that names `info_hash` and nothing else.
    pub fn of(info_hash: InfoHash) -> Self {
        Self {
            info_hash: Some(info_hash),
            ..Self::default()
        }
    }

    /// The link to a torrent that is known.
    pub fn from_metainfo(metainfo: &Metainfo) -> Self {
        let mut seen = HashSet::new();
        let mut trackers = Vec::new();
        for tracker in metainfo.announce.iter().flatten() {
            url::push_new(&mut trackers, &mut seen, tracker.clone());
        }
        Self {
            info_hash: Some(metainfo.info.info_hash()),
            info_hash_v2: metainfo.info.info_hash_v2(),
            name: Some(metainfo.info.name().to_owned()),
            trackers,
            peers: Vec::new(),
            nodes: metainfo.nodes.clone(),
            web_seeds: metainfo.web_seeds.clone(),
            select_only: Vec::new(),
        }
    }

    /// Whether the file with this index, in torrent order from 0, is to be fetched.
    pub fn selects(&self, file: u32) -> bool {
        self.select_only.is_empty() || self.select_only.iter().any(|range| range.contains(&file))
    }
}

impl FromStr for Magnet {
    type Err = MagnetError;

    fn from_str(text: &str) -> Result<Self, MagnetError> {
        Self::parse(text)
    }
}

/// The info-hash in 40 hexadecimal or 32 base32 digits.
fn info_hash(text: &str) -> Option<InfoHash> {
    if text.len() == 32 {
        let bytes = BASE32.decode(text.to_ascii_uppercase().as_bytes()).ok()?;
        return bytes.try_into().ok().map(InfoHash);
    }
    text.parse().ok()
}

fn info_hash_v2(text: &str) -> Option<[u8; 32]> {
    // A multihash: function 0x12 is SHA-256, length 0x20.
    let digits = text.strip_prefix("1220")?;
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
    bytes.try_into().ok()
}

#[derive(Default)]
struct Parser {
    magnet: Magnet,
    seen_trackers: HashSet<String>,
    seen_web_seeds: HashSet<String>,
}

impl Parser {
    fn parameter(&mut self, key: &str, value: &str) -> Result<(), MagnetError> {
        // `tr.1`, `xt.2`: numbered where a key repeats.
        let base = key
            .rsplit_once('.')
            .filter(|(_, number)| {
                !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
            })
            .map_or(key, |(base, _)| base);
        let Some(value) = unescape(value, base == "dn") else {
            return Ok(());
        };
        match base {
            "xt" => self.topic(&value)?,
            "dn" if self.magnet.name.is_none() && !value.is_empty() => {
                self.magnet.name = Some(value);
            }
            "tr" => self.url(&value, true),
            "ws" => self.url(&value, false),
            "x.pe" => self.magnet.peers.extend(host::parse(&value)),
            "dht" => self.magnet.nodes.extend(host::parse(&value)),
            "so" => self
                .magnet
                .select_only
                .extend(value.split(',').filter_map(range)),
            _ => {}
        }
        Ok(())
    }

    fn topic(&mut self, value: &str) -> Result<(), MagnetError> {
        const PREFIX: usize = "urn:btih:".len();
        let Some((prefix, hash)) = value.split_at_checked(PREFIX) else {
            return Ok(());
        };
        if prefix.eq_ignore_ascii_case("urn:btih:") {
            let hash = info_hash(hash).ok_or(MagnetError::InvalidInfoHash)?;
            self.magnet.info_hash.get_or_insert(hash);
        } else if prefix.eq_ignore_ascii_case("urn:btmh:") {
            let hash = info_hash_v2(hash).ok_or(MagnetError::InvalidInfoHashV2)?;
            self.magnet.info_hash_v2.get_or_insert(hash);
        }
        Ok(())
    }

    fn url(&mut self, value: &str, tracker: bool) {
        let (list, seen) = if tracker {
            (&mut self.magnet.trackers, &mut self.seen_trackers)
        } else {
            (&mut self.magnet.web_seeds, &mut self.seen_web_seeds)
        };
        if let Some(url) = url::clean(value) {
            url::push_new(list, seen, url);
        }
    }

    fn finish(self) -> Result<Magnet, MagnetError> {
        let mut magnet = self.magnet;
        if magnet.info_hash.is_none() && magnet.info_hash_v2.is_none() {
            return Err(MagnetError::NoInfoHash);
        }
        magnet.select_only = merged(magnet.select_only);
        Ok(magnet)
    }
}

/// `text` with `%xx` resolved (and `+` made a space, as forms do); `None` if an escape is malformed or the result is not UTF-8.
fn unescape(text: &str, plus: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                (high * 16 + low) as u8
            }
            b'+' if plus => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

/// `6` or `6-8` (BEP 53).
fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let index = |digits: &str| {
        let number = digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse().ok())?;
        number.filter(|&number: &u32| number < SELECT_INDEX_MAX)
    };
    let (first, last) = (index(first)?, index(last)?);
    (first <= last).then_some(first..=last)
}

fn merged(mut ranges: Vec<RangeInclusive<u32>>) -> Vec<RangeInclusive<u32>> {
    ranges.sort_unstable_by_key(|range| *range.start());
    let mut out: Vec<RangeInclusive<u32>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(last) if *range.start() <= *last.end() + 1 => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => out.push(range),
        }
    }
    out
}

/// Everything but what RFC 3986 leaves unreserved.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// In the hints, what keeps them readable and no query splits at stays too.
const ESCAPED_IN_ADDRESS: &AsciiSet = &ESCAPED.remove(b':').remove(b'[').remove(b']');

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = '?';
        let mut put = |key: &str, value: &dyn fmt::Display| {
            let before = std::mem::replace(&mut separator, '&');
            write!(
                f,
                "{}{before}{key}={value}",
                if before == '?' { "magnet:" } else { "" }
            )
        };
        if let Some(hash) = self.info_hash {
            put("xt", &format_args!("urn:btih:{hash}"))?;
        }
        if let Some(hash) = &self.info_hash_v2 {
            put(
                "xt",
                &format_args!("urn:btmh:1220{}", HEXLOWER_PERMISSIVE.encode(hash)),
            )?;
        }
        if let Some(name) = &self.name {
            put("dn", &utf8_percent_encode(name, ESCAPED))?;
        }
        for tracker in &self.trackers {
            put("tr", &utf8_percent_encode(tracker, ESCAPED))?;
        }
        for seed in &self.web_seeds {
            put("ws", &utf8_percent_encode(seed, ESCAPED))?;
        }
        for (key, list) in [("x.pe", &self.peers), ("dht", &self.nodes)] {
            for (name, port) in list {
                let address = host::format(name, *port);
                put(key, &utf8_percent_encode(&address, ESCAPED_IN_ADDRESS))?;
            }
        }
        if !self.select_only.is_empty() {
            let ranges: Vec<_> = self.select_only.iter().map(written).collect();
            put("so", &ranges.join(","))?;
        }
        Ok(())
    }
}

fn written(range: &RangeInclusive<u32>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("{}-{}", range.start(), range.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd";

    fn with(parameters: &str) -> Magnet {
        Magnet::parse(&format!("magnet:?xt=urn:btih:{HASH}&{parameters}")).unwrap()
    }

    #[test]
    fn a_bare_info_hash_is_taken_in_both_spellings() {
        let hash = InfoHash(*b"abababababababababab");
        let base32 = "MFRGCYTBMJQWEYLCMFRGCYTBMJQWEYLC";
        for text in [hash.to_string(), base32.to_owned(), base32.to_lowercase()] {
            assert_eq!(Magnet::parse(&text), Ok(Magnet::of(hash)));
        }
        assert_eq!(
            Magnet::parse(&format!("{hash}\n")),
            Err(MagnetError::NotMagnet)
        );
    }

    #[test]
    fn selections_are_merged_and_what_is_malformed_is_passed_over() {
        assert_eq!(
            with("so=4,0,2,6-8&so=7-9,x,-4,5-4,3-,99999999").select_only,
            [0..=0, 2..=2, 4..=4, 6..=9]
        );
        assert_eq!(with(&format!("so=0-{SELECT_INDEX_MAX}")).select_only, []);
        assert!(with("so=1").selects(1) && !with("so=1").selects(0) && with("").selects(7));
    }

    #[test]
    fn a_malformed_hint_does_not_spoil_the_link() {
        let magnet = with("tr=%&tr=%f&ws=%ff&x.pe=:1&dn=a+b%2Bc&&=&tr=nonsense");
        assert_eq!(magnet.name.as_deref(), Some("a b+c"));
        assert!(
            magnet.trackers.is_empty() && magnet.web_seeds.is_empty() && magnet.peers.is_empty()
        );
    }

    #[test]
    fn a_link_past_the_bound_is_refused() {
        let text = format!(
            "magnet:?xt=urn:btih:{HASH}&dn={}",
            "x".repeat(MAGNET_LEN_MAX)
        );
        assert_eq!(Magnet::parse(&text), Err(MagnetError::TooLong));
    }

    fn any_magnet() -> impl Strategy<Value = Magnet> {
        let host = || {
            prop::collection::vec(
                (
                    prop_oneof![
                        "[a-z]{1,9}",
                        Just("::1".to_owned()),
                        Just("1.2.3.4".to_owned())
                    ],
                    1u16..,
                ),
                0..3,
            )
        };
        let urls = || prop::collection::hash_set("https?://[a-z]{1,5}/[a-z?&=+%25#]{0,9}", 0..3);
        (
            any::<[u8; 20]>(),
            any::<Option<[u8; 32]>>(),
            prop::option::of(".{1,20}"),
            urls(),
            urls(),
            host(),
            host(),
            prop::collection::vec(0u32..50, 0..5),
        )
            .prop_map(|(v1, v2, name, trackers, seeds, peers, nodes, so)| Magnet {
                info_hash: Some(InfoHash(v1)),
                info_hash_v2: v2,
                name,
                trackers: trackers.into_iter().collect(),
                web_seeds: seeds.into_iter().collect(),
                peers,
                nodes,
                select_only: merged(so.into_iter().map(|index| index..=index).collect()),
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(magnet in any_magnet()) {
            prop_assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "(magnet:\\?)?(xt=urn:btih:)?.{0,80}") {
            let _ = Magnet::parse(&text);
        }
    }
}
