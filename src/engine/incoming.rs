//! Connections from outside, from the listener to the torrent they ask for, or to the fetch of its metadata.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::catalogue::{Entry, Torrents};
use super::resources::Resources;
use super::torrent::Incoming;
use crate::base::limits::STRANGERS_MAX;
use crate::net::greet::{self, GreetError};
use crate::net::listener::Listener;

/// Time for a torrent's task to take a connection; it is never busy for long, unless it is winding down.
const HAND_OVER: Duration = Duration::from_secs(1);

/// Takes connections for ever.
pub(super) async fn accept(listener: Listener, torrents: Torrents, resources: Arc<Resources>) {
    let mut strangers = Strangers::default();
    loop {
        let (stream, from) = listener.accept().await;
        let torrents = torrents.clone();
        let resources = Arc::clone(&resources);
        let stranger = tokio::spawn(async move {
            if let Err(error) = introduce(stream, from, &torrents, &resources).await {
                tracing::debug!(peer = %from, %error, "incoming connection dropped");
            }
        });
        strangers.retain(|stranger: &AbortHandle| !stranger.is_finished());
        if let Some(unwelcome) = strangers.admit(from.ip(), stranger.abort_handle()) {
            unwelcome.abort();
        }
    }
}

async fn introduce(
    mut stream: TcpStream,
    from: SocketAddr,
    torrents: &Torrents,
    resources: &Resources,
) -> Result<(), GreetError> {
    let find = |info_hash| {
        let entry = torrents.entry(info_hash)?;
        let private = matches!(&entry, Entry::Torrent(torrent) if torrent.is_private());
        Some((entry, resources.reserved(private)))
    };
    let (handshake, entry) = greet::answered(&mut stream, resources.peer_id, find).await?;
    let incoming = Incoming {
        stream,
        from,
        handshake,
    };
    let hand_over = async {
        match entry {
            Entry::Torrent(torrent) => torrent.incoming(incoming).await,
            // If the fetch has ended the connection is dropped; the peer will find the torrent next time.
            Entry::Fetch(connections) => drop(connections.send(incoming).await),
        }
    };
    if timeout(HAND_OVER, hand_over).await.is_err() {
        tracing::debug!(peer = %from, "incoming connection dropped: its torrent is busy");
    }
    Ok(())
}

/// Connections that have not said yet what they want, oldest first, by the network that they come from.
struct Strangers<T> {
    queue: VecDeque<(IpAddr, T)>,
}

impl<T> Default for Strangers<T> {
    fn default() -> Self {
        let queue = VecDeque::new();
        Self { queue }
    }
}

impl<T> Strangers<T> {
    fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.queue.retain(|(_, stranger)| keep(stranger));
    }

    /// Takes one in. If that is one too many, the oldest of the network with the most has to go: whoever opens many pushes
    /// out nobody but himself.
    fn admit(&mut self, from: IpAddr, stranger: T) -> Option<T> {
        self.queue.push_back((network(from), stranger));
        if self.queue.len() <= STRANGERS_MAX {
            return None;
        }
        let mut counts = HashMap::new();
        for (network, _) in &self.queue {
            *counts.entry(*network).or_insert(0) += 1;
        }
        let most = counts.values().copied().max()?;
        let crowded = |(network, _): &(IpAddr, T)| counts.get(network) == Some(&most);
        let oldest = self.queue.iter().position(crowded)?;
        self.queue.remove(oldest).map(|(_, stranger)| stranger)
    }
}

/// What one party has for itself: an IPv4 address, or an IPv6 network of 64 bits.
fn network(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => addr,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn whoever_opens_many_connections_pushes_out_only_his_own() {
        let mut strangers = Strangers::default();
        assert_eq!(strangers.admit(ip("10.0.0.1"), 0), None);
        for n in 1..STRANGERS_MAX {
            assert_eq!(strangers.admit(ip("10.0.0.9"), n), None);
        }
        for n in 1..1_000 {
            let next = STRANGERS_MAX - 1 + n;
            assert_eq!(strangers.admit(ip("10.0.0.9"), next), Some(n));
        }
        assert_eq!(strangers.admit(ip("10.0.0.2"), 5_000), Some(1_000));
        strangers.retain(|&n| n == 0 || n == 5_000);
        assert_eq!(strangers.queue.len(), 2);
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let mut strangers = Strangers::default();
        assert_eq!(strangers.admit(ip("2001:db8:0:1::1"), 0), None);
        for n in 1..STRANGERS_MAX {
            let from = ip(&format!("2001:db8:0:2::{n:x}"));
            assert_eq!(strangers.admit(from, n), None);
        }
        assert_eq!(strangers.admit(ip("2001:db8:0:3::1"), 1_000), Some(1));
    }

    #[test]
    fn among_equals_the_oldest_has_to_go() {
        let mut strangers = Strangers::default();
        for n in 0..STRANGERS_MAX {
            let from = IpAddr::from([10, 0, 1, n as u8]);
            assert_eq!(strangers.admit(from, n), None);
        }
        assert_eq!(strangers.admit(ip("10.0.0.1"), 1_000), Some(0));
    }
}
