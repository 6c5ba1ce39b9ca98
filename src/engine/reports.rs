//! Telling the swarm what connections report, and storing what they bring as the swarm says.

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::active::{Active, Done, Share};
use super::events::{Event, Hex, client_name};
use super::status::PeerStatus;
use crate::base::{BlockRange, PeerId, PieceIndex};
use crate::disk::{DiskError, Payload};
use crate::net::peer::{Attempt, BlockSource, Report};
use crate::proto::wire::{Event as Heard, ExtendedHandshake};
use crate::swarm::{PeerKey, PeerView, Verdict};

/// The payload as connections read it. What fails is told to the torrent's task, which stops: a file that cannot be read
/// is not what it was.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    pub(super) payload: Payload,
    pub(super) failures: mpsc::Sender<Box<DiskError>>,
}

impl Shelf {
    fn fail(&self, error: DiskError) {
        // The first failure is enough.
        let _ = self.failures.try_send(Box::new(error));
    }
}

impl BlockSource for Shelf {
    fn read_now(&self, ranges: &[BlockRange], blocks: &mut [IoSliceMut<'_>]) -> Attempt {
        match self.payload.read_cached(ranges, blocks) {
            Ok(true) => Attempt::Read,
            Ok(false) => Attempt::WouldWait,
            Err(error) => {
                self.fail(error);
                Attempt::Failed
            }
        }
    }

    async fn read(&self, ranges: Vec<BlockRange>) -> Option<Vec<u8>> {
        let read = self.payload.read(ranges).await;
        read.map_err(|error| self.fail(error)).ok()
    }
}

impl Active<'_> {
    /// Tells the swarm what a connection reports.
    pub(super) fn on_report(&mut self, key: PeerKey, report: Report) {
        match report {
            Report::Event(Heard::Run { range, data }, share) => {
                self.on_run(key, range, data, share);
            }
            Report::Event(event, _) => self.on_heard(key, event),
            Report::Closing => self.swarm.on_closing(key),
            Report::Uploaded(sent) => self.on_uploaded(key, &sent),
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
                self.tell_joined(key);
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
            Heard::Hungry { blocks } => self.swarm.on_hungry(now, key, blocks),
            Heard::Snubbed => self.swarm.on_snubbed(now, key),
            Heard::Wasted(bytes) => self.swarm.on_wasted(now, key, bytes),
            Heard::Port(port) => self.on_dht_port(key, port),
            Heard::Run { .. } => unreachable!("runs come with their share of the budget"),
        }
    }

    fn on_extended(&mut self, now: Instant, key: PeerKey, handshake: &ExtendedHandshake) {
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        if let Some(client) = &handshake.client {
            link.client = client_name(Some(client), &PeerId([0; 20]));
        }
        self.tell_joined(key);
        if let Some(port) = handshake.listen_port {
            self.swarm.on_listen_port(now, key, port);
        }
        if let Some(on) = handshake.upload_only {
            self.swarm.on_upload_only(now, key, on);
        }
    }

    /// A peer has a DHT node (BEP 5). Of a private torrent none is known to us.
    fn on_dht_port(&self, key: PeerKey, port: u16) {
        if let Some(dht) = &self.resources.dht
            && let Some(link) = self.links.get(key)
            && !self.info.is_private()
        {
            dht.add_nodes(vec![SocketAddr::new(link.addr.ip(), port)]);
        }
    }

    fn on_uploaded(&mut self, key: PeerKey, sent: &[(PieceIndex, u32)]) {
        let bytes = sent.iter().map(|&(_, bytes)| u64::from(bytes)).sum();
        self.swarm.on_uploaded(Instant::now(), key, bytes);
        let Some(link) = self.links.get_mut(key) else {
            return;
        };
        let pieces = self.info.geometry().pieces();
        for &(piece, _) in sent {
            if link.serves_first(piece, pieces) {
                let info_hash = Hex(self.info.info_hash());
                let (piece, peer) = (piece.get(), link.addr);
                self.resources.tell(Event::Uploaded {
                    info_hash,
                    piece,
                    peer,
                });
            }
        }
    }

    /// Granted bytes arrived: they are stored as the swarm says, and their share of the budget is freed when that is done.
    fn on_run(&mut self, key: PeerKey, range: BlockRange, data: Vec<u8>, share: Share) {
        match self.swarm.on_run(Instant::now(), key, range) {
            Verdict::Discard => self.resources.spare.give(data),
            Verdict::Check { digests } => {
                let payload = self.payload.clone();
                let piece = range.piece();
                let expected = *self.info.piece_hash(piece);
                let noting = self.noting(piece);
                let data = self.resources.spare.lend(data);
                self.jobs.spawn(async move {
                    let result = payload
                        .check_and_write(piece, data, expected, digests, noting)
                        .await;
                    drop(share);
                    Done::Checked { piece, result }
                });
            }
            Verdict::Write(parts) if parts == [range] => self.store(range, data, Arc::new(share)),
            Verdict::Write(parts) => {
                let share = Arc::new(share);
                for part in parts {
                    let from = (part.begin() - range.begin()) as usize;
                    let bytes = data[from..from + part.len() as usize].to_vec();
                    self.store(part, bytes, Arc::clone(&share));
                }
            }
        }
    }

    fn store(&mut self, range: BlockRange, data: Vec<u8>, share: Arc<Share>) {
        let payload = self.payload.clone();
        let data = self.resources.spare.lend(data);
        self.jobs.spawn(async move {
            let result = payload.write(range, data).await;
            drop(share);
            Done::Written { range, result }
        });
    }

    pub(super) fn peer_statuses(&self, now: Instant) -> Vec<PeerStatus> {
        let pieces = self.info.geometry().pieces().max(1) as f32;
        let view = |peer: PeerView| {
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
