//! `seedbank get`: downloads any number of torrents in one process, then exits.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use seedbank::engine::{AddTorrent, Goal};
use seedbank::format::host::HostPort;
use seedbank::format::magnet::Magnet;

use super::address::{self, LinkPeers};
use super::args::GetArgs;
use super::exit::{Exit, Failure};
use super::known;
use super::output::Output;
use super::source::{self, Found, Loaded, Named, Source};
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
    let mut named = HashSet::new();
    for source in &args.sources {
        let found = source.find(&plan.settings.config.state)?;
        if !named.insert(found.info_hash()) {
            out.warn(
                "duplicate",
                format!("{source}: the same torrent was named before"),
            );
            join(&mut plan, args, found, out)?;
            continue;
        }
        match found {
            Found::Loaded(loaded) => add(&mut plan, args, *loaded, out)?,
            Found::Named(named) => wish(&mut plan, args, source, *named, out)?,
        }
    }
    transfer::run(plan, out)
}

/// Takes what a source adds to a torrent that was named before: the metainfo that was to be asked for, or a link's hints.
fn join(plan: &mut Plan, args: &GetArgs, found: Found, out: &Output) -> Result<(), Failure> {
    let info_hash = found.info_hash();
    let mut wishes = plan.wishes.iter();
    let wish = wishes.position(|wish| wish.named.info_hash == info_hash);
    match (found, wish) {
        (Found::Loaded(mut loaded), Some(at)) => {
            let magnet = plan.wishes.remove(at).named.magnet;
            loaded.take_hints(&magnet);
            add(plan, args, *loaded, out)?;
        }
        (Found::Named(named), Some(at)) => {
            source::merge(&mut plan.wishes[at].named.magnet, &named.magnet);
        }
        (found, None) => {
            let magnet = hints(found);
            let mut torrents = plan.torrents.iter_mut();
            let torrent = torrents.find(|torrent| torrent.metainfo.info.info_hash() == info_hash);
            if let Some(torrent) = torrent.filter(|torrent| !torrent.metainfo.info.is_private()) {
                source::enrich(&mut torrent.metainfo, &magnet);
                let link = addresses(&magnet.peers, out);
                torrent.peers.extend(link.tireless);
                torrent.found.extend(link.found);
            }
        }
    }
    Ok(())
}

/// What a source says of where to find its torrent.
fn hints(found: Found) -> Magnet {
    match found {
        Found::Named(named) => named.magnet,
        Found::Loaded(loaded) => Magnet {
            peers: loaded.peers,
            ..Magnet::from_metainfo(&loaded.metainfo)
        },
    }
}

fn addresses(peers: &[HostPort], out: &Output) -> LinkPeers {
    let link = address::resolve_all(peers);
    for complaint in &link.complaints {
        out.warn("peer", complaint);
    }
    link
}

fn add(plan: &mut Plan, args: &GetArgs, loaded: Loaded, out: &Output) -> Result<(), Failure> {
    let dest = args.transfer.dest.clone().or(loaded.earlier);
    let link = addresses(&loaded.peers, out);
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
    let state = &plan.settings.config.state;
    let dest = args.transfer.dest.clone();
    let dest = dest.or_else(|| known::place(state, named.info_hash));
    plan.wishes.push(Wish {
        named,
        dest: transfer::absolute(&dest.unwrap_or_else(|| PathBuf::from(".")))?,
        overwrite: args.overwrite,
    });
    Ok(())
}
