//! A folder in two layers, what syncs have covered and what was written since, and what a medium may have kept of the two.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::Dice;
use crate::store::durable;

const SECTOR: usize = 512;

/// A file or folder, whatever it is called.
type Node = (u64, Option<SystemTime>);
type Names = BTreeMap<OsString, Node>;
type Content = Arc<Vec<u8>>;

/// What is in a folder, by path within it.
#[derive(Clone, Default)]
struct Layer {
    names: BTreeMap<PathBuf, Names>,
    content: HashMap<Node, Content>,
}

impl Layer {
    fn of(root: &Path) -> Self {
        let mut layer = Self::default();
        layer.add(root, Path::new(""));
        layer
    }

    fn add(&mut self, root: &Path, within: &Path) {
        let mut names = Names::new();
        for path in durable::list(&root.join(within)).unwrap() {
            let name = path.file_name().unwrap().to_owned();
            // Another thread may rename it meanwhile.
            let Some(node) = node_at(&path) else { continue };
            if path.is_dir() {
                self.add(root, &within.join(&name));
            } else if let Ok(bytes) = fs::read(&path) {
                self.content.insert(node, Arc::new(bytes));
            }
            names.insert(name, node);
        }
        self.names.insert(within.to_owned(), names);
    }
}

fn node_at(path: &Path) -> Option<Node> {
    let meta = fs::symlink_metadata(path).ok()?;
    Some((meta.ino(), meta.created().ok()))
}

/// A moment at which the power may go.
#[derive(Clone)]
pub(super) struct Cut {
    synced: Layer,
    written: Layer,
    /// The last content of files that are gone from `written`.
    gone: HashMap<Node, Content>,
}

/// Looks on as a store works.
struct Witness {
    root: PathBuf,
    /// What it takes no notice of the syncs of, within `root`.
    deaf_to: Option<&'static str>,
    synced: Layer,
    seen: HashMap<Node, Content>,
    cuts: Vec<Cut>,
}

static WITNESSES: Mutex<Vec<Arc<Mutex<Witness>>>> = Mutex::new(Vec::new());

/// The syncs that a store makes in `folder` meanwhile: how many of each file and folder.
pub(in crate::store::tests) struct Syncs(Watched);

impl Syncs {
    pub(in crate::store::tests) fn of(folder: &Path) -> Self {
        Self(Watched::new(folder))
    }

