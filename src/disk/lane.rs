//! A bounded queue and the threads that empty it, which may wait for a few jobs that are cheaper done together.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::base::limits;

/// Which jobs a thread takes together, and how long it waits for them.
pub(super) struct Together<J> {
    /// Jobs at most.
    pub(super) most: usize,
    /// Bytes that are enough, however few jobs they are of.
    pub(super) bytes: usize,
    /// Bytes of a job.
    pub(super) size: fn(&J) -> usize,
    /// Whether the second may go with the first.
    pub(super) with: fn(&J, &J) -> bool,
    /// How long a thread that finds too few waits for more.
    pub(super) patience: Duration,
}

impl<J> Together<J> {
    /// One after the other.
    pub(super) const NEVER: Self = Self {
        most: 1,
        bytes: 0,
        size: |_| 0,
        with: |_, _| false,
        patience: Duration::ZERO,
    };

    fn is_enough<'a>(&self, jobs: impl ExactSizeIterator<Item = &'a J>) -> bool
    where
        J: 'a,
    {
        jobs.len() >= self.most || jobs.map(self.size).sum::<usize>() >= self.bytes
    }

    /// Moves the first of `jobs`, and those behind it that go with it, to `taken`.
    fn take(&self, jobs: &mut VecDeque<J>, taken: &mut Vec<J>) {
        taken.extend(jobs.pop_front());
        while !self.is_enough(taken.iter())
            && let Some(next) = jobs.front()
            && (self.with)(&taken[0], next)
        {
            taken.extend(jobs.pop_front());
        }
    }
}

/// A bounded queue and the threads that empty it.
pub(super) struct Lane<J> {
    queue: Mutex<Queue<J>>,
    /// There is a job, and nobody gathers.
    ready: Condvar,
    /// There is enough for the one who gathers.
    gathered: Condvar,
    together: Together<J>,
    /// Empties what is given.
    work: fn(&mut Vec<J>),
}

struct Queue<J> {
    jobs: VecDeque<J>,
    /// Threads that wait for a job.
    resting: usize,
    /// Whether a thread waits for more jobs to take together.
    gathering: bool,
    /// Those who found the queue full; all are woken when there is room, and try again.
    waiting: Vec<oneshot::Sender<()>>,
    closed: bool,
}

impl<J> std::fmt::Debug for Lane<J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lane({} jobs)", self.queue().jobs.len())
    }
}

impl<J: Send + 'static> Lane<J> {
    /// Starts `threads` threads that do `work`.
    ///
    /// # Panics
    /// If the system refuses to start one.
    pub(super) fn of(
        name: &str,
        threads: usize,
        together: Together<J>,
        work: fn(&mut Vec<J>),
    ) -> Arc<Self> {
        let lane = Arc::new(Self {
            queue: Mutex::new(Queue {
                jobs: VecDeque::new(),
                resting: 0,
                gathering: false,
                waiting: Vec::new(),
                closed: false,
            }),
            ready: Condvar::new(),
            gathered: Condvar::new(),
            together,
            work,
        });
        for _ in 0..threads {
            let lane = Arc::clone(&lane);
            let started = std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(move || lane.run());
            if let Err(error) = started {
                panic!("cannot start a disk thread: {error}");
            }
        }
        lane
    }

    /// Waits for room and leaves `job` in the queue.
    pub(super) async fn leave(&self, mut job: J) {
        while let Err((back, room)) = self.offer(job) {
            job = back;
            let _ = room.await;
        }
    }

    /// Queues `job`, or gives it back with a sign that there is room again.
    fn offer(&self, job: J) -> Result<(), (J, oneshot::Receiver<()>)> {
        let mut queue = self.queue();
        if queue.jobs.len() >= limits::DISK_QUEUE {
            let (wake, room) = oneshot::channel();
            queue.waiting.push(wake);
            return Err((job, room));
        }
        queue.jobs.push_back(job);
        self.wake(&queue);
        Ok(())
    }

    /// Has someone look after the jobs that are there, unless all are at work: those look again before they rest.
    fn wake(&self, queue: &Queue<J>) {
        if !queue.gathering && queue.resting > 0 {
            self.ready.notify_one();
        } else if queue.gathering && self.together.is_enough(queue.jobs.iter()) {
            self.gathered.notify_one();
        }
    }

    fn run(&self) {
        let mut jobs = Vec::with_capacity(self.together.most);
        while self.next(&mut jobs) {
            // A job that panics has dropped its answer, which its asker sees as `Stopped`; the thread serves others too.
            let _ = catch_unwind(AssertUnwindSafe(|| (self.work)(&mut jobs)));
            jobs.clear();
        }
    }

    /// Waits for a job, and takes it and those behind it that go with it; false once the lane is closed and empty.
    fn next(&self, jobs: &mut Vec<J>) -> bool {
        let mut queue = self.queue();
        loop {
            if queue.jobs.is_empty() {
                if queue.closed {
                    return false;
                }
            } else if queue.closed || self.together.is_enough(queue.jobs.iter()) {
                break;
            } else if !queue.gathering {
                queue = self.gather(queue);
                if !queue.jobs.is_empty() {
                    break;
                }
                continue;
            }
            queue.resting += 1;
            queue = self
                .ready
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
            queue.resting -= 1;
        }
        self.together.take(&mut queue.jobs, jobs);
        for wake in queue.waiting.drain(..) {
            let _ = wake.send(());
        }
        if !queue.jobs.is_empty() {
            // They may be of another torrent, whose disk need not wait for this one's.
            self.wake(&queue);
        }
        true
    }

    /// Waits until enough is there to be taken together, but not for long.
    fn gather<'a>(&'a self, mut queue: MutexGuard<'a, Queue<J>>) -> MutexGuard<'a, Queue<J>> {
        queue.gathering = true;
        let too_few =
            |queue: &mut Queue<J>| !queue.closed && !self.together.is_enough(queue.jobs.iter());
        let (mut queue, _) = self
            .gathered
            .wait_timeout_while(queue, self.together.patience, too_few)
            .unwrap_or_else(PoisonError::into_inner);
        queue.gathering = false;
        queue
    }

    /// Has the threads end once the queue is empty.
    pub(super) fn close(&self) {
        self.queue().closed = true;
        self.ready.notify_all();
        self.gathered.notify_all();
    }
}

