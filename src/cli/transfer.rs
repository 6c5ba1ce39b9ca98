//! What `get` and `seed` share: an engine that runs some torrents until they are done or the user stops it.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use seedbank::engine::{AddTorrent, EngineError, Fetched, Goal, State, Status, Torrent};
use tokio::time::sleep;

use super::args::{Keep, TransferArgs};
use super::exit::{Exit, Failure};
use super::inquiry;
use super::network::{self, Settings};
use super::output::Output;
use super::save;
use super::session::{self, Session};
use super::source::Named;
use super::watch::Watch;
use super::work::{Adding, Awaited, Running, Step, Work, all_failed};

/// Torrents that are being added at once: enough to keep disk and store busy, few enough for one that hangs to be noticed.
const ADDS_AT_ONCE: usize = 16;

/// A run of the engine.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Its settings.
    pub(crate) settings: Settings,
    /// Whether each peer has a line of its own.
    pub(crate) show_peers: bool,
    /// Peers to try, for every torrent.
    pub(crate) peers: Vec<SocketAddr>,
    /// What to run.
    pub(crate) torrents: Vec<AddTorrent>,
    /// What to run once its metadata is there.
    pub(crate) wishes: Vec<Wish>,
    /// Whether metainfo files are written beside what is downloaded.
    pub(crate) save_metainfo: bool,
    /// When to end.
    pub(crate) end: End,
}

/// A torrent to download of which only the name is known.
#[derive(Debug)]
pub(crate) struct Wish {
    /// What it is called.
    pub(crate) named: Named,
    /// The folder to download to.
    pub(crate) dest: PathBuf,
    /// Whether files may be taken over that are not this torrent's.
    pub(crate) overwrite: bool,
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
    let mut settings = Settings::of(&args.network, out)?;
    settings.config.io = args.io.into();
    settings.config.max_down = args.max_down.and_then(|rate| rate.0);
    settings.config.scrub = args.scrub.map(|every| every.0);
    settings.config.max_up = args.max_up.and_then(|rate| rate.0);
    Ok(Plan {
        settings,
        show_peers: args.peers,
        peers: network::peers(&args.network)?,
        torrents: Vec::new(),
        wishes: Vec::new(),
        save_metainfo: false,
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

/// Runs the plan to its end. A torrent that fails is told of at once; the others go on, and so may it when its trouble passes. If
/// it has not when the run ends, that makes the exit status.
///
/// # Errors
/// If the engine cannot start.
pub(crate) fn run(mut plan: Plan, out: &Arc<Output>) -> Result<Exit, Failure> {
    let torrents = std::mem::take(&mut plan.torrents);
    let wanted = torrents.len() + plan.wishes.len();
    let exit = session::run(&plan.settings, out, async |session: &Session<'_>| {
        let mut run = Run::new(session, &plan);
        run.add_all(torrents).await;
        run.carry_on().await;
        Ok(run.verdict(wanted))
    })?;
    if exit == Exit::Stopped {
        out.say("stopped; run the same command again to go on");
    }
    Ok(exit)
}

/// An engine at work.
struct Run<'a> {
    session: &'a Session<'a>,
    plan: &'a Plan,
    watch: Watch<'a>,
    added: Vec<Running>,
    /// The status of the first thing that went wrong for good, which was told.
    failure: Option<Exit>,
}

impl<'a> Run<'a> {
    fn new(session: &'a Session<'a>, plan: &'a Plan) -> Self {
        Self {
            session,
            plan,
            watch: Watch::new(session.engine, session.out, plan.show_peers),
            added: Vec::new(),
            failure: None,
        }
    }

    /// Adds what can be added. One that cannot be is reported and does not hinder the others.
    async fn add_all(&mut self, torrents: Vec<AddTorrent>) {
        let mut torrents = torrents.into_iter();
        let mut work = Work::default();
        loop {
            while work.to_come() < ADDS_AT_ONCE
                && let Some(torrent) = torrents.next()
            {
                work.begin(self.adding(torrent));
            }
            match self.until(work.next(true)).await {
                Some(Some(Step::Added(adding, added))) => drop(self.added(&adding, added)),
                // Stopped by the user, or all are added.
                _ => return,
            }
        }
    }

    /// Begins to add a torrent.
    fn adding(&self, torrent: AddTorrent) -> Awaited<'a> {
        let (engine, out) = (self.session.engine, self.session.out);
        let info = &torrent.metainfo.info;
        out.name(info.info_hash(), info.name());
        let adding = Box::new(Adding {
            metainfo: torrent.metainfo.clone(),
            dest: torrent.dest.clone(),
            overwrite: torrent.overwrite,
        });
        Box::pin(async move { Step::Added(adding, engine.add(torrent).await) })
    }

    /// Takes in that a torrent was added; nothing if it could not be.
    fn added(&mut self, adding: &Adding, added: Result<Torrent, EngineError>) -> Option<Running> {
        let Adding {
            metainfo,
            dest,
            overwrite,
        } = adding;
        // Worth something even if the torrent failed; but no folder is made for them.
        if self.plan.save_metainfo
            && dest.is_dir()
            && let Err(failure) = save::save(metainfo, dest, *overwrite, self.session.out)
        {
            self.fail(&failure);
        }
        match added {
            Ok(torrent) => {
                let top = metainfo.info.files().first();
                let top = top.and_then(|file| file.path().components().next());
                let path = top.map_or_else(|| dest.clone(), |name| dest.join(name));
                self.added.push((torrent.clone(), path.clone()));
                Some((torrent, path))
            }
            Err(error) => {
                self.fail(&error.into());
                None
            }
        }
    }

