//! A walk towards a point of the id space.
//!
//! It keeps the candidates it heard of in order of distance and says whom to ask next, α at a time. It knows no messages and no
//! clock: whoever runs it tells it of answers and of silence. A silent node frees its place at once when it *stalls*, stops being
//! waited for when it is *given up*, and still counts if it answers after all.
//!
//! What nodes name is not believed: a candidate counts when it has answered under the id it was named with. One answer adds at
//! most [`K`] candidates, one network holds at most one of them, and a node whose word brought only silence is not followed any
//! more, so that made-up ids next to the target neither keep a walk from ending nor crowd out those that exist. Nor does a made-up
//! id at an address that exists hide who is there: it gives way to the id that answers there, or that others name.

use std::net::SocketAddr;

use super::identity;
use super::message::{Contact, Dialect, Dialects, Token};
use super::scope::{self, Network, Scope};
use crate::base::limits::{LOOKUP_CANDIDATES_MAX, LOOKUP_QUERIES_MAX};
use crate::base::{Distance, NodeId};

/// Nodes that are responsible for a point (BEP 5).
pub const K: usize = 8;
/// Questions that are out at once (Kademlia's α).
pub const ALPHA: usize = 3;
/// Silent candidates after which a node that named no live one is not followed any more.
const SILENT_MAX: u8 = 4;

/// When a lookup has found what it looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The closest node has answered and named nobody closer.
    Closest,
    /// The [`K`] closest nodes have answered: they are the ones that keep peers.
    Neighbours,
}

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The node.
    pub contact: Contact,
    /// What it may speak.
    pub dialects: Dialects,
}

/// A node that has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The node.
    pub contact: Contact,
    /// What it spoke.
    pub dialect: Dialect,
    /// What it wants to see with an announce.
    pub token: Option<Token>,
    /// Questions that led to it, the one it answered included.
    pub hops: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Asked,
    Stalled,
    GivenUp,
    Failed,
    Answered(Dialect, Option<Token>),
}

#[derive(Debug)]
struct Candidate {
    distance: Distance,
    contact: Contact,
    dialects: Dialects,
    state: State,
    /// It was asked a second time.
    again: bool,
    /// It answered under this id when it was asked under another. That happens once: it might go on for ever.
    corrected: bool,
    hops: u32,
    /// The only one who named it; nobody if several did or if we knew it.
    teller: Option<SocketAddr>,
    network: Option<Network>,
}

#[derive(Debug)]
struct Teller {
    addr: SocketAddr,
    silent: u8,
    live: bool,
}

/// One lookup. See the head of the module.
#[derive(Debug)]
pub struct Lookup {
    target: NodeId,
    goal: Goal,
    alpha: usize,
    /// By distance, closest first.
    candidates: Vec<Candidate>,
    tellers: Vec<Teller>,
    asked: usize,
}

impl Lookup {
    /// A lookup that knows nobody yet.
    pub fn new(target: NodeId, goal: Goal) -> Self {
        Self {
            target,
            goal,
            alpha: ALPHA,
            candidates: Vec::new(),
            tellers: Vec::new(),
            asked: 0,
        }
    }

    /// The point.
    pub fn target(&self) -> NodeId {
        self.target
    }

    /// Asks up to `alpha` at once instead of [`ALPHA`]: worth it when most candidates are expected to be gone.
    pub fn widen(&mut self, alpha: usize) {
        self.alpha = alpha;
    }

    /// Adds a node that we know ourselves.
    pub fn offer(&mut self, contact: Contact, dialects: Dialects) {
        self.insert(contact, dialects, 1, None);
    }

    /// Adds a node that has answered the same question outside of this lookup, and whom it names.
    pub fn offer_answer(&mut self, contact: Contact, dialect: Dialect, nodes: &[Contact]) {
        self.insert(contact, Dialects::from(dialect), 1, None);
        // Who is known there under another id has not answered by this.
        let at = self.find(contact.addr);
        if let Some(at) = at.filter(|at| self.candidates[*at].contact == contact) {
            if self.candidates[at].state == State::Fresh {
                self.candidates[at].state = State::Asked;
            }
            self.on_reply(contact.addr, dialect, None, nodes);
        }
    }

    /// Whom to ask now; `None` until something is heard. Whoever gets an answer out of this must ask, or say
    /// [`on_failure`](Self::on_failure).
    pub fn next_ask(&mut self) -> Option<Ask> {
        let at = self.pick()?;
        self.asked += 1;
        let candidate = &mut self.candidates[at];
        candidate.again |= candidate.state == State::Stalled;
        candidate.state = State::Asked;
        Some(Ask {
            contact: candidate.contact,
            dialects: candidate.dialects,
        })
    }

