//! What a run waits for: torrents that are added, metadata that is fetched, downloads that complete.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::Poll;

use seedbank::engine::{EngineError, Fetched, State, Status, Torrent};
use seedbank::format::metainfo::Metainfo;

use super::transfer::Wish;

/// Something that is waited for, and what it leads to.
pub(crate) type Awaited<'a> = Pin<Box<dyn Future<Output = Step<'a>> + 'a>>;

/// Something that came about.
pub(crate) enum Step<'a> {
    /// A torrent was added, or cannot be.
    Added(Box<Adding>, Result<Torrent, EngineError>),
    /// The metadata of a wish is there, or cannot be had.
    Fetched(&'a Wish, Vec<SocketAddr>, Result<Fetched, EngineError>),
    /// A torrent is complete; or it ended.
    Completed(Running, Result<(), EngineError>),
}

/// A torrent that runs, and where its payload is.
pub(crate) type Running = (Torrent, PathBuf);

/// What is kept of a torrent while it is added.
pub(crate) struct Adding {
    /// What it is.
    pub(crate) metainfo: Metainfo,
    /// The folder that its payload is to be in.
    pub(crate) dest: PathBuf,
    /// Whether files may be taken over that are not this torrent's.
    pub(crate) overwrite: bool,
}

/// What is not done yet.
#[derive(Default)]
pub(crate) struct Work<'a> {
    awaited: Vec<Awaited<'a>>,
    /// Torrents to be that are added or fetched.
    to_come: usize,
    /// Torrents that are not complete.
    running: Vec<Torrent>,
}

impl<'a> Work<'a> {
    /// Waits for something that leads to a torrent.
    pub(crate) fn begin(&mut self, awaited: Awaited<'a>) {
        self.to_come += 1;
        self.awaited.push(awaited);
    }

    /// How many of those there are.
    pub(crate) fn to_come(&self) -> usize {
        self.to_come
    }

    /// Waits for a torrent to be complete.
    pub(crate) fn complete(&mut self, running: Running) {
        self.running.push(running.0.clone());
        self.awaited.push(completion(running));
    }

    /// The next step; nothing once all is done, or every torrent that is left has failed. Who is `patient` leaves those out of it
    /// whose trouble may pass.
    pub(crate) async fn next(&mut self, patient: bool) -> Option<Step<'a>> {
        let stuck = async {
            match self.to_come {
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
            Some(Step::Added(..) | Step::Fetched(..)) => self.to_come -= 1,
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

/// Waits until none of `torrents` works. Who is `patient` takes a torrent whose trouble may pass for one that works.
pub(crate) async fn all_failed(torrents: &[Torrent], patient: bool) {
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
    use super::super::source::Named;
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
            work.begin(done(at, turns));
        }
        let mut order = Vec::new();
        while let Some(Step::Fetched(_, _, Err(EngineError::Defect(name)))) = work.next(false).await
        {
            order.push(name);
        }
        assert_eq!(order, ["fast", "middling", "slow"]);
        assert_eq!(work.to_come, 0);
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
