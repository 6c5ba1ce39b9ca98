//! The open files of all payloads, bounded: the one used longest ago is closed first, and never before it is synced (R6).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::DiskError;
use super::file::OpenFile;
use super::volume::Volume;
use crate::base::limits;

/// Which file: of which payload, at which place in its layout.
pub(super) type Key = (u64, usize);

/// A table of open files.
#[derive(Debug)]
pub(super) struct Handles {
    cap: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Key, Entry>,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    file: Arc<OpenFile>,
    used: u64,
}

impl Handles {
    /// An empty table for [`limits::OPEN_FILES`] files, or half of what this process may open.
    pub(super) fn new() -> Self {
        let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let half = allowed.map_or(usize::MAX, |allowed| (allowed / 2) as usize);
        Self::with_cap(limits::OPEN_FILES.min(half).max(1))
    }

    fn with_cap(cap: usize) -> Self {
        let table = Mutex::default();
        Self { cap, table }
    }

    /// The open file of `key`, by `open` if it is not in the table.
    pub(super) fn get(
        &self,
        key: Key,
        open: impl Fn() -> Result<OpenFile, DiskError>,
    ) -> Result<Arc<OpenFile>, DiskError> {
        if let Some(file) = self.find(key) {
            return Ok(file);
        }
        self.make_room();
        // Opened without holding the table: a slow filesystem must not stall the files of others. Two threads may open the same file;
        // the first to come back is kept by both, so that there is one mapping and one mark for unsynced bytes.
        let opened = match open() {
            // Other parts of the program use descriptors too.
            Err(error) if is_out_of_descriptors(&error) => {
                self.close_all_clean();
                open()
            }
            opened => opened,
        };
        let opened = Arc::new(opened?);
        let mut table = self.table();
        table.clock += 1;
        let used = table.clock;
        let entry = table
            .entries
            .entry(key)
            .or_insert(Entry { file: opened, used });
        entry.used = used;
        Ok(Arc::clone(&entry.file))
    }

    /// The open file of `key`, if it is in the table.
    pub(super) fn find(&self, key: Key) -> Option<Arc<OpenFile>> {
        let mut table = self.table();
        table.clock += 1;
        let used = table.clock;
        let entry = table.entries.get_mut(&key)?;
        entry.used = used;
        Some(Arc::clone(&entry.file))
    }

    /// Closes files until there is room for more. Files in use stay, so the cap may be passed by as many as there are threads,
    /// and for as long as many are synced together.
    fn make_room(&self) {
        // Each round closes files or cleans one; a file that another thread makes dirty again must not hold us up for ever.
        for _ in 0..4 {
            let Some((key, dirty)) = self.close_clean() else {
                return;
            };
            // A failure is its own torrent's trouble, not that of whoever needs the room: the file is poisoned and closed, and its
            // torrent hears of it at its next sync.
            if self.clean(&key, &dirty).is_err() {
                drop(dirty);
                self.close_idle(key);
            }
        }
    }

    /// Syncs `dirty`, with all others of its payload if they are many.
    fn clean(&self, key: &Key, dirty: &Arc<OpenFile>) -> Result<(), DiskError> {
        if let Some(volume) = dirty.volume() {
            let together = |file: &Arc<OpenFile>| {
                let same = |other| Arc::ptr_eq(volume, other);
                file.is_dirty() && file.volume().is_some_and(same)
            };
            let others: Vec<_> = self.of(key.0).into_iter().filter(together).collect();
            if Volume::is_worth(others.len()) && volume.sync(&others, dirty) {
                return Ok(());
            }
        }
        dirty.sync()
    }

    /// Closes clean files until there is room, and some more, as finding those used longest ago means looking at all. If there are not
    /// enough of them, gives the unsynced one to clean next.
    fn close_clean(&self) -> Option<(Key, Arc<OpenFile>)> {
        let mut table = self.table();
        if table.entries.len() < self.cap {
            return None;
        }
        let excess = table.entries.len() + 1 - self.cap;
        let closed = table.take_clean(excess + self.cap / 16);
        let full = table.entries.len() >= self.cap;
        let dirty = if full { table.oldest_dirty() } else { None };
        let dirty = dirty.and_then(|key| Some((key, Arc::clone(&table.entries.get(&key)?.file))));
        drop(table);
        // Closing a file may block.
        drop(closed);
        dirty
    }

    fn close_all_clean(&self) {
        let closed = self.table().take_clean(usize::MAX);
        drop(closed);
    }

    fn close_idle(&self, key: Key) {
        let mut table = self.table();
        let idle = table
            .entries
            .get(&key)
            .is_some_and(|entry| Arc::strong_count(&entry.file) == 1);
        let closed = if idle {
            table.entries.remove(&key)
        } else {
            None
        };
        drop(table);
        drop(closed);
    }

    /// The open files of one payload.
    pub(super) fn of(&self, payload: u64) -> Vec<Arc<OpenFile>> {
        let table = self.table();
        let entries = table
            .entries
            .iter()
            .filter(|((owner, _), _)| *owner == payload);
        entries.map(|(_, entry)| Arc::clone(&entry.file)).collect()
    }

