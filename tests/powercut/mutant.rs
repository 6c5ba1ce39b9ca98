//! The client with some of its syncs removed: strace answers them with success, and the kernel never sees them.

use std::path::PathBuf;

use crate::common::seedbank::Run;
use crate::common::skip;

/// A client that does not do what it says.
#[derive(Clone, Debug)]
pub(crate) struct Mutant {
    tracer: PathBuf,
    /// What is removed, for people.
    pub(crate) name: &'static str,
    calls: &'static str,
}

impl Mutant {
    /// All there are; none, and `skipped: …` is said, without strace.
    pub(crate) fn all() -> Vec<Self> {
        let Some(tracer) = skip::unless_installed("strace") else {
            return Vec::new();
        };
        let mutant = |name, calls| Self {
            tracer: tracer.clone(),
            name,
            calls,
        };
        vec![
            mutant(
                "every sync",
                "fsync,fdatasync,msync,sync_file_range,syncfs,sync",
            ),
            // The store makes its commits with fsync.
            mutant(
                "the syncs of the payload",
                "fdatasync,msync,sync_file_range",
            ),
        ]
    }

    /// `run`, mutated. The client is our own child all the same, and the tracer a grandchild that ends with it.
    pub(crate) fn applied_to(&self, run: Run) -> Run {
        let calls = self.calls;
        let args = [
            "-D",
            "-f",
            "--seccomp-bpf",
            "-o",
            "/dev/null",
            "-e",
            // What is not traced is not tampered with either.
            &format!("trace={calls}"),
            "-e",
            &format!("inject={calls}:retval=0"),
        ];
        run.under(&self.tracer, &args.map(str::to_owned))
    }
}
