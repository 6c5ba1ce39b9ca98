//! What a node hands out with a reply and wants to see with an announce (BEP 5): proof that the announcer receives what is sent
//! to its address. Nothing is remembered; a token is a keyed hash of what it is good for.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::message::Token;
use crate::base::InfoHash;

/// How long tokens of one kind are handed out. Those of the kind before are still taken (BEP 5), so one lives 5 to 10 minutes.
const PERIOD: Duration = Duration::from_secs(300);
/// Bytes of a token: guessing one takes 2^63 tries within its life.
const TOKEN_LEN: usize = 8;

/// Issues tokens bound to an address, a torrent and a time, and checks them.
///
/// The torrent is part of it, unlike in BEP 5's example, so that one query cannot pay for a flood of announces.
#[derive(Clone, Debug)]
pub struct Tokens {
    start: Instant,
    key: [u8; 32],
}

impl Tokens {
    /// An issuer whose tokens depend on `seed`, which must be secret.
    pub fn new(now: Instant, seed: &[u8; 32]) -> Self {
        Self {
            start: now,
            key: blake3::derive_key("seedbank dht announce token", seed),
        }
    }

    /// What the node at `ip` may announce `info_hash` with for the next 5 minutes at least.
    pub fn issue(&self, now: Instant, ip: IpAddr, info_hash: InfoHash) -> Token {
        Token(self.token(self.period(now), ip, info_hash).to_vec())
    }

    /// Whether `token` was issued to `ip` for `info_hash` in this period or the last.
    pub fn accepts(&self, now: Instant, ip: IpAddr, info_hash: InfoHash, token: &Token) -> bool {
        let period = self.period(now);
        [Some(period), period.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|period| token.0 == self.token(period, ip, info_hash))
    }

    fn period(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / PERIOD.as_secs()
    }

    fn token(&self, period: u64, ip: IpAddr, info_hash: InfoHash) -> [u8; TOKEN_LEN] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&period.to_le_bytes());
        hasher.update(info_hash.as_bytes());
        match ip {
            IpAddr::V4(v4) => hasher.update(&v4.octets()),
            IpAddr::V6(v6) => hasher.update(&v6.octets()),
        };
        let mut token = [0; TOKEN_LEN];
        hasher.finalize_xof().fill(&mut token);
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(1, 2, 3, 4));
    const TORRENT: InfoHash = InfoHash([7; 20]);

    #[test]
    fn a_token_is_good_for_five_minutes_at_least_and_ten_at_most() {
        let start = Instant::now();
        let tokens = Tokens::new(start, &[1; 32]);
        for issued in (0..600u64).step_by(7) {
            let at = |seconds: u64| start + Duration::from_secs(issued + seconds);
            let token = tokens.issue(at(0), HERE, TORRENT);
            assert!(tokens.accepts(at(0), HERE, TORRENT, &token));
            assert!(tokens.accepts(at(300), HERE, TORRENT, &token), "{issued}");
            assert!(!tokens.accepts(at(600), HERE, TORRENT, &token), "{issued}");
        }
    }

    #[test]
    fn a_token_is_bound_to_address_torrent_and_issuer() {
        let now = Instant::now();
        let tokens = Tokens::new(now, &[1; 32]);
        let token = tokens.issue(now, HERE, TORRENT);
        assert!(!tokens.accepts(now, [1, 2, 3, 5].into(), TORRENT, &token));
        assert!(!tokens.accepts(now, HERE, InfoHash([8; 20]), &token));
        assert!(!Tokens::new(now, &[2; 32]).accepts(now, HERE, TORRENT, &token));
    }

    #[test]
    fn nothing_else_passes_for_a_token() {
        let now = Instant::now();
        let tokens = Tokens::new(now, &[1; 32]);
        let token = tokens.issue(now, HERE, TORRENT);
        for len in 0..token.0.len() {
            assert!(!tokens.accepts(now, HERE, TORRENT, &Token(token.0[..len].to_vec())));
        }
        for bit in 0..token.0.len() * 8 {
            let mut forged = token.clone();
            forged.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!tokens.accepts(now, HERE, TORRENT, &forged));
        }
        let longer = Token([token.0, vec![0]].concat());
        assert!(!tokens.accepts(now, HERE, TORRENT, &longer));
    }
}
