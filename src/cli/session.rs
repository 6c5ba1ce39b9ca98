//! An engine at work for one command: started, watched, and stopped in order whatever the work comes to.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Resource, getrlimit, setrlimit};
use seedbank::base::limits::{OPEN_FILES, PEERS_TOTAL};
use seedbank::engine::{Engine, Event};
use tokio::sync::{broadcast, oneshot};
use tokio::time::timeout;

use super::exit::{Exit, Failure};
use super::network::Settings;
use super::output::Output;
use super::signals::Stop;

/// An orderly stop that takes longer is explained.
const PATIENCE: Duration = Duration::from_secs(2);
/// The last events get this long to be printed when their reader is slow.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Most threads that serve connections: each moves more than a gigabyte a second. As many cores are left to the disk threads, which
/// hash; on two cores a second one took a tenth more time for the same download, spent on waking each other.
const NETWORK_THREADS_MAX: usize = 8;
/// Descriptors of a process that is busy with few torrents: files, connections, and what else it needs.
const MANY_FILES: u64 = (OPEN_FILES + PEERS_TOTAL + 256) as u64;
/// Events wait this long for others to be printed with them: each wake of the thread that prints costs more than the line.
const GATHER: Duration = Duration::from_millis(5);
/// Events printed with one write.
const EVENTS_AT_ONCE: usize = 512;

/// What the work has at hand.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    /// The engine, which prints its events meanwhile.
    pub(crate) engine: &'a Engine,
    /// The printer.
    pub(crate) out: &'a Output,
    stop: Stop,
}

impl Session<'_> {
    /// Waits for `work`; nothing if the user stops the run first.
    pub(crate) async fn until<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, mut stop) = (pin!(work), self.stop.clone());
        tokio::select! {
            biased;
            done = &mut work => Some(done),
            () = stop.wait() => None,
        }
    }

    /// Whether the user asked to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.asked()
    }
}

/// Starts an engine, does `work` and stops it.
///
/// # Errors
/// If the engine cannot start, and what the work fails with.
pub(crate) fn run<T>(
    settings: &Settings,
    out: &Arc<Output>,
    work: impl AsyncFnOnce(&Session<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    allow_many_files();
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads((cores / 2).clamp(1, NETWORK_THREADS_MAX))
        .enable_all()
        .build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::Unknown, format!("cannot start threads: {error}")))?;
    let stop = Stop::install()?;
    let ended = runtime.block_on(drive(settings, stop, out, work));
    // Nothing that matters is left; a thread that hangs in a system call must not keep the process.
    runtime.shutdown_timeout(LAST_WORDS);
    ended
}

/// Lets the process open as many files as it may: a torrent holds two, and the usual limit is made for programs that wait with
/// `select`. Where it cannot be raised, what is opened beyond it fails with a message of its own.
///
/// To be called while the process has one thread, as a rule. With more of them the table of descriptors grows only once the kernel has seen
/// each processor pass a point of rest: 20 ms for each doubling, measured under load, in which nothing can be opened.
fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the number of open files could not be raised");
        }
    }
    let highest = getrlimit(Resource::Nofile)
        .current
        .map_or(MANY_FILES, |most| most.min(MANY_FILES));
    // For the table, which is large enough for it then. Should that fail it grows later.
    let _ = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), highest.saturating_sub(1) as i32);
}

async fn drive<T>(
    settings: &Settings,
    stop: Stop,
    out: &Arc<Output>,
    work: impl AsyncFnOnce(&Session<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let started = settings.start().await?;
    // Before anything that the engine tells.
    out.event(&Event::Listening {
        tcp: started.engine.tcp_addr(),
        udp: started.engine.udp_addr(),
        state: started.state.clone(),
    });
    let printed = print_events(started.engine.subscribe(), out)?;
    let session = Session {
        engine: &started.engine,
        out,
        stop,
    };
    let done = work(&session).await;
    let (engine, _folder) = started.into_parts();
    shut_down(engine, out).await;
    // A reader that does not read cannot hold up the end.
    let _ = timeout(LAST_WORDS, printed).await;
    done
}

async fn shut_down(engine: Engine, out: &Output) {
    let mut shutdown = pin!(engine.shutdown());
    if timeout(PATIENCE, &mut shutdown).await.is_err() {
        out.say("waiting for the disk; Ctrl-C again stops at once, and nothing is lost");
        shutdown.await;
    }
}

/// Prints events on a thread of its own, since whoever reads them may be slow; the answer is the end of the last one.
fn print_events(
    mut events: broadcast::Receiver<Event>,
    out: &Arc<Output>,
) -> Result<oneshot::Receiver<()>, Failure> {
    let (ended, printed) = oneshot::channel();
    let out = Arc::clone(out);
    let print = move || {
        loop {
            match events.blocking_recv() {
                Ok(event) => {
                    if events.len() < EVENTS_AT_ONCE {
                        std::thread::sleep(GATHER);
                    }
                    let mut batch = vec![event];
                    let after = next_events(&mut events, &mut batch);
                    out.events(&batch);
                    if let Err(lost) = after {
                        warn_of_lost(&out, lost);
                    }
                }
                Err(broadcast::error::RecvError::Lagged(lost)) => warn_of_lost(&out, lost),
                Err(broadcast::error::RecvError::Closed) => break,
            }
        }
        // The run may have ended without waiting.
        let _ = ended.send(());
    };
    let thread = std::thread::Builder::new()
        .name("events".to_owned())
        .spawn(print);
    thread
        .map_err(|error| Failure::new(Exit::Unknown, format!("cannot start a thread: {error}")))?;
    Ok(printed)
}

/// Adds the events that wait, up to a bound; or tells how many were lost.
fn next_events(events: &mut broadcast::Receiver<Event>, batch: &mut Vec<Event>) -> Result<(), u64> {
    while batch.len() < EVENTS_AT_ONCE {
        match events.try_recv() {
            Ok(event) => batch.push(event),
            Err(broadcast::error::TryRecvError::Lagged(lost)) => return Err(lost),
            Err(_) => break,
        }
    }
    Ok(())
}

fn warn_of_lost(out: &Output, lost: u64) {
    out.warn(
        "events_lost",
        format!("{lost} events were not printed: the reader is too slow"),
    );
}