    /// The node at `from` has answered under the id it was named with, and names others.
    pub fn on_reply(
        &mut self,
        from: SocketAddr,
        dialect: Dialect,
        token: Option<Token>,
        nodes: &[Contact],
    ) {
        let Some(at) = self.find(from) else { return };
        let candidate = &mut self.candidates[at];
        if !candidate.state.is_waiting() {
            return;
        }
        candidate.state = State::Answered(dialect, token);
        let hops = candidate.hops + 1;
        if let Some(teller) = candidate.teller {
            self.teller(teller).live = true;
        }
        for &contact in nearest(self.target, nodes).iter().take(K) {
            if contact.addr != from && scope::may_tell(from.ip(), contact.addr) {
                self.insert(contact, Dialects::from(dialect), hops, Some(from));
            }
        }
    }

    /// Its answer is late: somebody else may be asked.
    pub fn on_stall(&mut self, from: SocketAddr) {
        if let Some(at) = self.find(from)
            && self.candidates[at].state == State::Asked
        {
            self.candidates[at].state = State::Stalled;
            if let Some(teller) = self.candidates[at].teller {
                let teller = self.teller(teller);
                teller.silent = teller.silent.saturating_add(1);
            }
        }
    }

    /// Its answer is so late that the end does not wait for it.
    pub fn on_give_up(&mut self, from: SocketAddr) {
        if let Some(at) = self.find(from)
            && self.candidates[at].state.is_waiting()
        {
            self.candidates[at].state = State::GivenUp;
        }
    }

    /// It will not answer.
    pub fn on_failure(&mut self, from: SocketAddr) {
        self.on_stall(from);
        if let Some(at) = self.find(from)
            && self.candidates[at].state.is_waiting()
        {
            self.candidates[at].state = State::Failed;
        }
    }

    /// A node has answered that was named under another id: that one is not there, but this one is.
    pub fn on_other(&mut self, contact: Contact, dialect: Dialect) {
        let Some(at) = self.find(contact.addr) else {
            return;
        };
        let known = &self.candidates[at];
        let (hops, corrected) = (known.hops, known.corrected);
        if known.contact == contact || !known.state.is_waiting() {
            return;
        }
        self.on_failure(contact.addr);
        if !corrected {
            self.insert(contact, Dialects::from(dialect), hops, None);
            if let Some(at) = self.find(contact.addr) {
                self.candidates[at].corrected = true;
            }
        }
    }

    /// Whether it has ended: there is nobody left to ask or to wait for.
    pub fn is_done(&self) -> bool {
        let met = match self.goal {
            Goal::Closest => self.reached(1),
            Goal::Neighbours => self.reached(K),
        };
        met || !self.is_waiting() && self.pick().is_none()
    }

    /// Those of the `count` closest live nodes that have answered, closest first.
    pub fn closest(&self, count: usize) -> impl Iterator<Item = Answered> {
        let answered = self.candidates.iter().filter_map(|candidate| {
            let State::Answered(dialect, token) = &candidate.state else {
                return None;
            };
            Some(Answered {
                contact: candidate.contact,
                dialect: *dialect,
                token: token.clone(),
                hops: candidate.hops,
            })
        });
        answered.take(count)
    }

    /// Questions asked so far.
    pub fn asked(&self) -> usize {
        self.asked
    }

    /// The closest candidate that may be asked now.
    fn pick(&self) -> Option<usize> {
        if self.asked >= LOOKUP_QUERIES_MAX {
            return None;
        }
        let arrived = self.reached(1);
        // Once the closest has answered, what is left is to ask its neighbours, and nothing is gained by taking turns.
        let alpha = match self.goal {
            Goal::Closest if arrived => return None,
            Goal::Neighbours if arrived => K,
            _ => self.alpha,
        };
        let out = self.candidates.iter().filter(|c| c.state == State::Asked);
        if out.count() >= alpha {
            return None;
        }
        let candidates = self.candidates.iter().enumerate();
        let mut hopeful = candidates.filter(|(_, c)| self.is_hopeful(c)).take(K);
        let nothing_to_gain = |c: &Candidate| self.goal == Goal::Closest && c.state.has_answered();
        let next = hopeful.find(|(_, c)| c.state == State::Fresh || nothing_to_gain(c));
        match next {
            Some((at, candidate)) => (candidate.state == State::Fresh).then_some(at),
            None if self.goal == Goal::Neighbours => self.pick_again(),
            None => None,
        }
    }

    /// A neighbour that is silent so far, perhaps because a datagram was lost. Asking it again takes no time, as its answer is
    /// waited for anyhow.
    fn pick_again(&self) -> Option<usize> {
        let candidates = self.candidates.iter().enumerate();
        let mut near = candidates
            .filter(|(_, c)| self.is_hopeful(c) || c.state == State::Stalled)
            .take(K);
        let found = near.find(|(_, c)| c.state == State::Stalled && !c.again);
        found.map(|(at, _)| at)
    }

    /// Whether the `count` closest that may still be live have all answered.
    fn reached(&self, count: usize) -> bool {
        let mut answered = 0;
        for candidate in &self.candidates {
            match candidate.state {
                State::Answered(..) => answered += 1,
                State::Asked | State::Stalled => return false,
                State::Fresh if self.is_hopeful(candidate) => return false,
                State::Fresh | State::GivenUp | State::Failed => {}
            }
            if answered == count {
                return true;
            }
        }
        false
    }