    /// Runs what was added, and what is wished for, until the end that was asked for.
    async fn carry_on(&mut self) {
        let nothing = self.added.is_empty() && self.plan.wishes.is_empty();
        if nothing || self.session.is_stopped() {
            return;
        }
        match self.plan.end {
            End::Complete(keep) => self.complete(keep).await,
            End::Stopped => {
                let torrents = self.added.iter().map(|(torrent, _)| torrent.clone());
                let torrents: Vec<_> = torrents.collect();
                // Why, the events told.
                self.until(all_failed(&torrents, true)).await;
            }
        }
    }

    /// Waits until everything is complete or failed, and seeds for as long as is asked for then. Who is to seed for ever waits for
    /// troubles to pass as well.
    async fn complete(&mut self, keep: Keep) {
        let mut work = Work::default();
        self.added
            .iter()
            .cloned()
            .for_each(|running| work.complete(running));
        let plan = self.plan;
        for wish in &plan.wishes {
            work.begin(self.inquiry(wish));
        }
        let patient = keep == Keep::Forever;
        let mut any = false;
        loop {
            match self.until(work.next(patient)).await {
                Some(Some(step)) => any |= self.take(step, &mut work),
                Some(None) => break,
                None => return,
            }
        }
        if any {
            self.keep(keep, &mut work).await;
        }
        // Told before, but maybe long ago.
        let failures: Vec<_> = self.failures().collect();
        failures.iter().for_each(|failure| self.fail(failure));
    }

    /// Seeds for as long as is asked for. What failed may go on meanwhile.
    async fn keep(&mut self, keep: Keep, work: &mut Work<'a>) {
        let over = async {
            match keep {
                Keep::For(time) => sleep(time).await,
                Keep::Forever => std::future::pending().await,
            }
        };
        let mut over = pin!(over);
        loop {
            let next = async {
                tokio::select! {
                    biased;
                    () = &mut over => None,
                    Some(step) = work.next(true) => Some(step),
                }
            };
            match self.until(next).await {
                Some(Some(step)) => drop(self.take(step, work)),
                Some(None) | None => break,
            }
        }
    }

    /// Takes a step; true if a torrent is complete.
    fn take(&mut self, step: Step<'a>, work: &mut Work<'a>) -> bool {
        match step {
            Step::Fetched(wish, peers, fetched) => {
                let adding = self.fetched(wish, peers, fetched);
                adding.into_iter().for_each(|adding| work.begin(adding));
                false
            }
            Step::Added(adding, added) => {
                let running = self.added(&adding, added);
                running
                    .into_iter()
                    .for_each(|running| work.complete(running));
                false
            }
            Step::Completed((_, path), Ok(())) => {
                self.session.out.result(path.display());
                true
            }
            Step::Completed(_, Err(error)) => {
                self.fail(&error.into());
                false
            }
        }
    }

    /// Begins to fetch the metadata of `wish`.
    fn inquiry(&mut self, wish: &'a Wish) -> Awaited<'a> {
        self.watch.inquire(&wish.named);
        let (engine, out) = (self.session.engine, self.session.out);
        let mut peers = self.plan.peers.clone();
        Box::pin(async move {
            let link = inquiry::resolve(&wish.named.magnet.peers, out).await;
            peers.extend(link.tireless);
            let fetched = inquiry::fetch(engine, &wish.named, peers.clone(), link.found).await;
            if let Ok(fetched) = &fetched
                && let Err(error) = engine.keep(&fetched.metainfo, &wish.dest).await
            {
                // Worth a word, no more: it is here now.
                let message = format!("the metadata could not be kept: {error}");
                out.warn("state", message);
            }
            Step::Fetched(wish, peers, fetched)
        })
    }

    /// Goes on with a wish whose metadata is there: begins to add the torrent.
    fn fetched(
        &mut self,
        wish: &Wish,
        peers: Vec<SocketAddr>,
        fetched: Result<Fetched, EngineError>,
    ) -> Option<Awaited<'a>> {
        self.watch.inquired(&wish.named);
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => {
                self.fail(&error.into());
                return None;
            }
        };
        inquiry::tell(&fetched.metainfo, self.session.out);
        Some(self.adding(AddTorrent {
            metainfo: fetched.metainfo,
            dest: wish.dest.clone(),
            goal: Goal::Download,
            peers,
            found: fetched.peers,
            overwrite: wish.overwrite,
            hashed: None,
        }))
    }

    /// What keeps torrents from going on now.
    fn failures(&self) -> impl Iterator<Item = Failure> + '_ {
        let states = self.added.iter().map(|(torrent, _)| torrent.status().state);
        states.filter_map(|state| match state {
            State::Failed(error) => Some(error.into()),
            _ => None,
        })
    }

    /// How the run ended, of `wanted` torrents.
    fn verdict(mut self, wanted: usize) -> Exit {
        self.watch.clear();
        let failure = self.failures().next().map(|failure| failure.exit);
        let done = self.added.iter();
        let done = done.filter(|(torrent, _)| is_done(&torrent.status()));
        match self.failure.or(failure) {
            Some(exit) => exit,
            None if done.count() < wanted => Exit::Stopped,
            None => Exit::Done,
        }
    }

    /// Waits for `work`, drawing meanwhile; nothing if the user stops the run first.
    async fn until<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        self.session.until(self.watch.over(work)).await
    }

    fn fail(&mut self, failure: &Failure) {
        self.session.out.fail(failure);
        self.failure.get_or_insert(failure.exit);
    }
}

fn is_done(status: &Status) -> bool {
    matches!(status.state, State::Seeding) || (status.total > 0 && status.durable == status.total)
}
