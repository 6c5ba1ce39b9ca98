//! Whatever is in the files of the state folder: it opens, the catalog is there, and nothing is called durable that was not.

use std::path::PathBuf;

use super::*;
use crate::store::database::{Batch, Database};
use crate::store::open::open_unlocked;

const DURABLE: [u32; 4] = [1, 2, 5_000, 8_999];
const METAINFO: &[u8] = b"d4:infod6:lengthi1eee";

/// A state folder with a bit of everything in it.
async fn make(folder: &Path) {
    let (store, _) = open(folder).await;
    load(&store).await;
    let choices = Choices::new("/dest".into());
    store
        .put_torrent(IH, METAINFO.to_vec(), choices)
        .await
        .unwrap();
    let commit = Commit {
        identities: vec![(3, identity(3))],
        partial: Some(vec![(7, 0..2)]),
        ..pieces(DURABLE)
    };
    store.commit(IH, commit).await.unwrap();
    store.note(IH, vec![Note::Verified(4)]).await.unwrap();
    store.put_nodes(nodes::saved()).await.unwrap();
    store.close().await.unwrap();
    // A second start writes a snapshot of what the first one logged.
    open(folder).await.0.close().await.unwrap();
}

/// Opens the folder and holds what it says against what was made. True if the record was still there.
async fn hold(folder: &Path, what: &str) -> bool {
    let opened = Store::open(folder.to_owned()).await;
    let Opened { store, history } = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    let catalog = store.catalog().await.unwrap();
    assert_eq!(catalog.damaged, [], "{what}");
    assert_eq!(catalog.entries.len(), 1, "{what}");
    assert_eq!(catalog.entries[0].metainfo, METAINFO, "{what}");
    let found = durable(&store).await;
    assert!(
        found.iter().all(|piece| DURABLE.contains(piece)),
        "{what}: {found:?}"
    );
    let (made, known) = (nodes::saved(), store.nodes().await);
    assert!(
        known.nodes.iter().all(|node| made.nodes.contains(node)),
        "{what}"
    );
    assert!(
        known
            .identities
            .iter()
            .all(|id| made.identities.contains(id)),
        "{what}"
    );
    if matches!(history, History::Rebuilt { .. }) {
        assert!(found.is_empty(), "{what}");
        assert!(
            folder.join("db.broken").exists() || !what.contains("byte"),
            "{what}"
        );
    }
    // It works, whatever it was.
    store.commit(IH, pieces([11])).await.unwrap();
    assert!(durable(&store).await.contains(&11), "{what}");
    store.close().await.unwrap();
    found == DURABLE
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in durable::list(from).unwrap() {
        let there = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &there);
        } else {
            fs::copy(&path, &there).unwrap();
        }
    }
}

/// Files of the database, largest first.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut files = durable::list(&folder.join("db")).unwrap();
    files.retain(|path| path.is_file());
    files
}

/// Positions worth trying: all near the front, where everything is in a small database, then ever fewer.
fn positions(len: usize, step: usize) -> impl Iterator<Item = usize> {
    (0..len.min(2_000)).step_by(step).chain(
        std::iter::successors(Some(2_000), |at| Some(at * 3 / 2)).take_while(move |at| *at < len),
    )
}

#[test]
fn damage_to_notes_watermark_or_lock_costs_nothing_that_is_durable() {
    let sound = tempfile::tempdir().unwrap();
    block_on(make(sound.path()));
    let notes = format!("notes/{IH}");
    for name in [notes.as_str(), "db.sequence", "lock"] {
        let bytes = fs::read(sound.path().join(name)).unwrap();
        assert!(!bytes.is_empty(), "{name}");
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            for damaged in [&bytes[..at], &flipped] {
                let folder = tempfile::tempdir().unwrap();
                copy(sound.path(), folder.path());
                fs::write(folder.path().join(name), damaged).unwrap();
                let what = format!("{name} at {at}");
                assert!(block_on(hold(folder.path(), &what)), "{what}");
            }
        }
    }
}

fn with_each_file(step: usize, mut damage: impl FnMut(&[u8], usize) -> Vec<u8>) -> (u32, u32) {
    let sound = tempfile::tempdir().unwrap();
    block_on(make(sound.path()));
    let (mut tried, mut kept) = (0, 0);
    for file in files_of(sound.path()) {
        let bytes = fs::read(&file).unwrap();
        for at in positions(bytes.len(), step) {
            let folder = tempfile::tempdir().unwrap();
            copy(sound.path(), folder.path());
            let within = file.strip_prefix(sound.path()).unwrap();
            fs::write(folder.path().join(within), damage(&bytes, at)).unwrap();
            let what = format!("{} at byte {at}", within.display());
            kept += u32::from(block_on(hold(folder.path(), &what)));
            tried += 1;
        }
    }
    (tried, kept)
}

