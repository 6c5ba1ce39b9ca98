//! Questions of others.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::time::Instant;

use super::super::datagram;
use super::super::entry::FRESH;
use super::super::error::DecodeError;
use super::super::lookup::K;
use super::super::message::{
    Body, Contact, Dialect, Message, Query, Reply, Token, Transaction, Want,
};
use super::super::scope;
use super::Node;
use super::family::Version;
use crate::base::{InfoHash, NodeId};

/// How many times as long as the question a reply may be to a source that has not proven its address: nobody gains much by
/// sending us questions in somebody else's name.
pub const AMPLIFICATION: usize = 6;
/// Peers in one reply: with contacts and token they fit a datagram.
const PEERS: usize = 50;
/// Entries looked through for contacts that speak a dialect that few do.
const SCAN: usize = 128;

impl Node {
    /// Answers a question of `len` bytes.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        asker: Contact,
        dialect: Dialect,
        transaction: Transaction,
        query: &Query,
        len: usize,
    ) {
        if self.read_only {
            return;
        }
        let body = match self.reply(now, asker.addr, dialect, query) {
            Ok(reply) => Body::Reply {
                from: self.own(asker.addr),
                observed: Some(asker.addr),
                reply,
            },
            Err((code, text)) => Body::Error {
                code,
                text: text.to_owned(),
            },
        };
        let message = Message { transaction, body };
        self.send_within(now, asker.addr, dialect, message, len);
    }

    /// Says what is wrong with a datagram that is no message.
    pub(super) fn refuse(&mut self, now: Instant, to: SocketAddr, len: usize, error: &DecodeError) {
        if let Some(message) = error.answer().filter(|_| !self.read_only) {
            self.send_within(now, to, Dialect::Krpc, message, len);
        }
    }

    fn reply(
        &mut self,
        now: Instant,
        asker: SocketAddr,
        dialect: Dialect,
        query: &Query,
    ) -> Result<Reply, (i64, &'static str)> {
        match query {
            Query::Ping => Ok(Reply::default()),
            Query::FindNode { target, want } => {
                let mut reply = self.contacts(asker, dialect, *target, *want);
                // The JSON dialect has one question for both, and so one answer.
                if dialect == Dialect::Json {
                    reply.token = Some(self.tokens.issue(now, asker.ip(), (*target).into()));
                }
                Ok(reply)
            }
            Query::Get { target, want } => {
                let mut reply = self.contacts(asker, dialect, *target, *want);
                reply.token = Some(self.tokens.issue(now, asker.ip(), (*target).into()));
                Ok(reply)
            }
            Query::GetPeers {
                info_hash,
                want,
                scrape,
                no_seeds,
            } => {
                let mut reply = self.contacts(asker, dialect, (*info_hash).into(), *want);
                let fits = |peer: SocketAddr| may_hear(asker.ip(), peer);
                reply.peers = self
                    .announced
                    .peers(now, *info_hash, PEERS, *no_seeds, fits);
                reply.token = Some(self.tokens.issue(now, asker.ip(), *info_hash));
                if *scrape {
                    reply.scrape = self.announced.scrape(now, *info_hash).map(Box::new);
                }
                Ok(reply)
            }
            Query::Announce {
                info_hash,
                port,
                token,
                seed,
            } => {
                let port = port.map_or(asker.port(), NonZeroU16::get);
                let peer = SocketAddr::new(asker.ip(), port);
                self.on_announce(now, asker, dialect, *info_hash, peer, token, *seed)
            }
            Query::Sample { target, want } => {
                let mut reply = self.contacts(asker, dialect, *target, *want);
                if dialect == Dialect::Krpc {
                    reply.samples = Some(self.announced.sample(now));
                }
                Ok(reply)
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what an announcement consists of"
    )]
    fn on_announce(
        &mut self,
        now: Instant,
        asker: SocketAddr,
        dialect: Dialect,
        info_hash: InfoHash,
        peer: SocketAddr,
        token: &Token,
        seed: bool,
    ) -> Result<Reply, (i64, &'static str)> {
        if !self.tokens.accepts(now, asker.ip(), info_hash, token) {
            if dialect == Dialect::Krpc {
                return Err((203, "bad token"));
            }
            let mut reply = self.contacts(asker, dialect, info_hash.into(), Want::default());
            reply.token = Some(self.tokens.issue(now, asker.ip(), info_hash));
            return Ok(reply);
        }
        self.announced.insert(now, info_hash, peer, seed);
        Ok(Reply::default())
    }

    /// A reply with those contacts close to a point that are of use to the asker: it can reach them, and speaks with them.
    fn contacts(&self, asker: SocketAddr, dialect: Dialect, target: NodeId, want: Want) -> Reply {
        let mut nodes = Vec::new();
        for version in Version::BOTH {
            let wanted = match version {
                _ if want == Want::default() => Version::of(asker) == version,
                Version::V4 => want.v4,
                Version::V6 => want.v6,
            };
            let Some(family) = self.families.get(version).filter(|_| wanted) else {
                continue;
            };
            let rare = dialect == Dialect::Json || family.needs_json();
            let count = if rare { SCAN } else { K + 1 };
            let closest = family.table.closest(target, count).into_iter();
            let useful = closest.filter(|entry| {
                entry.contact.addr != asker
                    && entry.is_heard_in(dialect)
                    && may_hear(asker.ip(), entry.contact.addr)
            });
            nodes.extend(useful.take(K).map(|entry| entry.contact));
        }
        Reply {
            about: Some(target.into()),
            nodes,
            ..Reply::default()
        }
    }

    /// Sends a message if it, or enough of it, is short enough for who asked.
    fn send_within(
        &mut self,
        now: Instant,
        to: SocketAddr,
        dialect: Dialect,
        mut message: Message,
        asked: usize,
    ) {
        let family = self.families.get(Version::of(to));
        let entry = family.and_then(|family| family.table.get(to));
        // Only an answer proves an address, and not for ever.
        let proven = entry.is_some_and(|entry| !entry.is_bad() && now < entry.last_answer + FRESH);
        let room = if proven {
            usize::MAX
        } else {
            asked * AMPLIFICATION
        };
        loop {
            let datagram = datagram::encode(dialect, &message);
            let excess = datagram.len().saturating_sub(room);
            if excess == 0 {
                return self.send_encoded(to, dialect, datagram, message);
            }
            if !shorten(&mut message, excess) {
                return;
            }
        }
    }

    fn own(&self, other: SocketAddr) -> NodeId {
        let family = self.families.get(Version::of(other));
        family.map_or(NodeId([0; 20]), |family| family.table.own())
    }
}

