//! A filesystem of one's own in a file, whose power can be cut.
//!
//! A cut drops what the filesystem has not handed to its disk. On ext4 and XFS the kernel does that on demand: the shutdown
//! call without a flush of the log stops every write at that moment. The client is told to stop just before, so that a sync may be
//! under way, but nobody acts on its end. For on ext4 (Linux 6.18) a sync that meets the shutdown may wait for a journal
//! transaction that is thrown away, and then return as if all were well: a program that does nothing but write and sync with
//! four threads, cut 200 times, had 139 last syncs that lied so, each of which returned 1.4 to 2 ms after the shutdown began. Of a
//! real cut no program sees the end.
//!
//! btrfs has no such call, so the client is stopped, the image is copied as it stands, and the copy is what is mounted afterwards.
//! Reading the image past the loop device is sound: the device writes to it through the page cache of the file that we read, so the
//! copy has what the device was given and nothing of what btrfs still keeps in pages of its own. (The test that runs the client
//! without syncs shows that it does.) All threads stand still before the copy begins, so no sync is under way; a copy takes time, and
//! one that saw the end of a sync and not its beginning would show what no disk does.
#![allow(unsafe_code, reason = "ioctl(2) that cuts the power")]

use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::payload::MIB;
use crate::common::process::Process;
use crate::common::{skip, wait};

/// What an image is formatted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
    Btrfs,
}

impl Kind {
    /// All that are tried.
    pub(crate) const ALL: [Self; 3] = [Self::Ext4, Self::Xfs, Self::Btrfs];

    /// The program that formats an image.
    pub(crate) fn maker(self) -> &'static str {
        match self {
            Self::Ext4 => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
            Self::Btrfs => "mkfs.btrfs",
        }
    }

    /// Whether the kernel can mount it; says `skipped: …` if not.
    pub(crate) fn is_known(self) -> bool {
        let name = self.to_string().to_lowercase();
        // It may be a module; whether that could be loaded shows in the list.
        let _ = Command::new("modprobe").args(["-q", &name]).status();
        let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let known = known.lines().any(|line| line.trim() == name);
        if !known {
            skip::say(&format!("this kernel has no {self}"));
        }
        known
    }

    /// Options without which the filesystem would, sooner or later, sync for a client that forgot to.
    fn options(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Btrfs => "loop,commit=3600",
            Self::Xfs => "loop",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "XFS",
            Self::Btrfs => "btrfs",
        })
    }
}

/// An image, mounted on a folder unless it was cut; dropped, it is unmounted and removed.
#[derive(Debug)]
pub(crate) struct Image {
    kind: Kind,
    file: PathBuf,
    at: PathBuf,
    mounted: bool,
}

impl Image {
    /// XFS wants 300 MiB at least.
    pub(crate) const LEAST: u64 = 320 * MIB;

    /// Formats `<name>.img` in `folder` and mounts it on `<name>` there. To be called where mounts are nobody else's.
    pub(crate) fn make(kind: Kind, folder: &Path, name: &str, size: u64) -> Self {
        let mut image = Self {
            kind,
            file: folder.join(format!("{name}.img")),
            at: folder.join(name),
            mounted: false,
        };
        std::fs::create_dir_all(&image.at).unwrap();
        let file = File::create(&image.file).unwrap();
        file.set_len(size.max(Self::LEAST)).unwrap();
        run(Command::new(kind.maker()).arg("-q").arg(&image.file));
        image.mount();
        image
    }

    /// Where its files are.
    pub(crate) fn at(&self) -> &Path {
        &self.at
    }

    /// Whether it is mounted.
    pub(crate) fn is_mounted(&self) -> bool {
        self.mounted
    }

    /// Mounts it, which replays the filesystem's journal.
    pub(crate) fn mount(&mut self) {
        assert!(!self.mounted);
        let mut command = Command::new("mount");
        command.args(["-o", self.kind.options()]);
        run(command.arg(&self.file).arg(&self.at));
        self.mounted = true;
    }

    /// Stops every write to the disk from now on, the journal's included. Not for btrfs.
    fn shut_down(&self) {
        /// `EXT4_IOC_SHUTDOWN`, which XFS has by the name of `XFS_IOC_GOINGDOWN`.
        const SHUTDOWN: libc::Ioctl = 0x8004_587d_u32 as libc::Ioctl;
        const WITHOUT_FLUSH: u32 = 2;
        let folder = File::open(&self.at).unwrap();
        // The same call on the filesystem below would stop the machine.
        let device = folder.metadata().unwrap().dev();
        let below = std::fs::metadata(self.file.parent().unwrap()).unwrap();
        assert_ne!(device, below.dev(), "{} is not mounted", self.at.display());
        assert!(self.mounted && is_loop(device), "no loop device");
        let how = WITHOUT_FLUSH;
        // SAFETY: the call reads one 32-bit number, which lives until it returns.
        let result = unsafe { libc::ioctl(folder.as_raw_fd(), SHUTDOWN, &raw const how) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    /// Where the copy of a btrfs image goes.
    fn aside(&self) -> PathBuf {
        self.file.with_extension("cut")
    }

    fn unmount(&mut self) {
        // The kernel may still be letting go of the files of the process that was killed.
        let unmounted = || {
            let status = Command::new("umount").arg(&self.at).status().unwrap();
            status.success().then_some(())
        };
        wait::until("nobody uses the image any more", wait::SOON, unmounted);
        self.mounted = false;
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: whoever failed may have left a process in it.
            let _ = Command::new("umount").arg("-l").arg(&self.at).status();
        }
        let _ = std::fs::remove_file(self.aside());
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Cuts the power of all of `images`, in this order and without a pause, kills the client, and leaves the images as a machine would
/// find them that starts again: not mounted.
pub(crate) fn cut(images: &mut [&mut Image], client: &mut Process) {
    let runs = client.runs();
    if images.iter().any(|image| image.kind == Kind::Btrfs) {
        if runs {
            client.freeze();
        }
        for image in images.iter() {
            let mut copy = Command::new("cp");
            copy.args(["--sparse=always", "--reflink=auto"]);
            run(copy.arg(&image.file).arg(image.aside()));
        }
    } else {
        if runs {
            client.halt();
        }
        images.iter().for_each(|image| image.shut_down());
    }
    client.kill();
    for image in images.iter_mut() {
        image.unmount();
        if image.kind == Kind::Btrfs {
            std::fs::rename(image.aside(), &image.file).unwrap();
        }
    }
}

/// Whether `device` belongs to a loop device. btrfs has device numbers of its own, but is never shut down.
fn is_loop(device: u64) -> bool {
    const LOOP: u32 = 7;
    libc::major(device) == LOOP
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
