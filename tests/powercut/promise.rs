//! What the client said, and whether the store and the disk still bear it out after a cut.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use seedbank::base::InfoHash;
use seedbank::store::{History, Store};
use serde_json::Value;

use crate::common::metainfo::Torrent;
use crate::common::seedbank::number;
use crate::load;

/// What was promised of one torrent, over all runs on the same images.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promise {
    /// `resume` was printed: it is in the catalog.
    listed: bool,
    /// The most pieces that any event called durable.
    durable: u64,
    /// `complete` was printed.
    complete: bool,
    /// Pieces that were durable after an earlier cut.
    kept: BTreeSet<u32>,
}

impl Promise {
    /// Takes in what a run said of this torrent; `in_order` if it ended so before the cut, which makes all that is verified durable.
    pub(crate) fn hear(&mut self, events: &[Value], in_order: bool) {
        for event in events {
            let durable = match event["event"].as_str() {
                // What is there at a start was committed before it is told.
                Some("resume") => {
                    self.listed = true;
                    number(event, "total") - number(event, "missing")
                }
                Some("durable") => number(event, "pieces"),
                Some("have") if in_order => number(event, "verified"),
                Some("complete") => {
                    self.complete = true;
                    0
                }
                _ => 0,
            };
            self.durable = self.durable.max(durable);
        }
    }
}

/// What a torrent is after a cut.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    catalogued: bool,
    /// Pieces that the store calls durable.
    pub(crate) durable: BTreeSet<u32>,
    /// Pieces of which anything was ever written.
    pub(crate) touched: u64,
}

/// What went wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Damage {
    /// Pieces called durable whose bytes are not there.
    pub(crate) false_bits: usize,
    /// What is wrong with each of them.
    pub(crate) faults: Vec<String>,
    /// Torrents that were listed and are not any more.
    pub(crate) lost_torrents: usize,
    /// Other promises that do not hold, one line each.
    pub(crate) broken: Vec<String>,
}

impl Damage {
    /// Whether nothing did.
    pub(crate) fn is_none(&self) -> bool {
        self.false_bits == 0 && self.lost_torrents == 0 && self.broken.is_empty()
    }

    /// Adds what else went wrong.
    pub(crate) fn add(&mut self, mut other: Self) {
        self.false_bits += other.false_bits;
        self.faults.append(&mut other.faults);
        self.lost_torrents += other.lost_torrents;
        self.broken.append(&mut other.broken);
    }
}

/// Looks at a copy of the state folder, at every bit in it and at the bytes below `dest` that it speaks of. The copy goes to
/// `scratch`: a store writes when it is opened, and the client is to find it as the cut left it.
pub(crate) fn inspect(
    torrents: &[Torrent],
    promises: &mut [Promise],
    (state, dest, scratch): (&Path, &Path, &Path),
) -> (Vec<Found>, Damage) {
    let mut damage = Damage::default();
    let (mut found, history) = match remembered(torrents, state, scratch) {
        Ok(remembered) => remembered,
        Err(error) => {
            let broken = format!("the state folder does not open: {error}");
            damage.broken.push(broken);
            (vec![Found::default(); torrents.len()], None)
        }
    };
    if let Some(History::Rebuilt { why }) = history
        && promises.iter().any(|promise| promise.listed)
    {
        damage.broken.push(format!("the database is lost: {why}"));
    }
    for ((torrent, promise), found) in torrents.iter().zip(promises).zip(&mut found) {
        let name = torrent.name();
        let mut say = |what: String| damage.broken.push(format!("{name}: {what}"));
        let durable = found.durable.len() as u64;
        if durable < promise.durable {
            let promised = promise.durable;
            say(format!("{promised} pieces were durable, {durable} are"));
        }
        if promise.complete && durable < u64::from(torrent.pieces) {
            say("it was complete".to_owned());
        }
        let gone = promise.kept.difference(&found.durable).count();
        if gone > 0 {
            say(format!("{gone} pieces are durable no more"));
        }
        if promise.listed && !found.catalogued {
            damage.lost_torrents += 1;
        }
        for &piece in &found.durable {
            if let Some(fault) = load::fault(torrent, dest, piece) {
                damage.false_bits += 1;
                damage
                    .faults
                    .push(format!("{name}, piece {piece}: {fault}"));
            }
        }
        let touched = (0..torrent.pieces).filter(|&piece| load::is_touched(torrent, dest, piece));
        found.touched = touched.count() as u64;
        promise.kept.clone_from(&found.durable);
    }
    (found, damage)
}

/// What the state folder says, by its own library.
fn remembered(
    torrents: &[Torrent],
    state: &Path,
    scratch: &Path,
) -> Result<(Vec<Found>, Option<History>), String> {
    let mut found = vec![Found::default(); torrents.len()];
    if !state.exists() {
        return Ok((found, None));
    }
    let _ = std::fs::remove_dir_all(scratch);
    let copied = Command::new("cp")
        .arg("-r")
        .arg(state)
        .arg(scratch)
        .status();
    assert!(copied.unwrap().success(), "{}", state.display());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let history = runtime.block_on(async {
        let opened = Store::open(scratch.to_owned())
            .await
            .map_err(|error| error.to_string())?;
        let store = opened.store;
        let catalog = store.catalog().await.map_err(|error| error.to_string())?;
        for (torrent, found) in torrents.iter().zip(&mut found) {
            let info_hash = InfoHash(torrent.info_hash);
            let mut entries = catalog.entries.iter();
            found.catalogued = entries.any(|entry| entry.info_hash == info_hash);
            let record = store
                .load(info_hash, torrent.pieces, torrent.files.len())
                .await;
            let record = record.map_err(|error| error.to_string())?;
            found.durable = record
                .map(|record| record.durable.iter().collect())
                .unwrap_or_default();
        }
        store.close().await.map_err(|error| error.to_string())?;
        Ok::<_, String>(opened.history)
    })?;
    Ok((found, Some(history)))
}