    /// Closes the files of one payload as soon as they are not in use.
    pub(super) fn forget(&self, payload: u64) {
        let mut table = self.table();
        let gone = table.entries.extract_if(|(owner, _), _| *owner == payload);
        let gone: Vec<_> = gone.collect();
        drop(table);
        // Closing a file may block.
        drop(gone);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_out_of_descriptors(error: &DiskError) -> bool {
    match error {
        DiskError::CannotOpen { source, .. } => {
            matches!(source.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
        }
        _ => false,
    }
}

impl Table {
    /// Takes out the clean files used longest ago, at most `count`.
    fn take_clean(&mut self, count: usize) -> Vec<Entry> {
        let mut clean: Vec<_> = self.idle(false).collect();
        if count < clean.len() {
            clean.select_nth_unstable(count);
            clean.truncate(count);
        }
        let keys: Vec<_> = clean.into_iter().map(|(_, key)| key).collect();
        let entries = keys.iter().map(|key| self.entries.remove(key));
        entries.flatten().collect()
    }

    /// The unsynced file used longest ago.
    fn oldest_dirty(&self) -> Option<Key> {
        self.idle(true).min().map(|(_, key)| key)
    }

    /// The files that nobody uses now, and when each was used last. Nobody can start to while the table is locked.
    fn idle(&self, dirty: bool) -> impl Iterator<Item = (u64, Key)> {
        self.entries
            .iter()
            .filter(move |(_, entry)| {
                Arc::strong_count(&entry.file) == 1 && entry.file.is_dirty() == dirty
            })
            .map(|(&key, entry)| (entry.used, key))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kernel;
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn opener(poisoned: &Arc<AtomicBool>) -> impl Fn() -> Result<OpenFile, DiskError> + use<> {
        let poisoned = Arc::clone(poisoned);
        // A file without a name is one that was deleted, and is not written to.
        let named = tempfile::NamedTempFile::new().unwrap();
        named.as_file().set_len(10).unwrap();
        move || {
            let file = named.reopen().unwrap();
            Ok(OpenFile::new(
                "f".into(),
                file,
                10,
                false,
                Arc::clone(&poisoned),
                Arc::new(Kernel),
            ))
        }
    }

    #[test]
    fn the_file_used_longest_ago_is_closed_and_files_in_use_are_not() {
        let handles = Handles::with_cap(2);
        let open = opener(&Arc::default());
        let first = handles.get((1, 0), &open).unwrap();
        handles.get((1, 1), &open).unwrap();
        handles.get((1, 2), &open).unwrap();
        assert!(handles.find((1, 0)).is_some(), "in use");
        assert!(handles.find((1, 1)).is_none(), "the oldest idle");
        drop(first);
        assert!(handles.find((1, 2)).is_some());
        handles.forget(1);
        assert!(handles.of(1).is_empty());
    }

    #[test]
    fn unsynced_files_are_closed_last_and_synced_before() {
        let handles = Handles::with_cap(2);
        let open = opener(&Arc::default());
        let dirty = handles.get((1, 0), &open).unwrap();
        dirty.write_at(0, b"x").unwrap();
        let watch = Arc::downgrade(&dirty);
        drop(dirty);
        handles.get((1, 1), &open).unwrap();
        handles.get((1, 2), &open).unwrap();
        assert!(
            watch.upgrade().is_some_and(|file| file.is_dirty()),
            "a clean one had to go first"
        );
        handles
            .get((1, 2), &open)
            .unwrap()
            .write_at(0, b"y")
            .unwrap();
        handles.get((1, 3), &open).unwrap();
        assert!(watch.upgrade().is_none());
    }

    #[test]
    fn a_failed_sync_of_one_payload_does_not_fail_the_opening_of_another() {
        let handles = Handles::with_cap(1);
        let poisoned = Arc::default();
        let open = opener(&poisoned);
        let file = handles.get((1, 0), &open).unwrap();
        file.write_at(0, b"x").unwrap();
        drop(file);
        poisoned.store(true, Ordering::Release);
        handles.get((2, 0), opener(&Arc::default())).unwrap();
        assert!(handles.find((1, 0)).is_none(), "there had to be room");
        assert!(handles.get((1, 0), &open).unwrap().sync().is_err());
    }

    #[test]
    fn when_the_system_has_no_descriptor_left_idle_files_give_theirs() {
        let handles = Handles::with_cap(9);
        let open = opener(&Arc::default());
        handles.get((1, 0), &open).unwrap();
        let scarce = || match handles.of(1).len() {
            0 => open(),
            _ => Err(DiskError::opening(
                "f".as_ref(),
                std::io::Error::from_raw_os_error(libc::EMFILE),
            )),
        };
        handles.get((1, 1), scarce).unwrap();
        assert!(handles.find((1, 0)).is_none());
    }
}
