//! The catalog: which torrents there are, as plain files that need no database.
//!
//! A torrent is in the catalog if `torrents/<info-hash>.torrent` exists: the exact metainfo bytes. Beside it,
//! `<info-hash>.json` says what was chosen for it; it is written first and removed last, so that a `.json` alone is a trace
//! of a torrent that was never quite added, or is quite removed. Whether the metainfo is that of the info-hash is for the
//! reader of metainfo to say.
//!
//! The place of a payload is written nowhere else, so `<info-hash>.json.copy` has the same content, is written second, and is
//! read in place of a `.json` that is damaged. Both carry a checksum, which whoever edits them by hand may leave out.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::durable;
use super::error::StoreError;
use crate::base::InfoHash;
use crate::base::limits::{CHOICES_MAX, METAINFO_MAX};

/// The newest layout of a file of choices. Version 2 has `moving` and `unbegun`, which nobody may pass over who touches the
/// payload.
const CHOICES_VERSION: u32 = 2;

/// How the names of the files of a torrent end.
const METAINFO: &str = "torrent";
const MAIN: &str = "json";
const COPY: &str = "json.copy";

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
    /// See [`checksum`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check: Option<String>,
}

impl ChoicesFile {
    /// The bytes of the file that says `choices`.
    fn render(choices: &Choices) -> serde_json::Result<Vec<u8>> {
        let file = Self {
            version: choices.version(),
            choices: choices.clone(),
            check: Some(NO_CHECKSUM.to_owned()),
        };
        let mut json = serde_json::to_vec_pretty(&file)?;
        json.push(b'\n');
        if let Some((at, checksum)) = checksum(&json) {
            json[at..][..checksum.len()].copy_from_slice(checksum.as_bytes());
        }
        Ok(json)
    }

    /// The reverse, or why not.
    fn read(path: &Path) -> Result<Choices, Unreadable> {
        let damage = |why: &dyn ToString| Unreadable::Damaged(why.to_string());
        let json = durable::read(path, CHOICES_MAX).map_err(|error| damage(&error))?;
        // First the version alone: the rest may look different in another one.
        let Version { version } = serde_json::from_slice(&json).map_err(|error| damage(&error))?;
        if version > CHOICES_VERSION {
            return Err(Unreadable::Newer(version));
        }
        let file: Self = serde_json::from_slice(&json).map_err(|error| damage(&error))?;
        if file.check.is_some() && file.check != checksum(&json).map(|(_, checksum)| checksum) {
            return Err(damage(
                &"it is damaged; whoever edited it takes the line with `check` out",
            ));
        }
        Ok(file.choices)
    }
}

/// Why a file of choices cannot be used.
#[derive(Debug)]
enum Unreadable {
    /// It is not there or damaged, and how.
    Damaged(String),
    /// A newer seedbank wrote it, in this version.
    Newer(u32),
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged(why) => f.write_str(why),
            Self::Newer(found) => write!(
                f,
                "it is of version {found} and this seedbank knows up to {CHOICES_VERSION}"
            ),
        }
    }
}

/// What stands for a checksum while it is computed.
const NO_CHECKSUM: &str = "0000000000000000";

