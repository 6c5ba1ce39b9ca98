//! The client with some of its syncs removed: strace answers them with success, and the kernel never sees them.

use std::path::{Path, PathBuf};

use crate::common::seedbank::Run;
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
        };
        vec![
            mutant(
                "every sync",
                "fsync,fdatasync,msync,sync_file_range,syncfs,sync",
                None,
            ),
            // The store goes on as it should, and believes what it is told.
            mutant(
                "the syncs of one payload file",
                "fsync,fdatasync,sync_file_range",
                Some("big.bin"),
            ),
        ]
    }

    /// `run`, which downloads into `dest`, mutated. The client is our own child all the same, and the tracer a grandchild that ends
    /// with it.
    pub(crate) fn applied_to(&self, run: Run, dest: &Path) -> Run {
        let calls = self.calls;
        let mut wrapper = vec![self.tracer.to_str().unwrap().to_owned()];
        wrapper.extend(["-D", "-f", "--seccomp-bpf", "-o", "/dev/null"].map(str::to_owned));
        // What is not traced is not tampered with either.
        wrapper.extend(["-e".to_owned(), format!("trace={calls}")]);
        wrapper.extend(["-e".to_owned(), format!("inject={calls}:retval=0")]);
        if let Some(name) = self.only {
            let above = dest.parent().unwrap().canonicalize().unwrap();
            let path = above.join(dest.file_name().unwrap()).join(name);
            wrapper.extend(["-P".to_owned(), path.to_str().unwrap().to_owned()]);
        }
        run.under(&wrapper)
    }
}
