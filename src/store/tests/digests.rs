//! What re-reading shared data remembers is a cache: it stays, it goes with its piece, and it costs nothing else.

use super::*;
use crate::base::PieceDigest;
use crate::store::ScrubMark;
use crate::store::database::{Batch, Database};
use crate::store::schema::Row;

const MARK: ScrubMark = ScrubMark {
    next: 9,
    bad: 2,
    began: 1 << 40,
    finished: -1,
};

fn digest(piece: u32) -> (u32, PieceDigest) {
    (piece, PieceDigest([piece as u8 | 1; 16]))
}

async fn known(store: &Store, near: u32) -> Vec<u32> {
    let known = store.digests(IH, near).await;
    let numbers = known.iter().map(|&(piece, found)| {
        assert_eq!((piece, found), digest(piece));
        piece
    });
    numbers.collect()
}

/// The database alone. A store that was closed lets go of it a moment later.
fn open_database(folder: &Path) -> Database {
    loop {
        match Database::open(&folder.join("db")) {
            Err(sled::Error::Io(error)) if crate::store::database::is_lock(&error) => {
                std::thread::yield_now();
            }
            opened => return opened.unwrap(),
        }
    }
}

/// A store with all pieces durable and digests of some of them.
async fn scrubbed(folder: &Path) -> Store {
    let (store, _) = open(folder).await;
    load(&store).await;
    let finished = Commit {
        finished: true,
        ..pieces(0..PIECES)
    };
    store.commit(IH, finished).await.unwrap();
    let some = [0, 1, 59, 60, PIECES - 1].map(digest).to_vec();
    store.put_scrub(IH, MARK, some).await.unwrap();
    store.put_scrub(IH, MARK, vec![digest(2)]).await.unwrap();
    store
}

#[test]
fn digests_and_the_mark_are_there_after_a_restart_and_go_with_their_pieces() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let store = scrubbed(folder.path()).await;
        store.close().await.unwrap();
        let (store, _) = open(folder.path()).await;
        load(&store).await;
        assert_eq!(store.scrub_mark(IH).await, Some(MARK));
        assert_eq!(store.scrub_mark(OTHER).await, None);
        assert_eq!(known(&store, 30).await, [0, 1, 2, 59]);
        assert_eq!(known(&store, 119).await, [60]);
        assert_eq!(known(&store, PIECES - 1).await, [PIECES - 1]);
        assert_eq!(known(&store, u32::MAX).await, [0u32; 0]);

        store.clear(IH, vec![1, 60]).await.unwrap();
        assert_eq!(known(&store, 30).await, [0, 2, 59]);
        assert_eq!(known(&store, 60).await, [0u32; 0]);
        assert_eq!(store.scrub_mark(IH).await, Some(MARK));
        store.clear_all(IH).await.unwrap();
        assert_eq!(known(&store, 0).await, [0u32; 0]);
        assert_eq!(store.scrub_mark(IH).await, None);
        store.close().await.unwrap();
    });
}

#[test]
fn a_removed_torrent_leaves_no_digest() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let store = scrubbed(folder.path()).await;
        store.remove_torrent(IH).await.unwrap();
        assert_eq!(known(&store, 0).await, [0u32; 0]);
        assert_eq!(store.scrub_mark(IH).await, None);
        store.close().await.unwrap();
    });
}

#[test]
fn damaged_digests_are_passed_over_and_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let store = scrubbed(folder.path()).await;
        store.close().await.unwrap();
        let rows = [Row::Digests.of(&IH), Row::Digests.numbered(&IH, 0)];
        let mut database = open_database(folder.path());
        let mut batch = Batch::default();
        for row in &rows {
            batch.put_sealed(row, b"gone");
        }
        database.apply(batch).unwrap();
        drop(database);
        let (store, history) = open(folder.path()).await;
        assert_eq!(history, History::Current, "it is not worth a new database");
        assert_eq!(durable(&store).await.len(), PIECES as usize);
        assert_eq!(store.scrub_mark(IH).await, None);
        assert_eq!(known(&store, 0).await, [0u32; 0]);
        assert_eq!(known(&store, 60).await, [60]);
        store.put_scrub(IH, MARK, vec![digest(5)]).await.unwrap();
        assert_eq!(store.scrub_mark(IH).await, Some(MARK));
        assert_eq!(known(&store, 0).await, [5]);
        store.close().await.unwrap();
    });
}
