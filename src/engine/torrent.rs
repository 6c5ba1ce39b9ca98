//! One torrent's life: the handle that others hold, and the task that owns it, from preparation through transfers to the
//! last word. Pausing and failing end the transfers; going on prepares anew, so there is one way to begin. When to go on after a
//! failure is decided in `retry.rs`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};

use super::active::{Active, Ending};
use super::config::AddTorrent;
use super::error::EngineError;
use super::events::{Event, Hex};
use super::prepare::{Prepared, prepare};
use super::resources::Resources;
use super::retry::Retry;
use super::status::{State, Status};
use crate::base::InfoHash;
use crate::disk::DiskError;
use crate::proto::wire::Handshake;

/// Orders that wait for one torrent's task.
const ORDERS: usize = 64;

/// Peers that may wait for a torrent to be ready.
const WAITING: usize = 32;

/// A torrent that the engine runs. Clones are handles to the same torrent.
#[derive(Clone, Debug)]
pub struct Torrent {
    info_hash: InfoHash,
    private: bool,
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<Status>,
}

/// What a torrent's task is told from outside.
#[derive(Debug)]
pub(super) enum Order {
    /// A peer dialled us and asks for this torrent. Boxed: a queue has room for many orders, also that of a torrent that rests.
    Incoming(Box<Incoming>),
    /// More peers to try.
    Peers(Vec<SocketAddr>),
    /// Stop transfers, make durable what is verified.
    Pause(oneshot::Sender<()>),
    /// Go on.
    Resume(oneshot::Sender<()>),
    /// As `Pause`, and then end.
    Stop(oneshot::Sender<()>),
}

/// A connection that a peer made to us, with what it said first.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) stream: TcpStream,
    pub(super) from: SocketAddr,
    pub(super) handshake: Handshake,
}

impl Torrent {
    /// A torrent that does nothing until its task is run.
    pub(super) fn new(resources: Arc<Resources>, torrent: AddTorrent) -> (Self, TorrentTask) {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let status = watch::Sender::new(Status::new(&torrent.metainfo.info));
        let handle = Self {
            info_hash: torrent.metainfo.info.info_hash(),
            private: torrent.metainfo.info.is_private(),
            orders,
            status: status.subscribe(),
        };
        let task = TorrentTask {
            resources,
            torrent,
            orders: inbox,
            status,
            opened: None,
            waiting: Vec::new(),
            mends: false,
            retry: Retry::default(),
        };
        (handle, task)
    }

    /// Its name on the wire.
    pub fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    /// Whether peers may come from its trackers only (BEP 27).
    pub fn is_private(&self) -> bool {
        self.private
    }

    /// How it stands now.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// How it stands, as it changes.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Stops transfers; what is verified becomes durable.
    pub async fn pause(&self) {
        self.order(Order::Pause).await;
    }

    /// Goes on after [`pause`](Self::pause) or an error.
    pub async fn resume(&self) {
        self.order(Order::Resume).await;
    }

    /// Tries these peers as well.
    pub async fn add_peers(&self, peers: Vec<SocketAddr>) {
        // A torrent that has ended needs no peers.
        let _ = self.orders.send(Order::Peers(peers)).await;
    }

    /// Waits until every piece is durable.
    ///
    /// # Errors
    /// If the torrent fails or is removed first.
    pub async fn completed(&self) -> Result<(), EngineError> {
        let mut status = self.status.clone();
        let settled = |status: &Status| {
            matches!(
                status.state,
                State::Seeding | State::Failed(_) | State::Removed
            )
        };
        match status
            .wait_for(settled)
            .await
            .map(|status| status.state.clone())
        {
            Ok(State::Seeding) => Ok(()),
            Ok(State::Failed(error)) => Err(error),
            Ok(_) => Err(EngineError::Stopped),
            Err(_) => Err(EngineError::Defect(format!(
                "the task of {} died",
                self.info_hash
            ))),
        }
    }

    pub(super) async fn stop(&self) {
        self.order(Order::Stop).await;
    }

    pub(super) async fn incoming(&self, incoming: Incoming) {
        // If the torrent has ended the connection is dropped, which is what the peer should see.
        let _ = self.orders.send(Order::Incoming(Box::new(incoming))).await;
    }

