//! Fetching the metadata of a torrent that is known by name only (BEP 9): one future that owns a
//! [`MetadataFetch`](crate::swarm::MetadataFetch) and every effect it has. Dropping it ends all of them.
//!
//! The torrent is announced meanwhile, to trackers and in the DHT: others who have the metadata may then dial us.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::active::defect;
use super::catalogue::{Place, Torrents};
use super::config::Wanted;
use super::dht::{self, Search};
use super::discovery::{self, Answer, Counts, Discovery};
use super::error::EngineError;
use super::events::{Event, Hex};
use super::joining::call;
use super::resources::Resources;
use super::torrent::Incoming;
use crate::base::InfoHash;
use crate::base::id::CLIENT;
use crate::format::metainfo::{Info, Metainfo};
use crate::net::inquiry::{self, Command, Report, Ties};
use crate::proto::wire::{ExtendedHandshake, Handshake, Inquiry, InquiryConfig, InquiryEvent};
use crate::swarm::{MetadataAction, MetadataFetch, PeerInfo, PeerKey, Source};

/// Reports from all connections that wait to be taken in.
const REPORTS: usize = 64;
/// Orders that wait for one connection: a full pipeline, and the last one.
const ORDERS: usize = 16;
/// Trackers that are asked at once. Those of a magnet link are in no order, and many are dead.
const TRACKERS_AT_ONCE: usize = 8;
/// What trackers hear is left of a torrent of unknown size: something, as from other clients, or they would take us for a seed.
const LEFT: u64 = 16 << 10;
/// Peers that are told besides those that served the metadata.
const OTHERS_TOLD: usize = 50;
/// Time for all peers to notice that we have hung up.
const PARTING: Duration = Duration::from_millis(400);

/// Metadata that was fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The torrent, with the trackers, nodes and web seeds that were known before.
    pub metainfo: Metainfo,
    /// Peers that were found on the way, those that served it first. Of a private torrent only those that were known before:
    /// it takes peers from its trackers alone (BEP 27).
    pub peers: Vec<SocketAddr>,
}

/// Fetches what `wanted` names, unless the catalog has it.
pub(super) async fn fetch(
    resources: &Arc<Resources>,
    torrents: &Torrents,
    wanted: Wanted,
) -> Result<Fetched, EngineError> {
    let info_hash = wanted.info_hash;
    let place = torrents.fetch(info_hash);
    let mut place = place.ok_or(EngineError::AlreadyAdded(info_hash))?;
    if let Some(metainfo) = catalogued(resources, info_hash).await? {
        return Ok(from_catalog(metainfo, &wanted));
    }
    let mut fetching = Fetching::new(Arc::clone(resources), &wanted);
    fetching.remember().await;
    let found = fetching.run(&mut place).await?;
    // Nobody is let in any more, and whoever is here sees us leave before the torrent dials.
    drop(place);
    let others = fetching.others();
    fetching.part().await;
    let info = Info::from_raw(found.raw);
    let info = info.map_err(|reason| EngineError::InvalidTorrent { info_hash, reason })?;
    let peers = if info.is_private() {
        wanted.peers.clone()
    } else {
        let mut seen = HashSet::new();
        let found = found.from.into_iter().chain(others);
        let all = found.chain(wanted.found.iter().copied());
        all.filter(|&peer| seen.insert(peer)).collect()
    };
    let mut metainfo = Metainfo::new(info);
    metainfo.add_hints(&wanted.trackers, &wanted.nodes, &wanted.web_seeds);
    Ok(Fetched { metainfo, peers })
}

/// The torrent as an earlier run left it.
async fn catalogued(
    resources: &Resources,
    info_hash: InfoHash,
) -> Result<Option<Metainfo>, EngineError> {
    let bytes = resources.store.metainfo(info_hash).await?;
    let metainfo = bytes.and_then(|bytes| Metainfo::parse(&bytes).ok());
    Ok(metainfo.filter(|metainfo| metainfo.info.info_hash() == info_hash))
}

