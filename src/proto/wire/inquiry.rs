//! One connection about a torrent of which only the name is known (BEP 9): a state machine that asks for metadata.
//!
//! Without the metadata nobody knows how many pieces there are, so what the peer says of pieces is passed over, bounded by
//! the largest torrent there may be. It is told that we have nothing, and nothing is served.
//!
//! Guarantees: every [`InquiryEvent::Data`] answers a request, once, and holds no more than a piece. What the peer can make
//! us hold is bounded: our answers to its requests, and no event without bytes of its own.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Instant;

use crate::base::limits::{
    KEEP_ALIVE, PEER_SILENCE, PIECES_MAX, REJECTS_PENDING_MAX, UNREQUESTED_MAX,
};

use super::error::WireError;
use super::extension::{ExtendedHandshake, Extensions, HANDSHAKE_ID, METADATA_ID};
use super::framing::{FrameLimits, decode, frame_len};
use super::message::Message;
use super::metadata::MetadataMessage;
use super::outgoing::Outgoing;

/// Fewest bytes of a rejected request on the wire.
const REJECT_BYTES: usize = 31;

/// What a connection begins with.
#[derive(Clone, Debug)]
pub struct InquiryConfig {
    /// Whether both sides speak the fast extension (BEP 6).
    pub fast: bool,
    /// What we say of ourselves; [`Inquiry::new`] fills in the extensions and, if it is missing, `yourip`.
    pub local: ExtendedHandshake,
    /// The peer's address.
    pub remote_ip: IpAddr,
}

/// Something that the peer said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InquiryEvent {
    /// Its extension handshake: everything it said so far.
    Extended(ExtendedHandshake),
    /// A piece of the metadata that was asked for.
    Data {
        /// Its number.
        piece: u32,
        /// Bytes of the whole metadata, if the peer says so.
        total_size: Option<u32>,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// It does not answer this request.
    Rejected(u32),
    /// The UDP port of its DHT node (BEP 5), never 0; raised once.
    Port(u16),
}

/// A connection past its handshake, whose reserved bits say that the peer speaks the extension protocol (BEP 10). In the order
/// of use: [`receive`](Self::receive) and [`wanted`](Self::wanted); [`poll`](Self::poll); [`request`](Self::request) and
/// [`announce_dht_port`](Self::announce_dht_port); [`outgoing`](Self::outgoing) and [`sent`](Self::sent);
/// [`next_deadline`](Self::next_deadline) and [`handle_timeout`](Self::handle_timeout).
#[derive(Debug)]
pub struct Inquiry {
    limits: FrameLimits,
    out: Outgoing,
    events: VecDeque<InquiryEvent>,
    remote: ExtendedHandshake,
    /// Pieces that were asked for and not answered.
    asked: Vec<u32>,
    unrequested: u32,
    /// Rejects that wait in `out`, at most.
    rejects: u32,
    port_heard: bool,
    last_received: Instant,
    last_sent: Instant,
    wanted: usize,
}

impl Inquiry {
    /// A connection whose handshake has just passed. Queues the extension handshake, and that we have nothing.
    pub fn new(now: Instant, config: InquiryConfig) -> Self {
        let InquiryConfig {
            fast,
            mut local,
            remote_ip,
        } = config;
        local.extensions = Extensions {
            metadata: Some(METADATA_ID),
            ..Extensions::default()
        };
        local.metadata_size = None;
        local.yourip.get_or_insert(remote_ip);
        let mut out = Outgoing::default();
        out.push(&Message::Extended {
            id: HANDSHAKE_ID,
            payload: &local.encode(),
        });
        if fast {
            out.push(&Message::HaveNone);
        }
        Self {
            limits: FrameLimits::new(PIECES_MAX),
            out,
            events: VecDeque::new(),
            remote: ExtendedHandshake::default(),
            asked: Vec::new(),
            unrequested: 0,
            rejects: 0,
            port_heard: false,
            last_received: now,
            last_sent: now,
            wanted: 0,
        }
    }

    /// Takes in the whole messages at the start of `buf` and tells how many bytes they were. What is left, the start of one
    /// message, stays with the caller and comes again with more behind it.
    ///
    /// # Errors
    /// If the peer did something that no correct client does.
    pub fn receive(&mut self, now: Instant, buf: &[u8]) -> Result<usize, WireError> {
        if !buf.is_empty() {
            self.last_received = now;
        }
        let mut used = 0;
        while let Some((message, len)) = decode(&buf[used..], &self.limits)? {
            self.on_message(message)?;
            used += len;
        }
        self.wanted = frame_len(&buf[used..], &self.limits)?.unwrap_or(0);
        Ok(used)
    }

