//! Addresses whose node changed its id: whoever does that moves around the space at will.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::message::Contact;
use crate::base::NodeId;
use crate::base::limits::SHUNNED_MAX;

/// How long an address has to stay with one id before its node is taken again.
pub(super) const PROBATION: Duration = Duration::from_secs(5 * 60);

/// The addresses on probation, a bounded number: the one that would be free first makes room.
#[derive(Clone, Debug)]
pub(super) struct Shunned(BTreeMap<SocketAddr, (NodeId, Instant)>);

impl Shunned {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Puts an address on probation with the id that it has now.
    pub(super) fn insert(&mut self, now: Instant, contact: Contact) {
        self.0.retain(|_, (_, until)| now < *until);
        if self.0.len() >= SHUNNED_MAX
            && let Some((&first, _)) = self.0.iter().min_by_key(|(_, (_, until))| *until)
        {
            self.0.remove(&first);
        }
        self.0.insert(contact.addr, (contact.id, now + PROBATION));
    }

    /// Whether a node that answered may be taken. One that changed its id once more begins from the start.
    pub(super) fn allows(&mut self, now: Instant, contact: Contact) -> bool {
        match self.0.get(&contact.addr) {
            None => true,
            Some(&(id, until)) if id == contact.id && until <= now => {
                self.0.remove(&contact.addr);
                true
            }
            Some((id, _)) if *id == contact.id => false,
            Some(_) => {
                self.insert(now, contact);
                false
            }
        }
    }

    /// Whether the node at `addr` may be taken if it answers with the id that it had.
    pub(super) fn would_allow(&self, now: Instant, addr: SocketAddr) -> bool {
        self.0.get(&addr).is_none_or(|(_, until)| *until <= now)
    }
}
