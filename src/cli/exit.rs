//! How a run ends: [`Exit`], the statuses of the contract (numbered as aria2 has them), and [`Failure`], a status with
//! the one line that tells a person what went wrong and what to do.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use seedbank::engine::{EngineError, ErrorKind};

/// The exit status of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Everything asked for is done.
    Done = 0,
    /// An error with no number of its own.
    Unknown = 1,
    /// Something took too long.
    TimedOut = 2,
    /// Something named does not exist.
    NotFound = 3,
    /// Stopped on request with work unfinished, which the same command resumes.
    Stopped = 7,
    /// The disk is full.
    DiskFull = 9,
    /// A file is in the way that is not this torrent's.
    FileExists = 13,
    /// A file cannot be opened.
    CannotOpen = 15,
    /// A file or folder cannot be created.
    CannotCreate = 16,
    /// Reading or writing failed.
    Io = 17,
    /// The command line makes no sense.
    Usage = 28,
    /// Bytes on disk are not what the metainfo says.
    HashCheck = 32,
}

impl Exit {
    /// The one word for machines that an `error` event carries.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unknown => "unknown",
            Self::TimedOut => "timed_out",
            Self::NotFound => "not_found",
            Self::Stopped => "stopped",
            Self::DiskFull => "disk_full",
            Self::FileExists => "file_exists",
            Self::CannotOpen => "cannot_open",
            Self::CannotCreate => "cannot_create",
            Self::Io => "io",
            Self::Usage => "usage",
            Self::HashCheck => "hash_check",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<ErrorKind> for Exit {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Listen
            | ErrorKind::State
            | ErrorKind::InvalidTorrent
            | ErrorKind::Defect => Self::Unknown,
            ErrorKind::Unfinished => Self::Stopped,
            ErrorKind::InUse | ErrorKind::CannotOpen => Self::CannotOpen,
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::DiskFull => Self::DiskFull,
            ErrorKind::FileExists => Self::FileExists,
            ErrorKind::CannotCreate => Self::CannotCreate,
            ErrorKind::Io => Self::Io,
            ErrorKind::HashCheck => Self::HashCheck,
            ErrorKind::Usage => Self::Usage,
        }
    }
}

/// Why a command ends early, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The status that the process ends with.
    pub(crate) exit: Exit,
    /// What is wrong with what.
    pub(crate) message: String,
    /// What to do, when the message does not say.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            hint: None,
        }
    }

    /// The same with a hint at what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// `path` could not be opened or read.
    pub(crate) fn open(path: &Path, error: &io::Error) -> Self {
        let shown = path.display();
        match error.kind() {
            io::ErrorKind::NotFound => {
                Self::new(Exit::NotFound, format!("{shown}: no such file or folder"))
            }
            io::ErrorKind::PermissionDenied => {
                Self::new(Exit::CannotOpen, format!("{shown}: permission denied"))
                    .hint("check who may read it")
            }
            io::ErrorKind::IsADirectory => {
                Self::new(Exit::CannotOpen, format!("{shown} is a folder, not a file"))
            }
            _ => Self::new(Exit::Io, format!("{shown}: cannot be read: {error}")),
        }
    }

    /// `path` could not be created or written.
    pub(crate) fn create(path: &Path, error: &io::Error) -> Self {
        let shown = path.display();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::new(Exit::DiskFull, format!("{shown}: the disk is full"))
                    .hint("free some space and run the same command again")
            }
            _ => Self::new(
                Exit::CannotCreate,
                format!("{shown}: cannot be written: {error}"),
            )
            .hint("check the folder and who may write to it"),
        }
    }
}

impl fmt::Display for Failure {
    /// Always one line, whatever the parts hold.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.message.clone();
        if let Some(hint) = &self.hint {
            line.push_str(" (");
            line.push_str(hint);
            line.push(')');
        }
        f.write_str(&super::output::clean(&line))
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::new(error.kind().into(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_whatever_it_quotes() {
        let failure = Failure::new(Exit::Unknown, "a\nb\u{1b}[2J").hint("c\r");
        let line = failure.to_string();
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(line.starts_with('a') && line.ends_with(')'), "{line:?}");
    }

    #[test]
    fn a_full_disk_and_a_missing_file_have_their_own_status() {
        let path = Path::new("x");
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let gone = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(Failure::create(path, &full).exit, Exit::DiskFull);
        assert_eq!(Failure::open(path, &gone).exit, Exit::NotFound);
        assert_eq!(Failure::create(path, &gone).exit, Exit::CannotCreate);
    }
}
