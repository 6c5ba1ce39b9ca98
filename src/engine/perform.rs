//! Carrying out what the swarm decided, and telling it what connections report. No decisions are made here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::active::{Active, Done, Share};
use super::events::{Event, Hex, client_name};
use super::links::Link;
use super::resources::Resources;
use super::status::PeerStatus;
use super::torrent::Incoming;
use crate::base::limits::{PEER_QUEUE, UPLOAD_QUEUE_MAX};
use crate::base::{BlockRange, InfoHash, PieceIndex};
use crate::disk::{Checked, DiskError, Payload};
use crate::net::peer::{BlockSource, Command, Report, Ties};
use crate::net::{dial, greet, peer};
use crate::proto::wire::{Event as Heard, ExtendedHandshake, Handshake, Session, SessionConfig};
use crate::store::Note;
use crate::swarm::{Action, PeerInfo, PeerKey, Verdict};

/// Room that is kept for what is granted and has not come yet, in bytes: a full pipeline at a fast peer.
const GRANTED_ROOM: u64 = 16 << 20;

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

impl BlockSource for Payload {
    async fn read(&self, ranges: Vec<BlockRange>) -> Option<Vec<u8>> {
        match Payload::read(self, ranges).await {
            Ok(data) => Some(data),
            Err(error) => {
                tracing::warn!(%error, "an upload could not be read");
                None
            }
        }
    }
}

