//! What a state folder claims of a torrent, held against the medium.

use std::fs;
use std::path::Path;

use seedbank::store::{History, Record, Store};

use crate::shares::Share;

/// What is wrong, in a few words.
pub(crate) type Broken = String;

/// What the state folder says of a torrent.
pub(crate) struct Claims {
    pub(crate) record: Option<Record>,
    /// Whether the torrent is in the catalog.
    pub(crate) catalogued: bool,
}

/// Reads `state` without changing it; `scratch` is a path where nothing is.
///
/// # Errors
/// If it cannot be opened, or its database was lost.
pub(crate) async fn claims(state: &Path, scratch: &Path, share: &Share) -> Result<Claims, Broken> {
    // Opening a database writes to it, and the next life shall find it as the last one left it.
    copy(state, scratch);
    let opened = Store::open(scratch.to_owned()).await;
    let opened = opened.map_err(|error| format!("the store does not open: {error}"))?;
    if let History::Rebuilt { why } = opened.history {
        return Err(format!("the database was lost: {why}"));
    }
    let store = opened.store;
    let info = &share.metainfo.info;
    let (pieces, files) = (info.geometry().pieces(), info.files().len());
    let record = store.load(info.info_hash(), pieces, files).await;
    let catalog = store.catalog().await.unwrap();
    store.close().await.unwrap();
    fs::remove_dir_all(scratch).unwrap();
    let mut entries = catalog.entries.iter();
    Ok(Claims {
        record: record.map_err(|error| error.to_string())?,
        catalogued: entries.any(|entry| entry.info_hash == info.info_hash()),
    })
}

/// Whatever is called durable is on the medium, and after a clean end every block that is said to be stored.
///
/// # Errors
/// What is not there.
pub(crate) fn check(record: &Record, share: &Share, dest: &Path) -> Result<(), Broken> {
    let geometry = share.geometry();
    let wrong = |piece: &u32| {
        let piece = geometry.piece(*piece).unwrap();
        !share.is_there(dest, piece, 0, geometry.len_of(piece))
    };
    let wrong: Vec<u32> = record.durable.iter().filter(wrong).collect();
    if !wrong.is_empty() {
        return Err(format!("false bits: {wrong:?} are not on the medium"));
    }
    for (piece, blocks) in record.partial.iter().filter(|_| record.clean) {
        let piece = geometry.piece(*piece).unwrap();
        let range = geometry.run(piece, blocks.clone()).unwrap();
        if !share.is_there(dest, piece, range.begin(), range.end()) {
            return Err(format!(
                "blocks {blocks:?} of piece {piece} are not on the medium"
            ));
        }
    }
    Ok(())
}

/// Copies a state folder. The number of the last commit goes first: it may be behind the database, never ahead.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let mut entries: Vec<_> = fs::read_dir(from)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort_by_key(|path| !path.ends_with("db.sequence"));
    for path in entries {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(path, target).unwrap();
        }
    }
}
