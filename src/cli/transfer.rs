//! What `get` and `seed` share: an engine that runs some torrents until they are done or the user stops it.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use seedbank::engine::{
    AddTorrent, Config, Engine, EngineError, ErrorKind, Event, State, Status, Torrent,
};
use tokio::sync::{broadcast, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::args::{Keep, TransferArgs};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::progress::Board;
use super::signals::Stop;
use super::state;

/// Where peers connect unless told otherwise.
const DEFAULT_PORT: u16 = 6881;
/// How often the progress lines are drawn and the end of everything is looked for.
const TICK: Duration = Duration::from_millis(250);
/// An orderly stop that takes longer is explained.
const PATIENCE: Duration = Duration::from_secs(2);
/// The last events get this long to be printed when their reader is slow.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A run of the engine.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Its settings.
    pub(crate) config: Config,
    /// Whether any free port will do when the one in `config` is taken.
    pub(crate) any_port: bool,
    /// Whether each peer has a line of its own.
    pub(crate) show_peers: bool,
    /// Peers to try, for every torrent.
    pub(crate) peers: Vec<SocketAddr>,
    /// What to run.
    pub(crate) torrents: Vec<AddTorrent>,
    /// When to end.
    pub(crate) end: End,
}

/// When a run ends of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// So long after everything is complete.
    Complete(Keep),
    /// Never: the user stops it.
    Stopped,
}

/// The settings that the flags ask for, with no torrent yet.
///
/// # Errors
/// If an address has no host or there is no place for state.
pub(crate) fn plan(args: &TransferArgs, end: End, out: &Output) -> Result<Plan, Failure> {
    let chosen = args.tcp_listen.as_ref();
    let tcp_listen = match chosen {
        Some(listen) => listen
            .0
            .as_ref()
            .map(super::address::Address::listen)
            .transpose()?,
        None => Some(SocketAddr::from(([0, 0, 0, 0], DEFAULT_PORT))),
    };
    let peers = args.peer.iter().flat_map(|list| &list.0);
    let peers: Vec<Vec<SocketAddr>> = peers
        .map(super::address::Address::call)
        .collect::<Result<_, _>>()?;
    let state = state::folder(args.state.state.as_deref(), args.dht_listen.as_ref())?;
    let wants_dht = args
        .dht_listen
        .as_ref()
        .is_some_and(|listen| listen.0.is_some())
        || args.bootstrap.iter().any(|list| !list.0.is_empty());
    if wants_dht {
        out.warn(
            "dht",
            "this version has no DHT yet; peers come from trackers and --peer",
        );
    }
    let config = Config {
        state: absolute(&state)?,
        tcp_listen,
        dht: None,
        io: args.io.into(),
        max_down: args.max_down.and_then(|rate| rate.0),
        max_up: args.max_up.and_then(|rate| rate.0),
    };
    Ok(Plan {
        config,
        any_port: chosen.is_none(),
        show_peers: args.peers,
        peers: peers.concat(),
        torrents: Vec::new(),
        end,
    })
}

/// `path` from the root, so that it means the same in the next run.
///
/// # Errors
/// If the current folder is gone.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::open(path, &error))
}

/// Events printed with one write.
const EVENTS_AT_ONCE: usize = 512;

/// Runs the plan to its end. A torrent that fails is told of at once and makes the exit status; the others go on.
///
/// # Errors
/// If the engine cannot start.
pub(crate) fn run(plan: Plan, out: &Arc<Output>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime
        .map_err(|error| Failure::new(Exit::Unknown, format!("cannot start threads: {error}")))?;
    let stop = Stop::install()?;
    let ended = runtime.block_on(drive(plan, stop, out));
    // Nothing that matters is left; a thread that hangs in a system call must not keep the process.
    runtime.shutdown_timeout(LAST_WORDS);
    ended
}

