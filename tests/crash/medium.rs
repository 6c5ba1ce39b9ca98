//! A disk that forgets what was not synced, loses power at a chosen call, and fails once if it is told to.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seedbank::disk::{Kernel, Medium};
use tokio::sync::watch;

use crate::common::payload::Random;
use crate::ledger::Ledger;

/// What can be asked of a medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Read,
    Write,
    SyncData,
    SyncAll,
    SyncFilesystem,
    Allocate,
    SetLen,
    CreateFile,
    CreateFolder,
    CreateLink,
    RemoveFile,
    RemoveFolder,
    SyncFolder,
}

/// What will go wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// The call, reads not counted and the first being number 1, at which the power becomes this.
    pub(crate) turn: Option<(u64, Power)>,
    /// What fails once.
    pub(crate) fault: Option<Fault>,
    /// The process is killed before it hears of a sync that fails.
    pub(crate) unheard: bool,
    /// Syncs are said to be done, and are not.
    pub(crate) lies: bool,
    /// Calls take a while now and then.
    pub(crate) slow: bool,
}

/// One failure.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    /// Of which kind of call.
    pub(crate) call: Call,
    /// The how many-th of these, from 1.
    pub(crate) nth: u64,
    /// How it fails.
    pub(crate) how: How,
    /// Only calls on what lies in this folder count.
    pub(crate) below: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// With this error number; a write may have come through in part.
    Fails(i32),
    /// It does less than it was asked for, as it may.
    Short,
}

/// Whether a medium does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    On,
    /// Still on: somebody is told that the call has come.
    Low,
    /// The power failed in the middle of a call. Nothing happens any more and nobody is told: calls do not return.
    Failing,
    /// Every call fails.
    Off,
}

/// A simulated medium over real files.
#[derive(Debug)]
pub(crate) struct SimulatedMedium {
    plan: Plan,
    world: Mutex<World>,
    turned_off: Condvar,
    power: watch::Sender<Power>,
}

#[derive(Debug)]
struct World {
    random: Random,
    ledger: Ledger,
    calls: u64,
    matching: u64,
    /// What was called when the plan struck.
    struck: Option<String>,
}

impl SimulatedMedium {
    /// `ledger` is a new one, or what was unsynced when nothing but the process ended.
    pub(crate) fn new(seed: u64, plan: Plan, ledger: Ledger) -> Self {
        let world = World {
            random: Random::new(seed),
            ledger,
            calls: 0,
            matching: 0,
            struck: None,
        };
        Self {
            plan,
            world: Mutex::new(world),
            turned_off: Condvar::new(),
            power: watch::Sender::new(Power::On),
        }
    }

    /// Waits until the power is not what it was.
    pub(crate) async fn turned(&self) {
        let mut power = self.power.subscribe();
        power.wait_for(|&power| power != Power::On).await.unwrap();
    }

    /// Nothing comes through any more, and whoever waits is told so.
    pub(crate) fn turn_off(&self) {
        let world = self.world();
        self.power.send_replace(Power::Off);
        self.turned_off.notify_all();
        drop(world);
    }

    /// After this the files are what a power cut leaves. Nobody may use them meanwhile.
    pub(crate) fn crash(&self) {
        let world = &mut *self.world();
        world.ledger.crash(&mut world.random);
    }

    /// What is unsynced; the medium is of no use after this.
    pub(crate) fn take_ledger(&self) -> Ledger {
        self.world().ledger.take()
    }

    /// Calls so far, reads not counted.
    pub(crate) fn calls(&self) -> u64 {
        self.world().calls
    }

    /// What was called when the plan struck, if it did.
    pub(crate) fn struck(&self) -> Option<String> {
        self.world().struck.clone()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call comes in: it is let through, with what goes wrong with it, or fails.
    fn begin(
        &self,
        call: Call,
        on: BorrowedFd<'_>,
    ) -> io::Result<(MutexGuard<'_, World>, Option<How>)> {
        let mut world = self.world();
        if self.plan.slow && world.random.below(4) == 0 {
            let pause = Duration::from_micros(world.random.below(2_000));
            drop(world);
            std::thread::sleep(pause);
            world = self.world();
        }
        if call != Call::Read {
            world.calls += 1;
        }
        if let Some((at, power)) = self.plan.turn
            && call != Call::Read
            && at == world.calls
        {
            world.struck = Some(format!("{call:?} of {}", path_of(on).display()));
            self.power.send_replace(power);
        }
        world = self.hang(world);
        if *self.power.borrow() == Power::Off {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let how = self.strike(&mut world, call, on);
        Ok((world, how))
    }

    /// Calls do not return while the power fails.
    fn hang<'a>(&self, mut world: MutexGuard<'a, World>) -> MutexGuard<'a, World> {
        while *self.power.borrow() == Power::Failing {
            world = self
                .turned_off
                .wait(world)
                .unwrap_or_else(PoisonError::into_inner);
        }
        world
    }

    fn strike(&self, world: &mut World, call: Call, on: BorrowedFd<'_>) -> Option<How> {
        let fault = self.plan.fault.as_ref()?;
        let path = path_of(on);
        if fault.call != call || !path.starts_with(&fault.below) {
            return None;
        }
        world.matching += 1;
        if world.matching != fault.nth {
            return None;
        }
        world.struck = Some(format!("{call:?} of {}", path.display()));
        Some(fault.how)
    }

