//! `seedbank state`: looks after the state folder while no seedbank uses it.

use std::path::Path;

use indicatif::BinaryBytes;
use seedbank::base::InfoHash;
use seedbank::format::metainfo::Metainfo;
use seedbank::store::{self, Catalog, Choices, History, Opened, ScrubMark, Store, StoreError};
use serde::Serialize;

use super::args::{StateAction, StateArgs};
use super::exit::{Exit, Failure};
use super::known;
use super::output::Output;
use super::state;

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
}

/// Does what was asked with the folder that the flags name.
///
/// # Errors
/// If the folder is in use, cannot be read or written, or does not know the torrent.
pub(crate) fn run(args: &StateArgs, out: &Output) -> Result<Exit, Failure> {
    let folder = state::folder(args.state.as_deref(), args.dht_listen.as_ref())?;
    match &args.action {
        StateAction::List { json } => list(&folder, *json || out.wants_json(), out),
        StateAction::Check => check(&folder, out),
        StateAction::Rebuild => rebuild(&folder, out),
        StateAction::Forget { info_hash } => forget(&folder, *info_hash, out),
    }
}

fn list(folder: &Path, json: bool, out: &Output) -> Result<Exit, Failure> {
    let (listed, damaged) = known::run(async {
        if !folder.exists() {
            return Ok((Vec::new(), Vec::new()));
        }
        let Opened { store, history } = Store::open(folder.to_owned()).await?;
        if let History::Rebuilt { why } = history {
            out.warn(
                "state",
                format!("the database was made anew from the catalog: {why}"),
            );
        }
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
    Ok(Listed {
        info_hash: info.info_hash().to_string(),
        name: info.name().to_owned(),
        paused: choices.as_ref().is_some_and(|choices| choices.paused),
        dest: choices.map(|choices| choices.dest.display().to_string()),
        length: info.geometry().total(),
        pieces,
        durable,
        scrubbed: mark.and_then(|mark| scrubbed(&mark)),
    })
}

fn scrubbed(mark: &ScrubMark) -> Option<String> {
    let when = jiff::Timestamp::from_second(mark.finished).ok()?;
    (mark.finished != 0).then(|| when.to_string())
}

fn human(torrent: &Listed, out: &Output) {
    let percent = 100 * u64::from(torrent.durable) / u64::from(torrent.pieces.max(1));
    let place = match &torrent.dest {
        Some(dest) => format!("in {dest}"),
        None => "in a place that is lost".to_owned(),
    };
    out.clean_line(format_args!(
        "{}  {percent:>3} %  {:>12}  {}  {place}{}{}",
        torrent.info_hash,
        BinaryBytes(torrent.length).to_string(),
        torrent.name,
        if torrent.paused { "  (paused)" } else { "" },
        torrent
            .scrubbed
            .as_ref()
            .map_or_else(String::new, |when| format!("  (scrubbed {when})")),
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
        .hint("`seedbank state rebuild` makes the database anew from the catalog"))
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
        let message = format!("{info_hash}: not in the state folder {}", folder.display());
        return Err(
            Failure::new(Exit::NotFound, message).hint("`seedbank state list` names what it knows")
        );
    }
    out.say(format_args!("{info_hash} is forgotten; its payload stays"));
    Ok(Exit::Done)
}

async fn forget_in(store: &Store, info_hash: InfoHash) -> Result<bool, StoreError> {
    let known = store.knows(info_hash).await?;
    if known {
        store.remove_torrent(info_hash).await?;
    }
    Ok(known)
}
