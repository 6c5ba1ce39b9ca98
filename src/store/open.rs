//! From a folder to an open database, whatever is found in it.
//!
//! A sound database is opened, an older one migrated, a newer one refused. One that is broken or makes the database library
//! panic is moved aside to `db.broken` and a new one begun: the catalog still says what is shared, and hashing says the rest.
//! One that does not open in time is left as it is: the disk may merely be slow, and whoever knows better can rebuild it.

use std::fs;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::catalog;
use super::database::{self, Database};
use super::durable;
use super::error::StoreError;
use super::lock::Lock;
use super::{check, migrate, schema, watermark};
use crate::base::limits::STORE_OPEN_TIME;

/// What was found when the state folder was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum History {
    /// Nothing: the state folder is new.
    Fresh,
    /// A database of this version.
    Current,
    /// A database of an older version, which was migrated.
    Migrated {
        /// The version it had.
        from: u32,
    },
    /// No usable database beside a catalog, or a broken one: all is to be hashed again.
    Rebuilt {
        /// What was wrong, in a few words.
        why: String,
    },
}

/// The state folder: locked, with its folders made.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    _lock: Lock,
}

impl Folder {
    /// Locks `path`, which is made if need be.
    pub(super) fn prepare(path: &Path) -> Result<Self, StoreError> {
        durable::create_folder(path)?;
        let folder = Self {
            path: path.to_owned(),
            _lock: Lock::take(path)?,
        };
        for within in [catalog::folder(path), folder.notes()] {
            durable::create_folder(&within)?;
            durable::sweep(&within)?;
        }
        // A process that was killed may have left names there that no sync has covered; from here on none is.
        durable::sync_folder(&catalog::folder(path))?;
        durable::sync_folder(path)?;
        Ok(folder)
    }

    /// Locks `path`, which must be there, and changes nothing else.
    pub(super) fn look_at(path: &Path) -> Result<Self, StoreError> {
        if !path.is_dir() {
            return Err(StoreError::Missing {
                folder: path.to_owned(),
            });
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: Lock::take(path)?,
        })
    }

    /// Where the database is.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join("db")
    }

    /// Where notes are.
    pub(super) fn notes(&self) -> PathBuf {
        self.path.join("notes")
    }

    /// Opens the database, by whatever way leads to one.
    pub(super) fn open(&self) -> Result<(Database, History), StoreError> {
        let path = self.database();
        let why = match open_guarded(&path) {
            Ok((database, 0)) => {
                let history = if catalog::is_empty(&self.path)? {
                    History::Fresh
                } else {
                    let why = "there was no database".to_owned();
                    History::Rebuilt { why }
                };
                return Ok((database, history));
            }
            Ok((database, from)) => {
                let history = if from == schema::SCHEMA_VERSION {
                    History::Current
                } else {
                    History::Migrated { from }
                };
                return Ok((database, history));
            }
            Err(StoreError::Damaged { what, .. }) => what,
            Err(other) => return Err(other),
        };
        tracing::warn!(
            path = %path.display(), why,
            "the database is broken; it is moved aside and a new one begun"
        );
        self.quarantine()?;
        let (database, _) = open_guarded(&path)?;
        Ok((database, History::Rebuilt { why }))
    }

    /// Opens the database again after it failed in this run; it must be the one of `epoch`. Rows are not checked: one that is
    /// damaged costs what it says, and no more, when it is read.
    pub(super) fn reopen(&self, epoch: &database::Epoch) -> Result<Database, StoreError> {
        let path = self.database();
        let database = guarded(&path, |path| {
            let Unchecked { mut database, .. } = open_unchecked(path, 0)?;
            database.acquaint()?;
            Ok(database)
        })?;
        if database.epoch() == epoch {
            return Ok(database);
        }
        Err(StoreError::Damaged {
            path,
            what: "it was replaced by another".to_owned(),
        })
    }

    /// Undoes [`quarantine`](Self::quarantine), as far as that goes, with what was begun in place of a database that `was_moved`.
    pub(super) fn put_back(&self, was_moved: bool) {
        let path = self.database();
        // What was begun says nothing yet.
        let removed = fs::remove_dir_all(&path);
        let back = match was_moved {
            true => fs::rename(self.path.join("db.broken"), &path),
            false => removed,
        };
        if let Err(error) = back {
            tracing::warn!(path = %path.display(), %error, "the old database could not be put back");
        }
    }

    /// Moves the database aside, in place of the one that was moved there before. False if there is none.
    pub(super) fn quarantine(&self) -> Result<bool, StoreError> {
        let (path, aside) = (self.database(), self.path.join("db.broken"));
        if fs::symlink_metadata(&path).is_err() {
            return Ok(false);
        }
        if let Ok(old) = fs::symlink_metadata(&aside) {
            let removed = if old.is_dir() {
                fs::remove_dir_all(&aside)
            } else {
                fs::remove_file(&aside)
            };
            removed.map_err(|error| StoreError::io(&aside, error))?;
        }
        // Its watermark goes once this is durable, as the next one is made: without it, this one would be believed again.
        fs::rename(&path, &aside).map_err(|error| StoreError::io(&path, error))?;
        durable::sync_folder(&self.path)?;
        Ok(true)
    }
}

/// Opens, migrates and checks the database at `path`, and says which version it had; 0 is a new one.
fn open_guarded(path: &Path) -> Result<(Database, u32), StoreError> {
    guarded(path, |path| {
        let Unchecked {
            mut database,
            found,
            went_back,
        } = open_unchecked(path, watermark::read(path))?;
        let findings = check::findings(&database)?;
        if let Some(problem) = went_back.into_iter().chain(findings.problems).next() {
            return Err(StoreError::Damaged {
                path: path.to_owned(),
                what: problem,
            });
        }
        for row in findings.passed_over {
            tracing::debug!(row, "the database is sound without it");
        }
        database.acquaint()?;
        // Also if it is not new: who made it may have been killed before this.
        durable::sync_folder(path.parent().unwrap_or(path))?;
        Ok((database, found))
    })
}