    async fn order(&self, order: impl FnOnce(oneshot::Sender<()>) -> Order) {
        let (done, obeyed) = oneshot::channel();
        if self.orders.send(order(done)).await.is_ok() {
            // An error means that the task has ended, and with it everything that could be stopped.
            let _ = obeyed.await;
        }
    }
}

/// The owner of one torrent.
pub(super) struct TorrentTask {
    resources: Arc<Resources>,
    torrent: AddTorrent,
    orders: mpsc::Receiver<Order>,
    status: watch::Sender<Status>,
    opened: Option<oneshot::Sender<Result<(), EngineError>>>,
    /// Peers that dialled us while we were preparing.
    waiting: Vec<Incoming>,
    /// A piece of a payload to share rotted: what is missing of it is fetched, though the files are the user's. Whoever edits such a file
    /// keeps the edit.
    mends: bool,
    retry: Retry,
}

/// What ended a rest.
enum Woken {
    /// Somebody asked for it to go on, and waits to hear that it does.
    Resumed(oneshot::Sender<()>),
    /// It is time to try again.
    Due,
    /// It is to end.
    Stopped,
}

impl TorrentTask {
    /// Starts it. The first word on the channel is whether its files could be opened.
    pub(super) fn spawn(mut self) -> oneshot::Receiver<Result<(), EngineError>> {
        let (opened, hears) = oneshot::channel();
        self.opened = Some(opened);
        tokio::spawn(self.run());
        hears
    }

    async fn run(mut self) {
        loop {
            let again = match self.work().await {
                Ending::Again => {
                    self.set_checking();
                    continue;
                }
                Ending::Changed(error) if self.retry.on_changed(Instant::now()) => {
                    self.tell_changed(&error);
                    self.set_checking();
                    continue;
                }
                Ending::Paused(done) => {
                    self.set_state(State::Paused);
                    // Whoever paused may have stopped waiting.
                    let _ = done.send(());
                    None
                }
                Ending::Changed(error) => self.fail(&error.into()),
                Ending::Failed(error) => match self.refuse(&error) {
                    true => return,
                    false => self.fail(&error),
                },
                Ending::Stopped(done) => {
                    self.set_state(State::Removed);
                    if let Some(done) = done {
                        let _ = done.send(());
                    }
                    return;
                }
            };
            match self.rest(again).await {
                Woken::Resumed(resumed) => {
                    self.retry.on_resumed();
                    // Before whoever resumed it looks, so that the old state is not taken for the outcome.
                    self.set_checking();
                    let _ = resumed.send(());
                }
                // It stays failed until its files are open again.
                Woken::Due => {}
                Woken::Stopped => return self.set_state(State::Removed),
            }
        }
    }

    /// Answers whoever added it that it cannot be had. False if nobody waits for that any more.
    fn refuse(&mut self, error: &EngineError) -> bool {
        let Some(opened) = self.opened.take() else {
            return false;
        };
        self.set_state(State::Failed(error.clone()));
        opened.send(Err(error.clone())).is_ok()
    }

    /// Reports `error`, unless the last attempt met the same; when to try again.
    fn fail(&mut self, error: &EngineError) -> Option<Instant> {
        let verdict = self.retry.on_failed(Instant::now(), error);
        self.set_state(State::Failed(error.clone()));
        if verdict.is_news {
            self.resources.tell(Event::Error {
                info_hash: Some(Hex(self.torrent.metainfo.info.info_hash())),
                kind: "torrent",
                message: error.to_string(),
            });
        }
        verdict.at
    }

    fn tell_changed(&self, error: &DiskError) {
        self.resources.tell(Event::Warning {
            info_hash: Some(Hex(self.torrent.metainfo.info.info_hash())),
            kind: "changed",
            message: format!("{error}; what is there is hashed now"),
        });
    }

    /// Prepares and transfers until told otherwise.
    async fn work(&mut self) -> Ending {
        let prepared = match self.prepare().await {
            Ok(prepared) => prepared,
            Err(ending) => return ending,
        };
        self.retry.on_running(Instant::now());
        let resources = Arc::clone(&self.resources);
        let mut active = Active::new(resources, &self.torrent, prepared, &self.status);
        self.waiting
            .drain(..)
            .for_each(|incoming| active.welcome(incoming));
        // Boxed, so that a torrent that rests takes no room for it.
        let ending = Box::pin(active.run(&mut self.orders)).await;
        let is_whole = {
            let status = self.status.borrow();
            status.durable == status.total
        };
        self.mends = matches!(ending, Ending::Again) || self.mends && !is_whole;
        ending
    }

