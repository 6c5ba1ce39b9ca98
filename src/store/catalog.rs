//! The catalog: which torrents there are, as plain files that need no database.
//!
//! A torrent is in the catalog if `torrents/<info-hash>.torrent` exists: the exact metainfo bytes. Beside it,
//! `<info-hash>.json` says what was chosen for it; it is written first and removed last, so that a `.json` alone is a trace
//! of a torrent that was never quite added, or is quite removed. Whether the metainfo is that of the info-hash is for the
//! reader of metainfo to say.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::durable;
use super::error::StoreError;
use crate::base::InfoHash;
use crate::base::limits::{CHOICES_MAX, METAINFO_MAX};

/// The newest layout of a file of choices. Version 2 has `moving` and `unbegun`, which nobody may pass over who touches the
/// payload.
const CHOICES_VERSION: u32 = 2;

/// What a person chose for a torrent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choices {
    /// The folder that holds, or will hold, the file or folder that the metainfo names.
    #[serde(with = "any_path")]
    pub dest: PathBuf,
    /// Whether it stays stopped at a start.
    #[serde(default)]
    pub paused: bool,
    /// Whether it shares a payload that was there, and never writes.
    #[serde(default)]
    pub seed_only: bool,
    /// Whether nothing was made at `dest` yet: only what the torrent is was worth keeping.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unbegun: bool,
    /// A move of the payload that is under way (R8).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving: Option<Moving>,
}

