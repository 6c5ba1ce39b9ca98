//! The threads that block so that nobody else has to: bounded queues in, one answer out.
//!
//! Work on one piece always goes to the same thread, so it is done in the order in which it was submitted. Pieces that came whole, of
//! which nothing else is under way, have threads of their own that take several at a time. So has what may take long without using the
//! processor (syncing, allocating), so that no transfer waits behind it, and re-reading what is shared, which nobody waits for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::oneshot;

use super::arrival::{self, Arrival};
use super::handles::Handles;
use super::lane::{Lane, Together};
use super::look::{self, Found};
use super::open::{self, Access, Opened};
use super::{DiskError, Kernel, Layout, Medium, Payload, WritePath};
use crate::base::PieceIndex;

/// Threads for what waits on the disk and does not compute; a disk gains little from more syncs at once.
pub(super) const SLOW_THREADS: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

/// The disk threads. Clones share them; they end when the last clone and the last [`Payload`] are gone.
///
/// Dropping the future of any operation does not undo it: what was submitted is done.
#[derive(Clone, Debug)]
pub struct Disk {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    data: Vec<Arc<Lane<Job>>>,
    /// Made when it is first needed: who only shares has none.
    arrivals: OnceLock<Arc<Lane<Arrival>>>,
    slow: Arc<Lane<Job>>,
    /// Made when it is first needed: most processes scrub nothing.
    scrub: OnceLock<Arc<Lane<Job>>>,
    handles: Arc<Handles>,
    medium: Arc<dyn Medium>,
    payloads: AtomicU64,
}

impl Drop for Pool {
    fn drop(&mut self) {
        for lane in self.data.iter().chain([&self.slow]).chain(self.scrub.get()) {
            lane.close();
        }
        if let Some(lane) = self.arrivals.get() {
            lane.close();
        }
    }
}

impl Disk {
    /// Starts `threads` (at least one) threads for reading, writing and hashing, and a few for syncing.
    ///
    /// # Panics
    /// If the system refuses to start a thread, as [`std::thread::spawn`] does.
    pub fn new(threads: usize) -> Self {
        Self::on(threads, Arc::new(Kernel))
    }

    /// As [`Disk::new`], on another medium than the operating system's: for tests of what a crash leaves.
    ///
    /// # Panics
    /// As [`Disk::new`].
    pub fn on(threads: usize, medium: Arc<dyn Medium>) -> Self {
        let data = (0..threads.max(1)).map(|at| Lane::start(&format!("disk-{at}"), 1));
        let pool = Pool {
            data: data.collect(),
            arrivals: OnceLock::new(),
            slow: Lane::start("disk-sync", SLOW_THREADS),
            scrub: OnceLock::new(),
            handles: Arc::new(Handles::new()),
            medium,
            payloads: AtomicU64::new(0),
        };
        let pool = Arc::new(pool);
        Self { pool }
    }

    /// Opens a payload and, if `access` is to write, makes what is missing: in full, durably, before this returns (R0). If it fails,
    /// whatever it made is removed, bar the destination folder itself.
    ///
    /// # Errors
    /// [`DiskError::NotFound`] (without a destination folder, to read or where files were found), [`DiskError::Vanished`] (to write, if a file
    /// is not what was found), [`DiskError::CannotOpen`], [`DiskError::CannotCreate`], [`DiskError::Full`], [`DiskError::Quota`],
    /// [`DiskError::NotOurs`], [`DiskError::InUse`], [`DiskError::Outside`] and [`DiskError::Io`].
    pub async fn open(
        &self,
        layout: Arc<Layout>,
        access: Access,
        path: WritePath,
    ) -> Result<Opened, DiskError> {
        let id = self.pool.payloads.fetch_add(1, Ordering::Relaxed);
        let (disk, medium) = (self.clone(), Arc::clone(&self.pool.medium));
        let open = move || match access {
            Access::Read => {
                let ready = open::open_to_read(&layout, &medium)?;
                Ok(Payload::opened(disk, id, layout, ready, None))
            }
            Access::Write {
                overwrite,
                ours,
                found,
            } => {
                let maps =
                    |place: &super::place::Place| medium.may_map() && path.maps(place.folder());
                let ready = open::open_to_write(&layout, overwrite, &ours, &found, maps, &medium)?;
                let mapped = maps(&ready.place);
                Ok(Payload::opened(disk, id, layout, ready, Some(mapped)))
            }
        };
        self.run_slow(open).await
    }

    /// Looks at what is in a destination folder. Changes nothing.
    ///
    /// # Errors
    /// If that cannot be told, a link leads outside, or something other than a file has a file's name.
    pub async fn look(&self, layout: Arc<Layout>) -> Result<Found, DiskError> {
        self.run_slow(move || look::look(&layout)).await
    }