    /// Bytes of the message that begins at the bytes which the last [`receive`](Self::receive) left, if they tell; else 0. Never
    /// more than a message may have.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Asks for a piece, unless it is asked for already or the peer does not speak `ut_metadata`.
    pub fn request(&mut self, now: Instant, piece: u32) {
        if !self.asked.contains(&piece) && self.say(&MetadataMessage::Request(piece)) {
            self.asked.push(piece);
            self.last_sent = now;
        }
    }

    /// Tells the peer where our DHT node listens (BEP 5); for peers whose handshake says that they have one.
    pub fn announce_dht_port(&mut self, port: u16) {
        self.out.push(&Message::Port(port));
    }

    /// The next thing that the peer said; to be called until `None` after every [`receive`](Self::receive).
    pub fn poll(&mut self) -> Option<InquiryEvent> {
        self.events.pop_front()
    }

    /// Bytes to write next.
    pub fn outgoing(&self) -> &[u8] {
        self.out.pending()
    }

    /// The first `n` bytes of [`outgoing`](Self::outgoing) were written.
    pub fn sent(&mut self, n: usize) {
        self.out.consume(n);
        let unread = self.out.pending().len() / REJECT_BYTES;
        self.rejects = self.rejects.min(unread as u32);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn next_deadline(&self) -> Instant {
        let silence = self.last_received + PEER_SILENCE;
        silence.min(self.last_sent + KEEP_ALIVE)
    }

    /// Keeps the connection alive.
    ///
    /// # Errors
    /// [`WireError::Silent`] if nothing came for too long.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), WireError> {
        if now >= self.last_received + PEER_SILENCE {
            return Err(WireError::Silent);
        }
        if now >= self.last_sent + KEEP_ALIVE {
            self.last_sent = now;
            self.out.push(&Message::KeepAlive);
        }
        Ok(())
    }

    /// Sends a message, if the peer told by which id it wants such messages.
    fn say(&mut self, message: &MetadataMessage<'_>) -> bool {
        let Some(id @ 1..) = self.remote.extensions.metadata else {
            return false;
        };
        let payload = &message.encode();
        self.out.push(&Message::Extended { id, payload });
        true
    }

    fn on_message(&mut self, message: Message<'_>) -> Result<(), WireError> {
        match message {
            Message::Extended { id, payload } if id == HANDSHAKE_ID => {
                self.remote.update(ExtendedHandshake::decode(payload)?);
                let known = self.remote.clone();
                self.events.push_back(InquiryEvent::Extended(known));
            }
            Message::Extended { id, payload } if id == METADATA_ID => {
                if let Some(message) = MetadataMessage::decode(payload)? {
                    self.on_metadata(message)?;
                }
            }
            Message::Port(port) if port != 0 && !self.port_heard => {
                self.port_heard = true;
                self.events.push_back(InquiryEvent::Port(port));
            }
            Message::Piece { .. } => self.on_unrequested()?,
            // What is said of pieces means nothing to us yet, and we serve none.
            _ => {}
        }
        Ok(())
    }

    fn on_metadata(&mut self, message: MetadataMessage<'_>) -> Result<(), WireError> {
        match message {
            MetadataMessage::Request(piece) => {
                if self.say(&MetadataMessage::Reject(piece)) {
                    self.rejects += 1;
                }
                if self.rejects > REJECTS_PENDING_MAX {
                    return Err(WireError::RequestFlood);
                }
            }
            MetadataMessage::Data {
                piece,
                total_size,
                bytes,
            } => {
                if !self.answered(piece) {
                    return self.on_unrequested();
                }
                self.events.push_back(InquiryEvent::Data {
                    piece,
                    total_size,
                    bytes: bytes.to_vec(),
                });
            }
            MetadataMessage::Reject(piece) => {
                if self.answered(piece) {
                    self.events.push_back(InquiryEvent::Rejected(piece));
                }
            }
        }
        Ok(())
    }

    /// Whether `piece` was asked for; it is not any more.
    fn answered(&mut self, piece: u32) -> bool {
        let at = self.asked.iter().position(|&asked| asked == piece);
        at.map(|at| self.asked.swap_remove(at)).is_some()
    }

    fn on_unrequested(&mut self) -> Result<(), WireError> {
        self.unrequested += 1;
        if self.unrequested > UNREQUESTED_MAX {
            return Err(WireError::Unrequested(self.unrequested));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
