//! What a [`Session`] does with each message of the peer's.

use std::time::Instant;

use crate::base::limits::{
    ALLOWED_FAST_BYTES, ALLOWED_FAST_COUNT, ALLOWED_FAST_MAX, BITFIELDS_MAX, REJECT_PAUSE,
    REQUEST_LEN_MAX, UNREQUESTED_MAX,
};
use crate::base::{Bitfield, BlockRange, PieceIndex};

use super::super::error::WireError;
use super::super::event::Event;
use super::super::extension::{DONT_HAVE_ID, ExtendedHandshake, HANDSHAKE_ID, METADATA_ID};
use super::super::fast::allowed_fast_set;
use super::super::framing::{decode, frame_len};
use super::super::message::{Message, RawRange, ids};
use super::super::metadata::MetadataMessage;
use super::super::requests::Arrival;
use super::Session;

impl Session {
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
            self.on_message(now, message)?;
            used += len;
        }
        self.wanted = frame_len(&buf[used..], &self.limits)?.unwrap_or(0);
        if !self.closed {
            self.ask(now);
        }
        Ok(used)
    }

    fn on_message(&mut self, now: Instant, message: Message<'_>) -> Result<(), WireError> {
        match message {
            Message::KeepAlive | Message::Unknown(_) => (),
            Message::Choke => self.on_choke(),
            Message::Unchoke => self.on_unchoke(),
            Message::Interested => self.on_interest(true),
            Message::NotInterested => self.on_interest(false),
            Message::Have(piece) => self.on_have(piece)?,
            Message::Bitfield(bytes) => {
                let pieces = Bitfield::from_bytes(bytes, self.geometry.pieces())?;
                self.on_pieces(pieces)?;
            }
            Message::Request(range) => self.on_request(range)?,
            Message::Piece { piece, begin, data } => self.on_block(now, piece, begin, data)?,
            Message::Cancel(range) => self.on_cancel(range)?,
            Message::Port(port) => {
                if port != 0 && !std::mem::replace(&mut self.remote.port_told, true) {
                    self.events.push_back(Event::Port(port));
                }
            }
            Message::Extended { id, payload } => self.on_extended(id, payload)?,
            Message::Suggest(piece) => {
                self.negotiated(ids::SUGGEST)?;
                self.on_suggest(piece);
            }
            Message::HaveAll => {
                self.negotiated(ids::HAVE_ALL)?;
                self.on_pieces(Bitfield::full(self.geometry.pieces()))?;
            }
            Message::HaveNone => {
                self.negotiated(ids::HAVE_NONE)?;
                self.on_pieces(Bitfield::new(self.geometry.pieces()))?;
            }
            Message::Reject(range) => {
                self.negotiated(ids::REJECT)?;
                self.on_reject(now, range);
            }
            Message::AllowedFast(piece) => {
                self.negotiated(ids::ALLOWED_FAST)?;
                self.on_allowed_fast(piece);
            }
        }
        Ok(())
    }

    fn negotiated(&self, id: u8) -> Result<(), WireError> {
        let agreed = self.fast.then_some(());
        agreed.ok_or(WireError::NotNegotiated(id))
    }

    /// Without the fast extension a choke takes all requests with it; with it each is answered one by one (BEP 6).
    fn on_choke(&mut self) {
        if self.remote.choking {
            return;
        }
        self.remote.choking = true;
        self.events.push_back(Event::Choked);
        if self.fast {
            let allowed = &self.remote.allowed_fast;
            let keep = |piece: PieceIndex| allowed.contains(&piece);
            self.requests.return_waiting(&mut self.events, keep);
        } else {
            self.requests.return_all(&mut self.events);
        }
    }

    fn on_unchoke(&mut self) {
        if self.remote.choking {
            self.remote.choking = false;
            self.hungry = false;
            self.paused_until = None;
            self.events.push_back(Event::Unchoked);
        }
    }

    fn on_interest(&mut self, interested: bool) {
        if self.remote.interested != interested {
            self.remote.interested = interested;
            self.events.push_back(if interested {
                Event::Interested
            } else {
                Event::NotInterested
            });
        }
    }

    fn on_have(&mut self, number: u32) -> Result<(), WireError> {
        let piece = self.piece(number)?;
        if self.remote.pieces.insert(piece) {
            self.events.push_back(Event::Have(piece));
        }
        Ok(())
    }

    /// Clients send this first, but some send it after other messages, or twice; the last one holds.
    fn on_pieces(&mut self, pieces: Bitfield) -> Result<(), WireError> {
        self.remote.bitfields += 1;
        if self.remote.bitfields > BITFIELDS_MAX {
            return Err(WireError::TooManyBitfields);
        }
        self.remote.pieces = pieces.clone();
        self.events.push_back(Event::Pieces(pieces));
        if self.fast && self.remote.bitfields == 1 {
            self.offer_allowed_fast();
        }
        Ok(())
    }

    /// Gives a peer that has next to nothing something to trade with (BEP 6).
    fn offer_allowed_fast(&mut self) {
        if self.remote.pieces.count() as usize >= ALLOWED_FAST_COUNT {
            return;
        }
        let (ip, pieces) = (self.remote_ip, self.geometry.pieces());
        let set = allowed_fast_set(ip, &self.info_hash, pieces, ALLOWED_FAST_COUNT);
        let mut bytes = 0;
        let mut offered = Vec::new();
        for piece in set.into_iter().filter_map(|n| self.geometry.piece(n)) {
            let total = bytes + self.geometry.len_of(piece);
            let missing = !self.remote.pieces.contains(piece) && self.uploads.serves(piece);
            if missing && total <= ALLOWED_FAST_BYTES {
                bytes = total;
                offered.push(piece);
                self.out.push(&Message::AllowedFast(piece.get()));
            }
        }
        self.uploads.allow(offered, bytes);
    }

    /// A request that we do not grant is no violation: it may have crossed our choke.
    fn on_request(&mut self, raw: RawRange) -> Result<(), WireError> {
        let range = self.requested_range(raw)?;
        if self.closed || !self.uploads.request(range) {
            self.reject_all(&[range]);
        }
        self.check_flood()
    }

    /// A cancelled request is answered all the same (BEP 6), by the block if that is on its way already.
    fn on_cancel(&mut self, raw: RawRange) -> Result<(), WireError> {
        let range = self.requested_range(raw)?;
        if self.uploads.cancel(range) {
            self.reject_all(&[range]);
        }
        self.check_flood()
    }

    fn requested_range(&self, raw: RawRange) -> Result<BlockRange, WireError> {
        let range = self.geometry.range(raw.piece, raw.begin, raw.len);
        let range = range.filter(|range| range.len() <= REQUEST_LEN_MAX);
        range.ok_or(WireError::BadRequest(raw))
    }

    fn on_block(
        &mut self,
        now: Instant,
        piece: u32,
        begin: u32,
        data: &[u8],
    ) -> Result<(), WireError> {
        let len = data.len() as u32;
        self.down.add(now, u64::from(len));
        let arrival = match self.geometry.range(piece, begin, len) {
            Some(block) => self.requests.receive(now, block, data, &mut self.events),
            None => self.requests.unwanted(),
        };
        match arrival {
            Arrival::Wanted(rtt) => {
                self.snubbed = false;
                self.paused_until = None;
                self.last_progress = now;
                self.pipeline.on_block(now, len, rtt);
            }
            Arrival::Late => self.waste(len),
            Arrival::Unrequested => {
                self.waste(len);
                self.unrequested += 1;
                if self.unrequested > UNREQUESTED_MAX {
                    return Err(WireError::Unrequested(self.unrequested));
                }
            }
        }
        Ok(())
    }

    fn waste(&mut self, len: u32) {
        self.wasted += u64::from(len);
        self.events.push_back(Event::Wasted(len));
    }

    /// A reject that follows a choke is how the peer drops our requests; one out of the blue says that we ask too much.
    fn on_reject(&mut self, now: Instant, raw: RawRange) {
        let Some(block) = self.geometry.range(raw.piece, raw.begin, raw.len) else {
            return;
        };
        if self.requests.reject(block, &mut self.events) {
            if !self.remote.choking {
                self.pipeline.shrink();
            }
            self.remote.allowed_fast.retain(|&p| p != block.piece());
            self.paused_until = Some(now + REJECT_PAUSE);
        }
    }

    fn on_suggest(&mut self, number: u32) {
        let Some(piece) = self.geometry.piece(number) else {
            return;
        };
        if self.remote.suggested < ALLOWED_FAST_MAX {
            self.remote.suggested += 1;
            self.events.push_back(Event::Suggested(piece));
        }
    }

    fn on_allowed_fast(&mut self, number: u32) {
        let Some(piece) = self.geometry.piece(number) else {
            return;
        };
        let allowed = &mut self.remote.allowed_fast;
        if allowed.len() < ALLOWED_FAST_MAX && !allowed.contains(&piece) {
            allowed.push(piece);
            self.events.push_back(Event::AllowedFast(piece));
        }
    }

    /// Messages of the extension protocol are ignored where it was not agreed on, as other clients do.
    fn on_extended(&mut self, id: u8, payload: &[u8]) -> Result<(), WireError> {
        if !self.extended {
            return Ok(());
        }
        match id {
            HANDSHAKE_ID => self.on_extended_handshake(payload)?,
            METADATA_ID => self.on_metadata(payload)?,
            DONT_HAVE_ID => {
                if let Ok(number) = payload.try_into().map(u32::from_be_bytes) {
                    self.on_dont_have(number)?;
                }
            }
            _ => (),
        }
        Ok(())
    }

    fn on_extended_handshake(&mut self, payload: &[u8]) -> Result<(), WireError> {
        let said = ExtendedHandshake::decode(payload)?;
        if let Some(reqq) = said.reqq {
            self.pipeline.set_cap(reqq);
        }
        self.remote.handshake.update(said);
        let known = self.remote.handshake.clone();
        self.events.push_back(Event::Extended(known));
        Ok(())
    }

    /// Serves the metadata (BEP 9). Where it is not offered, or the peer has no id for the answer, messages are ignored.
    fn on_metadata(&mut self, payload: &[u8]) -> Result<(), WireError> {
        let id = self.remote.handshake.extensions.metadata;
        let (Some(offer), Some(id @ 1..)) = (&mut self.offer, id) else {
            return Ok(());
        };
        if let Some(MetadataMessage::Request(piece)) = MetadataMessage::decode(payload)? {
            let answer = offer.answer(piece, self.out.pending().len());
            self.rejects += u32::from(matches!(answer, MetadataMessage::Reject(_)));
            let payload = &answer.encode();
            self.out.push(&Message::Extended { id, payload });
        }
        self.check_flood()
    }

    fn on_dont_have(&mut self, number: u32) -> Result<(), WireError> {
        let piece = self.piece(number)?;
        if self.remote.pieces.remove(piece) {
            self.events.push_back(Event::DontHave(piece));
        }
        Ok(())
    }

    fn piece(&self, number: u32) -> Result<PieceIndex, WireError> {
        let pieces = self.geometry.pieces();
        let piece = self.geometry.piece(number);
        piece.ok_or(WireError::NoSuchPiece {
            piece: number,
            pieces,
        })
    }
}
