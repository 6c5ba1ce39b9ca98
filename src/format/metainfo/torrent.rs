//! The `.torrent` encoding (BEP 3, 5, 12, 19).

use std::sync::Arc;

use super::info::Reading;
use super::{Metainfo, MetainfoError, hints, v2};
use crate::base::limits::METAINFO_MAX;
use crate::format::bencode::{Document, Value, Writer};
use crate::format::host::{self, HostPort};

impl Metainfo {
    /// Reads a `.torrent`.
    ///
    /// # Errors
    /// If it is not a valid torrent, or one that is not supported. Hints that are malformed are passed over.
    pub fn from_torrent(bytes: &[u8]) -> Result<Self, MetainfoError> {
        if bytes.len() > METAINFO_MAX {
            return Err(MetainfoError::TooLarge(bytes.len()));
        }
        // Editors and shells leave a newline behind; other bytes there mean that something went wrong.
        let document = Document::parse(bytes.trim_ascii_end())?;
        let root = document.root();
        if !root.is_dict() {
            return Err(MetainfoError::NotDict);
        }
        let info = root.get(b"info").filter(Value::is_dict);
        let info = info.ok_or(MetainfoError::MissingInfo)?;
        let reading = Reading::of(info.raw().to_vec())?;
        let layers = root.get(b"piece layers").filter(Value::is_dict);
        if let (Some(tree), Some(layers)) = (reading.tree, layers) {
            v2::check_layers(tree, layers)?;
        }
        let info = reading.info.ok_or(MetainfoError::V2Only)?;
        Ok(Self {
            announce: announce(root),
            nodes: root.get(b"nodes").map(nodes).unwrap_or_default(),
            web_seeds: hints::web_seeds(
                root.get(b"url-list").into_iter().flat_map(strings),
                info.files().len() > 1,
            ),
            comment: text(root, [b"comment.utf-8", b"comment".as_slice()]),
            created_by: text(root, [b"created by.utf-8", b"created by".as_slice()]),
            creation_date: root
                .get(b"creation date")
                .and_then(|date| date.as_int())
                .filter(|&date| hints::is_date(date)),
            blake3: root
                .get(b"blake3")
                .and_then(|digest| digest.as_bytes()?.try_into().ok()),
            info: Arc::new(info),
        })
    }

    /// Writes a `.torrent` with the info dictionary byte for byte as it was read. The BLAKE3 digest goes into a key `blake3`
    /// beside the info dictionary, which other clients pass over.
    pub fn to_torrent(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.dict(|dict| {
            let first = self.announce.iter().flatten().next();
            if let Some(url) = first {
                dict.bytes("announce", url);
            }
            if self.announce.iter().flatten().count() > 1 {
                dict.list("announce-list", |tiers| {
                    for tier in &self.announce {
                        tiers.list(|urls| tier.iter().for_each(|url| urls.bytes(url)));
                    }
                });
            }
            if let Some(digest) = &self.blake3 {
                dict.bytes("blake3", digest);
            }
            if let Some(comment) = &self.comment {
                dict.bytes("comment", comment);
            }
            if let Some(program) = &self.created_by {
                dict.bytes("created by", program);
            }
            if let Some(date) = self.creation_date {
                dict.int("creation date", date);
            }
            dict.raw("info", self.info.raw());
            if !self.nodes.is_empty() {
                dict.list("nodes", |list| {
                    self.nodes.iter().for_each(|node| write_node(list, node));
                });
            }
            if !self.web_seeds.is_empty() {
                dict.list("url-list", |list| {
                    self.web_seeds.iter().for_each(|url| list.bytes(url));
                });
            }
        });
        writer.finish()
    }
}

fn write_node(list: &mut Writer, (host, port): &HostPort) {
    list.list(|pair| {
        pair.bytes(host);
        pair.int(i64::from(*port));
    });
}

/// The `announce-list` of BEP 12, or `announce` if that has nothing. A tier that is a bare string is taken for a tier of one.
fn announce(root: Value<'_>) -> Vec<Vec<String>> {
    let list = root.get(b"announce-list").map(|list| list.list());
    let tiers = hints::tiers(list.into_iter().flatten().map(strings));
    if tiers.is_empty() {
        hints::tiers(root.get(b"announce").map(strings))
    } else {
        tiers
    }
}

/// The strings of a list, or the one that stands where a list is due.
fn strings<'a>(value: Value<'a>) -> impl Iterator<Item = &'a str> {
    let items = value.list().chain(value.is_bytes().then_some(value));
    items.filter_map(|item| item.as_str())
}

fn nodes(list: Value<'_>) -> Vec<HostPort> {
    let node = |pair: Value<'_>| {
        let mut pair = pair.list();
        let host = pair.next()?.as_str().filter(|host| host::is_host(host))?;
        let port = u16::try_from(pair.next()?.as_int()?)
            .ok()
            .filter(|&port| port > 0)?;
        Some((host.to_owned(), port))
    };
    list.list().filter_map(node).collect()
}

/// The first of `keys` that has a text; what is not UTF-8 in it is replaced.
fn text(root: Value<'_>, keys: [&[u8]; 2]) -> Option<String> {
    keys.into_iter()
        .filter_map(|key| root.get(key)?.as_bytes())
        .find(|text| !text.is_empty())
        .map(|text| String::from_utf8_lossy(text).into_owned())
}