/// The checksum of a `.json` and its place: the first eight bytes of BLAKE3, in hex, over the file with zeros in that place.
fn checksum(json: &[u8]) -> Option<(usize, String)> {
    const FIELD: &[u8] = b"\"check\": \"";
    let at = json.windows(FIELD.len()).rposition(|some| some == FIELD)? + FIELD.len();
    let (before, rest) = json.split_at(at);
    let after = rest.get(NO_CHECKSUM.len()..)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    hasher.update(NO_CHECKSUM.as_bytes());
    hasher.update(after);
    Some((at, HEXLOWER.encode(&hasher.finalize().as_bytes()[..8])))
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
    /// Those of which nobody can tell any more what was chosen: info-hash and `.torrent`. Their `.json` is among the
    /// damaged.
    pub homeless: Vec<(InfoHash, Vec<u8>)>,
    /// Files that cannot be read, and why. They are left as they are.
    pub damaged: Vec<(PathBuf, String)>,
    /// Files that cannot be read or are out of date, and why, whose content is known all the same: from the copy of a `.json`,
    /// or the `.json` of a copy.
    pub spared: Vec<(PathBuf, String)>,
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
        let (info_hash, metainfo) = match load_metainfo(&path) {
            Ok(found) => found,
            Err(why) => {
                catalog.damaged.push((path, why));
                continue;
            }
        };
        let [main, copy] = [MAIN, COPY].map(|end| path.with_extension(end));
        let choices = match (ChoicesFile::read(&main), ChoicesFile::read(&copy)) {
            (Ok(choices), Ok(other)) => {
                if other != choices {
                    let why = "it is older than the `.json`, or that was edited";
                    catalog.spared.push((copy, why.to_owned()));
                }
                choices
            }
            (Ok(choices), Err(why)) => {
                // States of older versions have none.
                if copy.exists() {
                    catalog.spared.push((copy, why.to_string()));
                }
                choices
            }
            (Err(why @ Unreadable::Damaged(_)), Ok(choices)) => {
                catalog.spared.push((main, why.to_string()));
                choices
            }
            (Err(why), _) => {
                catalog.damaged.push((main, why.to_string()));
                catalog.homeless.push((info_hash, metainfo));
                continue;
            }
        };
        catalog.entries.push(CatalogEntry {
            info_hash,
            metainfo,
            choices,
        });
    }
    Ok(catalog)
}

/// A torrent of the catalog in the state folder `state`, which may be in use: files of the catalog are only ever replaced
/// whole. `None` if it is not there or cannot be read.
pub fn glance(state: &Path, info_hash: InfoHash) -> Option<CatalogEntry> {
    let metainfo = metainfo(state, &info_hash)?;
    let choices = load_choices(state, &info_hash).ok()?;
    Some(CatalogEntry {
        info_hash,
        metainfo,
        choices,
    })
}

/// What was chosen for a torrent of the state folder `state`, which may be in use, even if its metainfo cannot be read.
pub fn glance_choices(state: &Path, info_hash: InfoHash) -> Option<Choices> {
    load_choices(state, &info_hash).ok()
}

/// Whether any torrent is in the catalog, readable or not.
pub(super) fn is_empty(state: &Path) -> Result<bool, StoreError> {
    let paths = durable::list(&folder(state))?;
    Ok(!paths
        .iter()
        .any(|path| path.extension() == Some(OsStr::new("torrent"))))
}

/// Whether there is any file about the torrent.
pub(super) fn knows(state: &Path, info_hash: &InfoHash) -> bool {
    [METAINFO, MAIN, COPY]
        .iter()
        .any(|end| path_of(state, info_hash, end).exists())
}

fn load_metainfo(path: &Path) -> Result<(InfoHash, Vec<u8>), String> {
    let stem = path.file_stem().and_then(OsStr::to_str);
    let info_hash = stem.and_then(|stem| stem.parse().ok());
    let info_hash = info_hash.ok_or("the name is not an info-hash")?;
    let metainfo = durable::read(path, METAINFO_MAX).map_err(|error| error.to_string())?;
    if metainfo.is_empty() {
        return Err("the file is empty".to_owned());
    }
    Ok((info_hash, metainfo))
}

/// What was chosen for a torrent, or why nobody can tell. What a newer seedbank wrote is not overruled by an older copy.
fn load_choices(state: &Path, info_hash: &InfoHash) -> Result<Choices, Unreadable> {
    match ChoicesFile::read(&path_of(state, info_hash, MAIN)) {
        Err(Unreadable::Damaged(why)) => {
            let copy = ChoicesFile::read(&path_of(state, info_hash, COPY));
            copy.map_err(|_| Unreadable::Damaged(why))
        }
        read => read,
    }
}

