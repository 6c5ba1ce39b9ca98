//! Where the payload's bytes lie: its one run of bytes (BEP 3), cut into files. Pure.
//!
//! A [`Layout`] that exists has every file below its root, under a name of its own, and lengths that sum to the payload.

use std::collections::HashSet;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use super::DiskError;
use crate::base::{Geometry, PieceIndex};

/// One entry of the torrent's list of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// Absolute path.
    pub path: PathBuf,
    /// Length in bytes.
    pub length: u64,
    /// What it is.
    pub kind: SpecKind,
}

/// What an entry of the list of files is (BEP 47).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecKind {
    /// A file on disk.
    Payload,
    /// Zeros that align the next file; never on disk.
    Pad,
    /// A symbolic link, of length 0.
    Symlink {
        /// What it points to: an absolute path below the root.
        target: PathBuf,
    },
}

/// A run of bytes within one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which file of the layout.
    pub file: usize,
    /// Offset of the first byte within the file.
    pub offset: u64,
    /// Number of bytes; never 0.
    pub len: u64,
    /// Whether these are zeros that are not on disk.
    pub pad: bool,
}

/// How a torrent's payload is spread over files.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    geometry: Geometry,
    files: Vec<FileSpec>,
    /// Offset of each file in the payload.
    starts: Vec<u64>,
}

impl Layout {
    /// A layout of `files`, in torrent order, below the folder `root`.
    ///
    /// # Errors
    /// [`DiskError::Layout`] if a path is not below `root`, occurs twice or below another, has `.` or `..` in it, a link has a length or leaves
    /// `root`, or the lengths do not sum to the geometry's total.
    pub fn new(root: PathBuf, geometry: Geometry, files: Vec<FileSpec>) -> Result<Self, DiskError> {
        let mut starts = Vec::with_capacity(files.len());
        let mut seen = HashSet::with_capacity(files.len());
        let mut end = 0u64;
        for file in &files {
            let fault = |fault| DiskError::Layout {
                path: file.path.clone(),
                fault,
            };
            if file.kind != SpecKind::Pad {
                below(&root, &file.path).ok_or_else(|| fault("it lies outside of its folder"))?;
                if !seen.insert(file.path.as_path()) {
                    return Err(fault("it is listed twice"));
                }
            }
            if let SpecKind::Symlink { target } = &file.kind {
                below(&root, target).ok_or_else(|| fault("it is a link out of its folder"))?;
                if file.length != 0 {
                    return Err(fault("it is a link with a length"));
                }
            }
            starts.push(end);
            end = end
                .checked_add(file.length)
                .ok_or_else(|| fault("the files are too long"))?;
        }
        if end != geometry.total() {
            return Err(DiskError::Layout {
                path: root,
                fault: "the lengths of the files do not sum to that of the payload",
            });
        }
        // Below a link a file would have two names, and be written twice.
        let nested = |file: &&FileSpec| {
            file.kind != SpecKind::Pad
                && file
                    .path
                    .ancestors()
                    .skip(1)
                    .any(|above| seen.contains(above))
        };
        if let Some(file) = files.iter().find(nested) {
            return Err(DiskError::Layout {
                path: file.path.clone(),
                fault: "it lies below a file or link of the same torrent",
            });
        }
        drop(seen);
        Ok(Self {
            root,
            geometry,
            files,
            starts,
        })
    }

    /// The folder that holds everything.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How the payload is cut into pieces.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The files in torrent order.
    pub fn files(&self) -> &[FileSpec] {
        &self.files
    }

    /// The files that lie on disk as files, with their places in [`Layout::files`].
    pub fn payload_files(&self) -> impl Iterator<Item = (usize, &FileSpec)> {
        let files = self.files.iter().enumerate();
        files.filter(|(_, file)| file.kind == SpecKind::Payload)
    }

    /// The path of a file, or of any path below the root, relative to the root.
    pub(super) fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        below(&self.root, path).expect("new() checked that every path is below the root")
    }

    /// The spans that hold the payload bytes from `offset` on, `len` of them or fewer where the payload ends, in order.
    pub fn spans(&self, offset: u64, len: u64) -> impl Iterator<Item = Span> + '_ {
        let end = offset.saturating_add(len).min(self.geometry.total());
        // Of files that start at the same byte all but the last are empty, and it is the last that is found.
        let first = self.starts.partition_point(|&start| start <= offset);
        let files = (first.saturating_sub(1)..self.files.len()).map_while(move |file| {
            let start = self.starts[file];
            (start < end).then_some((file, start))
        });
        files.filter_map(move |(file, start)| {
            let spec = &self.files[file];
            let from = offset.max(start);
            let to = end.min(start + spec.length);
            (from < to).then(|| Span {
                file,
                offset: from - start,
                len: to - from,
                pad: spec.kind == SpecKind::Pad,
            })
        })
    }

    /// The spans of a piece.
    pub fn piece_spans(&self, piece: PieceIndex) -> impl Iterator<Item = Span> + '_ {
        let len = u64::from(self.geometry.len_of(piece));
        self.spans(self.geometry.offset_of(piece), len)
    }

    /// Numbers of the pieces that hold bytes of `file`; empty for an empty file.
    pub fn pieces_of(&self, file: usize) -> Range<u32> {
        let (start, length) = (self.starts[file], self.files[file].length);
        if length == 0 {
            return 0..0;
        }
        let piece_len = u64::from(self.geometry.piece_len());
        let first = start / piece_len;
        let end = (start + length).div_ceil(piece_len);
        // Geometry has no more than u32::MAX pieces.
        first as u32..end as u32
    }
}