#[test]
fn a_database_cut_short_anywhere_loses_no_catalog_and_claims_nothing_new() {
    let (tried, kept) = with_each_file(13, |bytes, at| bytes[..at].to_vec());
    assert!(tried > 50 && kept < tried, "{kept} of {tried}");
}

#[test]
fn a_database_with_a_flipped_bit_loses_no_catalog_and_claims_nothing_new() {
    let (tried, kept) = with_each_file(11, |bytes, at| {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1 << (at % 8);
        flipped
    });
    assert!(tried > 50 && kept < tried, "{kept} of {tried}");
}

#[test]
fn a_database_that_is_something_else_altogether_is_moved_aside() {
    let sound = tempfile::tempdir().unwrap();
    block_on(make(sound.path()));
    for (what, wreck) in [
        ("a file", (|db| fs::write(db, b"x").unwrap()) as fn(&Path)),
        ("a folder in place of its file", |db| {
            fs::create_dir_all(db.join("db")).unwrap();
        }),
        ("noise", |db| {
            fs::create_dir(db).unwrap();
            let noise: Vec<u8> = (0..100_000u32)
                .map(|n| (n.wrapping_mul(n) / 7) as u8)
                .collect();
            fs::write(db.join("db"), &noise).unwrap();
            fs::write(db.join("conf"), &noise).unwrap();
        }),
    ] {
        let folder = tempfile::tempdir().unwrap();
        copy(sound.path(), folder.path());
        let db = folder.path().join("db");
        fs::remove_dir_all(&db).unwrap();
        wreck(&db);
        assert!(!block_on(hold(folder.path(), what)), "{what}");
        assert!(folder.path().join("db.broken").exists(), "{what}");
    }
}

#[test]
fn a_database_that_is_gone_does_not_cost_the_one_that_was_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    block_on(make(folder.path()));
    let (db, aside) = (folder.path().join("db"), folder.path().join("db.broken"));
    // As a process leaves it that is killed right after it moved the database aside.
    fs::rename(&db, &aside).unwrap();
    let was: Vec<_> = durable::list(&aside).unwrap();
    for _ in 0..2 {
        block_on(async {
            let (store, history) = open(folder.path()).await;
            let why = "there was no database".to_owned();
            assert_eq!(history, History::Rebuilt { why });
            assert_eq!(load(&store).await, None);
            store.close().await.unwrap();
            let (store, history) = open(folder.path()).await;
            assert_eq!(history, History::Current);
            store.close().await.unwrap();
        });
        assert_eq!(durable::list(&aside).unwrap(), was);
        assert_eq!(check(folder.path()).unwrap().problems, [""; 0]);
        // As a person removes it.
        fs::remove_dir_all(&db).unwrap();
    }
}

#[test]
fn a_database_that_lost_every_row_is_noticed_and_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    block_on(make(folder.path()));
    for path in files_of(folder.path()) {
        fs::remove_file(path).unwrap();
    }
    block_on(async {
        let (_, history) = open(folder.path()).await;
        let History::Rebuilt { why } = history else {
            panic!("{history:?}");
        };
        assert!(why.contains("to 0"), "{why}");
    });
    assert!(folder.path().join("db.broken").is_dir());
}

#[test]
fn a_row_that_does_not_check_is_reported_by_check_and_replaced_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    block_on(make(folder.path()));
    let db = folder.path().join("db");
    let mut database = open_unlocked(&db).unwrap();
    let mut batch = Batch::default();
    batch.put_sealed(&schema::Row::Torrent.of(&IH), b"t not sealed at all");
    batch.put_sealed(b"x/unknown", b"");
    database.apply(batch).unwrap();
    drop(database);
    let before: Vec<_> = files_of(folder.path())
        .iter()
        .map(|path| fs::read(path).unwrap())
        .collect();
    let report = check(folder.path()).unwrap();
    assert_eq!(report.problems.len(), 2, "{report:?}");
    assert_eq!(report.catalog.entries.len(), 1);
    let after: Vec<_> = files_of(folder.path())
        .iter()
        .map(|path| fs::read(path).unwrap())
        .collect();
    assert!(before == after, "check changed the database");
    block_on(async {
        let (store, history) = open(folder.path()).await;
        assert!(matches!(history, History::Rebuilt { .. }), "{history:?}");
        assert_eq!(load(&store).await, None);
    });
}