impl<J> Lane<J> {
    fn queue(&self) -> MutexGuard<'_, Queue<J>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_thread_takes_together_only_what_goes_together_and_not_too_many() {
        struct Entry {
            payload: u32,
            log: mpsc::Sender<Vec<u32>>,
            gate: Option<mpsc::Receiver<()>>,
        }
        let work = |batch: &mut Vec<Entry>| {
            let payloads = batch.iter().map(|entry| entry.payload).collect();
            batch[0].log.send(payloads).unwrap();
            for entry in batch.drain(..) {
                entry.gate.map(|gate| gate.recv());
            }
        };
        let together = Together {
            most: 4,
            bytes: 100,
            size: |_: &Entry| 1,
            with: |a, b| a.payload == b.payload,
            patience: Duration::ZERO,
        };
        let lane = Lane::of("test", 1, together, work);
        let (log, batches) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        let entry = |payload, gate| Entry {
            payload,
            log: log.clone(),
            gate,
        };
        assert!(lane.offer(entry(0, Some(gate))).is_ok());
        assert_eq!(batches.recv().unwrap(), [0]);
        for payload in [1, 1, 1, 1, 1, 2, 1] {
            assert!(lane.offer(entry(payload, None)).is_ok());
        }
        open.send(()).unwrap();
        lane.close();
        drop(log);
        let batches: Vec<_> = batches.iter().collect();
        assert_eq!(batches, [vec![1; 4], vec![1], vec![2], vec![1]]);
    }

    /// A job of so many bytes, and where to tell with which others it was taken.
    struct Parcel(usize, mpsc::Sender<Vec<usize>>);

    /// Threads that wait so long for three parcels or ten bytes.
    fn gatherers(threads: usize, patience: Duration) -> Arc<Lane<Parcel>> {
        let together = Together {
            most: 3,
            bytes: 10,
            size: |parcel: &Parcel| parcel.0,
            with: |_, _| true,
            patience,
        };
        Lane::of("test", threads, together, |parcels| {
            let sizes = parcels.iter().map(|parcel| parcel.0).collect();
            parcels[0].1.send(sizes).unwrap();
            parcels.clear();
        })
    }

    /// Longer than any test may take.
    const FOR_EVER: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_thread_waits_for_enough_jobs_or_bytes_and_no_longer() {
        let (log, taken) = mpsc::channel();
        let lane = gatherers(2, FOR_EVER);
        for sizes in [vec![1, 2, 3], vec![4, 6], vec![11], vec![9, 1]] {
            for &size in &sizes {
                assert!(lane.offer(Parcel(size, log.clone())).is_ok());
            }
            assert_eq!(taken.recv().unwrap(), sizes);
        }
        lane.close();
    }

    #[test]
    fn too_few_jobs_are_done_when_patience_ends_or_the_lane_closes() {
        let (log, taken) = mpsc::channel();
        for (patience, closes) in [(Duration::from_millis(1), false), (FOR_EVER, true)] {
            let lane = gatherers(2, patience);
            assert!(lane.offer(Parcel(1, log.clone())).is_ok());
            if closes {
                lane.close();
            }
            assert_eq!(taken.recv().unwrap(), [1]);
            lane.close();
        }
    }
}
