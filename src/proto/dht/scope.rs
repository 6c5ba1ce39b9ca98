//! How far an address reaches, and whom to believe about it.
//!
//! A whole DHT may live on one machine or behind one router, where every rule against martians and against many nodes at one
//! address would forbid it. So nothing is forbidden outright: an address is believed from a node that can itself be reached no
//! farther than it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How far an address reaches, from the nearest to the farthest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// This machine.
    Loopback,
    /// A network that is not part of the internet: RFC 1918 and 4193, link-local of IPv4, shared (RFC 6598), for benchmarks (RFC 2544).
    Private,
    /// The internet.
    Global,
}

impl Scope {
    /// Whether addresses are scarce there: in local networks anybody may have as many as they like, and all may share one.
    pub fn is_global(self) -> bool {
        self == Self::Global
    }
}

/// How far `ip` reaches. `None`: no node can be there, as it names nobody, a group, an example or another kind of address.
pub fn scope(ip: IpAddr) -> Option<Scope> {
    match ip {
        IpAddr::V4(v4) => scope_v4(v4),
        IpAddr::V6(v6) => scope_v6(v6),
    }
}

fn scope_v4(ip: Ipv4Addr) -> Option<Scope> {
    match ip.octets() {
        [127, ..] => Some(Scope::Loopback),
        [0 | 224..=255, ..] | [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => None,
        [100, 64..=127, ..] | [198, 18 | 19, ..] => Some(Scope::Private),
        _ if ip.is_private() || ip.is_link_local() => Some(Scope::Private),
        _ => Some(Scope::Global),
    }
}

fn scope_v6(ip: Ipv6Addr) -> Option<Scope> {
    if ip == Ipv6Addr::LOCALHOST {
        return Some(Scope::Loopback);
    }
    let global_v4 = |high: u16, low: u16| {
        let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
        scope_v4(Ipv4Addr::new(a, b, c, d)).filter(|scope| scope.is_global())
    };
    match ip.segments() {
        // Unique local, and the site-local addresses that came before them.
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Some(Scope::Private),
        // Without the name of an interface, which no datagram of the DHT can carry, nobody can be reached there.
        [0xfe80..=0xfebf, ..] => None,
        // Translated or tunnelled IPv4 reaches as far as what is inside, and must not lead back into our own network.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => global_v4(high, low),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => None,
        [0x2000..=0x3fff, ..] => Some(Scope::Global),
        _ => None,
    }
}

/// Whether an address is believed from the node at `teller`: local ones only from nodes at least as local, and none without a
/// port. The same rule says whom to tell of an address: one who asks from afar has no use for a local one.
pub fn may_tell(teller: IpAddr, told: SocketAddr) -> bool {
    if told.port() == 0 {
        return false;
    }
    match (scope(teller), scope(told.ip())) {
        (Some(teller), Some(told)) => teller <= told,
        _ => false,
    }
}

/// The network that one household or one cheap host is taken to own: of an IPv4 address the first 24 bits, of an IPv6 address
/// the first 64. Two addresses are of one network if and only if these are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// The network of `ip`.
    pub fn of(ip: IpAddr) -> Self {
        Self(match ip {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                IpAddr::from([a, b, c, 0])
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
        })
    }
}

/// Whom to charge for what comes from an address: on the internet the IPv4 address or the IPv6 network of 64 bits, as nobody
/// gets less; locally each socket by itself, since all of them may share one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A socket in a local network.
    Socket(SocketAddr),
    /// A host of the internet, by address or network.
    Host(IpAddr),
}

impl Source {
    /// Whom to charge for what comes from `addr`.
    pub fn of(addr: SocketAddr) -> Self {
        match (scope(addr.ip()), addr.ip()) {
            (Some(Scope::Loopback | Scope::Private), _) => Self::Socket(addr),
            (_, IpAddr::V4(v4)) => Self::Host(v4.into()),
            (_, v6 @ IpAddr::V6(_)) => Self::Host(Network::of(v6).0),
        }
    }

    /// Whom to charge for what is kept for long: as [`of`](Self::of), but of an IPv6 address the network of 48 bits, of which
    /// one household may have all (RFC 6177).
    pub fn site(addr: SocketAddr) -> Self {
        match Self::of(addr) {
            Self::Host(IpAddr::V6(v6)) => {
                let [a, b, c, ..] = v6.segments();
                Self::Host(IpAddr::from([a, b, c, 0, 0, 0, 0, 0]))
            }
            source => source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ip: &str) -> Option<Scope> {
        scope(ip.parse().unwrap())
    }

    #[test]
    fn each_address_has_the_scope_of_its_range() {
        for ip in ["127.0.0.1", "127.255.0.3", "::1"] {
            assert_eq!(of(ip), Some(Scope::Loopback), "{ip}");
        }
        for ip in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.254",
            "192.168.1.1",
            "169.254.3.4",
            "100.64.0.1",
            "100.127.0.1",
            "198.18.0.1",
            "fc00::1",
            "fd12::1",
            "fec0::1",
        ] {
            assert_eq!(of(ip), Some(Scope::Private), "{ip}");
        }
        for ip in [
            "1.2.3.4",
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "223.1.1.1",
            "2001:4860::8888",
            "2600::1",
            "2002:808:808::1",
            "64:ff9b::808:808",
        ] {
            assert_eq!(of(ip), Some(Scope::Global), "{ip}");
        }
    }

    #[test]
    fn no_node_is_at_an_address_that_names_nobody_a_group_or_an_example() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.0.2.1",
            "198.51.100.7",
            "203.0.113.9",
            "192.0.0.1",
            "::",
            "ff02::1",
            "fe80::1",
            "febf::1",
            "2001:db8::1",
            "3fff::1",
            "::ffff:1.2.3.4",
            "100::1",
            "::1.2.3.4",
            "2002:7f00:1::1",
            "2002:a00:1::1",
            "64:ff9b::10.0.0.1",
            "4000::1",
        ] {
            assert_eq!(of(ip), None, "{ip}");
        }
    }

    #[test]
    fn an_address_is_believed_from_a_node_at_least_as_local() {
        let tellers = ["127.0.0.1", "10.0.0.1", "1.2.3.4"];
        let told = ["127.0.0.1:5", "192.168.0.1:5", "8.8.8.8:5"];
        for (i, teller) in tellers.iter().enumerate() {
            for (j, told) in told.iter().enumerate() {
                let believed = may_tell(teller.parse().unwrap(), told.parse().unwrap());
                assert_eq!(believed, i <= j, "{teller} tells of {told}");
            }
        }
        assert!(
            !may_tell([1, 2, 3, 4].into(), "8.8.8.8:0".parse().unwrap()),
            "port 0"
        );
        assert!(!may_tell(
            [127, 0, 0, 1].into(),
            "224.0.0.1:5".parse().unwrap()
        ));
        assert!(!may_tell([0, 0, 0, 0].into(), "8.8.8.8:5".parse().unwrap()));
    }

    #[test]
    fn sources_are_hosts_on_the_internet_and_sockets_locally() {
        let source = |addr: &str| Source::of(addr.parse().unwrap());
        assert_eq!(source("1.2.3.4:5"), source("1.2.3.4:6"));
        assert_ne!(source("1.2.3.4:5"), source("1.2.3.5:5"));
        assert_eq!(source("[2600::1]:5"), source("[2600::2]:6"));
        assert_ne!(source("[2600::1]:5"), source("[2600:0:0:1::1]:5"));
        assert_ne!(source("127.0.0.1:5"), source("127.0.0.1:6"));
        assert_ne!(source("10.0.0.1:5"), source("10.0.0.1:6"));
    }
}
