//! Between metainfo and the files on disk: where a torrent's files lie, and the metainfo of files that have none yet.

use std::path::{Path, PathBuf};

use seedbank::base::limits::PIECE_LEN_MAX;
use seedbank::base::{FileIdentity, Geometry};
use seedbank::disk::{DiskError, FileSpec, Layout, SpecKind, hash_payload, walk};
use seedbank::format::metainfo::create::Draft;
use seedbank::format::metainfo::{FileKind, Info, Metainfo, MetainfoError, PlainFile};
use seedbank::format::path::SafePath;

use super::exit::{Exit, Failure};
use super::output::Output;
use super::progress;

/// What goes into a new metainfo file besides the payload.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    /// Bytes of a piece.
    pub(crate) piece_length: u32,
    /// Tiers of trackers.
    pub(crate) announce: Vec<Vec<String>>,
    /// Web servers that have the payload.
    pub(crate) web_seeds: Vec<String>,
    /// DHT nodes.
    pub(crate) nodes: Vec<(String, u16)>,
    /// Peers from trackers only.
    pub(crate) private: bool,
    /// Free text.
    pub(crate) comment: Option<String>,
}

/// A payload that was just hashed.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    /// Its metainfo.
    pub(crate) metainfo: Metainfo,
    /// Its files as they were before they were hashed, in torrent order.
    pub(crate) identities: Vec<FileIdentity>,
}

/// A file or folder that can be described: what it is called and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The absolute path.
    pub(crate) path: PathBuf,
    /// The folder that holds it.
    pub(crate) folder: PathBuf,
    /// The last component of the path, which becomes the torrent's name.
    pub(crate) name: String,
}

impl Place {
    /// Looks at `path`, which may be relative, `.` or end in a slash.
    ///
    /// # Errors
    /// If it does not exist, is the root folder, or has a name that no torrent can carry.
    pub(crate) fn of(path: &Path) -> Result<Self, Failure> {
        // A symlink at the end keeps its own name; what is before it does not matter.
        let whole = match path.file_name() {
            Some(_) => std::path::absolute(path),
            None => path.canonicalize(),
        };
        let whole = whole.map_err(|error| Failure::open(path, &error))?;
        whole
            .metadata()
            .map_err(|error| Failure::open(path, &error))?;
        let (Some(name), Some(folder)) = (whole.file_name(), whole.parent()) else {
            let message = format!("{} has no name to share it under", path.display());
            return Err(Failure::new(Exit::Usage, message).hint("name a file or folder below it"));
        };
        let name = name.to_str().ok_or_else(|| {
            let message = format!("{}: the name is not UTF-8", path.display());
            Failure::new(Exit::Unknown, message).hint("rename it")
        })?;
        Ok(Self {
            folder: folder.to_owned(),
            name: name.to_owned(),
            path: whole.clone(),
        })
    }

    /// `<payload>.<extension>`, beside the payload.
    pub(crate) fn beside(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.name))
    }
}

/// Checks that a piece length is one that clients agree on.
///
/// # Errors
/// If it is not a power of two between 16 KiB and the most that is supported.
pub(crate) fn piece_length(bytes: u64) -> Result<u32, Failure> {
    match u32::try_from(bytes) {
        Ok(length) if length.is_power_of_two() && (16 << 10..=PIECE_LEN_MAX).contains(&length) => {
            Ok(length)
        }
        _ => Err(
            Failure::new(Exit::Usage, format!("--piece-length {bytes} will not do")).hint(
                "a power of two from 16KiB to 256MiB, such as 256KiB or 1MiB; 256K is 256,000",
            ),
        ),
    }
}