/// What the catalog has of `wanted`. A private torrent keeps to its own trackers: the link that names it may not add any.
fn from_catalog(mut metainfo: Metainfo, wanted: &Wanted) -> Fetched {
    let mut peers = wanted.peers.clone();
    if metainfo.info.is_private() {
        return Fetched { metainfo, peers };
    }
    peers.extend(&wanted.found);
    metainfo.add_hints(&wanted.trackers, &wanted.nodes, &wanted.web_seeds);
    Fetched { metainfo, peers }
}

/// The metadata, and where those can be reached that sent it.
struct Found {
    raw: Vec<u8>,
    from: Vec<SocketAddr>,
}

/// A call that we made, and how it went.
struct Dialled {
    addr: SocketAddr,
    result: Result<(TcpStream, Handshake), String>,
    place: OwnedSemaphorePermit,
}

/// A connection, as the fetch sees it.
struct Link {
    addr: SocketAddr,
    commands: mpsc::Sender<Command>,
}

/// A fetch under way.
struct Fetching {
    resources: Arc<Resources>,
    info_hash: InfoHash,
    fetch: MetadataFetch,
    links: HashMap<PeerKey, Link>,
    reports: mpsc::Receiver<(PeerKey, Report)>,
    reporter: mpsc::Sender<(PeerKey, Report)>,
    connections: JoinSet<()>,
    dials: JoinSet<Dialled>,
    trackers: Vec<Discovery>,
    announces: JoinSet<(usize, Answer)>,
    search: Option<Search>,
}

impl Fetching {
    fn new(resources: Arc<Resources>, wanted: &Wanted) -> Self {
        let now = Instant::now();
        let info_hash = wanted.info_hash;
        let mut fetch = MetadataFetch::new(info_hash, resources.peer_id, rand::random());
        fetch.on_addresses(now, Source::User, &wanted.peers);
        fetch.on_addresses(now, Source::Dht, &wanted.found);
        let (reporter, reports) = mpsc::channel(REPORTS);
        let search = resources.dht.as_ref().map(|dht| {
            if !wanted.nodes.is_empty() {
                dht.add_hosts(wanted.nodes.clone());
            }
            // It may be private, so it is not announced before that is known.
            dht.search(info_hash, None)
        });
        let lanes = wanted.trackers.len().min(TRACKERS_AT_ONCE);
        let lane = |lane: usize| {
            let urls = wanted.trackers.iter().skip(lane).step_by(lanes);
            let tiers = urls.map(|url| vec![url.clone()]).collect();
            let (id, port) = (resources.peer_id, resources.port);
            Discovery::new(now, tiers, rand::random(), info_hash, id, port)
        };
        Self {
            info_hash,
            fetch,
            links: HashMap::new(),
            reports,
            reporter,
            connections: JoinSet::new(),
            dials: JoinSet::new(),
            trackers: (0..lanes).map(lane).collect(),
            announces: JoinSet::new(),
            search,
            resources,
        }
    }

    /// Takes in the peers that earlier runs knew.
    async fn remember(&mut self) {
        let known = self.resources.store.peers(self.info_hash).await;
        let known: Vec<_> = known.iter().map(|peer| peer.addr).collect();
        self.fetch
            .on_addresses(Instant::now(), Source::Stored, &known);
    }

