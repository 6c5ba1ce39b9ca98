//! `seedbank seed`: shares payloads until it is stopped. A payload without a metainfo file gets `<payload>.bit` beside it.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seedbank::engine::{AddTorrent, Goal};
use seedbank::format::metainfo::{FileKind, Metainfo};

use super::args::SeedArgs;
use super::create;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::payload::{self, Place, Wishes};
use super::source::Source;
use super::transfer::{self, End, Plan};

/// Bytes of a piece of a payload that is shared without a word about it.
const PIECE_LENGTH: u32 = 256 << 10;

/// Describes what has no metainfo yet, then shares everything.
///
/// # Errors
/// The first thing that failed.
pub(crate) fn run(args: &SeedArgs, out: &Arc<Output>) -> Result<Exit, Failure> {
    out.begin_events();
    let mut plan = transfer::plan(&args.transfer, End::Stopped, out)?;
    let mut named = HashSet::new();
    for path in &args.paths {
        let torrent = torrent(path, args, &plan, out)?;
        if !named.insert(torrent.metainfo.info.info_hash()) {
            let message = format!("{}: the same torrent was named before", path.display());
            out.warn("duplicate", message);
            continue;
        }
        plan.torrents.push(torrent);
    }
    transfer::run(plan, out)
}

fn torrent(path: &Path, args: &SeedArgs, plan: &Plan, out: &Output) -> Result<AddTorrent, Failure> {
    let found = path
        .metadata()
        .map_err(|error| Failure::open(path, &error))?;
    if found.is_file() && create::extension(path).is_some() {
        let loaded = Source::File(path.to_owned()).load(&plan.settings.config.state)?;
        let dest = args.transfer.dest.clone().or(loaded.beside);
        let dest = transfer::absolute(&dest.unwrap_or_else(|| PathBuf::from(".")))?;
        return Ok(shared(loaded.metainfo, dest, plan));
    }
    let place = Place::of(path)?;
    let bit = place.beside("bit");
    if bit.exists() {
        let metainfo = Source::File(bit.clone())
            .load(&plan.settings.config.state)?
            .metainfo;
        check_describes(&metainfo, &place, &bit)?;
        return Ok(shared(metainfo, place.folder, plan));
    }
    let wishes = Wishes {
        piece_length: PIECE_LENGTH,
        ..Wishes::default()
    };
    let described = payload::describe(&place, &wishes, out)?;
    create::write(&bit, described.metainfo.to_bit().as_bytes())?;
    out.say(format_args!("wrote {}", bit.display()));
    let mut torrent = shared(described.metainfo, place.folder, plan);
    torrent.hashed = Some(described.identities);
    Ok(torrent)
}

fn shared(metainfo: Metainfo, dest: PathBuf, plan: &Plan) -> AddTorrent {
    AddTorrent {
        metainfo,
        dest,
        goal: Goal::Seed,
        peers: plan.peers.clone(),
        found: Vec::new(),
        overwrite: false,
        hashed: None,
    }
}

/// Refuses a metainfo file that is about other files than those at `place`; their bytes are the engine's to check.
fn check_describes(metainfo: &Metainfo, place: &Place, bit: &Path) -> Result<(), Failure> {
    let info = &metainfo.info;
    let here = payload::files(place)?.into_iter().map(|(path, length)| {
        let below = path.iter().map(String::as_str);
        let whole: Vec<&str> = std::iter::once(place.name.as_str()).chain(below).collect();
        (whole.join("/"), length)
    });
    let payload = info
        .files()
        .iter()
        .filter(|file| matches!(file.kind(), FileKind::Payload));
    let there = payload.map(|file| (file.path().as_str().to_owned(), file.length()));
    let single = place.path.is_file();
    if info.is_single_file() == single && here.collect::<BTreeSet<_>>() == there.collect() {
        return Ok(());
    }
    let message = format!(
        "{} does not describe {} as it is now",
        bit.display(),
        place.path.display()
    );
    Err(Failure::new(Exit::FileExists, message)
        .hint("move the .bit away to have a new one made; that is another torrent"))
}
