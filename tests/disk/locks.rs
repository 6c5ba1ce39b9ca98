//! Two programs and one payload.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use seedbank::disk::{Access, DiskError, WritePath};

use crate::rig::{Rig, block_on, fork};

const FILES: &[(&str, u64)] = &[("empty", 0), ("a", 40_000), ("b", 50_000)];

/// Another process that holds the lock of a file until it is told to end.
struct Holder(Child);

impl Holder {
    fn start(path: &std::path::Path, exclusive: bool) -> Option<Self> {
        let kind = if exclusive { "--exclusive" } else { "--shared" };
        // --no-fork: flock(1) itself becomes the command, so the process we know is the one that holds the lock.
        let mut command = Command::new("flock");
        command
            .args(["--nonblock", "--no-fork", kind])
            .arg(path)
            .args(["sh", "-c", "echo held; read line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = fork(&mut command).ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take()?)
            .read_line(&mut line)
            .ok()?;
        assert_eq!(line, "held\n");
        Some(Self(child))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn another_writer_is_named_by_its_pid() {
    let rig = Rig::new(FILES);
    rig.fill();
    let Some(holder) = Holder::start(&rig.path(1), true) else {
        return eprintln!("skipped: flock is not installed");
    };
    let own = holder.0.id();
    for access in [Access::Read, crate::rig::write(false, &[])] {
        match block_on(rig.open(access, WritePath::Auto)) {
            Err(DiskError::InUse { path, pid }) => {
                assert_eq!(path, rig.path(1));
                assert_eq!(pid, Some(own));
            }
            other => panic!("{other:?}"),
        }
    }
    drop(holder);
    block_on(rig.open_to_write()).unwrap();
}

#[test]
fn readers_share_and_keep_writers_out() {
    let rig = Rig::new(FILES);
    rig.fill();
    let Some(_holder) = Holder::start(&rig.path(1), false) else {
        return eprintln!("skipped: flock is not installed");
    };
    block_on(async {
        let one = rig.open(Access::Read, WritePath::Auto).await.unwrap();
        let two = rig.open(Access::Read, WritePath::Auto).await.unwrap();
        assert!(matches!(
            rig.open_to_write().await,
            Err(DiskError::InUse { .. })
        ));
        drop((one, two));
    });
}

#[test]
fn a_finished_payload_may_be_read_by_others_and_a_closed_one_written() {
    let rig = Rig::new(FILES);
    block_on(async {
        let one = rig.open_to_write().await.unwrap().payload;
        for piece in rig.pieces() {
            one.check_and_write(piece, rig.data(piece), rig.hash(piece), false, || ())
                .await
                .unwrap();
        }
        assert!(matches!(
            rig.open(Access::Read, WritePath::Auto).await,
            Err(DiskError::InUse { .. })
        ));
        one.sync(rig.pieces()).await.unwrap();
        one.downgrade_to_shared().await.unwrap();
        let two = rig
            .open(Access::Read, WritePath::Auto)
            .await
            .unwrap()
            .payload;
        let whole = rig.layout.geometry().whole(rig.pieces()[0]);
        assert_eq!(
            one.read(vec![whole]).await.unwrap(),
            rig.data(whole.piece())
        );
        assert_eq!(
            two.read(vec![whole]).await.unwrap(),
            rig.data(whole.piece())
        );
        let late = one.write(whole, rig.data(whole.piece())).await;
        assert!(matches!(late, Err(DiskError::ReadOnly { .. })));
        two.close().await.unwrap();
        let left = one.clone();
        one.close().await.unwrap();
        rig.open_to_write().await.unwrap();
        drop(left);
    });
}
