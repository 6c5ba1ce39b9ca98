//! The task that owns the node and its socket.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::hosts::{Hosts, Role};
use super::{Dht, Order, Wish, saved, traffic};
use crate::base::NodeId;
use crate::base::limits::{DATAGRAM_READ_MAX, HOSTS_MAX};
use crate::engine::config::DhtConfig;
use crate::engine::events::Event;
use crate::engine::resources::Resources;
use crate::format::host::HostPort;
use crate::net::udp::{Protocol, Udp};
use crate::proto::dht::{self, Node, Output, SearchId};
use crate::store::SavedNodes;

/// The first batch is saved this long after the start, so that even a short run leaves its neighbours behind. From batch to
/// batch the pause doubles.
const SAVE_FIRST: Duration = Duration::from_secs(1);
/// The longest such pause: what a kill costs at most.
const SAVE: Duration = Duration::from_secs(300);
/// Time for the first node to answer before the user hears that none has.
const LONELY: Duration = Duration::from_secs(10);
/// How often it is looked whether somebody still waits for the peers that are searched, while nothing else happens.
const SWEEP: Duration = Duration::from_secs(5);
/// Datagrams taken in before what the node says to them is sent.
const DATAGRAMS_AT_ONCE: usize = 64;

/// The owner of the node.
pub(in crate::engine) struct DhtTask {
    node: Node,
    udp: Udp,
    resources: Arc<Resources>,
    orders: mpsc::Receiver<Order>,
    hosts: Hosts,
    searches: HashMap<SearchId, mpsc::Sender<Vec<SocketAddr>>>,
    /// The ids of the last batch, and since when they are in this order, in seconds since 1970: rows that stay the same are
    /// not written again.
    identities: Vec<(Option<IpAddr>, NodeId)>,
    identities_since: i64,
    save_at: Instant,
    save_pause: Duration,
    /// When it is told that nobody has answered.
    lonely_at: Option<Instant>,
    /// A batch on its way to the store, which may be busy for long.
    saving: JoinSet<()>,
}

impl DhtTask {
    /// A node that starts from what an earlier run saved and from the addresses in `config`.
    pub(in crate::engine) fn new(
        config: DhtConfig,
        udp: Udp,
        saved: SavedNodes,
        resources: Arc<Resources>,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        let now = Instant::now();
        let asks_somebody = !config.bootstrap.is_empty() || !saved.nodes.is_empty();
        let (identities, contacts) = saved::from_store(saved, unix_now());
        let settings = dht::Config {
            seed: rand::random(),
            identities,
            v4: udp.reaches_v4(),
            // Without a way to the internet over IPv6 there may still be one to the nodes that the user names.
            v6: udp.reaches_v6() || udp.is_dual() && config.bootstrap.iter().any(is_v6),
            read_only: false,
            trace: true,
        };
        let mut task = Self {
            node: Node::new(now, settings, contacts),
            udp,
            resources,
            orders,
            hosts: Hosts::new(),
            searches: HashMap::new(),
            identities: Vec::new(),
            identities_since: 0,
            save_at: now + SAVE_FIRST,
            save_pause: SAVE_FIRST,
            lonely_at: asks_somebody.then_some(now + LONELY),
            saving: JoinSet::new(),
        };
        let routers = task.hosts.look_up(Role::Router, config.bootstrap);
        task.node.add_routers(now, &routers);
        task
    }

    /// Runs the node until it is told to stop, and saves what it knows.
    pub(in crate::engine) async fn run(mut self) {
        let stopped = self.serve().await;
        while self.saving.join_next().await.is_some() {}
        self.save();
        while self.saving.join_next().await.is_some() {}
        if let Some(stopped) = stopped {
            // Whoever stops the node may have stopped waiting.
            let _ = stopped.send(());
        }
    }

