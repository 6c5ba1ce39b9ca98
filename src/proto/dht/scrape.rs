//! Counting who has a torrent without naming them (BEP 33): Bloom filters of addresses, which many nodes' answers are merged of.

use std::net::IpAddr;

use sha1::{Digest, Sha1};

use super::message::Scrape;

/// Bits of a filter.
const BITS: usize = 2_048;

/// What an address sets in a filter: to be kept with it, so that filters are made without hashing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark([u16; 2]);

impl Mark {
    /// The mark of an address. Ports do not count.
    pub fn of(ip: IpAddr) -> Self {
        let hash = match ip {
            IpAddr::V4(v4) => Sha1::digest(v4.octets()),
            IpAddr::V6(v6) => Sha1::digest(v6.octets()),
        };
        let index = |at: usize| u16::from_le_bytes([hash[at], hash[at + 1]]) % BITS as u16;
        Self([index(0), index(2)])
    }
}

/// A set of addresses that can be merged with others and counted, roughly, but not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter([u8; BITS / 8]);

impl Filter {
    /// The empty set.
    pub const EMPTY: Self = Self([0; BITS / 8]);

    /// Adds the address that a mark is of.
    pub fn insert(&mut self, mark: Mark) {
        for bit in mark.0.map(usize::from) {
            self.0[bit / 8] |= 1 << (bit % 8);
        }
    }

    /// Adds all addresses of another set.
    pub fn merge(&mut self, other: &Self) {
        for (byte, other) in self.0.iter_mut().zip(other.0) {
            *byte |= other;
        }
    }

    /// How many addresses are in it, by BEP 33's formula: a few percent off up to some 6,000, and never above 7,806.
    pub fn estimate(&self) -> f64 {
        let bits = BITS as f64;
        let zeros: u32 = self.0.iter().map(|byte| byte.count_zeros()).sum();
        (f64::from(zeros.max(1)) / bits).ln() / (2.0 * (1.0 - 1.0 / bits).ln())
    }
}

impl From<[u8; BITS / 8]> for Filter {
    fn from(bytes: [u8; BITS / 8]) -> Self {
        Self(bytes)
    }
}

impl From<Filter> for [u8; BITS / 8] {
    fn from(filter: Filter) -> Self {
        filter.0
    }
}

/// The answers of many nodes to one scrape, added up.
#[derive(Clone, Debug)]
pub struct Swarm {
    seeds: Filter,
    leechers: Filter,
}

impl Swarm {
    /// Before the first answer.
    pub const UNKNOWN: Self = Self {
        seeds: Filter::EMPTY,
        leechers: Filter::EMPTY,
    };

    /// Adds what one node knows.
    pub fn add(&mut self, scrape: &Scrape) {
        self.seeds.merge(&Filter(scrape.seeds));
        self.leechers.merge(&Filter(scrape.leechers));
    }

    /// About how many have all of the torrent.
    pub fn seeds(&self) -> u32 {
        self.seeds.estimate().round() as u32
    }

    /// About how many have a part of it.
    pub fn leechers(&self) -> u32 {
        self.leechers.estimate().round() as u32
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// The addresses of BEP 33's test vector.
    fn vector() -> impl Iterator<Item = IpAddr> {
        let v4 = (0..=255).map(|last| Ipv4Addr::new(192, 0, 2, last).into());
        let v6 = (0..=0x3e7).map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into());
        v4.chain(v6)
    }

    fn filter(ips: impl Iterator<Item = IpAddr>) -> Filter {
        let mut filter = Filter::EMPTY;
        ips.for_each(|ip| filter.insert(Mark::of(ip)));
        filter
    }

    #[test]
    fn the_test_vector_of_bep_33_holds() {
        let filter = filter(vector());
        assert!((filter.estimate() - 1_224.930_8).abs() < 0.0001);
        let hex = data_encoding::HEXUPPER.encode(&filter.0);
        let expected = "F6C3F5EAA07FFD91BDE89F777F26FB2BFF37BDB8FB2BBAA2FD3DDDE7BACFFF75EE7CCBAE\
                        FE5EEDB1FBFAFF67F6ABFF5E43DDBCA3FD9B9FFDF4FFD3E9DFF12D1BDF59DB53DBE9FA5B\
                        7FF3B8FDFCDE1AFB8BEDD7BE2F3EE71EBBBFE93BCDEEFE148246C2BC5DBFF7E7EFDCF24F\
                        D8DC7ADFFD8FFFDFDDFFF7A4BBEEDF5CB95CE81FC7FCFF1FF4FFFFDFE5F7FDCBB7FD79B3\
                        FA1FC77BFE07FFF905B7B7FFC7FEFEFFE0B8370BB0CD3F5B7F2BD93FEB4386CFDD6F7FD5\
                        BFAF2E9EBFFFFEECD67ADBF7C67F17EFD5D75EBA6FFEBA7FFF47A91EB1BFBB53E8ABFB57\
                        62ABE8FF237279BFEFBFEEF5FFC5FEBFDFE5ADFFADFEE1FB737FFFFBFD9F6AEFFEEE76B6\
                        FD8F72EF";
        assert_eq!(hex, expected);
    }

    #[test]
    fn a_merger_counts_each_address_once() {
        let (all, half) = (filter(vector()), filter(vector().step_by(2)));
        let mut merged = half.clone();
        merged.merge(&all);
        assert_eq!(merged, all);
        let mut swarm = Swarm::UNKNOWN;
        assert_eq!((swarm.seeds(), swarm.leechers()), (0, 0));
        for leechers in [&half, &all] {
            let leechers = leechers.clone().into();
            let seeds = filter(vector().take(1)).into();
            swarm.add(&Scrape { seeds, leechers });
        }
        assert_eq!((swarm.seeds(), swarm.leechers()), (1, 1_225));
    }

    #[test]
    fn full_and_empty_filters_have_estimates() {
        assert_eq!(Filter::EMPTY.estimate(), 0.0);
        let full = Filter([0xff; 256]).estimate();
        assert!(full.is_finite() && full < 7_806.0, "{full}");
    }
}
