//! Who is not let in.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};

use super::blame::Suspect;
use crate::base::PeerId;
use crate::base::limits::BANS_MAX;

/// Endpoints banned at one IP address that honest peers share before all of it is: a liar could hide behind a friend for ever.
const SHARED_BANS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ban {
    Ip(IpAddr),
    Endpoint(SocketAddr),
    Id(PeerId),
}

/// The bans of one torrent: the last [`BANS_MAX`].
#[derive(Debug, Default)]
pub(super) struct Bans {
    bans: BTreeSet<Ban>,
    order: VecDeque<Ban>,
}

impl Bans {
    /// Bans a liar. `shared`: others use the same IP address, so that only its endpoints and id are banned.
    pub(super) fn add(&mut self, liar: &Suspect, shared: bool) {
        let ip = liar.addr.ip().to_canonical();
        if ip.is_loopback() || (shared && self.liars_at(ip) < SHARED_BANS) {
            self.insert(Ban::Id(liar.id));
            for addr in [Some(liar.addr), liar.listen].into_iter().flatten() {
                self.insert(Ban::Endpoint(addr));
            }
        } else {
            self.insert(Ban::Ip(ip));
        }
    }

    /// Whether a peer at `addr`, with this id if it is known, is banned.
    pub(super) fn cover(&self, addr: SocketAddr, id: Option<PeerId>) -> bool {
        self.bans.contains(&Ban::Ip(addr.ip().to_canonical()))
            || self.bans.contains(&Ban::Endpoint(addr))
            || id.is_some_and(|id| self.bans.contains(&Ban::Id(id)))
    }

    /// Liars known by endpoint at this IP address.
    fn liars_at(&self, ip: IpAddr) -> usize {
        let at = |ban: &&Ban| matches!(ban, Ban::Endpoint(addr) if addr.ip().to_canonical() == ip);
        self.bans.iter().filter(at).count()
    }

    fn insert(&mut self, ban: Ban) {
        if self.bans.insert(ban) {
            self.order.push_back(ban);
        }
        if self.order.len() > BANS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.bans.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::action::PeerKey;
    use super::*;

    fn addr(n: u8) -> SocketAddr {
        ([10, 0, 0, n], 6881).into()
    }

    fn liar(addr: SocketAddr) -> Suspect {
        Suspect {
            key: PeerKey(1),
            addr,
            listen: None,
            id: PeerId([7; 20]),
        }
    }

    #[test]
    fn a_ban_covers_the_ip_except_where_peers_share_it() {
        let mut bans = Bans::default();
        bans.add(&liar(addr(1)), false);
        assert!(bans.cover(([10, 0, 0, 1], 9).into(), None));
        assert!(bans.cover("[::ffff:10.0.0.1]:9".parse().unwrap(), None));
        assert!(!bans.cover(addr(2), None));
        let local = SocketAddr::from(([127, 0, 0, 1], 5));
        bans.add(&liar(local), false);
        assert!(bans.cover(local, None));
        let other = ([127, 0, 0, 1], 6).into();
        assert!(!bans.cover(other, Some(PeerId([8; 20]))));
        assert!(bans.cover(other, Some(PeerId([7; 20]))));
    }

    #[test]
    fn an_ip_that_brings_ever_more_liars_is_banned_though_others_share_it() {
        let mut bans = Bans::default();
        let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
        for port in 1..=4 {
            bans.add(&liar(at(port)), true);
            assert!(!bans.cover(at(9), None));
        }
        bans.add(&liar(at(5)), true);
        assert!(bans.cover(at(9), None));
    }
}
