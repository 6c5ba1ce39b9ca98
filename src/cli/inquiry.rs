//! Torrents of which only the name is known: their metainfo is fetched from peers.

use std::net::SocketAddr;
use std::sync::Arc;

use indicatif::BinaryBytes;
use seedbank::engine::events::Hex;
use seedbank::engine::{Engine, EngineError, Fetched, Wanted};
use seedbank::format::host::HostPort;
use seedbank::format::metainfo::{FileKind, Metainfo};
use serde::Serialize;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::address::{self, LinkPeers};
use super::args::FetchArgs;
use super::exit::{Exit, Failure};
use super::network::{self, Settings};
use super::output::Output;
use super::session::{self, Session};
use super::source::{Found, Loaded, Named, Source};

/// Files that are named to a person before it gets too many.
const FILES_SHOWN: usize = 40;

/// The event that tells what a magnet link stands for, as soon as it is known.
#[derive(Serialize)]
#[serde(tag = "event", rename = "metadata")]
struct Known<'a> {
    info_hash: Hex,
    name: &'a str,
    length: u64,
    pieces: u32,
    files: Vec<KnownFile<'a>>,
}

#[derive(Serialize)]
struct KnownFile<'a> {
    path: &'a str,
    length: u64,
}

/// Fetches the metainfo of `named`, for as long as it takes. `peers` are tried for ever, `found` as any others.
///
/// # Errors
/// If the engine stops, or what the peers agree on is no valid torrent.
pub(crate) async fn fetch(
    engine: &Engine,
    named: &Named,
    peers: Vec<SocketAddr>,
    found: Vec<SocketAddr>,
) -> Result<Fetched, EngineError> {
    let magnet = &named.magnet;
    let wanted = Wanted {
        info_hash: named.info_hash,
        trackers: magnet.trackers.clone(),
        peers,
        found,
        nodes: magnet.nodes.clone(),
        web_seeds: magnet.web_seeds.clone(),
    };
    engine.fetch(wanted).await
}

/// The addresses of the peers that a link names; those that have none are complained of.
pub(crate) async fn resolve(peers: &[HostPort], out: &Output) -> LinkPeers {
    let peers = peers.to_vec();
    let found = spawn_blocking(move || address::resolve_all(&peers)).await;
    // What fails there is a panic, which was told; the run can do without.
    let mut link = found.unwrap_or_default();
    for complaint in link.complaints.drain(..) {
        out.warn("peer", complaint);
    }
    link
}

/// Tells what a torrent holds.
pub(crate) fn tell(metainfo: &Metainfo, out: &Output) {
    let info = &metainfo.info;
    let payload = info.files().iter();
    let payload = payload.filter(|file| !matches!(file.kind(), FileKind::Pad));
    let files: Vec<_> = payload
        .map(|file| KnownFile {
            path: file.path().as_str(),
            length: file.length(),
        })
        .collect();
    let length = info.geometry().total();
    out.say(format_args!(
        "{}: {} in {}",
        info.name(),
        BinaryBytes(length),
        count(files.len(), "file")
    ));
    for file in files.iter().take(FILES_SHOWN) {
        let size = BinaryBytes(file.length).to_string();
        out.say(format_args!("  {size:>12}  {}", file.path));
    }
    if let Some(more @ 1..) = files.len().checked_sub(FILES_SHOWN) {
        out.say(format_args!("  and {}", count(more, "more file")));
    }
    out.record(&Known {
        info_hash: Hex(info.info_hash()),
        name: info.name(),
        length,
        pieces: info.geometry().pieces(),
        files,
    });
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The metainfo of `source`, from peers if that is what it takes: for commands that transfer nothing else.
///
/// # Errors
/// If it cannot be had, is not valid, or nobody has it in time.
pub(crate) fn obtain(
    source: &Source,
    args: &FetchArgs,
    out: &Arc<Output>,
) -> Result<Loaded, Failure> {
    let settings = Settings::of(&args.network, out)?;
    let named = match source.find(&settings.config.state)? {
        Found::Loaded(loaded) => return Ok(*loaded),
        Found::Named(named) => named,
    };
    let mut peers = network::peers(&args.network)?;
    out.say(format_args!("{source}: asking peers for the metadata"));
    let ask = async |session: &Session<'_>| {
        // The user's patience is with all of it.
        let fetched = async {
            let link = resolve(&named.magnet.peers, out).await;
            peers.extend(link.tireless);
            fetch(session.engine, &named, peers, link.found).await
        };
        match session.until(timeout(args.timeout.0, fetched)).await {
            Some(Ok(fetched)) => Ok(fetched?),
            Some(Err(_elapsed)) => Err(Failure::new(
                Exit::TimedOut,
                format!("{source}: no peer that has it answered in time"),
            )
            .hint(
                "name one with --peer, DHT nodes with --bootstrap, or wait longer with --timeout",
            )),
            None => Err(Failure::new(
                Exit::Stopped,
                "stopped before the metadata was there",
            )),
        }
    };
    let fetched = session::run(&settings.into_guest(), out, ask)?;
    Ok(Loaded::of(fetched.metainfo))
}