    fn sync(&self, call: Call, file: &File) -> io::Result<()> {
        let (mut guard, how) = self.begin(call, file.as_fd())?;
        let world = &mut *guard;
        // A failure of the whole filesystem is told once more to each file that it struck.
        let struck = world.ledger.takes_failure(file);
        let errno = match how {
            Some(How::Fails(errno)) => Some(errno),
            _ => struck.then_some(libc::EIO),
        };
        if let Some(errno) = errno {
            world.ledger.sync_failed(file, &mut world.random);
            if self.plan.unheard {
                self.power.send_replace(Power::Failing);
                drop(self.hang(guard));
            }
            return Err(io::Error::from_raw_os_error(errno));
        }
        if !self.plan.lies {
            world.ledger.synced(file, call == Call::SyncAll);
        }
        Ok(())
    }

    /// A call that either does all of `work` or nothing.
    fn whole(
        &self,
        call: Call,
        on: BorrowedFd<'_>,
        work: impl FnOnce(&mut Ledger) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut world, how) = self.begin(call, on)?;
        match how {
            Some(How::Fails(errno)) => Err(io::Error::from_raw_os_error(errno)),
            _ => work(&mut world.ledger),
        }
    }
}

impl Medium for SimulatedMedium {
    fn may_map(&self) -> bool {
        false
    }

    fn read(&self, file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let (mut world, how) = self.begin(Call::Read, file.as_fd())?;
        match how {
            None => Kernel.read(file, offset, buffer),
            Some(How::Fails(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(How::Short) => {
                let some = 1 + world.random.below(buffer.len() as u64) as usize;
                Kernel.read(file, offset, &mut buffer[..some])
            }
        }
    }

    fn write(&self, file: &File, offset: u64, data: &[u8]) -> io::Result<usize> {
        let (mut world, how) = self.begin(Call::Write, file.as_fd())?;
        let some = match how {
            None => data.len(),
            Some(_) => 1 + world.random.below(data.len().max(2) as u64 - 1) as usize,
        };
        world.ledger.before_write(file, offset, some);
        let written = Kernel.write(file, offset, &data[..some])?;
        match how {
            Some(How::Fails(errno)) => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(written),
        }
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.sync(Call::SyncData, file)
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        self.sync(Call::SyncAll, file)
    }

    fn sync_filesystem(&self, at: BorrowedFd<'_>) -> io::Result<()> {
        let (mut guard, how) = self.begin(Call::SyncFilesystem, at)?;
        let world = &mut *guard;
        match how {
            Some(How::Fails(errno)) => {
                let untold = !self.plan.unheard;
                world.ledger.sync_of_all_failed(untold, &mut world.random);
                if self.plan.unheard {
                    self.power.send_replace(Power::Failing);
                    drop(self.hang(guard));
                }
                return Err(io::Error::from_raw_os_error(errno));
            }
            _ if self.plan.lies => {}
            _ => world.ledger.synced_all(),
        }
        Ok(())
    }

    fn drop_cache(&self, file: &File) {
        let mut world = self.world();
        if matches!(*self.power.borrow(), Power::On | Power::Low) {
            world.ledger.drop_cache(file);
        }
    }

    fn allocate(&self, file: &File, length: u64) -> io::Result<()> {
        self.whole(Call::Allocate, file.as_fd(), |ledger| {
            ledger.before_length(file, length.max(file.metadata()?.len()));
            Kernel.allocate(file, length)
        })
    }

    fn set_len(&self, file: &File, length: u64) -> io::Result<()> {
        self.whole(Call::SetLen, file.as_fd(), |ledger| {
            ledger.before_length(file, length);
            Kernel.set_len(file, length)
        })
    }

    fn create_file(&self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
        let mut made = None;
        self.whole(Call::CreateFile, folder, |ledger| {
            let file = Kernel.create_file(folder, name)?;
            ledger.made_file(folder, name, &file);
            made = Some(file);
            Ok(())
        })?;
        Ok(made.unwrap())
    }

    fn create_folder(&self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        self.whole(Call::CreateFolder, folder, |ledger| {
            Kernel.create_folder(folder, name)?;
            ledger.made(folder, name);
            Ok(())
        })
    }

    fn create_link(&self, folder: BorrowedFd<'_>, name: &OsStr, target: &Path) -> io::Result<()> {
        self.whole(Call::CreateLink, folder, |ledger| {
            Kernel.create_link(folder, name, target)?;
            ledger.made(folder, name);
            Ok(())
        })
    }

    fn remove_file(&self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        self.whole(Call::RemoveFile, folder, |ledger| {
            ledger.remove_file(folder, name)
        })
    }

    fn remove_folder(&self, folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
        self.whole(Call::RemoveFolder, folder, |ledger| {
            Kernel.remove_folder(folder, name)?;
            ledger.removed_folder(folder, name);
            Ok(())
        })
    }

    fn sync_folder(&self, folder: BorrowedFd<'_>) -> io::Result<()> {
        let lies = self.plan.lies;
        self.whole(Call::SyncFolder, folder, |ledger| {
            if !lies {
                ledger.synced_folder(folder);
            }
            Ok(())
        })
    }
}

fn path_of(fd: BorrowedFd<'_>) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}
