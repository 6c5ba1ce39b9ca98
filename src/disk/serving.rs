//! Reads for uploads: what they give was read before anybody touched the files that it came from.
//!
//! Each file is looked at once a batch, after the last byte was read from it and before the first leaves the process. From then on
//! the bytes are copies: whatever is done to the file, what is sent is what was verified.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::IoSliceMut;
use std::sync::Arc;

use super::DiskError;
use super::file::OpenFile;
use super::files::Files;
use super::layout::Span;
use crate::base::BlockRange;

/// Most buffers of one vectored read (`IOV_MAX` of Linux).
const BUFFERS_MAX: usize = 1_024;

/// The files that a batch came from.
type Touched = BTreeMap<usize, Arc<OpenFile>>;

impl Files {
    /// The bytes of `ranges`, concatenated.
    pub(super) fn read_ranges(&self, ranges: &[BlockRange]) -> Result<Vec<u8>, DiskError> {
        let geometry = self.layout.geometry();
        let total = ranges.iter().map(|range| range.len() as usize).sum();
        let mut bytes = vec![0; total];
        let mut rest = &mut bytes[..];
        let mut touched = Touched::new();
        let follows = |one: &BlockRange, two: &BlockRange| {
            geometry.offset(*one) + u64::from(one.len()) == geometry.offset(*two)
        };
        for run in ranges.chunk_by(follows) {
            let len = run.iter().map(|range| range.len() as usize).sum();
            let (now, later) = rest.split_at_mut(len);
            self.read_by(geometry.offset(run[0]), now, |at, file| {
                touched.insert(at, file);
            })?;
            rest = later;
        }
        self.look(&touched)?;
        Ok(bytes)
    }

    /// Fills `blocks`, one for each of `ranges`, if their files are open and their bytes in the page cache.
    pub(super) fn read_cached(
        &self,
        ranges: &[BlockRange],
        blocks: &mut [IoSliceMut<'_>],
    ) -> Result<bool, DiskError> {
        let (spans, mut places) = self.scatter(ranges, blocks);
        let mut places = &mut places[..];
        let mut touched = Touched::new();
        for run in spans
            .chunk_by(follows)
            .flat_map(|run| run.chunks(BUFFERS_MAX))
        {
            let (now, later) = std::mem::take(&mut places).split_at_mut(run.len());
            places = later;
            let at = run[0].file;
            let file = match touched.entry(at) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => match self.file_if_open(at) {
                    Some(file) => new.insert(file),
                    None => return Ok(false),
                },
            };
            if !file.read_cached(run[0].offset, now) {
                return Ok(false);
            }
        }
        self.look(&touched)?;
        Ok(true)
    }

    /// Cuts `blocks` where files end. Pads are filled and left out.
    fn scatter<'a>(
        &self,
        ranges: &[BlockRange],
        blocks: &'a mut [IoSliceMut<'_>],
    ) -> (Vec<Span>, Vec<IoSliceMut<'a>>) {
        let mut spans = Vec::with_capacity(ranges.len());
        let mut places = Vec::with_capacity(ranges.len());
        for (&range, block) in ranges.iter().zip(blocks) {
            let mut rest = &mut block[..];
            let offset = self.layout.geometry().offset(range);
            for span in self.layout.spans(offset, u64::from(range.len())) {
                let (now, later) = std::mem::take(&mut rest).split_at_mut(span.len as usize);
                rest = later;
                if span.pad {
                    now.fill(0);
                } else {
                    spans.push(span);
                    places.push(IoSliceMut::new(now));
                }
            }
        }
        (spans, places)
    }

    /// Whether nobody touched these files since their content was judged. While we write to one, it changes all the time.
    fn look(&self, touched: &Touched) -> Result<(), DiskError> {
        for (&at, file) in touched {
            let found = file.identity()?;
            let judged = self.judged(at).filter(|_| !self.is_writable());
            if judged.is_some_and(|judged| !judged.is_unchanged(&found)) {
                return Err(DiskError::vanished(file.path()));
            }
        }
        Ok(())
    }
}

/// Whether the bytes of `two` come right behind those of `one`.
fn follows(one: &Span, two: &Span) -> bool {
    one.file == two.file && one.offset + one.len == two.offset
}
