//! Datagrams that come in.

use std::net::SocketAddr;
use std::time::Instant;

use super::super::datagram;
use super::super::message::{Body, Contact, Dialect, Message, Reply};
use super::super::transactions::{Overdue, Question};
use super::ask::Purpose;
use super::family::Version;
use super::{Direction, Node, plain};
use crate::base::limits::NEWCOMERS_MAX;

impl Node {
    /// Takes a datagram that came from `from`. Whatever it is, it costs nothing lasting.
    pub fn on_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let from = plain(from);
        if self.families.reach(from).is_none() {
            return;
        }
        let awaited = self.transactions.asking(from);
        if !awaited && !self.admits(now, from, datagram.len()) {
            return;
        }
        match datagram::decode(datagram) {
            Ok((dialect, message)) => {
                let question = self.question_of(&message, from, dialect);
                // A flood must not pass for answers: whoever is awaited pays for whatever is none.
                if question.is_some() || !awaited || self.admits(now, from, datagram.len()) {
                    self.on_message(now, from, dialect, message, question, datagram.len());
                }
            }
            Err(error) => {
                if !awaited || self.admits(now, from, datagram.len()) {
                    self.refuse(now, from, datagram.len(), &error);
                }
            }
        }
        self.handle_timeout(now);
    }

    /// The question that a message is an answer to.
    fn question_of(
        &mut self,
        message: &Message,
        from: SocketAddr,
        dialect: Dialect,
    ) -> Option<Question<Purpose>> {
        match message.body {
            Body::Query { .. } => None,
            Body::Reply { .. } | Body::Error { .. } => {
                self.transactions.take(&message.transaction, from, dialect)
            }
        }
    }

    fn admits(&mut self, now: Instant, from: SocketAddr, len: usize) -> bool {
        let family = self.families.get(Version::of(from));
        let known = family.and_then(|family| family.table.get(from));
        if known.is_some_and(|entry| !entry.is_bad()) {
            self.quota.admit_contact(now, from, len)
        } else {
            self.quota.admit(now, from, len)
        }
    }

    /// Takes a question of somebody else, or the answer to `question`. Of an answer to nothing nobody hears.
    fn on_message(
        &mut self,
        now: Instant,
        from: SocketAddr,
        dialect: Dialect,
        message: Message,
        question: Option<Question<Purpose>>,
        len: usize,
    ) {
        let asks = matches!(message.body, Body::Query { .. });
        if self.trace && (asks || question.is_some()) {
            self.trace(Direction::In, from, dialect, message.clone());
        }
        let Message { transaction, body } = message;
        match (body, question) {
            (
                Body::Query {
                    from: id,
                    read_only,
                    query,
                },
                _,
            ) => {
                let contact = Contact { id, addr: from };
                if self
                    .families
                    .get(Version::of(from))
                    .is_some_and(|f| f.table.own() == id)
                {
                    return;
                }
                self.answer(now, contact, dialect, transaction, &query, len);
                if !read_only {
                    self.on_asked(now, contact, dialect);
                }
            }
            (
                Body::Reply {
                    from: id,
                    observed,
                    reply,
                },
                Some(question),
            ) => {
                let contact = Contact { id, addr: from };
                self.on_reply(now, contact, question, observed, reply);
            }
            (Body::Error { .. }, Some(question)) => self.on_refused(now, &question),
            (Body::Reply { .. } | Body::Error { .. }, None) => {}
        }
    }

    /// Whoever asks may be worth knowing; whether it can be reached, a ping tells.
    fn on_asked(&mut self, now: Instant, contact: Contact, dialect: Dialect) {
        let Some(family) = self.families.get_mut(Version::of(contact.addr)) else {
            return;
        };
        family.table.on_query(now, &contact, dialect);
        if family.table.wants(now, &contact) && !self.transactions.asking(contact.addr) {
            self.newcomers.add(contact, dialect);
        }
    }

    fn on_reply(
        &mut self,
        now: Instant,
        contact: Contact,
        question: Question<Purpose>,
        observed: Option<SocketAddr>,
        reply: Reply,
    ) {
        let (from, dialect) = (contact.addr, question.dialect);
        let round_trip = question.round_trip(now);
        self.round_trip.add(round_trip);
        if let Some(observed) = observed {
            self.on_observed(now, from, plain(observed));
        }
        let Some(family) = self.families.get_mut(Version::of(from)) else {
            return;
        };
        if contact.id == family.table.own() {
            // We have asked ourselves.
            return self.on_unexpected(now, &question);
        }
        let fresh = family.table.get(from).is_none();
        family.table.on_answer(now, contact, dialect, round_trip);
        family.bootstrap.on_answer(now);
        if family.recall.on_answer(from) {
            self.warm += 1;
        }
        self.note_dialect(contact, dialect, fresh);
        if question
            .expect
            .is_some_and(|expected| expected != contact.id)
        {
            return match question.purpose {
                Purpose::Step(lookup) => self.on_step(now, lookup, from, |lookup, _| {
                    lookup.on_other(contact, dialect);
                }),
                _ => self.on_unexpected(now, &question),
            };
        }
        let mut reply = reply;
        if let Some(family) = self.families.get(Version::of(from)) {
            reply.nodes.retain(|named| !family.is_own(named));
        }
        self.spread(&reply.nodes, from);
        self.conclude(now, contact, question, reply);
    }

    /// What an answer means for what it was asked for.
    fn conclude(
        &mut self,
        now: Instant,
        contact: Contact,
        question: Question<Purpose>,
        reply: Reply,
    ) {
        let (from, dialect) = (contact.addr, question.dialect);
        match question.purpose {
            Purpose::Greet { .. } => {
                // If this is the first answer, a lookup of the own id begins with it.
                self.place(now, Version::of(from));
                self.share(now, contact, dialect, &reply.nodes);
            }
            Purpose::Check | Purpose::Dialect => self.share(now, contact, dialect, &[]),
            Purpose::Step(lookup) => {
                self.on_peers(lookup, from, &reply.peers);
                self.on_step(now, lookup, from, |lookup, from| {
                    lookup.on_reply(from, dialect, reply.token, &reply.nodes);
                });
            }
            Purpose::Announce { .. } => {
                // In JSON a node that does not like the token says so by sending another.
                if let Some(token) = reply.token.filter(|_| dialect == Dialect::Json) {
                    self.announce_again(now, from, dialect, token, question.purpose);
                }
            }
        }
    }

    /// A node says that it will not answer: it is there, but of no use.
    fn on_refused(&mut self, now: Instant, question: &Question<Purpose>) {
        self.round_trip.add(question.round_trip(now));
        self.on_unexpected(now, question);
    }

    /// Somebody else answered than was asked, or nothing useful came.
    fn on_unexpected(&mut self, now: Instant, question: &Question<Purpose>) {
        let version = Version::of(question.to);
        match question.purpose {
            Purpose::Step(lookup) => {
                self.on_step(now, lookup, question.to, |lookup, addr| {
                    lookup.on_failure(addr);
                });
            }
            Purpose::Greet { recalled: true } => {
                if let Some(family) = self.families.get_mut(version) {
                    family.recall.on_failure(question.to);
                }
            }
            _ => {}
        }
    }

    /// Silence, by stages.
    pub(super) fn on_overdue(&mut self, now: Instant, overdue: Overdue<Purpose>) {
        match overdue {
            Overdue::Stalled(question) => match question.purpose {
                Purpose::Step(lookup) => {
                    self.on_step(now, lookup, question.to, |lookup, addr| {
                        lookup.on_stall(addr);
                    });
                }
                Purpose::Greet { recalled: true } => {
                    if let Some(family) = self.families.get_mut(Version::of(question.to)) {
                        family.recall.on_stall(question.to);
                    }
                }
                _ => {}
            },
            Overdue::GivenUp(question) => {
                if let Purpose::Step(lookup) = question.purpose {
                    self.on_step(now, lookup, question.to, |lookup, addr| {
                        lookup.on_give_up(addr);
                    });
                }
            }
            Overdue::Expired(question) => self.on_silence(now, &question),
        }
    }

    fn on_silence(&mut self, now: Instant, question: &Question<Purpose>) {
        if let Purpose::Step(lookup) = question.purpose {
            self.on_step(now, lookup, question.to, |lookup, addr| {
                lookup.on_failure(addr);
            });
        }
        let Some(family) = self.families.get_mut(Version::of(question.to)) else {
            return;
        };
        let entry = family.table.get(question.to);
        let speaks = entry.is_none_or(|entry| entry.dialects.contains(question.dialect));
        if matches!(question.purpose, Purpose::Dialect) || !speaks {
            return self.on_one_dialect(question);
        }
        family.recall.on_failure(question.to);
        family.table.on_timeout(now, question.sent, question.to);
        if !family.is_connected() && family.bootstrap.on_dark(now) {
            family.recall.on_dark();
        }
    }

    /// Contacts of the family that has few are pinged, by whatever way they were named.
    fn spread(&mut self, nodes: &[Contact], from: SocketAddr) {
        let version = Version::of(from);
        for contact in nodes
            .iter()
            .filter(|contact| Version::of(contact.addr) != version)
        {
            let reach = self.families.reach(contact.addr);
            let wanted = reach.is_some_and(|family| !family.is_connected());
            if wanted && super::super::scope::may_tell(from.ip(), contact.addr) {
                self.newcomers.add_named(contact.addr);
            }
        }
    }

    /// A node that answers in JSON is asked whether it speaks the other dialect too, which most do. If it does not, others
    /// that we know are asked whether they speak JSON, so that we can tell it of them.
    fn note_dialect(&mut self, contact: Contact, dialect: Dialect, fresh: bool) {
        let Some(family) = self.families.get_mut(Version::of(contact.addr)) else {
            return;
        };
        family.json_sought = family.needs_json();
        let placed = family.table.get(contact.addr).is_some();
        if fresh && placed && (dialect == Dialect::Json || family.json_sought) {
            self.newcomers.add_known(contact, dialect.other());
        }
    }

    /// A node of one dialect does not speak the other.
    fn on_one_dialect(&mut self, question: &Question<Purpose>) {
        let Some(family) = self.families.get_mut(Version::of(question.to)) else {
            return;
        };
        let there = family
            .table
            .get(question.to)
            .is_some_and(|entry| entry.failures == 0);
        if question.dialect == Dialect::Krpc && there && !family.json_sought {
            family.json_sought = true;
            let others = family.table.closest(family.table.own(), NEWCOMERS_MAX);
            for entry in others.iter().filter(|e| !e.is_heard_in(Dialect::Json)) {
                self.newcomers.add_known(entry.contact, Dialect::Json);
            }
        }
    }
}