    pub(super) fn handles(&self) -> &Arc<Handles> {
        &self.pool.handles
    }

    /// Threads that read, write and hash.
    pub(super) fn threads(&self) -> usize {
        self.pool.data.len()
    }

    /// Does `job` on the thread that serves `piece`.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        piece: PieceIndex,
        job: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, DiskError> {
        self.submit(piece, job).await.answer().await
    }

    /// Waits for room in the queue of the thread that serves `piece`, and leaves `job` there.
    pub(super) async fn submit<T: Send + 'static>(
        &self,
        piece: PieceIndex,
        job: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
    ) -> Pending<T> {
        self.submit_in_turn(piece.index(), job).await
    }

    /// As [`submit`](Self::submit), for what is about more than one piece: one thread after the other gets its `turn`.
    pub(super) async fn submit_in_turn<T: Send + 'static>(
        &self,
        turn: usize,
        job: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
    ) -> Pending<T> {
        let lane = &self.pool.data[turn % self.pool.data.len()];
        lane.submit(job).await
    }

    /// Waits for room in the queue of pieces that came whole, and leaves `arrival` there.
    pub(super) async fn settle(&self, arrival: Arrival) {
        // A file takes one write at a time, so more threads than that would wait for each other.
        // Two at least: one disk that stalls must not hold up another.
        let threads = self.threads().div_ceil(2).max(2);
        let start = || Lane::of("disk-write", threads, arrival::TOGETHER, Arrival::settle);
        let lane = self.pool.arrivals.get_or_init(start);
        lane.leave(arrival).await;
    }

    /// Does `job` on a thread for slow things.
    pub(super) async fn run_slow<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, DiskError> {
        self.submit_slow(job).await.answer().await
    }

    /// Does `job` on the thread that re-reads what is shared.
    pub(super) async fn run_scrub<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, DiskError> {
        let lane = self.pool.scrub.get_or_init(|| Lane::start("disk-scrub", 1));
        lane.submit(job).await.answer().await
    }

    /// Leaves `job` to the threads for slow things.
    pub(super) async fn submit_slow<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
    ) -> Pending<T> {
        self.pool.slow.submit(job).await
    }
}

/// An answer on its way.
pub(super) struct Pending<T>(oneshot::Receiver<Result<T, DiskError>>);

impl<T> Pending<T> {
    /// Waits for it.
    pub(super) async fn answer(self) -> Result<T, DiskError> {
        self.0.await.unwrap_or(Err(DiskError::Stopped))
    }
}

impl Lane<Job> {
    fn start(name: &str, threads: usize) -> Arc<Self> {
        let work = |jobs: &mut Vec<Job>| {
            for job in jobs.drain(..) {
                job();
            }
        };
        Self::of(name, threads, Together::NEVER, work)
    }

    async fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> Result<T, DiskError> + Send + 'static,
    ) -> Pending<T> {
        let (answer, pending) = oneshot::channel();
        let job = move || {
            // Whoever asked may have gone; the job is done all the same.
            let _ = answer.send(job());
        };
        self.leave(Box::new(job)).await;
        Pending(pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Geometry, limits};
    use std::sync::mpsc;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    }

    #[test]
    fn work_on_one_piece_is_done_in_order_though_the_queue_is_full() {
        let disk = Disk::new(3);
        let piece = Geometry::new(100, 1).unwrap().piece(50).unwrap();
        let (log, order) = mpsc::channel();
        let count = limits::DISK_QUEUE as u32 * 4;
        runtime().block_on(async {
            let mut pending = Vec::new();
            for at in 0..count {
                let log = log.clone();
                let job = move || {
                    log.send(at).unwrap();
                    Ok(())
                };
                pending.push(disk.submit(piece, job).await);
            }
            for answer in pending {
                answer.answer().await.unwrap();
            }
        });
        drop(log);
        assert_eq!(
            order.iter().collect::<Vec<_>>(),
            (0..count).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_job_that_panics_costs_its_asker_only() {
        let disk = Disk::new(1);
        runtime().block_on(async {
            let lost: Result<(), _> = disk.run_slow(|| panic!("on purpose")).await;
            assert!(matches!(lost, Err(DiskError::Stopped)));
            assert_eq!(disk.run_slow(|| Ok(7)).await.unwrap(), 7);
        });
    }

    #[test]
    fn what_was_submitted_is_done_though_the_pool_is_dropped() {
        let disk = Disk::new(1);
        let (log, done) = mpsc::channel();
        let lane = Arc::downgrade(&disk.pool.slow);
        let job = move || {
            log.send(()).unwrap();
            Ok(())
        };
        runtime().block_on(async { drop(disk.submit_slow(job).await) });
        drop(disk);
        done.recv().unwrap();
        assert!(lane.strong_count() <= SLOW_THREADS);
    }
}