/// Hashes what lies at `place` and describes it.
///
/// # Errors
/// If it cannot be read, is empty, or changes meanwhile.
pub(crate) fn describe(place: &Place, wishes: &Wishes, out: &Output) -> Result<Described, Failure> {
    let unfit = |error: MetainfoError| {
        let path = place.path.display();
        Failure::new(Exit::Unknown, format!("{path}: cannot be shared: {error}"))
    };
    let files = files(place)?;
    let mut draft = if place.path.is_dir() {
        let files = files
            .into_iter()
            .map(|(path, length)| PlainFile { path, length });
        Draft::folder(place.name.clone(), files.collect())
    } else {
        Draft::file(
            place.name.clone(),
            files.iter().map(|(_, length)| length).sum(),
        )
    };
    draft.piece_length = wishes.piece_length;
    let geometry = draft.geometry().map_err(unfit)?;
    let bar = progress::bytes(out, &place.name, geometry.total());
    let layout = layout_of(place, &draft, geometry).map_err(|error| of_disk(&error))?;
    let hashed = hash_payload(&layout, threads(), &|bytes| bar.inc(bytes));
    bar.finish_and_clear();
    let hashed = hashed.map_err(|error| of_disk(&error))?;
    draft.pieces = hashed.pieces;
    draft.announce.clone_from(&wishes.announce);
    draft.web_seeds.clone_from(&wishes.web_seeds);
    draft.nodes.clone_from(&wishes.nodes);
    draft.private = wishes.private;
    draft.comment.clone_from(&wishes.comment);
    draft.created_by = Some(concat!("seedbank ", env!("CARGO_PKG_VERSION")).to_owned());
    draft.creation_date = Some(jiff::Timestamp::now().as_second());
    draft.blake3 = Some(hashed.blake3);
    let metainfo = draft.finish().map_err(unfit)?;
    Ok(Described {
        metainfo,
        identities: hashed.identities,
    })
}

/// Where the files of a torrent in the making lie.
fn layout_of(place: &Place, draft: &Draft, geometry: Geometry) -> Result<Layout, DiskError> {
    let spec = |path: PathBuf, length| FileSpec {
        path,
        length,
        kind: SpecKind::Payload,
    };
    let below = |names: &[String]| {
        names
            .iter()
            .fold(place.path.clone(), |at, name| at.join(name))
    };
    let specs = match draft.files() {
        [] => vec![spec(place.path.clone(), geometry.total())],
        files => files
            .iter()
            .map(|file| spec(below(&file.path), file.length))
            .collect(),
    };
    Layout::new(place.folder.clone(), geometry, specs)
}

/// Paths below `place`, relative to it, and lengths; one entry with an empty path for a file.
pub(crate) fn files(place: &Place) -> Result<Vec<(Vec<String>, u64)>, Failure> {
    walk(&place.path).map_err(|error| of_disk(&error))
}

/// Where the torrent's files lie below `dest`.
///
/// # Errors
/// If they do not make sense together.
pub(crate) fn layout(info: &Info, dest: &Path) -> Result<Layout, Failure> {
    placed(info, dest, |path| path.under(dest))
}

/// Where the torrent's files lie when the payload itself is at `payload`, whatever it is called there.
///
/// # Errors
/// If they do not make sense together.
pub(crate) fn layout_at(info: &Info, payload: &Path) -> Result<Layout, Failure> {
    let root = payload.parent().unwrap_or(payload);
    placed(info, root, |path| within(path, payload))
}

/// Where `path` of a torrent lies when the torrent's own file or folder is at `payload`.
pub(crate) fn within(path: &SafePath, payload: &Path) -> PathBuf {
    let below = path.components().skip(1);
    below.fold(payload.to_owned(), |at, name| at.join(name))
}

fn placed(
    info: &Info,
    root: &Path,
    place: impl Fn(&SafePath) -> PathBuf,
) -> Result<Layout, Failure> {
    let specs = info.files().iter().map(|file| FileSpec {
        path: place(file.path()),
        length: file.length(),
        kind: match file.kind() {
            FileKind::Payload => SpecKind::Payload,
            FileKind::Pad => SpecKind::Pad,
            FileKind::Symlink(target) => SpecKind::Symlink {
                target: place(target),
            },
        },
    });
    let layout = Layout::new(root.to_owned(), *info.geometry(), specs.collect());
    layout.map_err(|error| of_disk(&error))
}

/// One for each core.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A trouble of the disk with its exit status.
pub(crate) fn of_disk(error: &DiskError) -> Failure {
    let exit = match error {
        DiskError::NotFound { .. } => Exit::NotFound,
        DiskError::CannotOpen { .. } | DiskError::Outside { .. } | DiskError::InUse { .. } => {
            Exit::CannotOpen
        }
        DiskError::CannotCreate { .. } => Exit::CannotCreate,
        DiskError::Full { .. } => Exit::DiskFull,
        DiskError::Interrupted => Exit::Stopped,
        DiskError::NotOurs { .. } => Exit::FileExists,
        DiskError::Layout { .. } | DiskError::NotUtf8 { .. } | DiskError::Stopped => Exit::Unknown,
        _ => Exit::Io,
    };
    Failure::new(exit, error.to_string())
}
