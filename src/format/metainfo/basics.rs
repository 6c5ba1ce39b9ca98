//! The info dictionary that holds nothing but the basics, as [`Draft`](super::create::Draft) makes it and `.bit` spells it out.

use serde::{Deserialize, Serialize};

use super::info::raw_name;
use super::{Info, MetainfoError};
use crate::format::bencode::{Document, Writer};

/// A file of a torrent as the info dictionary spells it: where it lies in the torrent's folder, and its length in bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainFile {
    /// Names of the folders and of the file.
    pub path: Vec<String>,
    /// Its length in bytes.
    pub length: u64,
}

/// One file, or a folder of files. They have different info-hashes even if the folder holds one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The length of the one file.
    File(u64),
    /// The files of the folder, in order.
    Folder(Vec<PlainFile>),
}

/// The basics of an info dictionary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Basics {
    pub(super) name: String,
    pub(super) piece_length: u32,
    pub(super) pieces: Vec<[u8; 20]>,
    pub(super) content: Content,
    pub(super) private: bool,
}

impl Basics {
    /// The basics of `info`; names that are not UTF-8 lose what is not.
    pub(super) fn of(info: &Info) -> Result<Self, MetainfoError> {
        let document = Document::parse(info.raw())?;
        let root = document.root();
        let name = raw_name(root).ok_or(MetainfoError::MissingName)?;
        let content = if info.is_single_file() {
            Content::File(info.geometry().total())
        } else {
            let entries = root.get(b"files").map(|files| files.list());
            let files = info.files().iter().zip(entries.into_iter().flatten());
            let plain = |(file, entry): (&super::FileEntry, crate::format::bencode::Value<'_>)| {
                let path = ["path.utf-8", "path"]
                    .into_iter()
                    .find_map(|key| entry.get(key.as_bytes())?.as_list());
                let names = path
                    .into_iter()
                    .flatten()
                    .filter_map(|name| name.as_bytes());
                PlainFile {
                    path: names.map(lossy).collect(),
                    length: file.length(),
                }
            };
            Content::Folder(files.map(plain).collect())
        };
        let geometry = info.geometry();
        Ok(Self {
            name: lossy(name),
            piece_length: geometry.piece_len(),
            pieces: geometry
                .all_pieces()
                .map(|piece| *info.piece_hash(piece))
                .collect(),
            content,
            private: info.is_private(),
        })
    }

    /// The info dictionary that has them and nothing else.
    pub(super) fn to_raw(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.dict(|dict| {
            match &self.content {
                Content::Folder(files) => {
                    dict.list("files", |list| {
                        files.iter().for_each(|file| write_file(list, file))
                    });
                }
                // Lengths past i64 are refused when the dictionary is read; none that wraps may look valid.
                Content::File(length) => dict.int("length", signed(*length)),
            }
            dict.bytes("name", &self.name);
            dict.int("piece length", i64::from(self.piece_length));
            dict.bytes("pieces", self.pieces.as_flattened());
            if self.private {
                dict.int("private", 1);
            }
        });
        writer.finish()
    }
}

fn write_file(list: &mut Writer, file: &PlainFile) {
    list.dict(|dict| {
        dict.int("length", signed(file.length));
        dict.list("path", |path| {
            file.path.iter().for_each(|name| path.bytes(name))
        });
    });
}

fn signed(length: u64) -> i64 {
    i64::try_from(length).unwrap_or(-1)
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
