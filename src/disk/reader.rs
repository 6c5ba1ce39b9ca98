//! Reading a layout's files in order, without a table of open files: for whoever goes through a whole payload.

use std::fs::File;

use super::batch::{LANES, Source};
use super::file::is_hole;
use super::place::{Place, identity};
use super::uncached::{Way, is_cached, read_no_further};
use super::{DiskError, Layout, Span};
use crate::base::{FileIdentity, PieceIndex};

/// Reads a layout's files for one thread, keeping the last one open.
pub(super) struct Reader<'a> {
    layout: &'a Layout,
    place: &'a Place,
    open: Option<(usize, File)>,
    way: Way,
    /// Whether the kernel may read on past what is asked for.
    ahead: bool,
}

impl<'a> Reader<'a> {
    /// Reads that fill the page cache as usual.
    pub(super) fn new(layout: &'a Layout, place: &'a Place) -> Self {
        Self {
            layout,
            place,
            open: None,
            way: Way::Cached,
            ahead: true,
        }
    }

    /// Reads of a whole payload that leave the page cache as it is, but for what the kernel reads ahead if they end early.
    pub(super) fn uncached(layout: &'a Layout, place: &'a Place) -> Self {
        let way = Way::DontCache;
        Self {
            way,
            ..Self::new(layout, place)
        }
    }

    /// Reads of a piece here and there that leave the page cache as it is.
    pub(super) fn uncached_here_and_there(layout: &'a Layout, place: &'a Place) -> Self {
        let ahead = false;
        Self {
            ahead,
            ..Self::uncached(layout, place)
        }
    }

    /// Reads exactly `buffer` at `offset` of the payload.
    ///
    /// # Errors
    /// [`DiskError::NotFound`], [`DiskError::CannotOpen`] and its kin, [`DiskError::Vanished`] if a file is too short, or [`DiskError::Io`].
    pub(super) fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let layout = self.layout;
        let mut rest = buffer;
        for span in layout.spans(offset, rest.len() as u64) {
            let (now, later) = rest.split_at_mut(span.len as usize);
            rest = later;
            if span.pad {
                now.fill(0);
                continue;
            }
            let path = &layout.files()[span.file].path;
            self.open(span.file)?;
            let Some((_, file)) = &self.open else {
                continue;
            };
            let read = self
                .way
                .read_exact_at(&**self.place.medium(), file, span.offset, now);
            read.map_err(|error| DiskError::reading(path, error))?;
        }
        Ok(())
    }

    /// Hands the bytes of a piece to `sink`, as many at once as fit into `buffer`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(super) fn chunks(
        &mut self,
        piece: PieceIndex,
        buffer: &mut [u8],
        mut sink: impl FnMut(&[u8]),
    ) -> Result<(), DiskError> {
        let geometry = self.layout.geometry();
        let (start, len) = (geometry.offset_of(piece), geometry.len_of(piece) as usize);
        for at in (0..len).step_by(buffer.len()) {
            let chunk_len = buffer.len().min(len - at);
            let chunk = &mut buffer[..chunk_len];
            self.read(start + at as u64, chunk)?;
            sink(chunk);
        }
        Ok(())
    }

    /// What file number `at` is now.
    ///
    /// # Errors
    /// If it cannot be opened or looked at.
    pub(super) fn identity(&mut self, at: usize) -> Result<FileIdentity, DiskError> {
        let path = &self.layout.files()[at].path;
        let found = self.open(at)?.metadata();
        let found = found.map_err(|error| DiskError::io(path, "look at", error))?;
        Ok(identity(&found))
    }

    /// Whether nothing was ever written where `piece` lies, as far as the filesystem tells.
    ///
    /// # Errors
    /// If a file cannot be opened.
    pub(super) fn is_unwritten(&mut self, piece: PieceIndex) -> Result<bool, DiskError> {
        let layout = self.layout;
        for span in layout.piece_spans(piece).filter(|span| !span.pad) {
            if !is_hole(self.open(span.file)?, span.offset, span.len) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn open(&mut self, at: usize) -> Result<&File, DiskError> {
        let layout = self.layout;
        let file = match self.open.take() {
            Some((open, file)) if open == at => file,
            _ => {
                let path = &layout.files()[at].path;
                let file = self.place.open_file(layout.relative(path), false)?;
                self.way.prepare(&file);
                if !self.ahead {
                    read_no_further(&file);
                }
                file
            }
        };
        Ok(&self.open.insert((at, file)).1)
    }
}

/// One for each stream, which the kernel sees read in order.
impl Source for [Reader<'_>; LANES] {
    fn read(&mut self, stream: usize, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self[stream].read(offset, buffer)
    }

    fn is_cached(&mut self, span: Span) -> bool {
        let file = self[0].open(span.file);
        file.is_ok_and(|file| is_cached(file, span.offset, span.len))
    }
}
