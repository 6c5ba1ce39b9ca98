//! The info dictionary (BEP 3): what the info-hash names.

use std::fmt;
use std::ops::Range;

use data_encoding::HEXLOWER;
use sha1::{Digest, Sha1};
use sha2::Sha256;

use super::v2::{self, FileTree};
use super::{FileEntry, FileKind, MetainfoError, file};
use crate::base::limits::{PIECE_LEN_MAX, PIECES_MAX};
use crate::base::{BLOCK_LEN, Geometry, InfoHash, PieceIndex};
use crate::format::bencode::{Document, Value};
use crate::format::path::{SafePath, sanitise};

/// A checked info dictionary, with the bytes it was read from.
#[derive(Clone)]
pub struct Info {
    raw: Vec<u8>,
    info_hash: InfoHash,
    info_hash_v2: Option<[u8; 32]>,
    name: SafePath,
    geometry: Geometry,
    /// Where the piece hashes lie in `raw`; twenty bytes for each piece of `geometry`.
    pieces: Range<usize>,
    files: Vec<FileEntry>,
    single_file: bool,
    private: bool,
}

impl Info {
    /// Reads a bencoded info dictionary, as it stands in a `.torrent` or comes from peers (BEP 9).
    ///
    /// # Errors
    /// If it is malformed, contradicts itself, goes past a bound, or is v2-only.
    pub fn from_raw(raw: Vec<u8>) -> Result<Self, MetainfoError> {
        Reading::of(raw)?.info.ok_or(MetainfoError::V2Only)
    }

    /// The SHA-1 of the raw dictionary.
    pub fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    /// The SHA-256 of the raw dictionary, if the torrent is a hybrid (BEP 52).
    pub fn info_hash_v2(&self) -> Option<[u8; 32]> {
        self.info_hash_v2
    }

    /// The name of the file, or of the folder of files, made safe.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// How the payload is cut.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The SHA-1 of a piece.
    ///
    /// # Panics
    /// If the piece lies past the end: it belongs to another torrent.
    pub fn piece_hash(&self, piece: PieceIndex) -> &[u8; 20] {
        let (hashes, _) = self.raw[self.pieces.clone()].as_chunks();
        &hashes[piece.index()]
    }

    /// The files, in the order in which the payload runs through them; at least one.
    pub fn files(&self) -> &[FileEntry] {
        &self.files
    }

    /// Where on disk a piece lies, for people: `a.bin bytes 0-16383, b.bin bytes 0-99`.
    pub fn whereabouts(&self, piece: PieceIndex) -> String {
        let begin = self.geometry.offset_of(piece);
        let end = begin + u64::from(self.geometry.len_of(piece));
        let payload = self
            .files
            .iter()
            .filter(|file| matches!(file.kind(), FileKind::Payload));
        let parts = payload.filter_map(|file| {
            let from = begin.max(file.offset());
            let to = end.min(file.offset() + file.length());
            (from < to).then(|| {
                let (first, last) = (from - file.offset(), to - file.offset() - 1);
                format!("{} bytes {first}-{last}", file.path().as_str())
            })
        });
        parts.collect::<Vec<_>>().join(", ")
    }

    /// Whether peers may come from its trackers only (BEP 27).
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// Whether it has no file list: the payload is one file that lies directly in the destination.
    pub fn is_single_file(&self) -> bool {
        self.single_file
    }

    /// The bencoded dictionary, byte for byte as it was read.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }
}

impl PartialEq for Info {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}

impl Eq for Info {}

impl fmt::Debug for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Info")
            .field("info_hash", &self.info_hash)
            .field("name", &self.name)
            .field("geometry", &self.geometry)
            .field("files", &self.files.len())
            .finish_non_exhaustive()
    }
}

/// What an info dictionary turned out to hold: a v1 half, a v2 half, or both.
pub(super) struct Reading {
    /// The v1 half.
    pub(super) info: Option<Info>,
    /// The v2 half.
    pub(super) tree: Option<FileTree>,
}

