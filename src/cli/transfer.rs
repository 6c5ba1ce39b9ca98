//! What `get` and `seed` share: an engine that runs some torrents until they are done or the user stops it.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

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

/// Something that is waited for, and what it leads to.
type Awaited<'a> = Pin<Box<dyn Future<Output = Step<'a>> + 'a>>;

/// Something that came about.
enum Step<'a> {
    /// The metadata of a wish is there, or cannot be had.
    Fetched(&'a Wish, Vec<SocketAddr>, Result<Fetched, EngineError>),
    /// A torrent is complete; or it ended.
    Completed(Running, Result<(), EngineError>),
}

/// What is not done yet.
#[derive(Default)]
struct Work<'a> {
    awaited: Vec<Awaited<'a>>,
    /// Wishes whose metadata is not there.
    fetching: usize,
    /// Torrents that are not complete.
    running: Vec<Torrent>,
}

impl<'a> Work<'a> {
    fn fetch(&mut self, inquiry: Awaited<'a>) {
        self.fetching += 1;
        self.awaited.push(inquiry);
    }

    fn complete(&mut self, running: Running) {
        self.running.push(running.0.clone());
        self.awaited.push(completion(running));
    }

    /// The next step; nothing once all is done, or every torrent that is left has failed. Who is `patient` leaves those out of it
    /// whose trouble may pass.
    async fn next(&mut self, patient: bool) -> Option<Step<'a>> {
        let stuck = async {
            match self.fetching {
                0 => all_failed(&self.running, patient).await,
                _ => std::future::pending().await,
            }
        };
        let step = tokio::select! {
            biased;
            step = first_of(&mut self.awaited) => step,
            () = stuck => None,
        };
        match &step {
            Some(Step::Fetched(..)) => self.fetching -= 1,
            Some(Step::Completed((torrent, _), _)) => {
                let done = torrent.info_hash();
                self.running.retain(|torrent| torrent.info_hash() != done);
            }
            None => {}
        }
        step
    }
}

/// The first of `work` to be done, which is taken from it; nothing if there is none.
async fn first_of<'a>(work: &mut Vec<Awaited<'a>>) -> Option<Step<'a>> {
    if work.is_empty() {
        return None;
    }
    let (at, step) = std::future::poll_fn(|context| {
        let polled = work.iter_mut().enumerate();
        let mut polled = polled.filter_map(|(at, one)| match one.as_mut().poll(context) {
            Poll::Ready(step) => Some((at, step)),
            Poll::Pending => None,
        });
        polled.next().map_or(Poll::Pending, Poll::Ready)
    })
    .await;
    drop(work.swap_remove(at));
    Some(step)
}

/// A torrent that runs, and where its payload is.
type Running = (Torrent, PathBuf);

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
        for torrent in torrents {
            if self.session.is_stopped() {
                return;
            }
            self.add(torrent).await;
        }
    }

    /// Adds a torrent; nothing if that failed or the user stopped it.
    async fn add(&mut self, torrent: AddTorrent) -> Option<Running> {
        let (engine, out) = (self.session.engine, self.session.out);
        let (metainfo, dest) = (torrent.metainfo.clone(), torrent.dest.clone());
        let overwrite = torrent.overwrite;
        let info = &metainfo.info;
        out.name(info.info_hash(), info.name());
        let added = self.until(engine.add(torrent)).await?;
        // Worth something even if the torrent failed; but no folder is made for them.
        if self.plan.save_metainfo
            && dest.is_dir()
            && let Err(failure) = save::save(&metainfo, &dest, overwrite, out)
        {
            self.fail(&failure);
        }
        match added {
            Ok(torrent) => {
                let top = info.files().first();
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
            work.fetch(self.inquiry(wish));
        }
        let patient = keep == Keep::Forever;
        let mut any = false;
        loop {
            match self.until(work.next(patient)).await {
                Some(Some(step)) => any |= self.take(step, &mut work).await,
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
                Some(Some(step)) => drop(self.take(step, work).await),
                Some(None) | None => break,
            }
        }
    }

    /// Takes a step; true if a torrent is complete.
    async fn take(&mut self, step: Step<'a>, work: &mut Work<'a>) -> bool {
        match step {
            Step::Fetched(wish, peers, fetched) => {
                let running = self.fetched(wish, peers, fetched).await;
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
            Step::Fetched(wish, peers, fetched)
        })
    }

    /// Goes on with a wish whose metadata is there; the torrent if that worked.
    async fn fetched(
        &mut self,
        wish: &Wish,
        peers: Vec<SocketAddr>,
        fetched: Result<Fetched, EngineError>,
    ) -> Option<Running> {
        self.watch.inquired(&wish.named);
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => {
                self.fail(&error.into());
                return None;
            }
        };
        inquiry::tell(&fetched.metainfo, self.session.out);
        self.add(AddTorrent {
            metainfo: fetched.metainfo,
            dest: wish.dest.clone(),
            goal: Goal::Download,
            peers,
            found: fetched.peers,
            overwrite: wish.overwrite,
            hashed: None,
        })
        .await
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

/// Waits until a torrent is complete, however often it fails before; or for its end.
fn completion<'a>((torrent, path): Running) -> Awaited<'a> {
    Box::pin(async move {
        let ended = |status: &Status| matches!(status.state, State::Seeding | State::Removed);
        let mut status = torrent.watch();
        let complete = match status.wait_for(ended).await {
            Ok(status) => matches!(status.state, State::Seeding),
            Err(_) => false,
        };
        let completed = match complete {
            true => Ok(()),
            // It ended, or its task died: which of them, it knows.
            false => torrent.completed().await,
        };
        Step::Completed((torrent, path), completed)
    })
}

fn is_done(status: &Status) -> bool {
    matches!(status.state, State::Seeding) || (status.total > 0 && status.durable == status.total)
}

/// Waits until none of `torrents` works. Who is `patient` takes a torrent whose trouble may pass for one that works.
async fn all_failed(torrents: &[Torrent], patient: bool) {
    let has_failed = |status: &Status| match &status.state {
        State::Failed(error) => !(patient && error.is_passing()),
        _ => false,
    };
    while !torrents.iter().all(|torrent| has_failed(&torrent.status())) {
        for torrent in torrents {
            if torrent.watch().wait_for(has_failed).await.is_err() {
                // Its task died, which whoever waits for its completion hears of.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_done_first_comes_first_and_nothing_is_lost() {
        let (wish, names) = (wish(), ["slow", "fast", "middling"]);
        let done = |at: usize, turns: usize| -> Awaited<'_> {
            let (wish, name) = (&wish, names[at].to_owned());
            Box::pin(async move {
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                Step::Fetched(wish, Vec::new(), Err(EngineError::Defect(name)))
            })
        };
        let mut work = Work::default();
        for (at, turns) in [(0, 9), (1, 1), (2, 4)] {
            work.fetch(done(at, turns));
        }
        let mut order = Vec::new();
        while let Some(Step::Fetched(_, _, Err(EngineError::Defect(name)))) = work.next(false).await
        {
            order.push(name);
        }
        assert_eq!(order, ["fast", "middling", "slow"]);
        assert_eq!(work.fetching, 0);
    }

    fn wish() -> Wish {
        let link = format!("magnet:?xt=urn:btih:{}", "ab".repeat(20));
        let magnet: seedbank::format::magnet::Magnet = link.parse().unwrap();
        Wish {
            named: Named {
                info_hash: seedbank::base::InfoHash([0xab; 20]),
                magnet,
            },
            dest: PathBuf::new(),
            overwrite: false,
        }
    }
}
