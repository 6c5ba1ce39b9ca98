//! The order of system calls when files are made (R0), as the kernel saw it.

use std::process::{Child, Command, Stdio};

use seedbank::disk::WritePath;

use crate::rig::{Rig, block_on, fork, write};

/// Set in the process that is watched.
const WATCHED: &str = "SEEDBANK_TEST_WATCHED";

#[test]
fn files_and_folders_are_synced_before_the_first_byte() {
    if std::env::var_os(WATCHED).is_some() {
        return make_and_write();
    }
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new("strace");
    command
        .args([
            "-f",
            "-y",
            "-e",
            "trace=fallocate,fsync,fdatasync,pwrite64",
            "-o",
        ])
        .arg(log.path())
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "order::files_and_folders_are_synced_before_the_first_byte",
        ])
        .env(WATCHED, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let strace = fork(&mut command).and_then(Child::wait_with_output);
    if !strace.is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped: strace cannot be used here");
    }
    let log = std::fs::read_to_string(log.path()).unwrap();
    let calls: Vec<&str> = log.lines().filter(|line| line.contains("dest")).collect();
    let first = |call: &str, path: &str| {
        let wanted =
            |line: &&str| line.contains(&format!("{call}(")) && line.contains(&format!("{path}>"));
        let found = calls.iter().position(wanted);
        found.unwrap_or_else(|| panic!("no {call} of {path} in\n{log}"))
    };
    let (long, synced) = (
        first("fallocate", "dest/t/sub/a"),
        first("fsync", "dest/t/sub/a"),
    );
    assert!(long < synced);
    let mut last = synced;
    for folder in ["dest/t/sub", "dest/t", "dest"] {
        let folder = first("fsync", folder);
        assert!(folder > synced, "a folder before its file");
        last = last.max(folder);
    }
    assert!(
        first("pwrite64", "dest/t/sub/a") > last,
        "a byte before everything was durable"
    );
    assert!(first("fdatasync", "dest/t/sub/a") > first("pwrite64", "dest/t/sub/a"));
}

fn make_and_write() {
    let rig = Rig::new(&[("t/sub/a", 40_000), ("t/b", 1)]);
    block_on(async {
        let payload = rig
            .open(write(false, &[]), WritePath::Pwrite)
            .await
            .unwrap()
            .payload;
        for piece in rig.pieces() {
            payload
                .check_and_write(piece, rig.data(piece), rig.hash(piece), false, || ())
                .await
                .unwrap();
        }
        payload.sync(rig.pieces()).await.unwrap();
    });
}