#[test]
fn a_row_damaged_while_we_run_costs_that_record_only() {
    let folder = tempfile::tempdir().unwrap();
    block_on(make(folder.path()));
    block_on(async {
        let (store, _) = open(folder.path()).await;
        store.load(OTHER, PIECES, FILES).await.unwrap();
        store.commit(OTHER, pieces([6])).await.unwrap();
        let key = schema::Row::Page.numbered(&IH, 0);
        let wreck = move |database: &mut Database| {
            let mut batch = Batch::default();
            batch.put_sealed(&key, b"h torn");
            database.apply(batch)
        };
        store
            .ask(|worker: &mut Worker| worker.with(wreck))
            .await
            .unwrap();
        assert_eq!(load(&store).await, None);
        assert_eq!(load(&store).await, None);
        let other = store.load(OTHER, PIECES, FILES).await.unwrap().unwrap();
        assert_eq!(other.durable.count(), 1);
    });
}

#[test]
fn a_panic_or_an_error_in_the_database_fails_one_request_and_the_next_one_works() {
    let folder = tempfile::tempdir().unwrap();
    block_on(make(folder.path()));
    block_on(async {
        let (store, _) = open(folder.path()).await;
        load(&store).await;
        let panicked: Result<(), _> = store
            .ask(|worker| worker.with(|_| panic!("as a test")))
            .await;
        let text = panicked.unwrap_err().to_string();
        assert!(text.contains("as a test"), "{text}");
        store.commit(IH, pieces([12])).await.unwrap();
        let full: Result<(), _> = store
            .ask(|worker| worker.with(|_| Err(StoreError::Full { path: "db".into() })))
            .await;
        assert!(matches!(full, Err(StoreError::Full { .. })));
        store.commit(IH, pieces([13])).await.unwrap();
        let found = durable(&store).await;
        assert!(found.contains(&12) && found.contains(&13) && found.contains(&5_000));
    });
}

#[test]
fn a_newer_database_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    block_on(make(folder.path()));
    let db = folder.path().join("db");
    let mut database = open_unlocked(&db).unwrap();
    let mut batch = Batch::default();
    batch.put(schema::VERSION, &(SCHEMA_VERSION + 1).to_be_bytes());
    batch.put_sealed(b"z/of the future", b"?");
    database.commit(batch).unwrap();
    drop(database);
    let rows = || -> Vec<_> {
        let database = open_unlocked(&db).unwrap();
        let rows = database.sealed_rows(b"");
        rows.map(|row| row.unwrap()).collect()
    };
    let before = rows();
    for _ in 0..2 {
        let error = block_on(Store::open(folder.path().to_owned())).unwrap_err();
        let found = SCHEMA_VERSION + 1;
        assert!(
            matches!(error, StoreError::Newer { found: f, known, .. } if f == found && known == SCHEMA_VERSION),
            "{error}"
        );
        assert_eq!(check(folder.path()).unwrap().problems.len(), 1);
    }
    assert!(!folder.path().join("db.broken").exists());
    assert_eq!(rows(), before);
    let database = open_unlocked(&db).unwrap();
    assert_eq!(database.version().unwrap(), SCHEMA_VERSION + 1);
}

#[test]
fn a_damaged_file_of_the_catalog_costs_that_torrent_only_and_stays() {
    let sound = tempfile::tempdir().unwrap();
    block_on(make(sound.path()));
    let name = format!("torrents/{IH}.json");
    let copy = sound.path().join(format!("{name}.copy"));
    let bytes = fs::read(sound.path().join(&name)).unwrap();
    assert_eq!(fs::read(&copy).unwrap(), bytes);
    block_on(async {
        let (store, _) = open(sound.path()).await;
        let choices = Choices::new("/other".into());
        store
            .put_torrent(OTHER, METAINFO.to_vec(), choices)
            .await
            .unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x41;
            for damaged in [&bytes[..at], &flipped] {
                let path = sound.path().join(&name);
                fs::write(&path, damaged).unwrap();
                fs::write(&copy, &bytes).unwrap();
                let catalog = store.catalog().await.unwrap();
                let [first, other] = &catalog.entries[..] else {
                    panic!("{at}: {catalog:?}");
                };
                assert_eq!(first.choices, Choices::new("/dest".into()), "{at}");
                assert_eq!(other.info_hash, OTHER);
                assert_eq!(
                    store.choices(IH).await.unwrap(),
                    Some(first.choices.clone())
                );
                // Without the copy its place is lost, and the rest is not.
                fs::remove_file(&copy).unwrap();
                let catalog = store.catalog().await.unwrap();
                let known = store.choices(IH).await.unwrap();
                match known {
                    // All that was flipped says nothing.
                    Some(choices) => assert_eq!(choices, Choices::new("/dest".into()), "{at}"),
                    None => {
                        assert_eq!(catalog.homeless, [(IH, METAINFO.to_vec())], "{at}");
                        assert_eq!(catalog.damaged.len(), 1, "{at}");
                    }
                }
                assert_eq!(catalog.entries.last().unwrap().info_hash, OTHER);
                assert_eq!(fs::read(&path).unwrap(), damaged);
            }
        }
        let empty = sound.path().join(format!("torrents/{OTHER}.torrent"));
        fs::write(&empty, b"").unwrap();
        fs::write(sound.path().join("torrents/x.torrent"), b"de").unwrap();
        assert_eq!(store.catalog().await.unwrap().damaged.len(), 3);
    });
}