    /// How many there were.
    pub(in crate::store::tests) fn count(&self) -> usize {
        self.0.cuts().0.len()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Called by the store when it has synced the file or folder at `path`.
pub(in crate::store) fn witness(path: &Path) {
    let witnesses = locked(&WITNESSES).clone();
    for witness in witnesses {
        let mut witness = locked(&witness);
        if path.starts_with(&witness.root) {
            witness.on_sync(path);
        }
    }
}

/// A witness of what happens in one folder, until it is dropped.
pub(super) struct Watched(Arc<Mutex<Witness>>);

impl Watched {
    /// All that is there is on the medium.
    pub(super) fn new(root: &Path) -> Self {
        Self::deaf_to(None, root)
    }

    /// The same with a witness who does not notice some of the syncs, as if they were not made.
    pub(super) fn deaf_to(deaf_to: Option<&'static str>, root: &Path) -> Self {
        let synced = Layer::of(root);
        let witness = Arc::new(Mutex::new(Witness {
            root: root.to_owned(),
            deaf_to,
            seen: synced.content.clone(),
            synced,
            cuts: Vec::new(),
        }));
        locked(&WITNESSES).push(Arc::clone(&witness));
        Self(witness)
    }

    /// The moments since this was last asked, and now.
    pub(super) fn cuts(&self) -> (Vec<Cut>, Cut) {
        let mut witness = locked(&self.0);
        let now = witness.cut();
        (std::mem::take(&mut witness.cuts), now)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        locked(&WITNESSES).retain(|other| !Arc::ptr_eq(other, &self.0));
    }
}

impl Witness {
    fn cut(&mut self) -> Cut {
        let written = Layer::of(&self.root);
        let gone = self.seen.clone();
        self.seen.extend(written.content.clone());
        Cut {
            synced: self.synced.clone(),
            written,
            gone,
        }
    }

    fn on_sync(&mut self, path: &Path) {
        let cut = self.cut();
        let within = path.strip_prefix(&self.root).unwrap();
        if self.deaf_to.is_some_and(|name| within == Path::new(name)) {
            return;
        }
        if let Some(names) = cut.written.names.get(within) {
            self.synced.names.insert(within.to_owned(), names.clone());
        } else {
            let node = node_at(path).unwrap();
            let content = Arc::clone(&cut.written.content[&node]);
            self.synced.content.insert(node, content);
        }
        self.cuts.push(cut);
    }
}

impl Cut {
    /// Whether a sync covered the name `name` in the folder.
    pub(super) fn is_durable(&self, name: &str) -> bool {
        let names = self.synced.names.get(Path::new(""));
        names.is_some_and(|names| names.contains_key(OsStr::new(name)))
    }

    /// Makes a folder as it may be found after this cut.
    pub(super) fn build(&self, dice: &mut Dice, to: &Path) {
        fs::create_dir_all(to).unwrap();
        self.build_folder(dice, Path::new(""), to);
    }

    fn build_folder(&self, dice: &mut Dice, within: &Path, to: &Path) {
        let none = Names::new();
        let old = self.synced.names.get(within).unwrap_or(&none);
        let new = self.written.names.get(within).unwrap_or(&none);
        let all: BTreeSet<&OsString> = old.keys().chain(new.keys()).collect();
        let style = dice.below(3);
        let snapshots = |names: &Names| {
            let named = names.iter().filter(|(name, _)| is_snapshot(name));
            named.map(|(_, node)| *node).collect::<Vec<_>>()
        };
        let same_snapshots = snapshots(old) == snapshots(new);
        let old_snapshots = !same_snapshots && dice.coin();
        for name in all {
            let (old, new) = (old.get(name), new.get(name));
            let node = match style {
                _ if old_snapshots && is_snapshot(name) => old,
                0 => old,
                1 => new,
                _ if dice.coin() => old,
                _ => new,
            };
            let Some(node) = node else { continue };
            let (inside, path) = (within.join(name), to.join(name));
            if self.written.names.contains_key(&inside) || self.synced.names.contains_key(&inside) {
                fs::create_dir_all(&path).unwrap();
                self.build_folder(dice, &inside, &path);
            } else {
                let log_is_synced = !same_snapshots && !old_snapshots;
                let whole = is_snapshot(name) || log_is_synced && inside == Path::new("db/db");
                let content = self.content(dice, node, whole);
                fs::write(&path, content).unwrap();
            }
        }
    }

    fn content(&self, dice: &mut Dice, node: &Node, whole: bool) -> Vec<u8> {
        let written = self.written.content.get(node).or(self.gone.get(node));
        let new = written.map_or(&[][..], |content| content);
        if whole {
            return new.to_vec();
        }
        let old = self.synced.content.get(node);
        mixed(dice, old.map_or(&[][..], |content| content), new)
    }
}

fn is_snapshot(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with("snap.")
}

/// A file that was synced as `old` and then written as `new`.
fn mixed(dice: &mut Dice, old: &[u8], new: &[u8]) -> Vec<u8> {
    let len = old.len().max(new.len());
    let sector = |of: &[u8], at: usize| {
        let mut sector = [0; SECTOR];
        let there = of.get(at * SECTOR..).unwrap_or_default();
        let there = &there[..there.len().min(SECTOR)];
        sector[..there.len()].copy_from_slice(there);
        sector
    };
    let count = len.div_ceil(SECTOR);
    let changed: Vec<usize> = (0..count)
        .filter(|&at| sector(old, at) != sector(new, at))
        .collect();
    let style = dice.below(7);
    let pivot = changed
        .get(dice.below(changed.len().max(1)))
        .copied()
        .unwrap_or(0);
    let mut bytes = Vec::with_capacity(count * SECTOR);
    for at in 0..count {
        let is_new = match style {
            0 => false,
            1 => true,
            2 => at < pivot,
            3 => at > pivot,
            4 => at == pivot,
            5 => at != pivot,
            _ => dice.coin(),
        };
        bytes.extend_from_slice(&sector(if is_new { new } else { old }, at));
    }
    let len = match dice.below(3) {
        0 => old.len(),
        1 => new.len(),
        _ => len,
    };
    bytes.truncate(len);
    bytes
}
