//! `seedbank state`: looks after the state folder while no seedbank uses it.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use indicatif::BinaryBytes;
use seedbank::base::InfoHash;
use seedbank::format::metainfo::Metainfo;
use seedbank::store::{
    self, Catalog, Choices, History, Moving, Opened, ScrubMark, Store, StoreError,
};
use serde::Serialize;

use super::args::{StateAction, StateArgs};
use super::exit::{Exit, Failure};
use super::known;
use super::output::Output;
use super::state;
use super::state_move;

/// A torrent of the catalog, as `list --json` prints it.
#[derive(Serialize)]
struct Listed {
    info_hash: String,
    name: String,
    /// `null` if nobody can tell any more.
    dest: Option<String>,
    length: u64,
    pieces: u32,
    /// Pieces that survive a power cut.
    durable: u32,
    paused: bool,
    /// When all of it was last re-read, if ever.
    scrubbed: Option<String>,
    /// Nothing was downloaded yet: only its metadata is kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unbegun: bool,
    /// The folder that its payload is on the way to.
    #[serde(skip_serializing_if = "Option::is_none")]
    moving_to: Option<String>,
    /// The folder that its payload has left, where something of it may still lie.
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_from: Option<String>,
}

/// Does what was asked with the folder that the flags name.
///
/// # Errors
/// If the folder is in use, cannot be read or written, or does not know the torrent.
pub(crate) fn run(args: &StateArgs, out: &Arc<Output>) -> Result<Exit, Failure> {
    let folder = state::folder(args.state.as_deref(), args.dht_listen.as_ref())?;
    match &args.action {
        StateAction::List { json } => list(&folder, *json || out.wants_json(), out),
        StateAction::Check => check(&folder, out),
        StateAction::Rebuild => rebuild(&folder, out),
        StateAction::Move { info_hash, dir } => state_move::run(&folder, *info_hash, dir, out),
        StateAction::Forget { info_hash } => forget(&folder, *info_hash, out),
    }
}

fn list(folder: &Path, json: bool, out: &Output) -> Result<Exit, Failure> {
    let (listed, damaged) = known::run(async {
        if !folder.exists() {
            return Ok((Vec::new(), Vec::new()));
        }
        let Opened { store, history } = Store::open(folder.to_owned()).await?;
        tell(&history, out);
        let read = read(&store).await;
        store.close().await?;
        read
    })?;
    for problem in &damaged {
        out.warn("state", problem);
    }
    if json {
        out.json(&listed);
    } else if listed.is_empty() {
        out.say(format_args!("no torrents in {}", folder.display()));
    } else {
        listed.iter().for_each(|torrent| human(torrent, out));
    }
    Ok(if damaged.is_empty() {
        Exit::Done
    } else {
        Exit::Unknown
    })
}

/// Says if the database was found broken.
pub(crate) fn tell(history: &History, out: &Output) {
    if let History::Rebuilt { why } = history {
        out.warn(
            "state",
            format!("the database was made anew from the catalog: {why}"),
        );
    }
}

/// The torrents of the catalog, and a line for each that is damaged.
async fn read(store: &Store) -> Result<(Vec<Listed>, Vec<String>), StoreError> {
    let mut catalog = store.catalog().await?;
    let damaged = catalog.damaged.iter();
    let mut damaged: Vec<String> = damaged
        .map(|(path, why)| format!("{}: {why}", path.display()))
        .collect();
    damaged.extend(advice(&catalog));
    let homeless = std::mem::take(&mut catalog.homeless);
    let homeless = homeless
        .into_iter()
        .map(|(hash, bytes)| (hash, bytes, None));
    let entries = catalog.entries.into_iter();
    let entries = entries.map(|entry| (entry.info_hash, entry.metainfo, Some(entry.choices)));
    let mut listed = Vec::new();
    for (info_hash, metainfo, choices) in entries.chain(homeless) {
        if let Some(metainfo) = known::parse(info_hash, &metainfo) {
            listed.push(look_up(store, &metainfo, choices).await?);
        }
    }
    listed.sort_by(|a, b| a.info_hash.cmp(&b.info_hash));
    Ok((listed, damaged))
}

/// What to do about each torrent of which a part is lost.
fn advice(catalog: &Catalog) -> Vec<String> {
    let unknown = |(hash, _): &(InfoHash, Vec<u8>)| {
        format!("{hash}: its place is lost; name it with `seedbank get {hash} --dest DIR`")
    };
    let homeless = catalog.homeless.iter().map(unknown);
    let entries = catalog.entries.iter();
    let metainfo = entries.map(|entry| (entry.info_hash, &entry.metainfo));
    let metainfo = metainfo.chain(catalog.homeless.iter().map(|(hash, bytes)| (*hash, bytes)));
    let broken = metainfo.filter(|(hash, bytes)| known::parse(*hash, bytes).is_none());
    let refetch = |(hash, _): (InfoHash, _)| {
        format!("{hash}: its .torrent is damaged; `seedbank get {hash}` asks peers for it again")
    };
    homeless.chain(broken.map(refetch)).collect()
}