/// `path` relative to `root`, if it is a plain path below it.
fn below<'a>(root: &Path, path: &'a Path) -> Option<&'a Path> {
    let rest = path.strip_prefix(root).ok()?;
    let plain = rest
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    (plain && rest.components().next().is_some()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout(lengths: &[(u64, bool)], piece_len: u32) -> Layout {
        let total = lengths.iter().map(|(length, _)| length).sum();
        let files = lengths
            .iter()
            .enumerate()
            .map(|(at, &(length, pad))| FileSpec {
                path: PathBuf::from(format!("/dest/t/{at}")),
                length,
                kind: if pad {
                    SpecKind::Pad
                } else {
                    SpecKind::Payload
                },
            });
        let geometry = Geometry::new(total, piece_len).unwrap();
        Layout::new("/dest".into(), geometry, files.collect()).unwrap()
    }

    fn fault(files: Vec<FileSpec>, total: u64) -> &'static str {
        let geometry = Geometry::new(total, 16).unwrap();
        match Layout::new("/dest".into(), geometry, files) {
            Err(DiskError::Layout { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    }

    fn spec(path: &str, length: u64) -> FileSpec {
        let (path, kind) = (path.into(), SpecKind::Payload);
        FileSpec { path, length, kind }
    }

    #[test]
    fn a_path_outside_of_the_root_or_listed_twice_is_refused() {
        for path in ["/dest", "/other/a", "/dest/../a", "/dest/a/../../b", "a"] {
            assert_eq!(
                fault(vec![spec(path, 1)], 1),
                "it lies outside of its folder"
            );
        }
        let twice = vec![spec("/dest/a", 1), spec("/dest/a", 1)];
        assert_eq!(fault(twice, 2), "it is listed twice");
    }

    #[test]
    fn a_file_below_another_file_or_link_is_refused() {
        let link = FileSpec {
            kind: SpecKind::Symlink {
                target: "/dest/other".into(),
            },
            ..spec("/dest/t/l", 0)
        };
        for above in [link, spec("/dest/t/l", 0)] {
            let files = vec![spec("/dest/t/l/victim", 1), above, spec("/dest/t/lx", 1)];
            assert!(fault(files, 2).contains("below a file or link"));
        }
    }

    #[test]
    fn lengths_that_overflow_or_do_not_sum_up_are_refused() {
        let long = vec![spec("/dest/a", u64::MAX), spec("/dest/b", 2)];
        assert_eq!(fault(long, 1), "the files are too long");
        assert!(fault(vec![spec("/dest/a", 2)], 3).contains("sum"));
    }

    #[test]
    fn a_link_out_of_the_root_or_with_bytes_is_refused() {
        let link = |target: &str, length| FileSpec {
            kind: SpecKind::Symlink {
                target: target.into(),
            },
            ..spec("/dest/l", length)
        };
        assert_eq!(
            fault(vec![link("/etc/passwd", 0)], 0),
            "it is a link out of its folder"
        );
        assert_eq!(
            fault(vec![link("/dest/../etc", 0)], 0),
            "it is a link out of its folder"
        );
        assert_eq!(
            fault(vec![link("/dest/x", 1)], 1),
            "it is a link with a length"
        );
    }

    proptest! {
        #[test]
        fn spans_agree_with_walking_byte_by_byte(
            lengths in prop::collection::vec((prop_oneof![Just(0u64), 1u64..40], any::<bool>()), 1..12),
            offset in 0u64..300,
            len in 0u64..300,
            piece_len in 1u32..50,
        ) {
            let layout = layout(&lengths, piece_len);
            let model: Vec<(usize, u64, bool)> = lengths
                .iter()
                .enumerate()
                .flat_map(|(file, &(length, pad))| (0..length).map(move |byte| (file, byte, pad)))
                .collect();
            let walked: Vec<_> = model.iter().skip(offset as usize).take(len as usize).copied().collect();
            let mut spanned = Vec::new();
            for span in layout.spans(offset, len) {
                prop_assert!(span.len > 0);
                spanned.extend((0..span.len).map(|byte| (span.file, span.offset + byte, span.pad)));
            }
            prop_assert_eq!(spanned, walked);
            for file in 0..lengths.len() {
                let touching: Vec<u32> = layout
                    .geometry()
                    .all_pieces()
                    .filter(|&piece| layout.piece_spans(piece).any(|span| span.file == file))
                    .map(PieceIndex::get)
                    .collect();
                prop_assert_eq!(layout.pieces_of(file).collect::<Vec<_>>(), touching);
            }
        }

        #[test]
        fn hostile_offsets_never_panic(offset: u64, len: u64) {
            prop_assert!(layout(&[(10, false), (0, false), (7, true)], 4).spans(offset, len).count() <= 2);
        }
    }
}