async fn drive(mut plan: Plan, stop: Stop, out: &Arc<Output>) -> Result<Exit, Failure> {
    let engine = start(&plan).await?;
    let printed = print_events(engine.subscribe(), out)?;
    let (tcp, state) = (engine.tcp_addr(), plan.config.state.clone());
    out.event(&Event::Listening {
        tcp,
        udp: None,
        state,
    });
    let torrents = std::mem::take(&mut plan.torrents);
    let wanted = torrents.len();
    let board = Board::new(out, plan.show_peers);
    let mut run = Run {
        engine: &engine,
        out,
        board,
        stop,
        failure: None,
    };
    let added = run.add_all(torrents).await;
    run.carry_on(&added, plan.end).await;
    run.board.clear();
    let failure = run.failure.take();
    let done = added
        .iter()
        .filter(|(torrent, _)| is_done(&torrent.status()))
        .count();
    drop(added);
    shut_down(engine, out).await;
    // A reader that does not read cannot hold up the end.
    let _ = timeout(LAST_WORDS, printed).await;
    match failure {
        Some(exit) => Ok(exit),
        None if done < wanted => {
            out.say("stopped; run the same command again to go on");
            Ok(Exit::Stopped)
        }
        None => Ok(Exit::Done),
    }
}

async fn start(plan: &Plan) -> Result<Engine, EngineError> {
    match Engine::start(plan.config.clone()).await {
        Err(error) if error.kind() == ErrorKind::Listen && plan.any_port => {
            let mut config = plan.config.clone();
            if let Some(addr) = &mut config.tcp_listen {
                addr.set_port(0);
            }
            Engine::start(config).await
        }
        started => started,
    }
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

/// A torrent that runs, and where its payload is.
type Running = (Torrent, PathBuf);

/// An engine at work.
struct Run<'a> {
    engine: &'a Engine,
    out: &'a Output,
    board: Board<'a>,
    stop: Stop,
    /// The status of the first thing that went wrong, which was told.
    failure: Option<Exit>,
}

impl Run<'_> {
    /// Adds what can be added. One that cannot be is reported and does not hinder the others.
    async fn add_all(&mut self, torrents: Vec<AddTorrent>) -> Vec<Running> {
        let engine = self.engine;
        let mut added = Vec::new();
        for torrent in torrents {
            let info = Arc::clone(&torrent.metainfo.info);
            self.out.name(info.info_hash(), info.name());
            let dest = torrent.dest.clone();
            match self.until(engine.add(torrent)).await {
                None => break,
                Some(Ok(torrent)) => {
                    let top = info.files().first();
                    let top = top.and_then(|file| file.path().components().next());
                    let path = top.map_or_else(|| dest.clone(), |name| dest.join(name));
                    added.push((torrent, path));
                }
                Some(Err(error)) => self.fail(error),
            }
        }
        added
    }

    /// Runs what was added until the end that was asked for.
    async fn carry_on(&mut self, added: &[Running], end: End) {
        if added.is_empty() || self.stop.asked() {
            return;
        }
        let End::Complete(keep) = end else {
            // Why, the events told.
            if let Some(error) = self.until(all_failed(self.engine)).await {
                self.failure.get_or_insert(Failure::from(error).exit);
            }
            return;
        };
        let mut any = false;
        for (torrent, path) in added {
            match self.until(torrent.completed()).await {
                None => return,
                Some(Ok(())) => {
                    any = true;
                    self.out.result(path.display());
                }
                Some(Err(error)) => self.fail(error),
            }
        }
        match keep {
            Keep::For(time) if any => drop(self.until(sleep(time)).await),
            Keep::Forever if any => drop(self.until(std::future::pending::<()>()).await),
            _ => {}
        }
    }

    /// Waits for `work`, drawing meanwhile; nothing if the user stops the run first.
    async fn until<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = self.stop.wait() => return None,
                _ = tick.tick() => self.draw(),
            }
        }
    }

    fn draw(&mut self) {
        if self.board.is_drawn() {
            let torrents = self.engine.torrents();
            let statuses: Vec<Status> = torrents.iter().map(Torrent::status).collect();
            self.board.draw(&statuses);
        }
    }

    fn fail(&mut self, error: EngineError) {
        let failure = Failure::from(error);
        self.out.fail(&failure);
        self.failure.get_or_insert(failure.exit);
    }
}

fn is_done(status: &Status) -> bool {
    matches!(status.state, State::Seeding) || (status.total > 0 && status.durable == status.total)
}

/// Waits until no torrent is left that works, and tells why the last of them does not.
async fn all_failed(engine: &Engine) -> EngineError {
    let failure = |torrent: Torrent| match torrent.status().state {
        State::Failed(error) => Some(error),
        _ => None,
    };
    loop {
        let failures: Option<Vec<_>> = engine.torrents().into_iter().map(failure).collect();
        if let Some(error) = failures.and_then(|mut failures| failures.pop()) {
            return error;
        }
        sleep(TICK).await;
    }
}