/// What was chosen for a torrent; `None` if it is not in the catalog, or nobody can tell any more. What a newer seedbank chose is
/// an error: it would be written over.
pub(super) fn choices(state: &Path, info_hash: &InfoHash) -> Result<Option<Choices>, StoreError> {
    if !path_of(state, info_hash, METAINFO).is_file() {
        return Ok(None);
    }
    match load_choices(state, info_hash) {
        Ok(choices) => Ok(Some(choices)),
        Err(Unreadable::Newer(found)) => Err(StoreError::Newer {
            folder: state.to_owned(),
            found,
            known: CHOICES_VERSION,
        }),
        Err(Unreadable::Damaged(why)) => {
            let path = path_of(state, info_hash, MAIN);
            tracing::warn!(path = %path.display(), why, "a file of the catalog is damaged; it is written anew");
            Ok(None)
        }
    }
}

/// The metainfo of a torrent, if it is in the catalog and can be read.
pub(super) fn metainfo(state: &Path, info_hash: &InfoHash) -> Option<Vec<u8>> {
    let path = path_of(state, info_hash, METAINFO);
    if !path.is_file() {
        return None;
    }
    let read = durable::read(&path, METAINFO_MAX);
    read.inspect_err(|error| {
        tracing::warn!(path = %path.display(), %error, "a file of the catalog cannot be read");
    })
    .ok()
}

/// Puts a torrent into the catalog, or replaces it, durably. With `durable`, what is there is, and is not written again.
pub(super) fn put(
    state: &Path,
    info_hash: &InfoHash,
    metainfo: &[u8],
    choices: &Choices,
    durable: bool,
) -> Result<(), StoreError> {
    let path = path_of(state, info_hash, METAINFO);
    within(&path, metainfo, METAINFO_MAX)?;
    put_choices(state, info_hash, choices, durable)?;
    if durable && says(&path, metainfo) {
        return Ok(());
    }
    durable::write(&path, metainfo)?;
    durable::sync_folder(&folder(state))
}

/// Replaces what was chosen for a torrent, durably. With `durable`, what is there is, and is not written again.
pub(super) fn put_choices(
    state: &Path,
    info_hash: &InfoHash,
    choices: &Choices,
    durable: bool,
) -> Result<(), StoreError> {
    let paths = [MAIN, COPY].map(|end| path_of(state, info_hash, end));
    let [main, _] = &paths;
    let json =
        ChoicesFile::render(choices).map_err(|error| StoreError::create(main, error.into()))?;
    within(main, &json, CHOICES_MAX)?;
    if durable && paths.iter().all(|path| says(path, &json)) {
        return Ok(());
    }
    for path in &paths {
        durable::write(path, &json)?;
    }
    durable::sync_folder(&folder(state))
}

/// Writes each damaged file of choices that is known all the same, and each copy that is missing or out of date; which those are.
pub(super) fn mend(state: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut mended = Vec::new();
    for entry in load(state)?.entries {
        let paths = [MAIN, COPY].map(|end| path_of(state, &entry.info_hash, end));
        let is_good = |path: &Path| ChoicesFile::read(path).is_ok_and(|it| it == entry.choices);
        let bad: Vec<PathBuf> = paths.into_iter().filter(|path| !is_good(path)).collect();
        if !bad.is_empty() {
            put_choices(state, &entry.info_hash, &entry.choices, false)?;
            mended.extend(bad);
        }
    }
    Ok(mended)
}

/// Takes a torrent out of the catalog, durably.
pub(super) fn remove(state: &Path, info_hash: &InfoHash) -> Result<(), StoreError> {
    durable::remove(&path_of(state, info_hash, METAINFO))?;
    durable::sync_folder(&folder(state))?;
    for end in [COPY, MAIN] {
        durable::remove(&path_of(state, info_hash, end))?;
    }
    durable::sync_folder(&folder(state))
}

/// Whether the file `path` has these bytes.
fn says(path: &Path, bytes: &[u8]) -> bool {
    durable::read(path, bytes.len()).is_ok_and(|found| found == bytes)
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