    /// Prepares. Whoever wants it to end meanwhile waits until nothing is held any more.
    async fn prepare(&mut self) -> Result<Prepared, Ending> {
        let (tell, mut told) = oneshot::channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        let torrent = self.torrent.clone();
        let (resources, status) = (Arc::clone(&self.resources), self.status.clone());
        // Boxed, so that its room is free again once it is over.
        let mut preparing = Box::pin(prepare(
            &resources,
            &torrent,
            &status,
            &cancelled,
            self.mends,
            || {
                // The receiver outlives this future.
                let _ = tell.send(());
            },
        ));
        let mut ending = None;
        let result = loop {
            tokio::select! {
                biased;
                Ok(()) = &mut told, if self.opened.is_some() => self.opened.take().into_iter().for_each(hear),
                result = &mut preparing => break result,
                order = self.orders.recv(), if ending.is_none() => {
                    match order {
                        Some(Order::Pause(done)) => ending = Some(Ending::Paused(done)),
                        Some(Order::Stop(done)) => ending = Some(Ending::Stopped(Some(done))),
                        Some(Order::Resume(done)) => {
                            self.forget_failure();
                            let _ = done.send(());
                        }
                        Some(Order::Peers(peers)) => self.torrent.peers.extend(peers),
                        Some(Order::Incoming(incoming)) if self.waiting.len() < WAITING => self.waiting.push(*incoming),
                        Some(Order::Incoming(_)) => {}
                        None => ending = Some(Ending::Stopped(None)),
                    }
                    cancelled.store(ending.is_some(), Ordering::Relaxed);
                }
            }
        };
        match (ending, result) {
            (Some(ending), Ok(prepared)) => {
                // It was ready just then. All that it found is committed.
                if let Err(error) = prepared.payload.close().await {
                    return Err(Ending::Failed(error.into()));
                }
                Err(ending)
            }
            (Some(ending), Err(_)) => Err(ending),
            (None, result) => {
                if result.is_ok() {
                    // It may be ready before anybody has heard that its files are open.
                    self.opened.take().into_iter().for_each(hear);
                }
                result.map_err(Ending::Failed)
            }
        }
    }

    /// Waits, paused or failed, until told to go on or to end, or until it is time to try `again`.
    async fn rest(&mut self, mut again: Option<Instant>) -> Woken {
        // Nobody would answer them.
        self.waiting.clear();
        loop {
            let order = tokio::select! {
                order = self.orders.recv() => order,
                () = at(again) => return Woken::Due,
            };
            match order {
                Some(Order::Resume(done)) => return Woken::Resumed(done),
                Some(Order::Stop(done)) => {
                    let _ = done.send(());
                    return Woken::Stopped;
                }
                Some(Order::Pause(done)) => {
                    again = None;
                    self.set_state(State::Paused);
                    let _ = done.send(());
                }
                Some(Order::Peers(peers)) => self.torrent.peers.extend(peers),
                Some(Order::Incoming(_)) => {}
                None => return Woken::Stopped,
            }
        }
    }

    /// Somebody asks for it to go on while it is being tried again: what comes of that is the outcome, not the old failure.
    fn forget_failure(&self) {
        let failed = matches!(self.status.borrow().state, State::Failed(_));
        if failed {
            self.set_checking();
        }
    }

    fn set_checking(&self) {
        let total = self.status.borrow().total;
        self.set_state(State::Checking { done: 0, total });
    }

    fn set_state(&self, state: State) {
        self.status.send_modify(|status| {
            status.state = state;
            status.down_rate = 0;
            status.up_rate = 0;
            status.peers.clear();
        });
    }
}

/// Waits until then; for ever if there is no such time.
pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

/// Tells whoever added the torrent that its files are open.
fn hear(opened: oneshot::Sender<Result<(), EngineError>>) {
    // Whoever it was may have stopped waiting.
    let _ = opened.send(Ok(()));
}
