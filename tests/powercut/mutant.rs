//! The client with some of its syncs removed: strace answers them with success, and the kernel never sees them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::seedbank::{self, Run};
use crate::common::skip;

/// A client that does not do what it says.
#[derive(Clone, Debug)]
pub(crate) struct Mutant {
    tracer: PathBuf,
    /// What is removed, for people.
    pub(crate) name: &'static str,
    calls: &'static str,
    /// The one payload file whose syncs are removed, if not all are.
    pub(crate) only: Option<&'static str>,
    /// Whether it shows with many small files, and only if nothing else is synced beside them.
    pub(crate) small: bool,
}

impl Mutant {
    /// All there are; none, and `skipped: …` is said, without strace.
    pub(crate) fn all() -> Vec<Self> {
        let Some(tracer) = skip::unless_installed("strace") else {
            return Vec::new();
        };
        let mutant = |name, calls, only| Self {
            tracer: tracer.clone(),
            name,
            calls,
            only,
            small: calls == "syncfs",
        };
        vec![
            mutant(
                "every sync",
                "fsync,fdatasync,msync,sync_file_range,syncfs,sync",
                None,
            ),
            // Whatever is not many files goes on as it should.
            mutant("the syncs of whole filesystems", "syncfs", None),
            // The store goes on as it should, and believes what it is told.
            mutant(
                "the syncs of one payload file",
                "fsync,fdatasync,sync_file_range",
                Some("big.bin"),
            ),
        ]
    }

    /// `run`, which downloads into `dest`, mutated.
    pub(crate) fn applied_to(&self, run: Run, dest: &Path) -> Run {
        let only = self.only.map(|name| {
            let above = dest.parent().unwrap().canonicalize().unwrap();
            above.join(dest.file_name().unwrap()).join(name)
        });
        run.under(&self.wrapper(only.as_slice()))
    }

    /// `command`, mutated; only where it syncs one of the paths `only`, if there are any.
    pub(crate) fn command(&self, command: &Command, only: &[PathBuf]) -> Command {
        seedbank::under(command, &self.wrapper(only))
    }

    /// The client is our own child all the same, and the tracer a grandchild that ends with it.
    fn wrapper(&self, only: &[PathBuf]) -> Vec<String> {
        let calls = self.calls;
        let mut wrapper = vec![self.tracer.to_str().unwrap().to_owned()];
        wrapper.extend(["-D", "-f", "--seccomp-bpf", "-o", "/dev/null"].map(str::to_owned));
        // What is not traced is not tampered with either.
        wrapper.extend(["-e".to_owned(), format!("trace={calls}")]);
        wrapper.extend(["-e".to_owned(), format!("inject={calls}:retval=0")]);
        for path in only {
            wrapper.extend(["-P".to_owned(), path.to_str().unwrap().to_owned()]);
        }
        wrapper
    }
}
