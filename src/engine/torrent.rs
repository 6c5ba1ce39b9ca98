//! One torrent's life: the handle that others hold, and the task that owns it, from preparation through transfers to the
//! last word. Pausing and failing end the transfers; resuming prepares anew, so there is one way to begin.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};

use super::active::{Active, Ending};
use super::config::AddTorrent;
use super::error::EngineError;
use super::events::{Event, Hex};
use super::prepare::{Prepared, prepare};
use super::resources::Resources;
use super::status::{State, Status};
use crate::base::InfoHash;
use crate::proto::wire::Handshake;

/// Orders that wait for one torrent's task.
const ORDERS: usize = 64;

/// A torrent that the engine runs. Clones are handles to the same torrent.
#[derive(Clone, Debug)]
pub struct Torrent {
    info_hash: InfoHash,
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<Status>,
}

/// What a torrent's task is told from outside.
#[derive(Debug)]
pub(super) enum Order {
    /// A peer dialled us and asks for this torrent.
    Incoming(Incoming),
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
    /// Starts the task. Its first word on the channel is whether its files could be opened.
    pub(super) fn start(
        resources: Arc<Resources>,
        torrent: AddTorrent,
    ) -> (Self, oneshot::Receiver<Result<(), EngineError>>) {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let status = watch::Sender::new(Status::new(&torrent.metainfo.info));
        let handle = Self {
            info_hash: torrent.metainfo.info.info_hash(),
            orders,
            status: status.subscribe(),
        };
        let (opened, hears) = oneshot::channel();
        let task = TorrentTask {
            resources,
            torrent,
            orders: inbox,
            status,
            opened: Some(opened),
        };
        tokio::spawn(task.run());
        (handle, hears)
    }

    /// Its name on the wire.
    pub fn info_hash(&self) -> InfoHash {
        self.info_hash
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
        let _ = self.orders.send(Order::Incoming(incoming)).await;
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
struct TorrentTask {
    resources: Arc<Resources>,
    torrent: AddTorrent,
    orders: mpsc::Receiver<Order>,
    status: watch::Sender<Status>,
    opened: Option<oneshot::Sender<Result<(), EngineError>>>,
}

/// What ended a stretch of work, and who waits to hear of it.
enum Rest {
    Paused(oneshot::Sender<()>),
    Failed(EngineError),
    Stopped(Option<oneshot::Sender<()>>),
}

impl TorrentTask {
    async fn run(mut self) {
        loop {
            match self.work().await {
                Rest::Paused(done) => {
                    self.set_state(State::Paused);
                    // Whoever paused may have stopped waiting.
                    let _ = done.send(());
                }
                Rest::Failed(error) => {
                    if self.fail(error) {
                        return;
                    }
                }
                Rest::Stopped(done) => {
                    self.set_state(State::Removed);
                    if let Some(done) = done {
                        let _ = done.send(());
                    }
                    return;
                }
            }
            match self.rest().await {
                Some(done) => drop(done.send(())),
                None => return self.set_state(State::Removed),
            }
        }
    }

    /// Reports `error`. True if the torrent never got started, so that nobody holds it.
    fn fail(&mut self, error: EngineError) -> bool {
        self.set_state(State::Failed(error.clone()));
        match self.opened.take() {
            Some(opened) => {
                let _ = opened.send(Err(error));
                true
            }
            None => {
                self.resources.tell(Event::Error {
                    info_hash: Some(Hex(self.torrent.metainfo.info.info_hash())),
                    kind: "torrent",
                    message: error.to_string(),
                });
                false
            }
        }
    }

    /// Prepares and transfers until told otherwise.
    async fn work(&mut self) -> Rest {
        let prepared = match self.prepare().await {
            Ok(prepared) => prepared,
            Err(rest) => return rest,
        };
        let active = Active::new(
            Arc::clone(&self.resources),
            &self.torrent,
            prepared,
            &self.status,
        );
        match active.run(&mut self.orders).await {
            Ending::Paused(done) => Rest::Paused(done),
            Ending::Stopped(done) => Rest::Stopped(done),
            Ending::Failed(error) => Rest::Failed(error),
        }
    }

    async fn prepare(&mut self) -> Result<Prepared, Rest> {
        let opened = self.opened.take();
        let (tell, mut told) = oneshot::channel();
        let mut opened = opened;
        let mut more_peers = Vec::new();
        let torrent = self.torrent.clone();
        let preparing = prepare(&self.resources, &torrent, &self.status, || {
            // The receiver outlives this future.
            let _ = tell.send(());
        });
        tokio::pin!(preparing);
        loop {
            tokio::select! {
                biased;
                Ok(()) = &mut told, if opened.is_some() => {
                    if let Some(opened) = opened.take() {
                        let _ = opened.send(Ok(()));
                    }
                }
                result = &mut preparing => {
                    match opened {
                        // It may be ready before anybody has heard that its files are open.
                        Some(opened) if result.is_ok() => drop(opened.send(Ok(()))),
                        opened => self.opened = opened,
                    }
                    self.torrent.peers.extend(more_peers);
                    return result.map_err(Rest::Failed);
                }
                order = self.orders.recv() => match order {
                    // Nothing has been written yet, so there is nothing to settle.
                    Some(Order::Pause(done)) => return Err(Rest::Paused(done)),
                    Some(Order::Stop(done)) => return Err(Rest::Stopped(Some(done))),
                    Some(Order::Resume(done)) => drop(done.send(())),
                    Some(Order::Peers(peers)) => more_peers.extend(peers),
                    Some(Order::Incoming(_)) => {}
                    None => return Err(Rest::Stopped(None)),
                },
            }
        }
    }

    /// Waits, paused or failed, until told to go on; `None` if told to end.
    async fn rest(&mut self) -> Option<oneshot::Sender<()>> {
        loop {
            match self.orders.recv().await? {
                Order::Resume(done) => return Some(done),
                Order::Stop(done) => {
                    let _ = done.send(());
                    return None;
                }
                Order::Pause(done) => drop(done.send(())),
                Order::Peers(peers) => self.torrent.peers.extend(peers),
                Order::Incoming(_) => {}
            }
        }
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
