//! The files of a torrent: where each lies in the payload and on disk.

use super::MetainfoError;
use crate::base::limits::PATH_DEPTH_MAX;
use crate::format::bencode::Value;
use crate::format::path::{SafePath, make_unique};

/// A file of a torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    path: SafePath,
    length: u64,
    offset: u64,
    kind: FileKind,
}

/// What stands for a file on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A file with content.
    Payload,
    /// Zeros that only make the next file begin with a piece (BEP 47, `attr` p); never written to disk.
    Pad,
    /// A symbolic link to a path of the same torrent, which need not exist (BEP 47, `attr` l). Its length is 0.
    Symlink(SafePath),
}

impl FileEntry {
    /// Where it lies below the destination. Of a torrent with a file list, the first component is the torrent's name.
    pub fn path(&self) -> &SafePath {
        &self.path
    }

    /// Bytes of the payload that it takes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Where it begins in the payload, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What stands for it on disk.
    pub fn kind(&self) -> &FileKind {
        &self.kind
    }

    /// Whether it is only there to align the next file.
    pub fn is_pad(&self) -> bool {
        self.kind == FileKind::Pad
    }
}

/// Reads the file of a torrent without a file list: the info dictionary itself says its length.
pub(super) fn single(info: Value<'_>, name: &SafePath) -> Result<Vec<FileEntry>, MetainfoError> {
    let attributes = Attributes::of(info);
    let length = attributes.length(info)?;
    let kind = attributes.kind(info, name, name, 0)?;
    Ok(vec![FileEntry {
        path: name.clone(),
        length,
        offset: 0,
        kind,
    }])
}

/// Reads a file list (`files` of BEP 3). The paths may still fall on one another: see [`tell_apart`].
pub(super) fn several(list: Value<'_>, name: &SafePath) -> Result<Vec<FileEntry>, MetainfoError> {
    let mut files = Vec::new();
    let mut offset = 0u64;
    for (index, entry) in list.list().enumerate() {
        if !entry.is_dict() {
            return Err(MetainfoError::InvalidFile(index));
        }
        let mut attributes = Attributes::of(entry);
        let length = attributes.length(entry)?;
        let path = path_of(entry, name, index, attributes, length)?;
        // BitComet marked its padding by name only.
        attributes.pad |= path.as_str().contains("_____padding_file_");
        let kind = attributes.kind(entry, name, &path, index)?;
        files.push(FileEntry {
            path,
            length,
            offset,
            kind,
        });
        offset = offset
            .checked_add(length)
            .ok_or(MetainfoError::InvalidLength)?;
    }
    Ok(files)
}

/// Renames files that would fall on one another. Padding is left alone, since it is never written.
pub(super) fn tell_apart(files: &mut [FileEntry]) -> Result<(), MetainfoError> {
    let on_disk = files.iter_mut().filter(|file| !file.is_pad());
    let mut paths: Vec<_> = on_disk.map(|file| &mut file.path).collect();
    make_unique(&mut paths).map_err(|_| MetainfoError::TooManyCollisions)
}

fn path_of(
    entry: Value<'_>,
    name: &SafePath,
    index: usize,
    attributes: Attributes,
    length: u64,
) -> Result<SafePath, MetainfoError> {
    let names = list_of(entry, b"path.utf-8").or_else(|| list_of(entry, b"path"));
    match names.filter(|names| names.list().next().is_some()) {
        Some(names) => {
            let names = components(names).ok_or(MetainfoError::InvalidPath(index))?;
            name.join(names)
                .map_err(|_| MetainfoError::PathTooLong(index))
        }
        None if attributes.pad => {
            let number = length.to_string();
            name.join([b".pad".as_slice(), number.as_bytes()])
                .map_err(|_| MetainfoError::PathTooLong(index))
        }
        None => Err(MetainfoError::InvalidPath(index)),
    }
}

fn list_of<'a>(dict: Value<'a>, key: &[u8]) -> Option<Value<'a>> {
    dict.get(key).filter(Value::is_list)
}

/// The names of a path, one more than we take at most; `None` if one is no string.
fn components(list: Value<'_>) -> Option<Vec<&[u8]>> {
    list.list()
        .take(PATH_DEPTH_MAX + 1)
        .map(|name| name.as_bytes())
        .collect()
}

/// The `attr` of BEP 47, as far as it matters here.
#[derive(Clone, Copy)]
pub(super) struct Attributes {
    pub(super) pad: bool,
    pub(super) symlink: bool,
}

impl Attributes {
    pub(super) fn of(entry: Value<'_>) -> Self {
        let attr = entry.get(b"attr").and_then(|attr| attr.as_bytes());
        let has = |letter| attr.is_some_and(|attr| attr.contains(&letter));
        Self {
            pad: has(b'p'),
            symlink: has(b'l'),
        }
    }

    /// Bytes of the payload that the entry takes; none for a link, whatever it says.
    pub(super) fn length(self, entry: Value<'_>) -> Result<u64, MetainfoError> {
        if self.symlink {
            return Ok(0);
        }
        let length = entry.get(b"length").and_then(|length| length.as_int());
        length
            .and_then(|length| u64::try_from(length).ok())
            .ok_or(MetainfoError::InvalidLength)
    }

    fn kind(
        self,
        entry: Value<'_>,
        name: &SafePath,
        path: &SafePath,
        index: usize,
    ) -> Result<FileKind, MetainfoError> {
        if self.pad {
            return Ok(FileKind::Pad);
        }
        let Some(target) = list_of(entry, b"symlink path").filter(|_| self.symlink) else {
            return Ok(FileKind::Payload);
        };
        let names = components(target).ok_or(MetainfoError::InvalidPath(index))?;
        let names = names
            .into_iter()
            .filter(|name| ![b".".as_slice(), b".."].contains(name));
        let target = name
            .join(names)
            .map_err(|_| MetainfoError::PathTooLong(index))?;
        // A link to nothing points to itself, which is harmless.
        let target = if target == *name {
            path.clone()
        } else {
            target
        };
        Ok(FileKind::Symlink(target))
    }
}
