//! Addresses in few bytes: peers in 6 (BEP 5) or 18 (BEP 32), contacts in 26 or 38.
//!
//! What is read here has a port, and IPv4 addresses are never written as IPv6.

use std::net::{IpAddr, SocketAddr};

use super::Contact;
use crate::base::NodeId;

/// The address as it is told to others: IPv4 as IPv4, without the scope that means something to one host only.
pub(super) fn plain(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// The [plain] address; `None` if nobody can be reached there because the port is 0.
pub(super) fn reachable(addr: SocketAddr) -> Option<SocketAddr> {
    (addr.port() != 0).then(|| plain(addr))
}

/// Reads an address of 6 or 18 bytes.
pub(super) fn addr(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk()?;
    let ip = match ip.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
        _ => return None,
    };
    reachable(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// Reads a contact of 26 or 38 bytes.
pub(super) fn contact(bytes: &[u8]) -> Option<Contact> {
    let (id, rest) = bytes.split_first_chunk()?;
    Some(Contact {
        id: NodeId(*id),
        addr: addr(rest)?,
    })
}

/// Writes an address, in 6 or 18 bytes.
pub(super) fn addr_bytes(addr: SocketAddr) -> Vec<u8> {
    let port = addr.port().to_be_bytes();
    match addr.ip().to_canonical() {
        IpAddr::V4(ip) => [ip.octets().as_slice(), &port].concat(),
        IpAddr::V6(ip) => [ip.octets().as_slice(), &port].concat(),
    }
}

/// Writes a contact, in 26 or 38 bytes.
pub(super) fn contact_bytes(contact: &Contact) -> Vec<u8> {
    [contact.id.as_bytes(), addr_bytes(contact.addr).as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_another_length_or_without_a_port_is_not_read() {
        assert_eq!(
            addr(&[1, 2, 3, 4, 0x1a, 0xe1]),
            Some("1.2.3.4:6881".parse().unwrap())
        );
        for bytes in [
            &[][..],
            &[1],
            &[1, 2, 3, 4, 0, 0],
            &[1; 5],
            &[1; 7],
            &[1; 17],
            &[1; 19],
        ] {
            assert_eq!(addr(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn ipv4_within_ipv6_is_ipv4_both_ways() {
        let mapped: SocketAddr = "[::ffff:1.2.3.4]:80".parse().unwrap();
        assert_eq!(addr_bytes(mapped), [1, 2, 3, 4, 0, 80]);
        let mut mapped = [0; 18];
        mapped[10..].copy_from_slice(&[0xff, 0xff, 1, 2, 3, 4, 0, 80]);
        assert_eq!(addr(&mapped), Some("1.2.3.4:80".parse().unwrap()));
    }
}