async fn look_up(
    store: &Store,
    metainfo: &Metainfo,
    choices: Option<Choices>,
) -> Result<Listed, StoreError> {
    let info = &metainfo.info;
    let pieces = info.geometry().pieces();
    let record = store
        .load(info.info_hash(), pieces, info.files().len())
        .await?;
    let mark = store.scrub_mark(info.info_hash()).await;
    let durable = record.map_or(0, |record| match record.finished {
        true => pieces,
        false => record.durable.count(),
    });
    let choices = choices.as_ref();
    let (moving_to, moved_from) = match choices.and_then(|choices| choices.moving.as_ref()) {
        Some(Moving::To(folder)) => (Some(shown(folder)), None),
        Some(Moving::From(folder)) => (None, Some(shown(folder))),
        None => (None, None),
    };
    Ok(Listed {
        info_hash: info.info_hash().to_string(),
        name: info.name().to_owned(),
        dest: choices.map(|choices| shown(&choices.dest)),
        length: info.geometry().total(),
        pieces,
        durable,
        paused: choices.is_some_and(|choices| choices.paused),
        unbegun: choices.is_some_and(|choices| choices.unbegun),
        moving_to,
        moved_from,
        scrubbed: mark.and_then(|mark| scrubbed(&mark)),
    })
}

fn scrubbed(mark: &ScrubMark) -> Option<String> {
    let when = jiff::Timestamp::from_second(mark.finished).ok()?;
    (mark.finished != 0).then(|| when.to_string())
}

fn shown(folder: &Path) -> String {
    folder.display().to_string()
}

fn human(torrent: &Listed, out: &Output) {
    let percent = 100 * u64::from(torrent.durable) / u64::from(torrent.pieces.max(1));
    let place = match &torrent.dest {
        Some(dest) => format!("in {dest}"),
        None => "in a place that is lost".to_owned(),
    };
    let mut notes = String::new();
    if torrent.paused {
        notes.push_str("  (paused)");
    }
    if torrent.unbegun {
        notes.push_str("  (not begun)");
    }
    if let Some(folder) = &torrent.moving_to {
        // Writing to a string cannot fail.
        let _ = write!(notes, "  (on its way to {folder})");
    }
    if let Some(folder) = &torrent.moved_from {
        let _ = write!(notes, "  (what is left in {folder} is to be removed)");
    }
    if let Some(when) = &torrent.scrubbed {
        let _ = write!(notes, "  (scrubbed {when})");
    }
    out.clean_line(format_args!(
        "{}  {percent:>3} %  {:>12}  {}  {place}{notes}",
        torrent.info_hash,
        BinaryBytes(torrent.length).to_string(),
        torrent.name,
    ));
}

fn check(folder: &Path, out: &Output) -> Result<Exit, Failure> {
    let mut report = store::check(folder).map_err(|error| known::of_store(&error))?;
    report.problems.extend(advice(&report.catalog));
    let torrents = report.catalog.entries.len() + report.catalog.homeless.len();
    if out.wants_json() {
        out.json(&serde_json::json!({
            "torrents": torrents, "rows": report.rows, "problems": report.problems,
            "passed_over": report.passed_over,
        }));
    } else {
        report
            .problems
            .iter()
            .for_each(|problem| out.clean_line(problem));
        report
            .passed_over
            .iter()
            .for_each(|row| out.clean_line(format_args!("{row}; it is passed over")));
        out.line(format_args!("{torrents} torrents, {} rows", report.rows));
    }
    if report.problems.is_empty() {
        return Ok(Exit::Done);
    }
    let message = format!("{} problems in {}", report.problems.len(), folder.display());
    Err(Failure::new(Exit::Unknown, message)
        .hint("`seedbank state rebuild` repairs what the state folder itself can"))
}

fn rebuild(folder: &Path, out: &Output) -> Result<Exit, Failure> {
    let rebuilt = known::run(store::rebuild(folder.to_owned()))?;
    for path in &rebuilt.mended {
        out.say(format_args!("{} is written anew", path.display()));
    }
    if rebuilt.moved {
        let kept = folder.join("db.broken");
        out.say(format_args!(
            "the old database is kept in {}",
            kept.display()
        ));
    }
    out.say("rebuilt; payloads are checked again when their torrents are next run");
    Ok(Exit::Done)
}

fn forget(folder: &Path, info_hash: InfoHash, out: &Output) -> Result<Exit, Failure> {
    let known = known::run(async {
        if !folder.exists() {
            return Ok(false);
        }
        let store = Store::open(folder.to_owned()).await?.store;
        let forgotten = forget_in(&store, info_hash).await;
        store.close().await?;
        forgotten
    })?;
    if !known {
        return Err(unknown(folder, info_hash));
    }
    out.say(format_args!("{info_hash} is forgotten; its payload stays"));
    Ok(Exit::Done)
}

/// The catalog does not have the torrent.
pub(crate) fn unknown(folder: &Path, info_hash: InfoHash) -> Failure {
    let message = format!("{info_hash}: not in the state folder {}", folder.display());
    Failure::new(Exit::NotFound, message).hint("`seedbank state list` names what it knows")
}

async fn forget_in(store: &Store, info_hash: InfoHash) -> Result<bool, StoreError> {
    let known = store.knows(info_hash).await?;
    if known {
        store.remove_torrent(info_hash).await?;
    }
    Ok(known)
}
