//! Looking without touching: every row, every file of the catalog.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::catalog::{self, Catalog};
use super::codec;
use super::database::Database;
use super::error::StoreError;
use super::open::{self, Folder};
use super::schema::{self, TORRENT_KEY_LEN};
use super::torrents::{TorrentRow, Totals};
use super::{digests, identities, nodes, pages, partial, peers, watermark};

/// What [`check`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The catalog.
    pub catalog: Catalog,
    /// Rows of the database; 0 if it cannot be opened.
    pub rows: usize,
    /// What is wrong, one line each. Empty if all is well.
    pub problems: Vec<String>,
    /// Damaged rows that cost nothing but what they say, one line each: known peers and DHT nodes, which the next save removes,
    /// and digests of pieces, which the next scrub mends.
    pub passed_over: Vec<String>,
}

/// Checks the state folder and changes nothing in it but who holds its lock.
///
/// The database writes when it is opened, so a copy of it is: in the system's folder for temporary files.
///
/// # Errors
/// If the folder is missing or in use, or the copy cannot be made.
pub fn check(folder: &Path) -> Result<Report, StoreError> {
    let folder = Folder::look_at(folder)?;
    let mut report = Report::default();
    let catalog = catalog::load(&folder.path)?;
    for (path, why) in &catalog.damaged {
        report.problems.push(format!("{}: {why}", path.display()));
    }
    for (path, why) in &catalog.spared {
        let spared = "its content is known; `seedbank state rebuild` writes it anew";
        let problem = format!("{}: {why}; {spared}", path.display());
        report.problems.push(problem);
    }
    let torrents = catalog.entries.len() + catalog.homeless.len();
    report.catalog = catalog;
    let path = folder.database();
    if !path.exists() {
        if torrents > 0 {
            let problem = format!("{}: there is no database", path.display());
            report.problems.push(problem);
        }
        return Ok(report);
    }
    let copy = Copy::of(&path)?;
    let last = watermark::read(&path);
    let looked = open::guarded(&copy.database(), move |path| {
        let unchecked = open::open_unchecked(path, last)?;
        let mut found = findings(&unchecked.database)?;
        found.problems.extend(unchecked.went_back);
        Ok(found)
    });
    let found = match looked {
        Ok(found) => found,
        Err(StoreError::Damaged { what, .. }) => Findings::problem(what),
        Err(StoreError::Newer { found, known, .. }) => Findings::problem(format!(
            "it is of version {found} and this seedbank knows up to {known}"
        )),
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::TimedOut => {
            Findings::problem(source.to_string())
        }
        // The copy could not be made to work, which says nothing of the original.
        Err(error) => return Err(error),
    };
    let of_database = |line: String| format!("{}: {line}", path.display());
    report.rows = found.rows;
    let problems = found.problems.into_iter().map(of_database);
    report.problems.extend(problems);
    report.passed_over = found.passed_over.into_iter().map(of_database).collect();
    Ok(report)
}

/// What was found in the rows of a database, one line for each that is not sound.
#[derive(Default)]
pub(super) struct Findings {
    /// How many rows there are.
    pub(super) rows: usize,
    /// What takes the trust in all of them: what they claim of pieces is believed without hashing.
    pub(super) problems: Vec<String>,
    /// Rows of a cache, which can be missed.
    pub(super) passed_over: Vec<String>,
}

impl Findings {
    fn problem(what: String) -> Self {
        Self {
            problems: vec![what],
            ..Self::default()
        }
    }
}

/// Reads every row.
///
/// # Errors
/// If the disk fails. Content that cannot be read is not an error here but a line.
pub(super) fn findings(database: &Database) -> Result<Findings, StoreError> {
    /// More lines help nobody.
    const MAX: usize = 1_000;
    let mut found = Findings::default();
    for row in database.sealed_rows(b"") {
        let (key, value) = match row {
            Ok(row) => row,
            Err(StoreError::Damaged { what, .. }) => {
                // The next row may fail the same way, for ever.
                found.problems.push(what);
                break;
            }
            Err(error) => return Err(error),
        };
        found.rows += 1;
        if codec::unseal(&key, &value).is_some_and(|body| is_sound(&key, body)) {
            continue;
        }
        let lines = if schema::is_cache(&key) {
            &mut found.passed_over
        } else {
            &mut found.problems
        };
        if lines.len() < MAX {
            lines.push(format!("row {} is not readable", key.escape_ascii()));
        }
    }
    Ok(found)
}

/// Whether such a row may be in a database of this version.
fn is_sound(key: &[u8], body: &[u8]) -> bool {
    let rest = key.len().checked_sub(TORRENT_KEY_LEN);
    match key {
        schema::VERSION => body.len() == 4,
        schema::SEQUENCE => body.len() == 8,
        schema::EPOCH => body.len() == 16,
        [b't', b'/', ..] => rest == Some(0) && TorrentRow::decode(body).is_some(),
        [b'h', b'/', ..] => rest == Some(4) && pages::decode(body).is_some(),
        [b'f', b'/', ..] => rest == Some(4) && identities::decode(body).is_some(),
        [b'b', b'/', ..] => rest == Some(6) && partial::decode(body).is_some(),
        [b'g', b'/', ..] => digests::is_sound(rest, body),
        [b's', b'/', ..] => rest == Some(0) && Totals::decode(body).is_some(),
        [b'p', b'/', ..] => peers::decode(key, body).is_some(),
        [b'd' | b'i', b'/', ..] => nodes::is_sound(key, body),
        _ => false,
    }
}

/// A copy of a database in a folder of its own, which goes when this is dropped.
struct Copy {
    folder: PathBuf,
}

impl Copy {
    fn of(database: &Path) -> Result<Self, StoreError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("seedbank-check-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).map_err(|error| StoreError::create(&folder, error))?;
        let copy = Self { folder };
        copy_into(database, &copy.database())?;
        Ok(copy)
    }

    fn database(&self) -> PathBuf {
        self.folder.join("db")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What stays is a temporary file, for the system to clear away.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Copies a file, or a folder of files and of folders of files.
fn copy_into(from: &Path, to: &Path) -> Result<(), StoreError> {
    const DEPTH: u32 = 2;
    fn copy(from: &Path, to: &Path, depth: u32) -> Result<(), StoreError> {
        if !from.is_dir() {
            fs::copy(from, to).map_err(|error| StoreError::create(to, error))?;
            return Ok(());
        }
        fs::create_dir(to).map_err(|error| StoreError::create(to, error))?;
        let Some(depth) = depth.checked_sub(1) else {
            return Ok(());
        };
        for path in super::durable::list(from)? {
            copy(&path, &to.join(path.file_name().unwrap_or_default()), depth)?;
        }
        Ok(())
    }
    copy(from, to, DEPTH)
}
