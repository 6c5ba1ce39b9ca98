//! The info dictionary that holds nothing but the basics, as [`Draft`](super::create::Draft) makes it and `.bit` spells it out.

use serde::{Deserialize, Serialize};

use super::info::raw_name;
use super::{FileEntry, Info, MetainfoError};
use crate::format::bencode::{Document, List, Value, Writer};

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

impl Content {
    /// The `length` and the `files`, of which exactly one is there.
    pub(super) fn split(self) -> (Option<u64>, Option<Vec<PlainFile>>) {
        match self {
            Self::File(length) => (Some(length), None),
            Self::Folder(files) => (None, Some(files)),
        }
    }
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
        let geometry = info.geometry();
        let pieces = geometry.all_pieces().map(|piece| *info.piece_hash(piece));
        Ok(Self {
            name: lossy(name),
            piece_length: geometry.piece_len(),
            pieces: pieces.collect(),
            content: match root.get(b"files").and_then(|files| files.as_list()) {
                Some(entries) => Content::Folder(plain_files(entries, info.files())),
                None => Content::File(geometry.total()),
            },
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
                        files.iter().for_each(|file| write_file(list, file));
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

fn plain_files(entries: List<'_>, files: &[FileEntry]) -> Vec<PlainFile> {
    let path_of = |entry: Value<'_>| {
        let list = |key| entry.get(key).and_then(|path| path.as_list());
        let names = list(b"path.utf-8")
            .or_else(|| list(b"path"))
            .into_iter()
            .flatten();
        names
            .filter_map(|name| name.as_bytes())
            .map(lossy)
            .collect()
    };
    let plain = |(entry, file): (Value<'_>, &FileEntry)| PlainFile {
        path: path_of(entry),
        length: file.length(),
    };
    entries.zip(files).map(plain).collect()
}

fn write_file(list: &mut Writer, file: &PlainFile) {
    list.dict(|dict| {
        dict.int("length", signed(file.length));
        dict.list("path", |path| {
            file.path.iter().for_each(|name| path.bytes(name));
        });
    });
}

fn signed(length: u64) -> i64 {
    i64::try_from(length).unwrap_or(-1)
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