    async fn run(&mut self, place: &mut Place) -> Result<Found, EngineError> {
        loop {
            let now = Instant::now();
            if let Some(found) = self.perform(now) {
                return Ok(found);
            }
            self.announce_if_due(now);
            let deadline = self.next_deadline(now);
            tokio::select! {
                Some((key, report)) = self.reports.recv() => self.on_report(key, report),
                Some(incoming) = place.incoming() => self.welcome(incoming),
                Some(dialled) = self.dials.join_next() => {
                    self.on_dialled(dialled.map_err(|error| defect(&error))?);
                }
                Some(ended) = self.connections.join_next() => ended.map_err(|error| defect(&error))?,
                Some(answer) = self.announces.join_next() => {
                    let (lane, answer) = answer.map_err(|error| defect(&error))?;
                    self.on_announced(lane, answer);
                }
                peers = dht::found(&mut self.search) => {
                    self.fetch.on_addresses(Instant::now(), Source::Dht, &peers);
                }
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.fetch.handle_timeout(Instant::now());
                }
            }
        }
    }

    /// Carries out what was decided.
    fn perform(&mut self, now: Instant) -> Option<Found> {
        while let Some(action) = self.fetch.poll() {
            match action {
                MetadataAction::Dial(addr) => self.dial(now, addr),
                MetadataAction::Request { key, piece } => {
                    self.order(now, key, Command::Request(piece));
                }
                MetadataAction::Close { key, reason } => {
                    if let Some(link) = self.links.get(&key) {
                        tracing::debug!(peer = %link.addr, reason = reason.as_str(), "closed");
                    }
                    self.order(now, key, Command::Close);
                }
                MetadataAction::Banned { addr, why } => self.resources.tell(Event::Warning {
                    info_hash: Some(Hex(self.info_hash)),
                    kind: "metadata",
                    message: format!("{addr} lied and is banned: {why}"),
                }),
                MetadataAction::Found { raw, from } => return Some(Found { raw, from }),
            }
        }
        None
    }

    /// Never waits: a connection that does not take orders is cut by closing its queue.
    fn order(&mut self, now: Instant, key: PeerKey, command: Command) {
        let link = self.links.get(&key);
        let taken = link.is_some_and(|link| link.commands.try_send(command).is_ok());
        if !taken {
            self.links.remove(&key);
            self.fetch.on_disconnected(now, key);
        }
    }

    fn dial(&mut self, now: Instant, addr: SocketAddr) {
        let connections = Arc::clone(&self.resources.connections);
        let Ok(place) = connections.try_acquire_owned() else {
            return self.fetch.on_dial_postponed(now, addr);
        };
        let resources = Arc::clone(&self.resources);
        let info_hash = self.info_hash;
        let reserved = resources.reserved(false);
        self.dials.spawn(async move {
            let result = call(&resources, addr, info_hash, reserved).await;
            Dialled {
                addr,
                result,
                place,
            }
        });
    }

    fn on_dialled(&mut self, dialled: Dialled) {
        let Dialled {
            addr,
            result,
            place,
        } = dialled;
        match result {
            Ok((stream, handshake)) if handshake.reserved.extended() => {
                self.join(stream, addr, &handshake, false, place);
            }
            Ok(_) => self.fetch.on_dial_failed(Instant::now(), addr),
            Err(reason) => {
                tracing::debug!(peer = %addr, reason, "dial failed");
                self.fetch.on_dial_failed(Instant::now(), addr);
            }
        }
    }

    fn welcome(&mut self, incoming: Incoming) {
        let Incoming {
            stream,
            from,
            handshake,
        } = incoming;
        let connections = Arc::clone(&self.resources.connections);
        if let Ok(place) = connections.try_acquire_owned()
            && handshake.reserved.extended()
        {
            self.join(stream, from, &handshake, true, place);
        }
    }

    fn join(
        &mut self,
        stream: TcpStream,
        addr: SocketAddr,
        handshake: &Handshake,
        incoming: bool,
        place: OwnedSemaphorePermit,
    ) {
        let now = Instant::now();
        let info = PeerInfo {
            addr,
            listen: (!incoming).then_some(addr),
            id: handshake.peer_id,
            incoming,
            fast: handshake.reserved.fast(),
        };
        let key = match self.fetch.on_connected(now, info) {
            Ok(key) => key,
            Err(refusal) => {
                tracing::debug!(peer = %addr, %refusal, "connection refused");
                return;
            }
        };
        let inquiry = self.inquiry(now, addr, handshake);
        let (commands, inbox) = mpsc::channel(ORDERS);
        self.links.insert(key, Link { addr, commands });
        let ties = Ties {
            key,
            commands: inbox,
            reports: self.reporter.clone(),
        };
        self.connections.spawn(async move {
            inquiry::run(stream, inquiry, ties).await;
            drop(place);
        });
    }

    fn inquiry(&self, now: Instant, addr: SocketAddr, theirs: &Handshake) -> Inquiry {
        let config = InquiryConfig {
            fast: theirs.reserved.fast(),
            local: ExtendedHandshake {
                client: Some(CLIENT.to_owned()),
                listen_port: self.resources.port,
                yourip: Some(addr.ip()),
                ..ExtendedHandshake::default()
            },
            remote_ip: addr.ip(),
        };
        let mut inquiry = Inquiry::new(now, config);
        if let Some(port) = self.resources.udp_port
            && theirs.reserved.dht()
        {
            inquiry.announce_dht_port(port);
        }
        inquiry
    }

    fn on_report(&mut self, key: PeerKey, report: Report) {
        let now = Instant::now();
        match report {
            Report::Heard(InquiryEvent::Extended(said)) => {
                if let Some(port) = said.listen_port {
                    self.fetch.on_listen_port(key, port);
                }
                let speaks = said.extensions.metadata.is_some_and(|id| id > 0);
                let size = said.metadata_size.filter(|_| speaks);
                self.fetch.on_size(now, key, size);
            }
            Report::Heard(InquiryEvent::Data {
                piece,
                total_size,
                bytes,
            }) => self.fetch.on_data(now, key, piece, total_size, bytes),
            Report::Heard(InquiryEvent::Rejected(piece)) => {
                self.fetch.on_rejected(now, key, piece);
            }
            Report::Heard(InquiryEvent::Port(port)) => {
                if let (Some(dht), Some(link)) = (&self.resources.dht, self.links.get(&key)) {
                    dht.add_nodes(vec![SocketAddr::new(link.addr.ip(), port)]);
                }
            }
            Report::Gone(reason) => {
                if let Some(link) = self.links.remove(&key) {
                    tracing::debug!(peer = %link.addr, reason, "gone");
                }
                self.fetch.on_disconnected(now, key);
            }
        }
    }

    fn announce_if_due(&mut self, now: Instant) {
        let counts = Counts {
            left: LEFT,
            ..Counts::default()
        };
        for (lane, tracker) in self.trackers.iter_mut().enumerate() {
            while let Some(announce) = tracker.poll(now) {
                let url = tracker.url(&announce, counts);
                self.announces
                    .spawn(async move { (lane, discovery::carry_out(announce, url).await) });
            }
        }
    }

    fn on_announced(&mut self, lane: usize, answer: Answer) {
        let now = Instant::now();
        match self.trackers[lane].answered(now, answer) {
            Ok(peers) => self.fetch.on_addresses(now, Source::Tracker, &peers),
            Err(message) => self.resources.tell(Event::Warning {
                info_hash: Some(Hex(self.info_hash)),
                kind: "tracker",
                message,
            }),
        }
    }

    fn next_deadline(&self, now: Instant) -> Instant {
        let idle = now + Duration::from_secs(60);
        let trackers = self.trackers.iter().filter_map(Discovery::next_deadline);
        let all = trackers.chain(self.fetch.next_deadline());
        all.fold(idle, Instant::min)
    }

    /// Peers besides those that served the metadata: the user's own, and those that answered.
    fn others(&self) -> Vec<SocketAddr> {
        let known = self.fetch.addresses();
        let good = known.filter(|known| known.source == Source::User || known.successes > 0);
        good.map(|known| known.addr).take(OTHERS_TOLD).collect()
    }

    /// Hangs up on everybody, and gives them a moment to notice: whoever still sees this connection when the torrent dials would
    /// refuse a second one.
    async fn part(mut self) {
        // No report is of interest any more.
        drop(self.reports);
        self.links.clear();
        let parting = async { while self.connections.join_next().await.is_some() {} };
        let _ = timeout(PARTING, parting).await;
    }
}
