//! Between what the node remembers, in ages, and what the store keeps, in seconds since 1970.

use std::net::IpAddr;
use std::time::Duration;

use crate::base::NodeId;
use crate::proto::dht::{Contact, Dialects, Saved};
use crate::store::{Identity, KnownNode, SavedNodes};

/// The ids of earlier runs, newest first, and the contacts, as of `now`.
pub(super) fn from_store(
    mut saved: SavedNodes,
    now: i64,
) -> (Vec<(Option<IpAddr>, NodeId)>, Vec<Saved>) {
    saved
        .identities
        .sort_by_key(|identity| std::cmp::Reverse(identity.last_used));
    let identities = saved.identities.iter();
    let identities = identities.map(|identity| (identity.external, NodeId(identity.id)));
    let contact = |node: &KnownNode| Saved {
        contact: Contact {
            id: NodeId(node.id),
            addr: node.addr,
        },
        dialects: Dialects::from_bits(node.dialects),
        // A clock that was set back makes contacts young, not impossible.
        age: Duration::from_secs(now.saturating_sub(node.last_answer).max(0) as u64),
        round_trip: Duration::from_millis(node.round_trip_ms.into()),
        failures: node.failures,
    };
    let contacts = saved.nodes.iter().map(contact).collect();
    (identities.collect(), contacts)
}

/// Ids for the store. They come newest first, and have been in this order since `since`.
pub(super) fn identities(identities: &[(Option<IpAddr>, NodeId)], since: i64) -> Vec<Identity> {
    let identity = |(nth, &(external, id)): (usize, &(Option<IpAddr>, NodeId))| Identity {
        external,
        id: id.0,
        last_used: since.saturating_sub_unsigned(nth as u64),
    };
    identities.iter().enumerate().map(identity).collect()
}

/// Contacts for the store, as of `now`.
pub(super) fn nodes(contacts: &[Saved], now: i64) -> Vec<KnownNode> {
    let node = |saved: &Saved| KnownNode {
        id: saved.contact.id.0,
        addr: saved.contact.addr,
        dialects: saved.dialects.bits(),
        last_answer: now.saturating_sub_unsigned(saved.age.as_secs()),
        round_trip_ms: u32::try_from(saved.round_trip.as_millis()).unwrap_or(u32::MAX),
        failures: saved.failures,
    };
    contacts.iter().map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_comes_back_older() {
        let ip = |last| Some(IpAddr::from([192, 0, 2, last]));
        let ids = vec![(ip(1), NodeId([1; 20])), (None, NodeId([2; 20]))];
        let contact = Saved {
            contact: Contact {
                id: NodeId([7; 20]),
                addr: ([192, 0, 2, 9], 6881).into(),
            },
            dialects: Dialects::from_bits(0b10),
            age: Duration::from_secs(60),
            round_trip: Duration::from_millis(35),
            failures: 1,
        };
        let stored = SavedNodes {
            identities: identities(&ids, 900_000),
            nodes: nodes(&[contact], 1_000_000),
        };
        let (identities, contacts) = from_store(stored, 1_000_040);
        assert_eq!(identities, ids);
        assert_eq!(contacts[0].age, Duration::from_secs(100));
        assert_eq!(contacts[0].contact, contact.contact);
        assert_eq!(contacts[0].dialects, contact.dialects);
        assert_eq!(contacts[0].round_trip, contact.round_trip);
        assert_eq!(contacts[0].failures, 1);
    }

    #[test]
    fn a_clock_that_was_set_back_does_no_harm() {
        let node = KnownNode {
            id: [7; 20],
            addr: ([192, 0, 2, 9], 6881).into(),
            dialects: 1,
            last_answer: i64::MAX,
            round_trip_ms: 0,
            failures: 0,
        };
        let saved = SavedNodes {
            identities: vec![],
            nodes: vec![node],
        };
        let (_, contacts) = from_store(saved, i64::MIN);
        assert_eq!(contacts[0].age, Duration::ZERO);
    }
}