impl Reading {
    pub(super) fn of(raw: Vec<u8>) -> Result<Self, MetainfoError> {
        let document = Document::parse(&raw)?;
        let root = document.root();
        if !root.is_dict() {
            return Err(MetainfoError::MissingInfo);
        }
        let hybrid_or_v2 = is_v2(&document)?;
        let piece_len = piece_length(root, hybrid_or_v2)?;
        let single_file = root.get(b"files").is_none_or(|files| !files.is_list());
        let name = name(root, single_file, &raw)?;
        let has_v1 = !hybrid_or_v2 || !single_file || root.get(b"length").is_some();
        let mut files = has_v1
            .then(|| files(root, &name, single_file))
            .transpose()?;
        let tree = hybrid_or_v2
            .then(|| v2::read(root, &name, piece_len, files.as_deref()))
            .transpose()?;
        let Some(files) = &mut files else {
            return Ok(Self { info: None, tree });
        };
        file::tell_apart(files)?;
        let geometry = geometry(files, piece_len)?;
        let pieces = pieces(root, &geometry)?;
        let info = Info {
            info_hash: InfoHash(Sha1::digest(&raw).into()),
            info_hash_v2: hybrid_or_v2.then(|| Sha256::digest(&raw).into()),
            name,
            geometry,
            pieces: offset_in(&raw, pieces),
            files: std::mem::take(files),
            single_file,
            private: int(root, b"private").is_some_and(|private| private != 0),
            raw,
        };
        let info = Some(info);
        Ok(Self { info, tree })
    }
}

fn int(dict: Value<'_>, key: &[u8]) -> Option<i64> {
    dict.get(key).and_then(|value| value.as_int())
}

/// Whether there is a v2 half (BEP 52, `meta version`).
fn is_v2(document: &Document<'_>) -> Result<bool, MetainfoError> {
    let root = document.root();
    match int(root, b"meta version") {
        Some(version) if version > 2 => Err(MetainfoError::UnknownVersion(version)),
        Some(1..) if !document.is_canonical() => Err(MetainfoError::NotCanonical),
        Some(2) => Ok(true),
        _ if root.get(b"file tree").is_some_and(|tree| tree.is_dict()) => {
            Err(MetainfoError::InvalidFileTree)
        }
        _ => Ok(false),
    }
}

fn piece_length(root: Value<'_>, v2: bool) -> Result<u32, MetainfoError> {
    let length = int(root, b"piece length").filter(|&length| length > 0);
    let length = length.ok_or(MetainfoError::InvalidPieceLength)?;
    let piece_len = u32::try_from(length)
        .ok()
        .filter(|&length| length <= PIECE_LEN_MAX);
    let piece_len = piece_len.ok_or(MetainfoError::PieceTooLong(length))?;
    if v2 && (piece_len < BLOCK_LEN || !piece_len.is_power_of_two()) {
        return Err(MetainfoError::InvalidPieceLength);
    }
    Ok(piece_len)
}

/// The torrent's name, made safe. A folder that cannot have its name is named by the info-hash; a file has to have one.
fn name(root: Value<'_>, single_file: bool, raw: &[u8]) -> Result<SafePath, MetainfoError> {
    let name = raw_name(root).ok_or(MetainfoError::MissingName)?;
    match sanitise(name) {
        _ if name.is_empty() && single_file => Err(MetainfoError::MissingName),
        Some(_) => Ok(SafePath::new(name)),
        None if single_file => Err(MetainfoError::MissingName),
        None => Ok(SafePath::new(
            HEXLOWER.encode(&Sha1::digest(raw)).as_bytes(),
        )),
    }
}

/// The name as it is spelled; `name.utf-8` is the better one where there are two.
pub(super) fn raw_name<'a>(root: Value<'a>) -> Option<&'a [u8]> {
    let string = |key| root.get(key).and_then(|name| name.as_bytes());
    string(b"name.utf-8").or_else(|| string(b"name"))
}

fn files(
    root: Value<'_>,
    name: &SafePath,
    single_file: bool,
) -> Result<Vec<FileEntry>, MetainfoError> {
    let files = match root.get(b"files") {
        Some(list) if !single_file => file::several(list, name)?,
        _ => file::single(root, name)?,
    };
    if files.is_empty() {
        return Err(MetainfoError::NoFiles);
    }
    Ok(files)
}

fn geometry(files: &[FileEntry], piece_len: u32) -> Result<Geometry, MetainfoError> {
    let total = files.last().map_or(0, |file| file.offset() + file.length());
    if total == 0 {
        return Err(MetainfoError::Empty);
    }
    Geometry::new(total, piece_len)
        .filter(|geometry| geometry.pieces() <= PIECES_MAX)
        .ok_or(MetainfoError::TooManyPieces)
}

/// The piece hashes, of which there are as many as there are pieces.
fn pieces<'a>(root: Value<'a>, geometry: &Geometry) -> Result<&'a [u8], MetainfoError> {
    let pieces = root.get(b"pieces").and_then(|pieces| pieces.as_bytes());
    let pieces = pieces.ok_or(MetainfoError::MissingPieces)?;
    let expected = geometry.pieces() as usize * 20;
    let found = pieces.len();
    if found != expected {
        return Err(MetainfoError::PiecesMismatch { expected, found });
    }
    Ok(pieces)
}

/// Where `part`, a slice of `whole`, lies in it.
fn offset_in(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}