    async fn serve(&mut self) -> Option<oneshot::Sender<()>> {
        let mut buffer = [0; DATAGRAM_READ_MAX];
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.perform_all().await;
            let deadlines = [self.node.next_deadline(), self.lonely_at];
            let deadlines = deadlines.into_iter().flatten();
            let deadline = deadlines.fold(self.save_at, Instant::min);
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Stop(stopped)) => return Some(stopped),
                    Some(Order::Search(wish)) => self.search(wish),
                    Some(Order::Nodes(nodes)) => self.meet(Role::Node, &nodes),
                    Some(Order::Hosts(hosts)) => self.meet_by_name(hosts),
                    None => return None,
                },
                (from, len) = self.udp.receive(&mut buffer) => {
                    self.forget_dropped();
                    self.take_in(from, &buffer[..len]);
                    self.take_in_more(&mut buffer);
                }
                (role, addrs) = self.hosts.found() => self.meet(role, &addrs),
                _ = sweep.tick() => self.forget_abandoned(),
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.forget_dropped();
                    let now = Instant::now();
                    self.node.handle_timeout(now);
                    self.tell_if_lonely(now);
                    if now >= self.save_at {
                        self.save_pause = (self.save_pause * 2).min(SAVE);
                        self.save_at = now + self.save_pause;
                        self.save();
                    }
                }
            }
        }
    }

    /// Ends searches that were dropped, before anything is done that might announce for them.
    fn forget_dropped(&mut self) {
        let dht = self.resources.dht.as_ref();
        if dht.is_some_and(Dht::take_abandoned) {
            self.forget_abandoned();
        }
    }

    fn take_in(&mut self, from: SocketAddr, datagram: &[u8]) {
        match Protocol::of(datagram) {
            Protocol::Dht => self.node.on_datagram(Instant::now(), from, datagram),
            Protocol::Other => {}
        }
    }

    /// Takes in datagrams that wait behind the one that woke us.
    fn take_in_more(&mut self, buffer: &mut [u8; DATAGRAM_READ_MAX]) {
        for _ in 1..DATAGRAMS_AT_ONCE {
            let Some((from, len)) = self.udp.try_receive(buffer) else {
                return;
            };
            self.take_in(from, &buffer[..len]);
        }
    }

    fn search(&mut self, wish: Wish) {
        let Wish {
            info_hash,
            announce,
            once,
            found,
        } = wish;
        if found.is_closed() {
            return;
        }
        let search = self.node.search(Instant::now(), info_hash, announce, once);
        self.searches.insert(search, found);
    }

    fn meet_by_name(&mut self, mut hosts: Vec<HostPort>) {
        hosts.truncate(HOSTS_MAX);
        let known = self.hosts.look_up(Role::Node, hosts);
        self.meet(Role::Node, &known);
    }

    fn meet(&mut self, role: Role, addrs: &[SocketAddr]) {
        let now = Instant::now();
        match role {
            Role::Router => self.node.add_routers(now, addrs),
            Role::Node => addrs.iter().for_each(|&addr| self.node.add_node(now, addr)),
        }
    }

    async fn perform_all(&mut self) {
        while let Some(output) = self.node.poll() {
            match output {
                Output::Send { to, datagram } => self.udp.send(to, &datagram).await,
                Output::Traffic {
                    dir,
                    addr,
                    dialect,
                    message,
                } => traffic::event(dir, addr, dialect, message)
                    .into_iter()
                    .for_each(|event| self.resources.tell(event)),
                Output::Found { search, peers } => self.hand_over(search, peers),
                // Nobody here asks where a point is.
                Output::Located { .. } => {}
                // Dropping the sender tells that the search has ended.
                Output::Finished { search } => drop(self.searches.remove(&search)),
                Output::Ready { nodes, warm, after } => {
                    self.lonely_at = None;
                    // A kill should not cost the first neighbours.
                    self.save();
                    self.resources.tell(Event::DhtReady {
                        nodes,
                        warm,
                        seconds: after.as_secs_f64(),
                    });
                }
            }
        }
    }

    /// Whoever cannot keep up with the peers that are found has enough of them.
    fn hand_over(&mut self, search: SearchId, peers: Vec<SocketAddr>) {
        if let Some(found) = self.searches.get(&search) {
            let _ = found.try_send(peers);
        }
    }

    fn forget_abandoned(&mut self) {
        let node = &mut self.node;
        self.searches.retain(|&search, found| {
            let wanted = !found.is_closed();
            if !wanted {
                node.stop(search);
            }
            wanted
        });
    }

    fn tell_if_lonely(&mut self, now: Instant) {
        if self.lonely_at.take_if(|at| *at <= now).is_some() {
            self.resources.tell(Event::Warning {
                info_hash: None,
                kind: "dht",
                message: "no DHT node has answered yet: check the network, or name one with --bootstrap; \
                          until then peers come from trackers and --peer"
                    .to_owned(),
            });
        }
    }

    /// Saves the table, unless the last batch is still on its way. A batch that is lost costs the next start a little time,
    /// and nothing else.
    fn save(&mut self) {
        while self.saving.try_join_next().is_some() {}
        if !self.saving.is_empty() {
            return;
        }
        let identities = self.node.identities();
        if identities != self.identities {
            self.identities = identities;
            self.identities_since = unix_now();
        }
        let identities = saved::identities(&self.identities, self.identities_since);
        let nodes = saved::nodes(&self.node.saved(Instant::now()), unix_now());
        let saved = SavedNodes { identities, nodes };
        let resources = Arc::clone(&self.resources);
        self.saving.spawn(async move {
            if let Err(error) = resources.store.put_nodes(saved).await {
                tracing::warn!(%error, "the DHT's table could not be saved");
            }
        });
    }
}

fn is_v6((host, _): &HostPort) -> bool {
    host.parse::<Ipv6Addr>().is_ok()
}

fn unix_now() -> i64 {
    jiff::Timestamp::now().as_second()
}
