//! Where others see us, and under which id we are known there (BEP 42).
//!
//! Every answer may say from which address we asked. Anybody can lie about that, so an address counts when most of several
//! networks agree on it, each with one voice.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::identity;
use super::scope::{self, Network, Scope};
use crate::base::limits::{IDENTITIES_MAX, VOTES_MAX};
use crate::base::{NodeId, Random};

/// Voices that must have been heard before a majority of them is believed.
const QUORUM: usize = 5;

/// What others say our address is.
#[derive(Debug, Default)]
pub(super) struct Votes {
    /// Oldest first.
    votes: VecDeque<(Network, IpAddr)>,
    /// The last address and port that anybody saw.
    seen: Option<SocketAddr>,
}

impl Votes {
    /// The node at `voter` sees us at `observed`. What it cannot know is not counted.
    pub(super) fn add(&mut self, voter: IpAddr, observed: SocketAddr) {
        let same_family = voter.is_ipv4() == observed.is_ipv4();
        if !same_family || !scope::may_tell(voter, observed) {
            return;
        }
        self.seen = Some(observed);
        if !is_global(voter) || !is_global(observed.ip()) {
            return;
        }
        let network = Network::of(voter);
        self.votes.retain(|(other, _)| *other != network);
        if self.votes.len() >= VOTES_MAX {
            self.votes.pop_front();
        }
        self.votes.push_back((network, observed.ip()));
    }

    /// The address that more than half of at least [`QUORUM`] networks see.
    pub(super) fn majority(&self) -> Option<IpAddr> {
        if self.votes.len() < QUORUM {
            return None;
        }
        let count = |ip: IpAddr| self.votes.iter().filter(|(_, vote)| *vote == ip).count();
        let winner = self.votes.iter().map(|(_, ip)| *ip);
        winner
            .into_iter()
            .find(|ip| count(*ip) * 2 > self.votes.len())
    }

    /// Where somebody saw us last: true enough to recognise ourselves, not to be believed otherwise.
    pub(super) fn seen(&self) -> Option<SocketAddr> {
        self.seen
    }
}

/// Whether an address says where on the internet we are.
pub(super) fn is_global(ip: IpAddr) -> bool {
    scope::scope(ip).is_some_and(Scope::is_global)
}

/// Ids that we had, each with the external address that it was for.
#[derive(Debug)]
pub(super) struct Identities {
    /// Newest first.
    known: Vec<(Option<IpAddr>, NodeId)>,
}

impl Identities {
    pub(super) fn new(mut known: Vec<(Option<IpAddr>, NodeId)>) -> Self {
        known.truncate(IDENTITIES_MAX);
        Self { known }
    }

    /// The id to begin with in one address family, and the address that it is for.
    pub(super) fn first(&mut self, v4: bool, random: &mut Random) -> (Option<IpAddr>, NodeId) {
        let fits = |ip: &Option<IpAddr>| ip.is_none_or(|ip| ip.is_ipv4() == v4);
        let placed = self.known.iter().find(|(ip, _)| ip.is_some() && fits(ip));
        let known = placed.or_else(|| self.known.iter().find(|(ip, _)| fits(ip)));
        known.copied().unwrap_or_else(|| {
            let id = identity::generate(None, random.id());
            self.note(None, id);
            (None, id)
        })
    }

    /// The id for the external address `ip`: the one that we had there, `current` if it fits, else a new one.
    pub(super) fn at(&mut self, ip: IpAddr, current: NodeId, random: &mut Random) -> NodeId {
        let known = self.known.iter().find(|(known, _)| *known == Some(ip));
        let known = known
            .map(|(_, id)| *id)
            .filter(|id| identity::is_valid(*id, ip));
        let id = known.unwrap_or_else(|| {
            if identity::is_valid(current, ip) {
                current
            } else {
                identity::generate(Some(ip), random.id())
            }
        });
        self.note(Some(ip), id);
        id
    }

    /// All of them, newest first.
    pub(super) fn all(&self) -> &[(Option<IpAddr>, NodeId)] {
        &self.known
    }

    fn note(&mut self, ip: Option<IpAddr>, id: NodeId) {
        self.known.retain(|(known, _)| *known != ip);
        self.known.insert(0, (ip, id));
        self.known.truncate(IDENTITIES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(a: u8, d: u8) -> IpAddr {
        [a, 7, 7, d].into()
    }

    #[test]
    fn an_address_is_believed_when_most_networks_agree() {
        let mut votes = Votes::default();
        let ours = SocketAddr::from((ip(80, 1), 6881));
        for voter in 1..5 {
            votes.add(ip(voter, 1), ours);
            votes.add(ip(voter, 2), ours);
        }
        assert_eq!(
            votes.majority(),
            None,
            "two hosts of one network have one voice"
        );
        votes.add(ip(5, 1), ours);
        assert_eq!(votes.majority(), Some(ours.ip()));
    }

    #[test]
    fn a_network_full_of_liars_has_one_voice() {
        let mut votes = Votes::default();
        let (ours, lie) = (ip(80, 1), ip(81, 1));
        for voter in 1..=5 {
            votes.add(ip(voter, 1), (ours, 1).into());
        }
        for host in 0..=255 {
            votes.add(ip(66, host), (lie, 1).into());
        }
        assert_eq!(votes.majority(), Some(ours));
    }

    #[test]
    fn local_addresses_say_nothing_about_where_on_the_internet_we_are() {
        let mut votes = Votes::default();
        for voter in 1..50 {
            votes.add(ip(voter, 1), ([192, 168, 0, 1], 1).into());
            votes.add([127, 0, 0, voter].into(), (ip(80, 1), 1).into());
        }
        assert_eq!(votes.majority(), None);
    }

    #[test]
    fn the_id_of_an_address_is_the_one_that_we_had_there() {
        let mut random = Random::new(1);
        let mut identities = Identities::new(Vec::new());
        let (none, first) = identities.first(true, &mut random);
        assert_eq!(none, None);
        let here = identities.at(ip(80, 1), first, &mut random);
        assert!(identity::is_valid(here, ip(80, 1)));
        let there = identities.at(ip(90, 1), here, &mut random);
        assert_ne!(here, there);
        assert_eq!(identities.at(ip(80, 1), there, &mut random), here);
        let mut later = Identities::new(identities.all().to_vec());
        assert_eq!(later.first(true, &mut random), (Some(ip(80, 1)), here));
        for host in 0..100 {
            later.at(ip(100, host), here, &mut random);
        }
        assert_eq!(later.all().len(), IDENTITIES_MAX);
    }
}