impl Active<'_> {
    /// Carries out everything that the swarm has decided.
    pub(super) fn perform_all(&mut self, now: Instant) {
        while let Some(action) = self.swarm.poll() {
            self.perform(now, action);
        }
        self.announce_haves();
        self.write_notes();
    }

    fn perform(&mut self, now: Instant, action: Action) {
        match action {
            Action::Dial(addr) => self.dial(addr),
            Action::Disconnect { key, reason } => self
                .links
                .send(key, Command::Close(reason.as_str().to_owned())),
            Action::Interest { key, on } => self.links.send(key, Command::Interest(on)),
            Action::Choke { key, on } => self.links.send(key, Command::Choke(on)),
            Action::Grant { key, range } => self.grant(key, range),
            Action::Revoke { key, range } => self.links.send(key, Command::Revoke(range)),
            Action::Check { piece, digests } => self.check(piece, digests),
            Action::Verified { piece, from } => self.verified(now, piece, from),
            Action::HashFailed { piece, peers } => self.resources.tell(Event::HashFailed {
                info_hash: Hex(self.info.info_hash()),
                piece: piece.get(),
                peers,
            }),
            Action::Banned { addr, why } => self.resources.tell(Event::Warning {
                info_hash: Some(Hex(self.info.info_hash())),
                kind: "banned",
                message: format!("{addr} is banned: {why}"),
            }),
            Action::Complete => {
                self.checkpoint.force();
                self.links.upload_only();
            }
        }
    }

    fn grant(&mut self, key: PeerKey, range: BlockRange) {
        let pieces = self.info.geometry().pieces();
        if let Some(link) = self.links.get_mut(key)
            && link.asks_first(range.piece(), pieces)
        {
            let (piece, peer) = (range.piece().get(), link.addr);
            let info_hash = Hex(self.info.info_hash());
            self.resources.tell(Event::Request {
                info_hash,
                piece,
                peer,
            });
        }
        self.links.send(key, Command::Grant(range));
    }

    fn verified(&mut self, now: Instant, piece: PieceIndex, from: Option<SocketAddr>) {
        self.served.insert(piece);
        self.checkpoint
            .on_verified(now, piece, self.info.geometry().len_of(piece));
        self.haves.push(piece);
        self.resources.tell(Event::Have {
            info_hash: Hex(self.info.info_hash()),
            piece: piece.get(),
            peer: from,
            verified: self.swarm.verified().count(),
            total: self.info.geometry().pieces(),
        });
    }

    fn announce_haves(&mut self) {
        if !self.haves.is_empty() {
            let haves = std::mem::take(&mut self.haves).into();
            self.links.announce(&haves);
        }
    }

    /// R2b: a piece is noted before anybody hears that it is verified, so that a kill right after costs nothing.
    fn noting(&self, piece: PieceIndex) -> Noting {
        Noting {
            resources: Arc::clone(&self.resources),
            info_hash: self.info.info_hash(),
            piece,
        }
    }

    fn write_notes(&mut self) {
        if self.notes.is_empty() {
            return;
        }
        let notes = std::mem::take(&mut self.notes);
        let resources = Arc::clone(&self.resources);
        let info_hash = self.info.info_hash();
        self.jobs.spawn(async move {
            // Notes claim nothing; without them a crash costs a little more.
            if let Err(error) = resources.store.note(info_hash, notes).await {
                tracing::warn!(%error, "progress could not be noted");
            }
            Done::Noted
        });
    }

    fn check(&mut self, piece: PieceIndex, digests: bool) {
        let payload = self.payload.clone();
        let expected = *self.info.piece_hash(piece);
        let noted = self.noting(piece);
        self.jobs.spawn(async move {
            let result = payload.check(piece, expected, digests).await;
            Done::Checked {
                piece,
                result: noted.after(result).await,
            }
        });
    }

    fn dial(&mut self, addr: SocketAddr) {
        let Ok(place) = Arc::clone(&self.resources.connections).try_acquire_owned() else {
            self.swarm.on_dial_failed(Instant::now(), addr);
            return;
        };
        let resources = Arc::clone(&self.resources);
        let info_hash = self.info.info_hash();
        self.dials.spawn(async move {
            let result = call(&resources, addr, info_hash).await;
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
        let session = Session::new(now, self.session_config(addr, &handshake));
        let (commands, inbox) = mpsc::channel(PEER_QUEUE);
        let client = client_name(None, &handshake.peer_id);
        self.links
            .add(key, Link::new(addr, incoming, client.clone(), commands));
        let ties = Ties {
            key,
            commands: inbox,
            reports: self.reporter.clone(),
            source: self.payload.clone(),
            budget: Arc::clone(&self.resources.budget),
            up: Arc::clone(&self.resources.up),
            down: Arc::clone(&self.resources.down),
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
                client: Some(concat!("seedbank/", env!("CARGO_PKG_VERSION")).to_owned()),
                listen_port: self.resources.port,
                reqq: Some(UPLOAD_QUEUE_MAX as u32),
                yourip: Some(addr.ip()),
                upload_only: self.swarm.is_complete().then_some(true),
                ..ExtendedHandshake::default()
            },
            remote_ip: addr.ip(),
            info_hash: self.info.info_hash(),
        }
    }

    fn tell_joined(&mut self, key: PeerKey) {
        if let Some(link) = self.links.get(key) {
            self.resources.tell(Event::JoinedToPeer {
                info_hash: Hex(self.info.info_hash()),
                peer: link.addr,
                transport: "tcp",
                incoming: link.incoming,
                client: link.client.clone(),
            });
        }
    }

    /// Tells the swarm what a connection reports.
    pub(super) fn on_report(&mut self, key: PeerKey, report: Report) {
        match report {
            Report::Event(Heard::Run { range, data }, share) => {
                self.on_run(key, range, data, share);
            }
            Report::Event(event, _) => self.on_heard(key, event),
            Report::Closing => self.swarm.on_closing(key),
            Report::Uploaded(piece, bytes) => self.on_uploaded(key, piece, bytes),
            Report::Tally(tally) => {
                if let Some(link) = self.links.get_mut(key) {
                    link.tally = tally;
                }
            }
            Report::Gone {
                reason,
                violation,
                tally,
            } => {
                self.swarm.on_disconnected(Instant::now(), key, !violation);
                if let Some(link) = self.links.remove(key) {
                    self.resources.tell(Event::LeftPeer {
                        info_hash: Hex(self.info.info_hash()),
                        peer: link.addr,
                        reason,
                        downloaded: tally.downloaded,
                        uploaded: tally.uploaded,
                    });
                }
            }
        }
    }

    fn on_heard(&mut self, key: PeerKey, event: Heard) {
        let now = Instant::now();
        match event {
            Heard::Choked => self.swarm.on_choked(now, key),
            Heard::Unchoked => self.swarm.on_unchoked(now, key),
            Heard::Interested => self.swarm.on_interested(now, key),
            Heard::NotInterested => self.swarm.on_not_interested(now, key),
            Heard::Pieces(pieces) => self.swarm.on_pieces(now, key, pieces),
            Heard::Have(piece) => self.swarm.on_have(now, key, piece),
            Heard::DontHave(piece) => self.swarm.on_dont_have(now, key, piece),
            Heard::Suggested(piece) => self.swarm.on_suggested(now, key, piece),
            Heard::AllowedFast(piece) => self.swarm.on_allowed_fast(now, key, piece),
            Heard::Extended(handshake) => self.on_extended(now, key, &handshake),
            Heard::Returned(range) => self.swarm.on_returned(now, key, range),
            Heard::Hungry { blocks } => self.on_hungry(now, key, blocks),
            Heard::Snubbed => self.swarm.on_snubbed(now, key),
            Heard::Wasted(bytes) => self.swarm.on_wasted(now, key, bytes),
            // The DHT is not here yet.
            Heard::Port(_) => {}
            Heard::Run { .. } | Heard::Uploaded(_) => {
                unreachable!("connections report these in their own way")
            }
        }
    }

    /// Nothing more is asked for while as much is at stake as a crash may cost.
    fn on_hungry(&mut self, now: Instant, key: PeerKey, blocks: u32) {
        if self.checkpoint.room() < GRANTED_ROOM {
            self.held.push((key, blocks));
        } else {
            self.swarm.on_hungry(now, key, blocks);
        }
    }

    /// Pieces have become durable, so that there is room for more.
    pub(super) fn feed_held(&mut self, now: Instant) {
        for (key, blocks) in std::mem::take(&mut self.held) {
            self.on_hungry(now, key, blocks);
        }
    }

    fn on_extended(&mut self, now: Instant, key: PeerKey, handshake: &ExtendedHandshake) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        let first = !std::mem::replace(&mut link.introduced, true);
        if let Some(client) = &handshake.client {
            link.client = client_name(Some(client), &crate::base::PeerId([0; 20]));
        }
        if first {
            self.tell_joined(key);
        }
        if let Some(port) = handshake.listen_port {
            self.swarm.on_listen_port(now, key, port);
        }
        if let Some(on) = handshake.upload_only {
            self.swarm.on_upload_only(now, key, on);
        }
    }

    fn on_uploaded(&mut self, key: PeerKey, piece: PieceIndex, bytes: u32) {
        self.swarm.on_uploaded(Instant::now(), key, bytes);
        let pieces = self.info.geometry().pieces();
        if let Some(link) = self.links.get_mut(key)
            && link.serves_first(piece, pieces)
        {
            let info_hash = Hex(self.info.info_hash());
            let (piece, peer) = (piece.get(), link.addr);
            self.resources.tell(Event::Uploaded {
                info_hash,
                piece,
                peer,
            });
        }
    }

    /// Granted bytes arrived: they are stored as the swarm says, and their share of the budget is freed when that is done.
    fn on_run(&mut self, key: PeerKey, range: BlockRange, data: Vec<u8>, share: Share) {
        match self.swarm.on_run(Instant::now(), key, range) {
            Verdict::Discard => {}
            Verdict::Check { digests } => {
                let payload = self.payload.clone();
                let piece = range.piece();
                let expected = *self.info.piece_hash(piece);
                let noting = self.noting(piece);
                self.jobs.spawn(async move {
                    let result = payload
                        .check_and_write(piece, data, expected, digests)
                        .await;
                    drop(share);
                    let result = noting.after(result).await;
                    Done::Checked { piece, result }
                });
            }
            Verdict::Write(parts) => {
                let share = Arc::new(share);
                for part in parts {
                    let payload = self.payload.clone();
                    let share = Arc::clone(&share);
                    let from = (part.begin() - range.begin()) as usize;
                    let bytes = data[from..from + part.len() as usize].to_vec();
                    self.jobs.spawn(async move {
                        let result = payload.write(part, bytes).await;
                        drop(share);
                        Done::Written {
                            range: part,
                            result,
                        }
                    });
                }
            }
        }
    }

    pub(super) fn peer_statuses(&self, now: Instant) -> Vec<PeerStatus> {
        let pieces = self.info.geometry().pieces().max(1) as f32;
        let view = |peer: crate::swarm::PeerView| {
            let link = self.links.get(peer.key)?;
            Some(PeerStatus {
                addr: link.addr,
                client: link.client.clone(),
                incoming: link.incoming,
                share: peer.pieces as f32 / pieces,
                downloaded: link.tally.downloaded,
                uploaded: link.tally.uploaded,
                down_rate: link.tally.down_rate,
                up_rate: link.tally.up_rate,
                unchoked_us: peer.unchoked_us,
                unchoked: peer.unchoked,
            })
        };
        self.swarm.peers(now).filter_map(view).collect()
    }
}

/// A note to be made of a piece if it turns out good.
struct Noting {
    resources: Arc<Resources>,
    info_hash: InfoHash,
    piece: PieceIndex,
}

impl Noting {
    async fn after(self, result: Result<Checked, DiskError>) -> Result<Checked, DiskError> {
        if let Ok(Checked::Good { .. }) = result {
            let note = vec![Note::Verified(self.piece.get())];
            // Notes claim nothing; without them a crash costs a little more.
            if let Err(error) = self.resources.store.note(self.info_hash, note).await {
                tracing::warn!(%error, "progress could not be noted");
            }
        }
        result
    }
}

/// Dials `addr` and greets it.
async fn call(
    resources: &Resources,
    addr: SocketAddr,
    info_hash: InfoHash,
) -> Result<(TcpStream, Handshake), String> {
    let turn = resources.dials.acquire().await;
    let turn = turn.map_err(|closed| closed.to_string())?;
    let mut stream = dial::connect(addr)
        .await
        .map_err(|error| error.to_string())?;
    let handshake = greet::dialled(&mut stream, info_hash, resources.peer_id).await;
    drop(turn);
    Ok((stream, handshake.map_err(|error| error.to_string())?))
}