/// Works on the database at `path` on a thread of its own, so that a panic or an endless loop over hostile bytes stays
/// there.
pub(super) fn guarded<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    guarded_for(STORE_OPEN_TIME, path, work)
}

fn guarded_for<T: Send + 'static>(
    patience: Duration,
    path: &Path,
    work: impl FnOnce(&Path) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (answer, wait) = mpsc::sync_channel(1);
    let at = path.to_owned();
    thread::Builder::new()
        .name("store-open".to_owned())
        .spawn(move || {
            let done = panic::catch_unwind(AssertUnwindSafe(|| work(&at)));
            // Nobody waits any more if it took too long.
            let _ = answer.send(done);
        })
        .map_err(|error| StoreError::io(path, error))?;
    match wait.recv_timeout(patience) {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => Err(StoreError::Damaged {
            path: path.to_owned(),
            what: panic_text(panic.as_ref()),
        }),
        Err(_) => Err(StoreError::io(path, timed_out(patience))),
    }
}

fn timed_out(patience: Duration) -> io::Error {
    let what = format!(
        "it did not open in {patience:?}; if the disk is well, run `seedbank state rebuild`"
    );
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// A database whose rows were not looked at.
pub(super) struct Unchecked {
    /// It has this version's schema.
    pub(super) database: Database,
    /// The version that it had.
    pub(super) found: u32,
    /// What it lacked before that was changed.
    pub(super) went_back: Option<String>,
}

/// Opens and migrates the database at `path`, whose last commit had the number `last` as far as is known.
pub(super) fn open_unchecked(path: &Path, last: u64) -> Result<Unchecked, StoreError> {
    let last = if fs::symlink_metadata(path).is_err() {
        // One that was moved aside or removed by hand left the number to another, which did not go back.
        forget_watermark(path)?;
        0
    } else {
        last
    };
    remove_unfinished_snapshots(path)?;
    forget_cached(path)?;
    let mut database = open_unlocked(path)?;
    let found = database.version()?;
    if found > schema::SCHEMA_VERSION {
        return Err(StoreError::Newer {
            folder: path.parent().unwrap_or(path).to_owned(),
            found,
            known: schema::SCHEMA_VERSION,
        });
    }
    // A step is a commit like any other: it counts on, and would hide that one before it is missing.
    database.count_on()?;
    let went_back = database.went_back(last);
    if found < schema::SCHEMA_VERSION {
        migrate::run(&mut database, found)?;
    }
    Ok(Unchecked {
        database,
        found,
        went_back,
    })
}

/// Durably forgets the last commit of a database that is not there.
fn forget_watermark(path: &Path) -> Result<(), StoreError> {
    if watermark::reset(path).map_err(|error| StoreError::io(path, error))? {
        durable::sync_folder(path.parent().unwrap_or(path))?;
    }
    Ok(())
}

/// Opens the database once a handle of this process that was just dropped has let go of it.
pub(super) fn open_unlocked(path: &Path) -> Result<Database, StoreError> {
    const PATIENCE: Duration = Duration::from_secs(5);
    const STEP: Duration = Duration::from_millis(10);
    let start = Instant::now();
    loop {
        match Database::open(path) {
            Err(sled::Error::Io(error)) if database::is_lock(&error) => {
                if start.elapsed() > PATIENCE {
                    return Err(StoreError::InUse {
                        folder: path.to_owned(),
                        pid: None,
                    });
                }
                thread::sleep(STEP);
            }
            opened => return opened.map_err(|error| database::failure(path, error)),
        }
    }
}

/// A snapshot that a crash left half written makes a sound database fail to open; it is written again.
fn remove_unfinished_snapshots(path: &Path) -> Result<(), StoreError> {
    if !path.is_dir() {
        return Ok(());
    }
    for file in durable::list(path)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(&file).map_err(|error| StoreError::io(&file, error))?;
        }
    }
    Ok(())
}

/// Has the files of the database read from the medium (R6): after a sync that failed, the kernel takes pages for clean that
/// never got there, and shows them to whoever reads.
fn forget_cached(path: &Path) -> Result<(), StoreError> {
    if !path.is_dir() {
        return Ok(());
    }
    for file in durable::list(path)? {
        if let Ok(handle) = fs::File::open(&file) {
            // Advice: where it is not taken, there is nothing else to try.
            let _ = rustix::fs::fadvise(&handle, 0, None, rustix::fs::Advice::DontNeed);
        }
    }
    Ok(())
}

/// What a caught panic said.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a word");
    let line = said.lines().next().unwrap_or_default();
    format!("the database library panicked: {line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_panics_counts_as_damaged_and_what_hangs_does_not() {
        let (release, held) = mpsc::channel::<()>();
        let hung = guarded_for(Duration::from_millis(20), Path::new("db"), move |_| {
            // Ends when the test drops the other end.
            let _ = held.recv();
            Ok(())
        });
        assert!(
            matches!(&hung, Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::TimedOut),
            "{hung:?}"
        );
        let text = hung.unwrap_err().to_string();
        assert!(
            text.contains("20ms") && text.contains("state rebuild"),
            "{text}"
        );
        drop(release);
        let panicked = guarded(Path::new("db"), |_| -> Result<(), _> { panic!("a test") });
        assert!(
            matches!(&panicked, Err(StoreError::Damaged { what, .. }) if what.contains("a test")),
            "{panicked:?}"
        );
    }
}
