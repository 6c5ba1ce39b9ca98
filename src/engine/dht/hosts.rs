//! Nodes given by name: looked up when they are needed, and again while that fails.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::base::limits::{NAMES_AT_ONCE, NODES_PER_NAME};
use crate::format::host::HostPort;

/// First pause before names that could not be looked up are tried again; it doubles each time.
const AGAIN: Duration = Duration::from_secs(5);
/// The longest such pause.
const AGAIN_MAX: Duration = Duration::from_secs(300);

/// What the addresses are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// To start from.
    Router,
    /// One more node to know.
    Node,
}

/// Names on their way to addresses.
#[derive(Debug)]
pub(super) struct Hosts {
    looking: JoinSet<Result<(Role, Vec<SocketAddr>), HostPort>>,
    /// Routers whose names could not be looked up.
    unknown: Vec<HostPort>,
    again_at: Option<Instant>,
    pause: Duration,
}

impl Hosts {
    pub(super) fn new() -> Self {
        Self {
            looking: JoinSet::new(),
            unknown: Vec::new(),
            again_at: None,
            pause: AGAIN,
        }
    }

    /// Looks `hosts` up. Those that are addresses already are given back at once.
    pub(super) fn look_up(&mut self, role: Role, hosts: Vec<HostPort>) -> Vec<SocketAddr> {
        let mut known = Vec::new();
        for (host, port) in hosts {
            if let Ok(ip) = host.parse::<IpAddr>() {
                known.push(SocketAddr::new(ip, port));
            } else if self.looking.len() < NAMES_AT_ONCE {
                self.looking.spawn(resolve(role, (host, port)));
            }
        }
        known
    }

    /// The next addresses that were found. Pending while there is nothing to look up.
    pub(super) async fn found(&mut self) -> (Role, Vec<SocketAddr>) {
        loop {
            let again_at = self.again_at;
            let again = async {
                match again_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(looked) = self.looking.join_next() => match looked {
                    Ok(Ok(found)) => return found,
                    Ok(Err(router)) => self.try_later(router),
                    Err(error) => tracing::debug!(%error, "a name look-up died"),
                },
                () = again => self.try_again(),
            }
        }
    }

    fn try_later(&mut self, router: HostPort) {
        self.unknown.push(router);
        let again_at = Instant::now() + self.pause;
        self.again_at.get_or_insert(again_at);
    }

    fn try_again(&mut self) {
        self.again_at = None;
        self.pause = (self.pause * 2).min(AGAIN_MAX);
        for router in std::mem::take(&mut self.unknown) {
            self.looking.spawn(resolve(Role::Router, router));
        }
    }
}

/// The addresses of a name. A router that has none now may have some later.
async fn resolve(role: Role, host: HostPort) -> Result<(Role, Vec<SocketAddr>), HostPort> {
    let found = tokio::net::lookup_host((host.0.as_str(), host.1)).await;
    let found = found.map(|found| found.take(NODES_PER_NAME).collect());
    match found {
        Ok(found) => Ok((role, found)),
        Err(error) => {
            tracing::debug!(host = host.0, %error, "a DHT node's name has no address");
            match role {
                Role::Router => Err(host),
                Role::Node => Ok((role, Vec::new())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_need_no_look_up_and_names_get_one() {
        let mut hosts = Hosts::new();
        let given = [("127.0.0.1", 1), ("::1", 2), ("localhost", 3)];
        let given = given.map(|(host, port)| (host.to_owned(), port)).to_vec();
        let at_once = hosts.look_up(Role::Router, given);
        let expected: [SocketAddr; 2] = [
            ([127, 0, 0, 1], 1).into(),
            "[::1]:2".parse().expect("an address"),
        ];
        assert_eq!(at_once, expected);
        let (role, found) = hosts.found().await;
        assert_eq!(role, Role::Router);
        let local = |addr: &SocketAddr| addr.ip().is_loopback() && addr.port() == 3;
        assert!(!found.is_empty() && found.iter().all(local), "{found:?}");
    }

    #[tokio::test]
    async fn a_router_without_address_is_asked_for_again_and_a_node_is_not() {
        let mut hosts = Hosts::new();
        // Longer than a name can be, so that nobody is asked.
        let nowhere = ("x".repeat(300), 1);
        hosts.look_up(Role::Node, vec![nowhere.clone()]);
        assert_eq!(hosts.found().await, (Role::Node, vec![]));
        hosts.try_later(nowhere);
        assert!(hosts.again_at.is_some());
        hosts.try_again();
        assert_eq!((hosts.looking.len(), hosts.again_at), (1, None));
        assert_eq!(hosts.pause, AGAIN * 2);
    }
}
