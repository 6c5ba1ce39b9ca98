//! What waits together is made durable together, and fails together.

use std::time::Instant;

use super::crash::medium::Syncs;
use super::*;
use crate::store::database::{Batch, Database};

fn torrent(n: u32) -> InfoHash {
    let mut hash = [7; 20];
    hash[..4].copy_from_slice(&n.to_be_bytes());
    InfoHash(hash)
}

async fn load_many(store: &Store, count: u32) {
    for n in 0..count {
        store.load(torrent(n), PIECES, FILES).await.unwrap();
    }
}

/// Keeps the store's thread busy until the answer is dropped.
fn hold_up(store: &Store) -> (std::sync::mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let store = store.clone();
    let task = tokio::spawn(async move {
        let wait = move |_: &mut Worker| {
            let _ = held.recv();
            Ok(())
        };
        store.ask(wait).await.unwrap();
    });
    (release, task)
}

#[test]
fn commits_that_wait_together_share_a_barrier() {
    const COUNT: u32 = 200;
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        load_many(&store, COUNT).await;
        let begun = Instant::now();
        for n in 0..COUNT {
            store.commit(torrent(n), pieces([1])).await.unwrap();
        }
        let alone = begun.elapsed();

        let syncs = Syncs::of(folder.path());
        let begun = Instant::now();
        let (release, held) = hold_up(&store);
        let commits = (0..COUNT).map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(torrent(n), pieces([2])).await })
        });
        let commits: Vec<_> = commits.collect();
        // A turn of the runtime does not get round to all of them.
        for _ in 0..COUNT {
            tokio::task::yield_now().await;
        }
        drop(release);
        held.await.unwrap();
        for commit in commits {
            commit.await.unwrap().unwrap();
        }
        let together = begun.elapsed();
        let count = syncs.count();
        eprintln!(
            "{COUNT} commits: one by one {alone:?}, together {together:?} with {count} syncs"
        );
        assert!(count <= 4, "{count}");
        store.close().await.unwrap();
        let (store, _) = open(folder.path()).await;
        for n in 0..COUNT {
            let record = store.load(torrent(n), PIECES, FILES).await.unwrap();
            let durable: Vec<u32> = record.unwrap().durable.iter().collect();
            assert_eq!(durable, [1, 2]);
        }
    });
}

#[test]
fn a_failure_before_the_barrier_fails_all_that_wait_for_it_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        load_many(&store, 3).await;
        store.commit(torrent(0), pieces([1])).await.unwrap();
        let (release, held) = hold_up(&store);
        let commit = |n: u32| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(torrent(n), pieces([2])).await })
        };
        let (first, second) = (commit(0), commit(1));
        tokio::task::yield_now().await;
        let failing = {
            let store = store.clone();
            let full = |_: &mut Database| Err(StoreError::Full { path: "db".into() });
            tokio::spawn(async move { store.ask(move |worker| worker.with::<()>(full)).await })
        };
        tokio::task::yield_now().await;
        let third = commit(2);
        tokio::task::yield_now().await;
        drop(release);
        held.await.unwrap();
        for failed in [first, second, failing] {
            let error = failed.await.unwrap().unwrap_err();
            assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        }
        third.await.unwrap().unwrap();
        // What failed may be there or not; it is said again and then it is.
        for n in 0..2 {
            store.commit(torrent(n), pieces([2])).await.unwrap();
        }
        store.close().await.unwrap();
        let (store, _) = open(folder.path()).await;
        for (n, expected) in [(0, &[1, 2][..]), (1, &[2]), (2, &[2])] {
            let record = store.load(torrent(n), PIECES, FILES).await.unwrap();
            let durable: Vec<u32> = record.unwrap().durable.iter().collect();
            assert_eq!(durable, expected, "{n}");
        }
    });
}

#[test]
fn a_damaged_row_of_one_torrent_fails_no_other_that_waits() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        load_many(&store, 4).await;
        let key = schema::Row::Page.numbered(&torrent(2), 0);
        let wreck = move |database: &mut Database| {
            let mut batch = Batch::default();
            batch.put_sealed(&key, b"h torn");
            database.apply(batch)
        };
        let wreck = store.ask(move |worker: &mut Worker| worker.with(wreck));
        wreck.await.unwrap();
        let (release, held) = hold_up(&store);
        let mut commits = Vec::new();
        for n in 0..4 {
            let store = store.clone();
            let commit = async move { store.commit(torrent(n), pieces([2])).await };
            commits.push(tokio::spawn(commit));
            tokio::task::yield_now().await;
        }
        drop(release);
        held.await.unwrap();
        for (n, commit) in commits.into_iter().enumerate() {
            match (n, commit.await.unwrap()) {
                (2, Err(StoreError::Damaged { .. })) | (0 | 1 | 3, Ok(())) => {}
                other => panic!("{other:?}"),
            }
        }
        for n in [0, 1, 3] {
            let record = store.load(torrent(n), PIECES, FILES).await.unwrap();
            let durable: Vec<u32> = record.unwrap().durable.iter().collect();
            assert_eq!(durable, [2], "{n}");
        }
    });
}

#[test]
fn what_the_catalog_says_already_is_neither_written_nor_synced_again() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let put = async |store: &Store, dest: &str| {
            let choices = Choices::new(dest.into());
            store
                .put_torrent(IH, b"de".to_vec(), choices)
                .await
                .unwrap();
        };
        let (store, _) = open(folder.path()).await;
        put(&store, "/dest").await;
        store.close().await.unwrap();
        let (store, _) = open(folder.path()).await;
        let syncs = Syncs::of(folder.path());
        put(&store, "/dest").await;
        assert_eq!(syncs.count(), 0);
        put(&store, "/other").await;
        assert_eq!(syncs.count(), 3, "two files and their folder");
    });
}
