//! Connections on their way into the swarm: dialled by us or by the peer, greeted, and given a task.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::active::Active;
use super::events::{Event, Hex, client_name};
use super::links::Link;
use super::resources::Resources;
use super::torrent::Incoming;
use crate::base::InfoHash;
use crate::base::id::CLIENT;
use crate::base::limits::{PEER_QUEUE, UPLOAD_QUEUE_MAX};
use crate::net::peer::Ties;
use crate::net::{dial, greet, peer};
use crate::proto::wire::{ExtendedHandshake, Handshake, Reserved, Session, SessionConfig};
use crate::swarm::{PeerInfo, PeerKey};

/// A call that we made, and how it went.
pub(super) struct Dialled {
    addr: SocketAddr,
    result: Result<(TcpStream, Handshake, OwnedSemaphorePermit), String>,
}

/// A connection past its handshake, on its way into the swarm.
struct Newcomer {
    stream: TcpStream,
    addr: SocketAddr,
    handshake: Handshake,
    incoming: bool,
    place: OwnedSemaphorePermit,
}

impl Active<'_> {
    pub(super) fn dial(&mut self, addr: SocketAddr) {
        let Ok(place) = Arc::clone(&self.resources.connections).try_acquire_owned() else {
            self.swarm.on_dial_postponed(Instant::now(), addr);
            return;
        };
        let resources = Arc::clone(&self.resources);
        let info_hash = self.info.info_hash();
        let reserved = resources.reserved(self.info.is_private());
        self.dials.spawn(async move {
            let result = call(&resources, addr, info_hash, reserved).await;
            let result = result.map(|(stream, handshake)| (stream, handshake, place));
            Dialled { addr, result }
        });
    }

    pub(super) fn on_dialled(&mut self, dialled: Dialled) {
        let addr = dialled.addr;
        match dialled.result {
            Ok((stream, handshake, place)) => {
                self.join(Newcomer {
                    stream,
                    addr,
                    handshake,
                    incoming: false,
                    place,
                });
            }
            Err(reason) => {
                tracing::debug!(peer = %addr, reason, "dial failed");
                self.swarm.on_dial_failed(Instant::now(), addr);
            }
        }
    }

    pub(super) fn welcome(&mut self, incoming: Incoming) {
        let Ok(place) = Arc::clone(&self.resources.connections).try_acquire_owned() else {
            tracing::debug!(peer = %incoming.from, "refused: the connection budget is used up");
            return;
        };
        let Incoming {
            stream,
            from,
            handshake,
        } = incoming;
        self.join(Newcomer {
            stream,
            addr: from,
            handshake,
            incoming: true,
            place,
        });
    }

    /// Takes a connection into the swarm, if the swarm wants it, and gives it a task.
    fn join(&mut self, newcomer: Newcomer) {
        let now = Instant::now();
        let Newcomer {
            stream,
            addr,
            handshake,
            incoming,
            place,
        } = newcomer;
        let info = PeerInfo {
            addr,
            listen: (!incoming).then_some(addr),
            id: handshake.peer_id,
            incoming,
            fast: handshake.reserved.fast(),
        };
        let key = match self.swarm.on_connected(now, info) {
            Ok(key) => key,
            Err(refusal) => {
                tracing::debug!(peer = %addr, %refusal, "connection refused");
                return;
            }
        };
        let mut session = Session::new(now, self.session_config(addr, &handshake));
        if let Some(port) = self.resources.udp_port
            && handshake.reserved.dht()
            && !self.info.is_private()
        {
            session.announce_dht_port(port);
        }
        let (commands, inbox) = mpsc::channel(PEER_QUEUE);
        let client = client_name(None, &handshake.peer_id);
        self.links
            .add(key, Link::new(addr, incoming, client, commands));
        let ties = Ties {
            key,
            commands: inbox,
            reports: self.reports.sender(),
            source: self.shelf.clone(),
            budget: Arc::clone(&self.resources.budget),
            up: Arc::clone(&self.resources.up),
            down: Arc::clone(&self.resources.down),
            spare: Arc::clone(&self.resources.spare),
        };
        tokio::spawn(async move {
            peer::run(stream, session, ties).await;
            drop(place);
        });
        if !handshake.reserved.extended() {
            self.tell_joined(key);
        }
    }

    fn session_config(&self, addr: SocketAddr, theirs: &Handshake) -> SessionConfig {
        SessionConfig {
            geometry: *self.info.geometry(),
            served: Arc::clone(&self.served),
            fast: theirs.reserved.fast(),
            extended: theirs.reserved.extended(),
            local: ExtendedHandshake {
                client: Some(CLIENT.to_owned()),
                listen_port: self.resources.port,
                reqq: Some(UPLOAD_QUEUE_MAX as u32),
                yourip: Some(addr.ip()),
                upload_only: self.swarm.is_complete().then_some(true),
                ..ExtendedHandshake::default()
            },
            metadata: (!self.info.is_private()).then(|| Arc::clone(&self.info)),
            remote_ip: addr.ip(),
            info_hash: self.info.info_hash(),
        }
    }

    /// Says that a peer is here, once: as soon as its client's name is known, or when it leaves without having said it.
    pub(super) fn tell_joined(&mut self, key: PeerKey) {
        if let Some(link) = self.links.get_mut(key)
            && !std::mem::replace(&mut link.introduced, true)
        {
            self.resources.tell(Event::JoinedToPeer {
                info_hash: Hex(self.info.info_hash()),
                peer: link.addr,
                transport: "tcp",
                incoming: link.incoming,
                client: link.client.clone(),
            });
        }
    }
}

/// Dials `addr` and greets it.
pub(super) async fn call(
    resources: &Resources,
    addr: SocketAddr,
    info_hash: InfoHash,
    reserved: Reserved,
) -> Result<(TcpStream, Handshake), String> {
    let turn = resources.dials.acquire().await;
    let turn = turn.map_err(|closed| closed.to_string())?;
    let mut stream = dial::connect(addr)
        .await
        .map_err(|error| error.to_string())?;
    let handshake = greet::dialled(&mut stream, info_hash, resources.peer_id, reserved).await;
    drop(turn);
    Ok((stream, handshake.map_err(|error| error.to_string())?))
}
