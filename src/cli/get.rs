//! `seedbank get`: downloads any number of torrents in one process, then exits.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use seedbank::engine::{AddTorrent, Goal};

use super::address;
use super::args::GetArgs;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::source::{Found, Loaded, Named, Source};
use super::transfer::{self, End, Plan, Wish};

/// Gets the metainfo of every source that needs no peers for it first, so that a mistyped one is refused before anything is
/// written.
///
/// # Errors
/// The first thing that failed.
pub(crate) fn run(args: &GetArgs, out: &Arc<Output>) -> Result<Exit, Failure> {
    out.begin_events();
    let end = End::Complete(args.transfer.keep);
    let mut plan = transfer::plan(&args.transfer, end, out)?;
    plan.save_metainfo = args.save_metainfo;
    let mut seen = HashSet::new();
    for source in &args.sources {
        let found = source.find(&plan.settings.config.state)?;
        let info_hash = match &found {
            Found::Loaded(loaded) => loaded.metainfo.info.info_hash(),
            Found::Named(named) => named.info_hash,
        };
        if !seen.insert(info_hash) {
            out.warn(
                "duplicate",
                format!("{source}: the same torrent was named before"),
            );
            continue;
        }
        match found {
            Found::Loaded(loaded) => add(&mut plan, args, *loaded, out)?,
            Found::Named(named) => wish(&mut plan, args, source, *named, out)?,
        }
    }
    transfer::run(plan, out)
}

fn add(plan: &mut Plan, args: &GetArgs, loaded: Loaded, out: &Output) -> Result<(), Failure> {
    let dest = args.transfer.dest.clone().or(loaded.earlier);
    let link = address::resolve_all(&loaded.peers);
    for complaint in link.complaints {
        out.warn("peer", complaint);
    }
    let mut peers = link.tireless;
    peers.extend(&plan.peers);
    plan.torrents.push(AddTorrent {
        metainfo: loaded.metainfo,
        dest: transfer::absolute(&dest.unwrap_or_else(|| PathBuf::from(".")))?,
        goal: Goal::Download,
        peers,
        found: link.found,
        overwrite: args.overwrite,
        hashed: None,
    });
    Ok(())
}

fn wish(
    plan: &mut Plan,
    args: &GetArgs,
    source: &Source,
    named: Named,
    out: &Output,
) -> Result<(), Failure> {
    if !named.magnet.select_only.is_empty() {
        out.warn(
            "select",
            format!("{source}: the link asks for some of the files; all of them are fetched"),
        );
    }
    let dest = args.transfer.dest.clone();
    plan.wishes.push(Wish {
        named,
        dest: transfer::absolute(&dest.unwrap_or_else(|| PathBuf::from(".")))?,
        overwrite: args.overwrite,
    });
    Ok(())
}