    /// Whether an answer may come that the end waits for.
    fn is_waiting(&self) -> bool {
        let nobody_answered = !self.candidates.iter().any(|c| c.state.has_answered());
        self.candidates.iter().any(|c| match c.state {
            State::Asked | State::Stalled => true,
            State::GivenUp => nobody_answered,
            _ => false,
        })
    }

    fn is_hopeful(&self, candidate: &Candidate) -> bool {
        match candidate.state {
            State::Asked | State::Answered(..) => true,
            State::Fresh => !self.is_hearsay(candidate),
            State::Stalled | State::GivenUp | State::Failed => false,
        }
    }

    /// Whether it was named only by somebody whose word brought nothing but silence.
    fn is_hearsay(&self, candidate: &Candidate) -> bool {
        let teller = candidate
            .teller
            .and_then(|addr| self.tellers.iter().find(|t| t.addr == addr));
        teller.is_some_and(|teller| !teller.live && teller.silent >= SILENT_MAX)
    }

    fn insert(
        &mut self,
        contact: Contact,
        dialects: Dialects,
        hops: u32,
        teller: Option<SocketAddr>,
    ) {
        if let Some(at) = self.find(contact.addr) {
            if !self.gives_way(&self.candidates[at], &contact, teller) {
                let known = &mut self.candidates[at];
                if known.contact == contact && known.teller != teller {
                    known.teller = None;
                }
                return;
            }
            self.candidates.remove(at);
        }
        let global = scope::scope(contact.addr.ip()).is_some_and(Scope::is_global);
        let network = global.then(|| Network::of(contact.addr.ip()));
        if !self.makes_room(&contact, network) {
            return;
        }
        let distance = contact.id.distance(&self.target);
        let candidate = Candidate {
            distance,
            contact,
            dialects,
            state: State::Fresh,
            again: false,
            corrected: false,
            hops,
            teller,
            network,
        };
        let at = self.candidates.partition_point(|c| c.distance < distance);
        self.candidates.insert(at, candidate);
        self.forget_the_farthest();
    }

    /// Whether what is known of an address gives way to another id there: its own brought nothing, or will not be asked, or is
    /// nothing but another's word against our own knowledge or an id closer to the target. Of two that were only named, the
    /// closer is asked first, and tells by its answer if it is the other.
    fn gives_way(&self, known: &Candidate, other: &Contact, teller: Option<SocketAddr>) -> bool {
        if known.contact.id == other.id {
            return false;
        }
        match known.state {
            State::Failed => true,
            State::Fresh if self.is_hearsay(known) => true,
            State::Fresh if known.hops > 1 => {
                teller.is_none() || other.id.distance(&self.target) < known.distance
            }
            _ => false,
        }
    }

    /// Whether nobody of its network is in the way. One whose id does not fit its address (BEP 42) makes room for one whose
    /// does, if it has not been asked yet; one that is silent makes room for anybody.
    fn makes_room(&mut self, contact: &Contact, network: Option<Network>) -> bool {
        let Some(network) = network else { return true };
        let same = |c: &Candidate| c.network == Some(network);
        let Some(at) = self
            .candidates
            .iter()
            .position(|c| same(c) && c.state != State::Failed && c.state != State::GivenUp)
        else {
            return true;
        };
        let other = &self.candidates[at];
        let better = other.state == State::Fresh
            && !identity::is_valid(other.contact.id, other.contact.addr.ip())
            && identity::is_valid(contact.id, contact.addr.ip());
        if better {
            self.candidates.remove(at);
        }
        better
    }

    fn forget_the_farthest(&mut self) {
        if self.candidates.len() > LOOKUP_CANDIDATES_MAX
            && let Some(at) = self.candidates.iter().rposition(|c| !c.state.is_waiting())
        {
            self.candidates.remove(at);
        }
    }

    fn find(&self, addr: SocketAddr) -> Option<usize> {
        self.candidates.iter().position(|c| c.contact.addr == addr)
    }

    fn teller(&mut self, addr: SocketAddr) -> &mut Teller {
        let known = self.tellers.iter().position(|teller| teller.addr == addr);
        let at = known.unwrap_or_else(|| {
            self.tellers.push(Teller {
                addr,
                silent: 0,
                live: false,
            });
            self.tellers.len() - 1
        });
        &mut self.tellers[at]
    }
}

impl State {
    fn is_waiting(&self) -> bool {
        matches!(self, Self::Asked | Self::Stalled | Self::GivenUp)
    }

    fn has_answered(&self) -> bool {
        matches!(self, Self::Answered(..))
    }
}

fn nearest(target: NodeId, nodes: &[Contact]) -> Vec<Contact> {
    let mut nodes = nodes.to_vec();
    nodes.sort_by_key(|contact| contact.id.distance(&target));
    nodes.dedup();
    nodes
}

#[cfg(test)]
mod tests;
