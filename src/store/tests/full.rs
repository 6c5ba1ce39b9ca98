//! A disk that fills up and is freed again, made of memory in a namespace of its own.

use super::*;

/// Run by the test below on a folder of its own filesystem of 6 MiB.
#[test]
fn child_that_fills_its_disk() {
    let Some(mount) = std::env::var_os("SEEDBANK_TEST_FULL") else {
        return;
    };
    let mount = Path::new(&mount);
    let ballast = mount.join("ballast");
    block_on(async {
        let (store, _) = open(&mount.join("state")).await;
        load(&store).await;
        store.commit(IH, pieces([0])).await.unwrap();
        // Writes until the disk is full; that it is, is what we want.
        let _ = fs::write(&ballast, vec![1; 8 << 20]);
        let mut told = BTreeSet::from([0]);
        let mut refused = None;
        for piece in 1..PIECES {
            match store.commit(IH, pieces([piece])).await {
                Ok(()) => told.insert(piece),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            };
        }
        let error = refused.expect("the disk is full");
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        let choices = Choices::new("/dest".into());
        let error = store
            .put_torrent(IH, vec![1; 1 << 20], choices)
            .await
            .unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");

        fs::remove_file(&ballast).unwrap();
        store.commit(IH, pieces([PIECES - 1])).await.unwrap();
        store.close().await.unwrap();
        let (store, history) = open(&mount.join("state")).await;
        assert_eq!(history, History::Current);
        let found: BTreeSet<u32> = durable(&store).await.into_iter().collect();
        assert!(found.is_superset(&told) && found.contains(&(PIECES - 1)));
    });
}

#[test]
fn a_full_disk_is_an_error_that_passes_and_loses_nothing() {
    let mount = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=6m none "$SEEDBANK_TEST_FULL" || exit 77
        exec "$0" --exact store::tests::full::child_that_fills_its_disk --nocapture"#;
    let done = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("SEEDBANK_TEST_FULL", mount.path())
        .output();
    let Ok(output) = done else {
        eprintln!("skipped: there is no unshare");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    if output.status.code() == Some(77) || said.contains("unshare failed") {
        eprintln!("skipped: no namespace to mount in");
        return;
    }
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}
