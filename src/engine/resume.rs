//! What to believe of a payload that is on disk already: a pure decision from what the store remembers and what the files
//! look like now.
//!
//! Durable pieces of files that nobody touched are trusted, whatever happened to the process or the machine. Files that
//! somebody else wrote to are hashed, those alone. After an unclean end the pieces that were noted as verified but not yet
//! durable are hashed. Everything else is missing.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::{Bitfield, BlockRange, FileIdentity, Geometry, PieceIndex};
use crate::disk::{FileSpec, Layout, SpecKind};
use crate::store::{Note, Record};

/// What to do with what is there.
#[derive(Debug)]
pub(super) struct Plan {
    /// Pieces that are good without a look.
    pub(super) trusted: Bitfield,
    /// Pieces to hash before anything else.
    pub(super) recheck: Vec<PieceIndex>,
    /// Files whose content nobody vouches for, by place in the torrent.
    pub(super) unknown: Vec<usize>,
    /// Blocks that are on disk but not yet vouched for by a hash.
    pub(super) partial: Vec<BlockRange>,
    /// Whether the last run ended in order; true if there was none.
    pub(super) clean: bool,
}

/// A file that was there in an earlier run is gone. It may be on a disk that is not mounted, so it is not made anew.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    /// Which.
    pub(super) path: PathBuf,
}

/// How long after the last note or commit a file may have been written to by us: a commit's interval and a slow sync. Whoever
/// changes a file within this time of a crash is not noticed.
const AFTER_NOTE: Duration = Duration::from_secs(30);

/// How far the content of one file can be believed; the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Belief {
    /// As we left it.
    Ours,
    /// There, of the right length, but somebody else's work.
    Unknown,
    /// Not there, or not of the right length.
    Absent,
}

/// What is known when a torrent starts.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    /// What the store remembers.
    pub(super) record: Option<&'a Record>,
    /// Whether the catalog says that the files were made (R0: its entry comes after them), though the record may be lost.
    pub(super) catalogued: bool,
    /// What the files are now, in torrent order.
    pub(super) found: &'a [Option<FileIdentity>],
    /// What the payload's files were (pads and links left out) when all of it was found good a moment ago.
    pub(super) hashed: Option<&'a [FileIdentity]>,
}

/// Decides from the evidence.
pub(super) fn plan(
    layout: &Layout,
    geometry: &Geometry,
    evidence: &Evidence<'_>,
) -> Result<Plan, Missing> {
    let &Evidence {
        record,
        found,
        hashed,
        ..
    } = evidence;
    let clean = record.is_none_or(|record| record.clean);
    let pieces = geometry.pieces();
    if hashed.is_some_and(|hashed| all_unchanged(layout, hashed, found)) {
        let trusted = Bitfield::full(pieces);
        let (recheck, partial) = (Vec::new(), Vec::new());
        let unknown = Vec::new();
        return Ok(Plan {
            trusted,
            recheck,
            unknown,
            partial,
            clean,
        });
    }
    let beliefs = beliefs(layout, evidence)?;
    let unknown = (0..beliefs.len()).filter(|&file| beliefs[file] == Belief::Unknown);
    let unknown = unknown.collect();
    let mut worst = vec![Belief::Ours; pieces as usize];
    for (file, &belief) in beliefs.iter().enumerate() {
        for piece in layout.pieces_of(file) {
            let worst = &mut worst[piece as usize];
            *worst = belief.max(*worst);
        }
    }

    let mut noted = Bitfield::new(pieces);
    for note in record.iter().flat_map(|record| &record.notes) {
        if let Note::Verified(piece) = *note {
            noted.extend(geometry.piece(piece));
        }
    }
    let mut trusted = Bitfield::new(pieces);
    let mut recheck = Vec::new();
    for piece in geometry.all_pieces() {
        let durable = record.is_some_and(|record| record.durable.contains(piece));
        match worst[piece.index()] {
            Belief::Ours if durable => drop(trusted.insert(piece)),
            Belief::Ours if noted.contains(piece) => recheck.push(piece),
            Belief::Unknown => recheck.push(piece),
            Belief::Ours | Belief::Absent => {}
        }
    }
    let partial = record.map_or_else(Vec::new, |record| {
        let believed = |piece: PieceIndex| {
            worst[piece.index()] == Belief::Ours
                && !trusted.contains(piece)
                && !noted.contains(piece)
        };
        blocks_of(record)
            .filter_map(|(piece, blocks)| geometry.run(geometry.piece(piece)?, blocks))
            .filter(|range| believed(range.piece()))
            .collect()
    });
    Ok(Plan {
        trusted,
        recheck,
        unknown,
        partial,
        clean,
    })
}

fn blocks_of(record: &Record) -> impl Iterator<Item = (u32, std::ops::Range<u32>)> + '_ {
    let noted = record.notes.iter().filter_map(|note| match note {
        Note::Blocks { piece, blocks } => Some((*piece, blocks.clone())),
        Note::Verified(_) => None,
    });
    record.partial.iter().cloned().chain(noted)
}

