//! Questions that go out.

use std::net::SocketAddr;
use std::time::Instant;

use super::super::datagram;
use super::super::message::{Body, Contact, Dialect, Dialects, Message, Query, Want};
use super::super::search::Announce;
use super::super::transactions::Question;
use super::family::Version;
use super::walk::LookupId;
use super::{Direction, Node, Output};
use crate::base::{InfoHash, NodeId};

/// Contacts in a table below which nodes of its family are asked for over the other family as well (BEP 32).
const THIN: usize = 16;

/// What a question was sent for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// A bootstrap address or a contact of an earlier run: is it there, and who is close to us?
    Greet {
        /// It is one of the contacts that are asked many at once.
        recalled: bool,
    },
    /// Is it there?
    Check,
    /// A node that we know: does it speak this dialect too?
    Dialect,
    /// A step of a lookup.
    Step(LookupId),
    /// We told it of us.
    Announce {
        info_hash: InfoHash,
        announce: Announce,
        /// Not for the first time: its token had expired.
        again: bool,
    },
}

impl Node {
    /// Asks one node; false if so many questions are out that this one is not sent.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        to: SocketAddr,
        expect: Option<NodeId>,
        dialect: Dialect,
        query: Query,
        purpose: Purpose,
    ) -> bool {
        let version = Version::of(to);
        let Some(family) = self.families.get(version) else {
            return false;
        };
        let from = family.table.own();
        let known = family.table.get(to).map(|entry| entry.round_trip);
        let question = Question {
            to,
            expect,
            dialect,
            sent: now,
            purpose,
        };
        let patience = self.round_trip.patience(known);
        let Some(transaction) = self.transactions.insert(question, patience) else {
            return false;
        };
        let message = Message {
            transaction,
            body: Body::Query {
                from,
                read_only: self.read_only,
                query,
            },
        };
        self.send(to, dialect, message);
        true
    }

    /// Asks whether a node is there, and who is close to us.
    pub(super) fn greet(
        &mut self,
        now: Instant,
        to: SocketAddr,
        expect: Option<NodeId>,
        dialect: Dialect,
        recalled: bool,
    ) -> bool {
        let version = Version::of(to);
        let Some(family) = self.families.get(version) else {
            return false;
        };
        let query = Query::FindNode {
            target: family.table.own(),
            want: self.want(version),
        };
        self.ask(now, to, expect, dialect, query, Purpose::Greet { recalled })
    }

    /// Asks whether a node is there.
    pub(super) fn check(&mut self, now: Instant, contact: Contact, dialects: Dialects) {
        let dialect = dialects.preferred();
        self.ask(
            now,
            contact.addr,
            Some(contact.id),
            dialect,
            Query::Ping,
            Purpose::Check,
        );
    }

    /// Contacts of which family to ask for over `version`.
    pub(super) fn want(&self, version: Version) -> Want {
        let other = self.families.get(version.other());
        let thin = other.is_some_and(|family| family.table.len() < THIN);
        match version {
            _ if !thin => Want::default(),
            Version::V4 | Version::V6 => Want { v4: true, v6: true },
        }
    }

    pub(super) fn send(&mut self, to: SocketAddr, dialect: Dialect, message: Message) {
        let datagram = datagram::encode(dialect, &message);
        self.send_encoded(to, dialect, datagram, message);
    }

    pub(super) fn send_encoded(
        &mut self,
        to: SocketAddr,
        dialect: Dialect,
        datagram: Vec<u8>,
        message: Message,
    ) {
        self.trace(Direction::Out, to, dialect, message);
        self.outputs.push_back(Output::Send { to, datagram });
    }

    pub(super) fn trace(
        &mut self,
        dir: Direction,
        addr: SocketAddr,
        dialect: Dialect,
        message: Message,
    ) {
        if self.trace {
            self.outputs.push_back(Output::Traffic {
                dir,
                addr,
                dialect,
                message,
            });
        }
    }
}