#[test]
fn rebuild_writes_damaged_choices_anew_from_their_copy_and_the_other_way_round() {
    let folder = tempfile::tempdir().unwrap();
    block_on(make(folder.path()));
    let main = folder.path().join(format!("torrents/{IH}.json"));
    let copy = folder.path().join(format!("torrents/{IH}.json.copy"));
    let sound = fs::read(&main).unwrap();
    for damaged in [&main, &copy] {
        fs::write(damaged, &sound[..20]).unwrap();
        let report = check(folder.path()).unwrap();
        assert_eq!(report.problems.len(), 1, "{report:?}");
        assert!(report.problems[0].contains("state rebuild"), "{report:?}");
        let rebuilt = block_on(rebuild(folder.path().to_owned())).unwrap();
        assert_eq!(rebuilt.mended, std::slice::from_ref(damaged));
        assert_eq!(fs::read(damaged).unwrap(), sound);
    }
    fs::remove_file(&copy).unwrap();
    let rebuilt = block_on(rebuild(folder.path().to_owned())).unwrap();
    assert_eq!(rebuilt.mended, [copy]);
    assert_eq!(check(folder.path()).unwrap().problems, [""; 0]);
}

#[test]
fn a_copy_of_choices_that_is_out_of_date_is_reported_and_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    block_on(make(folder.path()));
    let main = folder.path().join(format!("torrents/{IH}.json"));
    let copy = folder.path().join(format!("torrents/{IH}.json.copy"));
    let stale = fs::read(&copy).unwrap();
    let later = Choices::new("/later".into());
    block_on(async {
        let (store, _) = open(folder.path()).await;
        store.put_choices(IH, later.clone()).await.unwrap();
        // As a process leaves it that is killed between the two.
        fs::write(&copy, &stale).unwrap();
        let catalog = store.catalog().await.unwrap();
        assert_eq!(catalog.entries[0].choices, later);
        assert_eq!(catalog.spared.len(), 1, "{catalog:?}");
        assert_eq!(catalog.spared[0].0, copy);
        store.close().await.unwrap();
    });
    let report = check(folder.path()).unwrap();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert!(report.problems[0].contains("state rebuild"), "{report:?}");
    let rebuilt = block_on(rebuild(folder.path().to_owned())).unwrap();
    assert_eq!(rebuilt.mended, std::slice::from_ref(&copy));
    assert_eq!(fs::read(&copy).unwrap(), fs::read(&main).unwrap());
    assert_eq!(check(folder.path()).unwrap().problems, [""; 0]);
}

#[test]
fn edited_choices_are_taken_without_their_checksum_and_not_with_it() {
    let folder = tempfile::tempdir().unwrap();
    block_on(make(folder.path()));
    let main = folder.path().join(format!("torrents/{IH}.json"));
    fs::remove_file(folder.path().join(format!("torrents/{IH}.json.copy"))).unwrap();
    let edited = fs::read_to_string(&main).unwrap().replace("/dest", "/else");
    fs::write(&main, &edited).unwrap();
    assert_eq!(glance(folder.path(), IH), None);
    let mut lines: Vec<&str> = edited.lines().collect();
    let check = lines.iter().position(|line| line.contains("\"check\""));
    lines.remove(check.unwrap());
    let edited = lines.concat().replace(",}", "}");
    fs::write(&main, edited).unwrap();
    let found = glance(folder.path(), IH).unwrap();
    assert_eq!(found.choices, Choices::new("/else".into()));
}