fn all_unchanged(layout: &Layout, then: &[FileIdentity], now: &[Option<FileIdentity>]) -> bool {
    let files: Vec<usize> = layout.payload_files().map(|(file, _)| file).collect();
    let unchanged = |(&file, then): (&usize, &FileIdentity)| {
        now[file].is_some_and(|now| now.is_unchanged(then))
    };
    files.len() == then.len() && files.iter().zip(then).all(unchanged)
}

/// Which files are as we left them, by place in the torrent, when `found` is what they are now: what is durable of those is so still.
pub(super) fn ours(
    layout: &Layout,
    record: &Record,
    found: &[Option<FileIdentity>],
) -> Result<Vec<bool>, Missing> {
    let evidence = Evidence {
        record: Some(record),
        catalogued: true,
        found,
        hashed: None,
    };
    let beliefs = beliefs(layout, &evidence)?.into_iter();
    Ok(beliefs.map(|belief| belief == Belief::Ours).collect())
}

fn beliefs(layout: &Layout, evidence: &Evidence<'_>) -> Result<Vec<Belief>, Missing> {
    let record = evidence.record;
    let clean = record.is_none_or(|record| record.clean);
    // Our own last writes came after the identity was taken, and not long after the last note or commit.
    let noted_ns = record
        .and_then(|record| record.noted_ns)
        .unwrap_or(i64::MIN);
    let is_in_time = |known: &FileIdentity, now: &FileIdentity| {
        let last = known.mtime_ns.max(noted_ns);
        now.mtime_ns <= last.saturating_add(AFTER_NOTE.as_nanos() as i64)
    };
    let is_ours = |known: &FileIdentity, now: &FileIdentity, length: u64| {
        let in_time = !clean && known.is_same_file(now) && is_in_time(known, now);
        now.size == length && (known.is_unchanged(now) || in_time)
    };
    let belief = |(at, file): (usize, &FileSpec)| {
        if file.kind != SpecKind::Payload || file.length == 0 {
            return Ok(Belief::Ours);
        }
        let known = record.and_then(|record| record.identities.get(at).copied().flatten());
        match (known, evidence.found[at]) {
            (Some(known), Some(now)) if is_ours(&known, &now, file.length) => Ok(Belief::Ours),
            (_, Some(now)) if now.size == file.length => Ok(Belief::Unknown),
            // Cut short: what is left may be good.
            (Some(_), Some(now)) if now.size < file.length => Ok(Belief::Unknown),
            (known, None) if known.is_some() || evidence.catalogued => Err(Missing {
                path: file.path.clone(),
            }),
            _ => Ok(Belief::Absent),
        }
    };
    layout.files().iter().enumerate().map(belief).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Totals;

    const PIECE: u64 = 16_384;

    /// Three files of two pieces each.
    fn layout() -> (Layout, Geometry) {
        let geometry = Geometry::new(6 * PIECE, PIECE as u32).unwrap();
        let file = |name: &str| FileSpec {
            path: PathBuf::from("/payload").join(name),
            length: 2 * PIECE,
            kind: SpecKind::Payload,
        };
        let files = vec![file("a"), file("b"), file("c")];
        (
            Layout::new(PathBuf::from("/payload"), geometry, files).unwrap(),
            geometry,
        )
    }

    fn identity(mtime_ns: i64) -> FileIdentity {
        FileIdentity {
            device: 1,
            inode: 7,
            size: 2 * PIECE,
            mtime_ns,
        }
    }

    fn record(durable: &[u32], clean: bool, geometry: &Geometry) -> Record {
        let mut bits = Bitfield::new(geometry.pieces());
        bits.extend(durable.iter().filter_map(|&piece| geometry.piece(piece)));
        Record {
            durable: bits,
            finished: false,
            clean,
            identities: vec![Some(identity(1)); 3],
            partial: vec![(5, 0..1)],
            notes: Vec::new(),
            noted_ns: None,
            totals: Totals::default(),
        }
    }

    fn decide(
        layout: &Layout,
        geometry: &Geometry,
        record: Option<&Record>,
        found: &[Option<FileIdentity>],
        hashed: Option<&[FileIdentity]>,
    ) -> Result<Plan, Missing> {
        let catalogued = record.is_some();
        let evidence = Evidence {
            record,
            catalogued,
            found,
            hashed,
        };
        plan(layout, geometry, &evidence)
    }

    fn numbers(pieces: &[PieceIndex]) -> Vec<u32> {
        pieces.iter().map(|piece| piece.get()).collect()
    }

    #[test]
    fn unchanged_files_are_trusted_without_hashing() {
        let (layout, geometry) = layout();
        let record = record(&[0, 1, 4], true, &geometry);
        let found = vec![Some(identity(1)); 3];
        let plan = decide(&layout, &geometry, Some(&record), &found, None).unwrap();
        assert_eq!(plan.trusted.iter().collect::<Vec<_>>(), [0, 1, 4]);
        assert!(plan.recheck.is_empty());
        assert_eq!(plan.partial.len(), 1);
    }

    #[test]
    fn a_file_changed_by_another_is_hashed_alone() {
        let (layout, geometry) = layout();
        let record = record(&[0, 1, 2, 4], true, &geometry);
        let found = vec![Some(identity(1)), Some(identity(2)), Some(identity(1))];
        let plan = decide(&layout, &geometry, Some(&record), &found, None).unwrap();
        assert_eq!(plan.trusted.iter().collect::<Vec<_>>(), [0, 1, 4]);
        assert_eq!(numbers(&plan.recheck), [2, 3]);
    }

    #[test]
    fn after_a_crash_only_noted_pieces_are_hashed() {
        let (layout, geometry) = layout();
        let mut record = record(&[0, 1], false, &geometry);
        record.notes = vec![
            Note::Verified(1),
            Note::Verified(3),
            Note::Blocks {
                piece: 4,
                blocks: 0..1,
            },
        ];
        let found = vec![Some(identity(9)); 3];
        let plan = decide(&layout, &geometry, Some(&record), &found, None).unwrap();
        assert!(!plan.clean);
        assert_eq!(plan.trusted.iter().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(numbers(&plan.recheck), [3]);
        assert_eq!(plan.partial.len(), 2);
    }

    #[test]
    fn after_a_crash_a_file_that_changed_long_after_our_last_note_is_hashed() {
        let (layout, geometry) = layout();
        let mut record = record(&[0, 1, 2, 3], false, &geometry);
        let late = i64::try_from(AFTER_NOTE.as_nanos()).unwrap() + 2;
        let found = [1, late, 1].map(|mtime_ns| Some(identity(mtime_ns)));
        let plan = decide(&layout, &geometry, Some(&record), &found, None).unwrap();
        assert_eq!(numbers(&plan.recheck), [2, 3]);
        record.noted_ns = Some(late);
        let plan = decide(&layout, &geometry, Some(&record), &found, None).unwrap();
        assert!(plan.recheck.is_empty());
    }

    #[test]
    fn a_file_cut_short_is_hashed_for_what_is_left() {
        let (layout, geometry) = layout();
        let record = record(&[0, 1, 2, 3], true, &geometry);
        let short = FileIdentity {
            size: PIECE,
            ..identity(1)
        };
        let found = vec![Some(identity(1)), Some(short), Some(identity(1))];
        let plan = decide(&layout, &geometry, Some(&record), &found, None).unwrap();
        assert_eq!(numbers(&plan.recheck), [2, 3]);
        assert_eq!(plan.trusted.iter().collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn no_file_of_another_length_is_trusted_though_it_is_as_it_was() {
        let (layout, geometry) = layout();
        let mut record = record(&[0, 1, 2, 3], true, &geometry);
        let short = FileIdentity {
            size: PIECE,
            ..identity(1)
        };
        record.identities[1] = Some(short);
        let found = vec![Some(identity(1)), Some(short), Some(identity(1))];
        for clean in [true, false] {
            record.clean = clean;
            let plan = decide(&layout, &geometry, Some(&record), &found, None).unwrap();
            assert_eq!(numbers(&plan.recheck), [2, 3]);
        }
    }

    #[test]
    fn a_file_that_was_there_and_is_gone_is_missing_not_empty() {
        let (layout, geometry) = layout();
        let record = record(&[0], true, &geometry);
        let found = vec![None, Some(identity(1)), Some(identity(1))];
        let missing = decide(&layout, &geometry, Some(&record), &found, None).unwrap_err();
        assert_eq!(missing.path, PathBuf::from("/payload/a"));
    }

    #[test]
    fn files_in_the_catalog_are_missed_even_when_the_record_is_lost() {
        let (layout, geometry) = layout();
        let found = vec![Some(identity(1)), Some(identity(1)), None];
        let evidence = Evidence {
            record: None,
            catalogued: true,
            found: &found,
            hashed: None,
        };
        let missing = plan(&layout, &geometry, &evidence).unwrap_err();
        assert_eq!(missing.path, PathBuf::from("/payload/c"));
    }

    #[test]
    fn files_found_without_a_record_are_hashed_and_absent_ones_are_not() {
        let (layout, geometry) = layout();
        let short = FileIdentity {
            size: 5,
            ..identity(1)
        };
        let found = vec![Some(identity(1)), None, Some(short)];
        let plan = decide(&layout, &geometry, None, &found, None).unwrap();
        assert_eq!(numbers(&plan.recheck), [0, 1]);
        assert_eq!(plan.unknown, [0]);
        assert_eq!(plan.trusted.count(), 0);
        assert!(plan.clean);
    }

    #[test]
    fn what_was_hashed_just_now_is_trusted_unless_it_changed_since() {
        let (layout, geometry) = layout();
        let found = vec![Some(identity(3)); 3];
        let hashed = vec![identity(3); 3];
        let good = decide(&layout, &geometry, None, &found, Some(&hashed)).unwrap();
        assert!(good.trusted.is_full());
        let hashed = vec![identity(3), identity(2), identity(3)];
        let changed = decide(&layout, &geometry, None, &found, Some(&hashed)).unwrap();
        assert_eq!(changed.recheck.len(), 6);
    }
}