/// Whether an address is of use to who asks: who is far away cannot reach what is near us.
fn may_hear(asker: IpAddr, told: SocketAddr) -> bool {
    scope::may_tell(asker, told)
}

/// Leaves out some of what matters least; whether there was anything to leave out.
fn shorten(message: &mut Message, excess: usize) -> bool {
    /// Bytes that a peer or contact takes at least.
    const PEER: usize = 8;
    const NODE: usize = 26;
    let Body::Reply { reply, .. } = &mut message.body else {
        return false;
    };
    let fewer = |len: usize, each: usize| len.saturating_sub(excess.div_ceil(each * 4).max(1));
    // Who asks for the filters asks for them most of all; they are whole or nothing.
    if reply.scrape.is_some() {
        if reply.peers.is_empty() && reply.nodes.is_empty() {
            return reply.scrape.take().is_some();
        }
        if reply.peers.is_empty() {
            reply.nodes.truncate(fewer(reply.nodes.len(), NODE));
        } else {
            reply.peers.truncate(fewer(reply.peers.len(), PEER));
        }
    } else if let Some(samples) = reply
        .samples
        .as_mut()
        .filter(|samples| !samples.hashes.is_empty())
    {
        samples.hashes.truncate(fewer(samples.hashes.len(), 20));
    } else if reply.peers.len() > 8 {
        reply.peers.truncate(fewer(reply.peers.len(), PEER).max(8));
    } else if !reply.nodes.is_empty() {
        reply.nodes.truncate(fewer(reply.nodes.len(), NODE));
    } else if !reply.peers.is_empty() {
        reply.peers.truncate(fewer(reply.peers.len(), PEER));
    } else {
        return false;
    }
    true
}
