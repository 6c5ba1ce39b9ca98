//! The v2 half of hybrid torrents (BEP 52), as far as it is checked: the file tree and the piece layers.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::{FileEntry, MetainfoError};
use crate::base::BLOCK_LEN;
use crate::base::limits::{PATH_LEN_MAX, PIECES_MAX};
use crate::format::bencode::{Dict, Value};
use crate::format::metainfo::file::Attributes;
use crate::format::path::SafePath;

type Hash = [u8; 32];

/// What a file tree says that the piece layers are checked against.
#[derive(Debug)]
pub(super) struct FileTree {
    piece_len: u32,
    /// Lengths of the files of more than one piece, by the root of their hash tree.
    roots: HashMap<Hash, u64>,
}

/// Reads the `file tree` of `info` and, if the torrent has a v1 half too, compares the two.
///
/// `name` is the torrent's, made safe; `v1` are the files of the v1 half before any was renamed.
pub(super) fn read(
    info: Value<'_>,
    name: &SafePath,
    piece_len: u32,
    v1: Option<&[FileEntry]>,
) -> Result<FileTree, MetainfoError> {
    let tree = info.get(b"file tree").filter(Value::is_dict);
    let tree = tree.ok_or(MetainfoError::InvalidFileTree)?;
    // The one file of a torrent without a file list is not in a folder.
    let alone = info.get(b"files").is_none_or(|files| !files.is_list())
        && tree.dict().count() == 1
        && tree.dict().all(|(_, node)| leaf(node).is_some());
    let mut check = Check {
        tree: FileTree {
            piece_len,
            roots: HashMap::new(),
        },
        files: 0,
        end: 0,
        v1: v1.map(|files| {
            files
                .iter()
                .filter(|file| !file.is_pad() && file.length() > 0)
        }),
    };
    walk(
        tree.dict(),
        if alone { "" } else { name.as_str() },
        |path, file| check.file(path, file),
    )?;
    check.finish(v1)
}

/// Calls `each` with the path and the description of every file, in the order of the tree. The path is built in one buffer, so
/// a deep tree takes no more memory than its deepest path.
fn walk<'a>(
    root: Dict<'a>,
    folder: &str,
    mut each: impl FnMut(&str, Value<'a>) -> Result<(), MetainfoError>,
) -> Result<(), MetainfoError> {
    let mut path = folder.to_owned();
    // The depth is bounded by the bencode reader.
    let mut open = vec![(root, path.len())];
    while let Some((entries, len)) = open.last_mut() {
        path.truncate(*len);
        let Some((key, node)) = entries.next() else {
            open.pop();
            continue;
        };
        if key.is_empty() || !node.is_dict() {
            return Err(MetainfoError::InvalidFileTree);
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(SafePath::new(key).as_str());
        if path.len() > PATH_LEN_MAX {
            return Err(MetainfoError::InvalidFileTree);
        }
        match leaf(node) {
            Some(file) => each(&path, file)?,
            None => open.push((node.dict(), path.len())),
        }
    }
    Ok(())
}

/// The description of a file, if the node is one: a dictionary with nothing but an empty key.
fn leaf(node: Value<'_>) -> Option<Value<'_>> {
    let mut entries = node.dict();
    let (key, file) = entries.next()?;
    (key.is_empty() && entries.next().is_none()).then_some(file)
}

struct Check<I> {
    tree: FileTree,
    files: usize,
    /// Where the last file with content ends in the payload; each begins with a piece.
    end: u64,
    /// Files with content of the v1 half that are still to be met.
    v1: Option<I>,
}

impl<'f, I: Iterator<Item = &'f FileEntry>> Check<I> {
    fn file(&mut self, path: &str, file: Value<'_>) -> Result<(), MetainfoError> {
        let attributes = Attributes::of(file);
        if !file.is_dict() || attributes.pad {
            return Err(MetainfoError::InvalidFileTree);
        }
        self.files += 1;
        let length = attributes.length(file)?;
        if length == 0 {
            return Ok(());
        }
        let root = file.get(b"pieces root").and_then(|root| root.as_bytes());
        let root = root.and_then(|root| Hash::try_from(root).ok());
        let root = root
            .filter(|root| *root != [0; 32])
            .ok_or(MetainfoError::MissingPiecesRoot)?;
        if length > u64::from(self.tree.piece_len) {
            self.tree.roots.insert(root, length);
        }
        let begin = self.aligned_end();
        self.end = begin
            .checked_add(length)
            .ok_or(MetainfoError::TooManyPieces)?;
        if self.end.div_ceil(u64::from(self.tree.piece_len)) > u64::from(PIECES_MAX) {
            return Err(MetainfoError::TooManyPieces);
        }
        let Some(v1) = &mut self.v1 else {
            return Ok(());
        };
        let same = v1.next().is_some_and(|v1| {
            v1.path().as_str() == path && v1.length() == length && v1.offset() == begin
        });
        same.then_some(()).ok_or(MetainfoError::InconsistentFiles)
    }

    fn aligned_end(&self) -> u64 {
        // No overflow: the end is at most PIECES_MAX pieces.
        self.end.next_multiple_of(u64::from(self.tree.piece_len))
    }

    fn finish(mut self, v1: Option<&[FileEntry]>) -> Result<FileTree, MetainfoError> {
        if self.files == 0 {
            return Err(MetainfoError::NoFiles);
        }
        if self.end == 0 {
            return Err(MetainfoError::Empty);
        }
        let total = v1
            .and_then(|files| files.last())
            .map(|file| file.offset() + file.length());
        // With padding after the last file or without: both exist.
        let fits = total.is_none_or(|total| total == self.end || total == self.aligned_end());
        let left = self.v1.as_mut().is_some_and(|v1| v1.next().is_some());
        if left || !fits {
            return Err(MetainfoError::InconsistentFiles);
        }
        Ok(self.tree)
    }
}

/// Checks the `piece layers` that stand beside the info dictionary: each must belong to a file and hash to its root. A file
/// may lack one, as it does when the metadata came from peers.
pub(super) fn check_layers(mut tree: FileTree, layers: Value<'_>) -> Result<(), MetainfoError> {
    for (root, layer) in layers.dict() {
        let length = Hash::try_from(root)
            .ok()
            .and_then(|root| tree.roots.remove(&root));
        let length = length.ok_or(MetainfoError::InvalidPieceLayer)?;
        let layer = layer.as_bytes().ok_or(MetainfoError::InvalidPieceLayer)?;
        let (hashes, rest) = layer.as_chunks::<32>();
        let pieces = length.div_ceil(u64::from(tree.piece_len));
        if !rest.is_empty()
            || hashes.len() as u64 != pieces
            || merkle_root(hashes, tree.piece_len) != root
        {
            return Err(MetainfoError::InvalidPieceLayer);
        }
    }
    Ok(())
}

/// The root above a layer of piece hashes, which is filled up with the hashes of pieces of zero leaves (BEP 52).
fn merkle_root(layer: &[Hash], piece_len: u32) -> Hash {
    let levels_in_piece = (piece_len / BLOCK_LEN).ilog2();
    let mut filler = (0..levels_in_piece).fold([0; 32], |hash, _| parent(&hash, &hash));
    let mut level = layer.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| parent(&pair[0], pair.get(1).unwrap_or(&filler)))
            .collect();
        filler = parent(&filler, &filler);
    }
    level.first().copied().unwrap_or_default()
}

fn parent(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}
