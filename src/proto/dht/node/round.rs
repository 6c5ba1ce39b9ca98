//! Rounds of searches: walks in each family that has contacts, peers as they are named, and announcements at the end.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Instant;

use super::super::lookup::{Answered, Goal, K, Lookup};
use super::super::message::{Dialect, Query, Token};
use super::super::scope;
use super::super::search::{Announce, Families, Outcome, SearchId, Wanted};
use super::ask::Purpose;
use super::family::Version;
use super::walk::{Kind, LookupId};
use super::{Node, Output};
use crate::base::InfoHash;
use crate::base::limits::PEERS_PER_ROUND_MAX;

/// A round of a search under way.
#[derive(Debug)]
pub(super) struct Round {
    wanted: Wanted,
    walks: usize,
    told: HashSet<SocketAddr>,
    announced: usize,
    ready: bool,
    /// Where the node had found its place when the round began.
    placed: Families,
}

impl Node {
    /// Begins the rounds that are due.
    pub(super) fn search_on(&mut self, now: Instant) {
        while let Some((search, wanted)) = self.searches.poll_due(now) {
            let round = Round {
                wanted,
                walks: 0,
                told: HashSet::new(),
                announced: 0,
                ready: self.ready,
                placed: self.placed(),
            };
            self.rounds.insert(search, round);
            let mut walks = Vec::new();
            for version in Version::BOTH {
                if self.families.get(version).is_some() {
                    let target = wanted.info_hash.into();
                    let kind = Kind::Search(search);
                    walks.push(self.begin(version, target, Goal::Neighbours, kind));
                }
            }
            if let Some(round) = self.rounds.get_mut(&search) {
                round.walks = walks.len();
            }
            for walk in walks {
                self.advance(now, walk);
            }
        }
    }

    /// A node named peers.
    pub(super) fn on_peers(&mut self, id: LookupId, from: SocketAddr, peers: &[SocketAddr]) {
        let Some(Kind::Search(search)) = self.lookups.get(&id).map(|running| running.kind) else {
            return;
        };
        let own = self.own_peer(search, from);
        let Some(round) = self.rounds.get_mut(&search) else {
            return;
        };
        let mut new = Vec::new();
        for &peer in peers {
            let peer = super::plain(peer);
            let fits = Some(peer) != own && scope::may_tell(from.ip(), peer);
            if fits && round.told.len() < PEERS_PER_ROUND_MAX && round.told.insert(peer) {
                new.push(peer);
            }
        }
        if !new.is_empty() {
            self.outputs.push_back(Output::Found { search, peers: new });
        }
    }

    /// A walk of a round has ended: the closest nodes hear of us.
    pub(super) fn on_walked(
        &mut self,
        now: Instant,
        search: SearchId,
        version: Version,
        lookup: &Lookup,
    ) {
        let Some(wanted) = self.rounds.get(&search).map(|round| round.wanted) else {
            return;
        };
        let mut announced = 0;
        if let Some(announce) = wanted.announce {
            let closest: Vec<Answered> = lookup.closest(K).collect();
            for node in &closest {
                announced += usize::from(self.announce(now, wanted.info_hash, announce, node));
            }
            if closest.len() < K {
                self.keep_own(now, version, wanted.info_hash, announce);
            }
        }
        let Some(round) = self.rounds.get_mut(&search) else {
            return;
        };
        round.announced += announced;
        round.walks = round.walks.saturating_sub(1);
        if round.walks == 0 {
            self.end_round(now, search);
        }
    }

    /// A node has refused an announcement and sent a token to try again with.
    pub(super) fn announce_again(
        &mut self,
        now: Instant,
        to: SocketAddr,
        dialect: Dialect,
        token: Token,
        purpose: Purpose,
    ) {
        let Purpose::Announce {
            info_hash,
            announce,
            again: false,
        } = purpose
        else {
            return;
        };
        self.tell(now, to, dialect, token, info_hash, announce, true);
    }

    fn announce(
        &mut self,
        now: Instant,
        info_hash: InfoHash,
        announce: Announce,
        node: &Answered,
    ) -> bool {
        let Some(token) = node.token.clone() else {
            return false;
        };
        self.tell(
            now,
            node.contact.addr,
            node.dialect,
            token,
            info_hash,
            announce,
            false,
        )
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what an announcement consists of"
    )]
    fn tell(
        &mut self,
        now: Instant,
        to: SocketAddr,
        dialect: Dialect,
        token: Token,
        info_hash: InfoHash,
        announce: Announce,
        again: bool,
    ) -> bool {
        let query = Query::Announce {
            info_hash,
            port: Some(announce.port),
            token,
            seed: announce.seed,
        };
        let purpose = Purpose::Announce {
            info_hash,
            announce,
            again,
        };
        self.ask(now, to, None, dialect, query, purpose)
    }

    /// With so few nodes that we are one of the closest ourselves, we keep the announcement too, if we know our address.
    fn keep_own(
        &mut self,
        now: Instant,
        version: Version,
        info_hash: InfoHash,
        announce: Announce,
    ) {
        let seen = self
            .families
            .get(version)
            .and_then(|family| family.votes.seen());
        if let Some(seen) = seen {
            let peer = SocketAddr::new(seen.ip(), announce.port.get());
            self.announced.insert(now, info_hash, peer, announce.seed);
        }
    }

    fn end_round(&mut self, now: Instant, search: SearchId) {
        let Some(round) = self.rounds.remove(&search) else {
            return;
        };
        let outcome = Outcome {
            found: !round.told.is_empty(),
            announced: round.announced,
            ready: round.ready,
            ready_now: self.ready,
            walked: round.placed,
            placed: self.placed(),
        };
        if self.searches.finish(now, search, outcome) {
            self.outputs.push_back(Output::Finished { search });
        }
    }

    /// How others see the peer that this search announces: ourselves.
    fn own_peer(&self, search: SearchId, from: SocketAddr) -> Option<SocketAddr> {
        let announce = self.rounds.get(&search)?.wanted.announce?;
        let seen = self.families.get(Version::of(from))?.votes.seen()?;
        Some(SocketAddr::new(seen.ip(), announce.port.get()))
    }
}
