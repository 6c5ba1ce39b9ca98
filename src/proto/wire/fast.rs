//! The allowed-fast set (BEP 6): pieces that a newcomer may request while it is choked.

use std::net::IpAddr;

use sha1::{Digest, Sha1};

use crate::base::InfoHash;

/// Rounds of hashing, five candidates each, before a set may stay smaller than asked for.
const ROUNDS_MAX: usize = 256;

/// The `count` pieces, of a torrent of `pieces`, that the peer at `ip` may request while choked: both ends compute the same,
/// so that a peer gains nothing by reconnecting. In the order in which BEP 6 generates them.
///
/// BEP 6 keeps the first 24 bits of an IPv4 address. It says nothing about IPv6; the first 64 bits are kept of it.
pub fn allowed_fast_set(ip: IpAddr, info_hash: &InfoHash, pieces: u32, count: usize) -> Vec<u32> {
    if pieces as usize <= count {
        return (0..pieces).collect();
    }
    let mut set = Vec::with_capacity(count);
    let mut digest = Sha1::new();
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            digest.update([a, b, c, 0]);
        }
        IpAddr::V6(ip) => {
            digest.update(&ip.octets()[..8]);
            digest.update([0; 8]);
        }
    }
    digest.update(info_hash.as_bytes());
    for _ in 0..ROUNDS_MAX {
        let hash: [u8; 20] = digest.finalize().into();
        for word in hash.as_chunks::<4>().0 {
            let piece = u32::from_be_bytes(*word) % pieces;
            if set.len() < count && !set.contains(&piece) {
                set.push(piece);
            }
        }
        if set.len() == count {
            break;
        }
        digest = Sha1::new_with_prefix(hash);
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: InfoHash = InfoHash([0xaa; 20]);

    #[test]
    fn agrees_with_the_example_of_bep_6() {
        let ip = "80.4.4.200".parse().unwrap();
        let nine = allowed_fast_set(ip, &EXAMPLE, 1313, 9);
        assert_eq!(nine, [1059, 431, 808, 1217, 287, 376, 1188, 353, 508]);
        assert_eq!(allowed_fast_set(ip, &EXAMPLE, 1313, 7), nine[..7]);
    }

    #[test]
    fn agrees_with_every_vector_of_the_corpus() {
        let Ok(corpus) = std::env::var("SEEDBANK_CORPUS") else {
            eprintln!("skipped: SEEDBANK_CORPUS is not set");
            return;
        };
        let path = std::path::Path::new(&corpus).join("vectors/bep06_allowed_fast.tsv");
        let text = std::fs::read_to_string(path).unwrap();
        let mut rows = 0;
        for row in text.lines().skip(1) {
            let cells: Vec<_> = row.split('\t').collect();
            let expected: Vec<u32> = cells[4].split(',').map(|n| n.parse().unwrap()).collect();
            let (ip, hash) = (cells[0].parse().unwrap(), cells[1].parse().unwrap());
            let (pieces, count) = (cells[2].parse().unwrap(), cells[3].parse().unwrap());
            assert_eq!(allowed_fast_set(ip, &hash, pieces, count), expected);
            rows += 1;
        }
        assert!(rows > 0);
    }

    #[test]
    fn neighbours_share_a_set_and_small_torrents_are_all_allowed() {
        let set = |ip: &str| allowed_fast_set(ip.parse().unwrap(), &EXAMPLE, 1313, 10);
        assert_eq!(set("80.4.4.1"), set("80.4.4.254"));
        assert_eq!(set("::ffff:80.4.4.1"), set("80.4.4.254"));
        assert_eq!(set("2001:db8::1"), set("2001:db8::2"));
        assert_ne!(set("2001:db8::1"), set("2001:db8:0:1::1"));
        let ip = "10.0.0.1".parse().unwrap();
        assert_eq!(allowed_fast_set(ip, &EXAMPLE, 3, 10), [0, 1, 2]);
        assert!(allowed_fast_set(ip, &EXAMPLE, 0, 10).is_empty());
        assert_eq!(allowed_fast_set(ip, &EXAMPLE, 11, 10).len(), 10);
    }
}