/// How far a move of a payload has come. Until it is over, each file is at one of the two places, or whole at both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moving {
    /// Files are on the way to this folder. `dest` has those that have not arrived.
    To(#[serde(with = "any_path")] PathBuf),
    /// All have arrived at `dest`. What is left of them in this folder is to be removed.
    From(#[serde(with = "any_path")] PathBuf),
}

impl Choices {
    /// To download into `dest`, now.
    pub fn new(dest: PathBuf) -> Self {
        Self {
            dest,
            paused: false,
            seed_only: false,
            unbegun: false,
            moving: None,
        }
    }

    /// The oldest version that can say this, so that an older program reads all that it can act on.
    fn version(&self) -> u32 {
        if self.unbegun || self.moving.is_some() {
            2
        } else {
            1
        }
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// What every version of a `.json` begins with.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// The content of a `.json`; fields that are not known are passed over.
#[derive(Serialize, Deserialize)]
struct ChoicesFile {
    version: u32,
    #[serde(flatten)]
    choices: Choices,
}

/// A torrent of the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogEntry {
    /// Its name, as the file's name has it.
    pub info_hash: InfoHash,
    /// The `.torrent`, byte for byte as it was put.
    pub metainfo: Vec<u8>,
    /// What was chosen for it.
    pub choices: Choices,
}

/// All torrents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Those that can be read, sorted by info-hash.
    pub entries: Vec<CatalogEntry>,
    /// Files that cannot be read, and why. They are left as they are.
    pub damaged: Vec<(PathBuf, String)>,
}

/// The folder of the catalog within the state folder.
pub(super) fn folder(state: &Path) -> PathBuf {
    state.join("torrents")
}

/// Reads the catalog. A file that cannot be read costs that torrent only.
pub(super) fn load(state: &Path) -> Result<Catalog, StoreError> {
    let mut catalog = Catalog::default();
    for path in durable::list(&folder(state))? {
        if path.extension() != Some(OsStr::new("torrent")) {
            continue;
        }
        match load_entry(&path) {
            Ok(entry) => catalog.entries.push(entry),
            Err(unreadable) => catalog.damaged.push(unreadable.told()),
        }
    }
    Ok(catalog)
}

/// A torrent of the catalog in the state folder `state`, which may be in use: files of the catalog are only ever replaced
/// whole. `None` if it is not there or cannot be read.
pub fn glance(state: &Path, info_hash: InfoHash) -> Option<CatalogEntry> {
    load_entry(&path_of(state, &info_hash, "torrent")).ok()
}

/// Whether any torrent is in the catalog, readable or not.
pub(super) fn is_empty(state: &Path) -> Result<bool, StoreError> {
    let paths = durable::list(&folder(state))?;
    Ok(!paths
        .iter()
        .any(|path| path.extension() == Some(OsStr::new("torrent"))))
}

/// Why a torrent of the catalog cannot be used.
enum Unreadable {
    /// A file is damaged, and how.
    Damaged(PathBuf, String),
    /// A newer seedbank wrote the choices, in this version.
    Newer(PathBuf, u32),
}

impl Unreadable {
    /// The file, and what is wrong with it.
    fn told(self) -> (PathBuf, String) {
        match self {
            Self::Damaged(path, why) => (path, why),
            Self::Newer(path, found) => {
                let why = format!(
                    "it is of version {found} and this seedbank knows up to {CHOICES_VERSION}"
                );
                (path, why)
            }
        }
    }
}

fn load_entry(path: &Path) -> Result<CatalogEntry, Unreadable> {
    let damage =
        |path: &Path, why: &dyn ToString| Unreadable::Damaged(path.to_owned(), why.to_string());
    let info_hash = path
        .file_stem()
        .and_then(OsStr::to_str)
        .and_then(|stem| stem.parse().ok())
        .ok_or_else(|| damage(path, &"the name is not an info-hash"))?;
    let metainfo = durable::read(path, METAINFO_MAX).map_err(|error| damage(path, &error))?;
    if metainfo.is_empty() {
        return Err(damage(path, &"the file is empty"));
    }
    let beside = path.with_extension("json");
    let json = durable::read(&beside, CHOICES_MAX).map_err(|error| damage(&beside, &error))?;
    // First the version alone: the rest may look different in another one.
    let Version { version } =
        serde_json::from_slice(&json).map_err(|error| damage(&beside, &error))?;
    if version > CHOICES_VERSION {
        return Err(Unreadable::Newer(beside, version));
    }
    let file: ChoicesFile =
        serde_json::from_slice(&json).map_err(|error| damage(&beside, &error))?;
    Ok(CatalogEntry {
        info_hash,
        metainfo,
        choices: file.choices,
    })
}

/// What was chosen for a torrent; `None` if it is not in the catalog, or nobody can tell any more. What a newer seedbank chose is
/// an error: it would be written over.
pub(super) fn choices(state: &Path, info_hash: &InfoHash) -> Result<Option<Choices>, StoreError> {
    let path = path_of(state, info_hash, "torrent");
    if !path.is_file() {
        return Ok(None);
    }
    match load_entry(&path) {
        Ok(entry) => Ok(Some(entry.choices)),
        Err(Unreadable::Newer(_, found)) => Err(StoreError::Newer {
            folder: state.to_owned(),
            found,
            known: CHOICES_VERSION,
        }),
        Err(Unreadable::Damaged(path, why)) => {
            tracing::warn!(path = %path.display(), why, "a file of the catalog is damaged; it is written anew");
            Ok(None)
        }
    }
}

/// The metainfo of a torrent, if it is in the catalog and can be read.
pub(super) fn metainfo(state: &Path, info_hash: &InfoHash) -> Option<Vec<u8>> {
    let path = path_of(state, info_hash, "torrent");
    if !path.is_file() {
        return None;
    }
    let read = durable::read(&path, METAINFO_MAX);
    read.inspect_err(|error| {
        tracing::warn!(path = %path.display(), %error, "a file of the catalog cannot be read");
    })
    .ok()
}

/// Puts a torrent into the catalog, or replaces it, durably.
pub(super) fn put(
    state: &Path,
    info_hash: &InfoHash,
    metainfo: &[u8],
    choices: &Choices,
) -> Result<(), StoreError> {
    let path = path_of(state, info_hash, "torrent");
    within(&path, metainfo, METAINFO_MAX)?;
    put_choices(state, info_hash, choices)?;
    durable::write(&path, metainfo)
}

/// Replaces what was chosen for a torrent, durably.
pub(super) fn put_choices(
    state: &Path,
    info_hash: &InfoHash,
    choices: &Choices,
) -> Result<(), StoreError> {
    let path = path_of(state, info_hash, "json");
    let file = ChoicesFile {
        version: choices.version(),
        choices: choices.clone(),
    };
    let mut json = serde_json::to_vec_pretty(&file)
        .map_err(|error| StoreError::create(&path, error.into()))?;
    json.push(b'\n');
    within(&path, &json, CHOICES_MAX)?;
    durable::write(&path, &json)
}

/// Takes a torrent out of the catalog, durably.
pub(super) fn remove(state: &Path, info_hash: &InfoHash) -> Result<(), StoreError> {
    durable::remove(&path_of(state, info_hash, "torrent"))?;
    durable::remove(&path_of(state, info_hash, "json"))
}

fn within(path: &Path, bytes: &[u8], max: usize) -> Result<(), StoreError> {
    if bytes.len() <= max {
        return Ok(());
    }
    Err(StoreError::TooLarge {
        path: path.to_owned(),
        size: bytes.len(),
        max,
    })
}

fn path_of(state: &Path, info_hash: &InfoHash, end: &str) -> PathBuf {
    folder(state).join(format!("{info_hash}.{end}"))
}

/// Paths in JSON: text where they are text, else `{"hex": "…"}` of their bytes.
mod any_path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use data_encoding::HEXLOWER;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Spelling {
        Text(String),
        Bytes { hex: String },
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => Spelling::Text(text.to_owned()),
            None => Spelling::Bytes {
                hex: HEXLOWER.encode(path.as_os_str().as_bytes()),
            },
        }
        .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        let path = match Spelling::deserialize(deserializer)? {
            Spelling::Text(text) => PathBuf::from(text),
            Spelling::Bytes { hex } => HEXLOWER
                .decode(hex.as_bytes())
                .map(|bytes| PathBuf::from(OsString::from_vec(bytes)))
                .map_err(D::Error::custom)?,
        };
        if path.as_os_str().is_empty() {
            return Err(D::Error::custom("the path of a folder is empty"));
        }
        Ok(path)
    }
}
