//! Which ids a node may have at which address (BEP 42): the first 21 bits follow from the address and three freely chosen bits,
//! so that nobody can settle around a point of the space without owning addresses all over the internet.

use std::net::IpAddr;

use super::scope::{Scope, scope};
use crate::base::NodeId;

/// The part of an address that counts: the fewer hosts a network can have, the more its bits are worth (BEP 42).
const MASK_V4: [u8; 4] = [0x03, 0x0f, 0x3f, 0xff];
const MASK_V6: [u8; 8] = [0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff];
/// Of the third byte of an id, the bits that follow from the address: 21 in all.
const THIRD_BYTE: u8 = 0xf8;

/// A new id for a node that the internet sees at `external`, made of 20 `random` bytes.
///
/// The address leaves its mark if it is a global one (BEP 42). Before it is known, and in local networks, any id will do.
pub fn generate(external: Option<IpAddr>, random: [u8; 20]) -> NodeId {
    let mut id = random;
    if let Some(ip) = external.filter(|&ip| scope(ip) == Some(Scope::Global)) {
        let [first, second, third, _] = prefix(ip, random[19]);
        id[0] = first;
        id[1] = second;
        id[2] = third & THIRD_BYTE | random[2] & !THIRD_BYTE;
    }
    NodeId(id)
}

/// Whether a node at `ip` may call itself `id` (BEP 42). In local networks it may use any.
pub fn is_valid(id: NodeId, ip: IpAddr) -> bool {
    if matches!(scope(ip), Some(Scope::Loopback | Scope::Private)) {
        return true;
    }
    let [first, second, third, _] = prefix(ip, id.0[19]);
    id.0[0] == first && id.0[1] == second && (id.0[2] ^ third) & THIRD_BYTE == 0
}

/// What an id has to begin with at `ip`, if its last byte is `chosen`.
fn prefix(ip: IpAddr, chosen: u8) -> [u8; 4] {
    fn masked<const N: usize>(octets: &[u8], mask: [u8; N], chosen: u8) -> [u8; 4] {
        let mut bytes = mask;
        for (byte, octet) in bytes.iter_mut().zip(octets) {
            *byte &= octet;
        }
        bytes[0] |= (chosen & 0b111) << 5;
        crc32c(&bytes).to_be_bytes()
    }
    match ip {
        IpAddr::V4(v4) => masked(&v4.octets(), MASK_V4, chosen),
        IpAddr::V6(v6) => masked(&v6.octets(), MASK_V6, chosen),
    }
}

/// CRC-32C (RFC 3720, appendix B.4), bit by bit: eight bytes at most do not earn a table.
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = !0u32;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(hex: &str) -> NodeId {
        NodeId::from(hex.parse::<crate::base::InfoHash>().unwrap())
    }

    #[test]
    fn the_checksum_is_that_of_rfc_3720() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn the_examples_of_bep_42_hold() {
        for (ip, hex) in [
            ("124.31.75.21", "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
            ("21.75.31.124", "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
            ("65.23.51.170", "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
            ("84.124.73.14", "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
            ("43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            let id = id(hex);
            assert!(is_valid(id, ip), "{ip}");
            let made = generate(Some(ip), id.0);
            assert_eq!(made, id, "what is right already stays as it is");
            assert!(!is_valid(id, "1.2.3.4".parse().unwrap()));
        }
    }

    #[test]
    fn local_nodes_may_have_any_id_and_unknown_addresses_leave_no_mark() {
        let any = id("00112233445566778899aabbccddeeff00112233");
        for ip in ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.7", "fd00::1"] {
            let ip = ip.parse().unwrap();
            assert!(is_valid(any, ip), "{ip}");
            assert_eq!(generate(Some(ip), any.0), any);
        }
        assert_eq!(generate(None, any.0), any);
    }

    proptest! {
        #[test]
        fn what_is_generated_is_valid_at_its_address_and_keeps_the_free_bits(v4: bool, bytes: [u8; 16], random: [u8; 20]) {
            let ip = if v4 {
                IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]])
            } else {
                let mut global = bytes;
                global[0] = 0x26;
                IpAddr::from(global)
            };
            prop_assume!(scope(ip) == Some(Scope::Global));
            let made = generate(Some(ip), random);
            prop_assert!(is_valid(made, ip));
            prop_assert_eq!(&made.0[3..], &random[3..]);
            prop_assert_eq!(made.0[2] & 0b111, random[2] & 0b111);
            let mut other = made;
            other.0[2] ^= 0b1000;
            prop_assert!(!is_valid(other, ip), "the 21st bit counts");
        }
    }
}
