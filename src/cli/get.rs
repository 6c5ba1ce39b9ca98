//! `seedbank get`: downloads any number of torrents in one process, then exits.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use seedbank::engine::{AddTorrent, Goal};

use super::args::GetArgs;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::transfer::{self, End};

/// Gets the metainfo of every source first, so that a mistyped one is refused before anything is written.
///
/// # Errors
/// The first thing that failed.
pub(crate) fn run(args: &GetArgs, out: &Arc<Output>) -> Result<Exit, Failure> {
    out.begin_events();
    let end = End::Complete(args.transfer.keep);
    let mut plan = transfer::plan(&args.transfer, end, out)?;
    let mut seen = HashSet::new();
    for source in &args.sources {
        let loaded = source.load(&plan.config.state)?;
        if !seen.insert(loaded.metainfo.info.info_hash()) {
            out.warn(
                "duplicate",
                format!("{source}: the same torrent was named before"),
            );
            continue;
        }
        let dest = args.transfer.dest.clone().or(loaded.earlier);
        plan.torrents.push(AddTorrent {
            metainfo: loaded.metainfo,
            dest: transfer::absolute(&dest.unwrap_or_else(|| PathBuf::from(".")))?,
            goal: Goal::Download,
            peers: plan.peers.clone(),
            overwrite: args.overwrite,
            hashed: None,
        });
    }
    transfer::run(plan, out)
}
