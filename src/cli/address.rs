//! The `ADDR` of the command line: `:6881`, `host:port` or `[v6]:port`. Parsed without a look-up; resolved when it is used.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::str::FromStr;
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use seedbank::format::host::{self, HostPort};

use super::exit::{Exit, Failure};

/// Names looked up of those that a magnet link gives for its peers; the others are passed over.
const NAMES_MAX: usize = 16;
/// Addresses of a magnet link that are tried for ever, since they may be all there is. A link is a stranger's word: more are
/// tried as any that were found.
const TIRELESS_MAX: usize = 8;

/// The peers that a magnet link names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LinkPeers {
    /// To be tried for ever.
    pub(crate) tireless: Vec<SocketAddr>,
    /// To be tried as others that were found.
    pub(crate) found: Vec<SocketAddr>,
    /// What is wrong with the rest.
    pub(crate) complaints: Vec<String>,
}
/// Time to look all of them up. A resolver takes longer to give a dead name up, and peers are not worth such a wait.
const NAMES_TIME: Duration = Duration::from_secs(3);

/// An address as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// A name or an IP address without brackets; none in `:6881`.
    host: Option<String>,
    port: u16,
}

/// The text is no address; the message says what one looks like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address; write :6881, host:port or [v6]:port")]
pub(crate) struct InvalidAddress(String);

impl Address {
    /// The port, 0 for any free one.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where to listen: without a host, on every interface, for IPv6 too where this machine has that.
    ///
    /// # Errors
    /// If the host has no address.
    pub(crate) fn listen(&self) -> Result<SocketAddr, Failure> {
        let Some(host) = &self.host else {
            return Ok(SocketAddr::new(everywhere(), self.port));
        };
        let addresses = resolve(host, self.port)?;
        addresses.first().copied().ok_or_else(|| unknown(host))
    }

    /// Whom to call: without a host, this machine; all addresses of a name.
    ///
    /// # Errors
    /// If the port is 0 or the host has no address.
    pub(crate) fn call(&self) -> Result<Vec<SocketAddr>, Failure> {
        self.check_port()?;
        match &self.host {
            None => Ok(vec![(Ipv4Addr::LOCALHOST, self.port).into()]),
            Some(host) => resolve(host, self.port),
        }
    }

    /// Whom to call, its name not looked up yet; this machine if there is no host.
    ///
    /// # Errors
    /// If the port is 0.
    pub(crate) fn unresolved(&self) -> Result<HostPort, Failure> {
        self.check_port()?;
        Ok(self.clone().into_parts())
    }

    fn check_port(&self) -> Result<(), Failure> {
        if self.port > 0 {
            return Ok(());
        }
        Err(Failure::new(Exit::Usage, "port 0 cannot be called")
            .hint("give the port that the other side listens on"))
    }

    /// The host and port as a torrent's `nodes` have them, this machine if there is no host.
    pub(crate) fn into_parts(self) -> (String, u16) {
        let host = self.host.unwrap_or_else(|| "127.0.0.1".to_owned());
        (host, self.port)
    }
}

/// The address that stands for every interface.
pub(crate) fn everywhere() -> IpAddr {
    static FOUND: OnceLock<IpAddr> = OnceLock::new();
    // A system without IPv6 refuses the socket.
    *FOUND.get_or_init(|| match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    })
}

/// The addresses of peers that a magnet link names, and a complaint for each that has none. Those that are addresses already
/// need no look-up; all names are looked up side by side, and those that take longer than [`NAMES_TIME`] are done without.
pub(crate) fn resolve_all(peers: &[HostPort]) -> LinkPeers {
    let look_up = |host: &str, port| resolve(host, port).unwrap_or_default();
    let (mut all, complaints) = resolve_within(NAMES_TIME, peers, look_up);
    let found = all.split_off(all.len().min(TIRELESS_MAX));
    LinkPeers {
        tireless: all,
        found,
        complaints,
    }
}

/// The same with `look_up` for names, which may hang: it has threads of its own, for which nobody waits.
fn resolve_within(
    limit: Duration,
    peers: &[HostPort],
    look_up: impl Fn(&str, u16) -> Vec<SocketAddr> + Clone + Send + 'static,
) -> (Vec<SocketAddr>, Vec<String>) {
    let deadline = Instant::now() + limit;
    let (mut found, mut complaints) = (Vec::new(), Vec::new());
    let mut names: Vec<&HostPort> = Vec::new();
    for peer in peers {
        match peer.0.parse::<IpAddr>() {
            Ok(ip) => found.push(SocketAddr::new(ip, peer.1)),
            Err(_) if names.contains(&peer) => {}
            Err(_) => names.push(peer),
        }
    }
    if names.len() > NAMES_MAX {
        complaints.push(format!("only {NAMES_MAX} names of peers are looked up"));
        names.truncate(NAMES_MAX);
    }
    let (answer, answers) = mpsc::channel();
    let mut waiting: Vec<Option<&HostPort>> = names.iter().copied().map(Some).collect();
    for (at, &peer) in names.iter().enumerate() {
        let ((host, port), look_up, answer) = (peer.clone(), look_up.clone(), answer.clone());
        let work = move || {
            // Whoever asked may have given up.
            let _ = answer.send((at, look_up(&host, port)));
        };
        let thread = thread::Builder::new().name("names".to_owned()).spawn(work);
        // Without a thread there is no answer, which is told below.
        drop(thread);
    }
    drop(answer);
    let left = || deadline.saturating_duration_since(Instant::now());
    while let Ok((at, addresses)) = answers.recv_timeout(left()) {
        let peer = waiting[at].take();
        if let (Some((host, port)), true) = (peer, addresses.is_empty()) {
            complaints.push(format!("{}: no such host", host::format(host, *port)));
        }
        found.extend(addresses);
    }
    for (host, port) in waiting.into_iter().flatten() {
        let name = host::format(host, *port);
        complaints.push(format!("{name}: its address was not found in time"));
    }
    (found, complaints)
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found: io::Result<Vec<_>> = (host, port).to_socket_addrs().map(Iterator::collect);
    found.map_err(|_| unknown(host))
}

fn unknown(host: &str) -> Failure {
    Failure::new(Exit::NotFound, format!("{host}: no such host"))
        .hint("check the name and the network")
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidAddress(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        let port = port.parse().map_err(|_| invalid())?;
        if host.is_empty() {
            return Ok(Self { host: None, port });
        }
        let bracketed = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let host = match bracketed {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            Some(_) => return Err(invalid()),
            None => host,
        };
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        if bracketed.is_none() && !host.chars().all(plain) {
            return Err(invalid());
        }
        Ok(Self {
            host: Some(host.to_owned()),
            port,
        })
    }
}

/// Where to listen: an [`Address`], or empty for nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) Option<Address>);

impl FromStr for Listen {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "" => Ok(Self(None)),
            text => text.parse().map(Some).map(Self),
        }
    }
}

/// Addresses between commas; empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AddressList(pub(crate) Vec<Address>);

impl FromStr for AddressList {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        parts
            .map(Address::from_str)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier, Mutex};

    use super::*;

    fn listen(text: &str) -> SocketAddr {
        text.parse::<Address>().unwrap().listen().unwrap()
    }

    #[test]
    fn an_address_without_a_host_listens_everywhere_and_calls_this_machine() {
        assert_eq!(listen(":6881"), SocketAddr::new(everywhere(), 6881));
        assert!(everywhere().is_unspecified());
        let unresolved = ":6881".parse::<Address>().unwrap().unresolved();
        assert_eq!(unresolved.unwrap(), ("127.0.0.1".to_owned(), 6881));
        let called = ":6881".parse::<Address>().unwrap().call().unwrap();
        assert_eq!(called, ["127.0.0.1:6881".parse().unwrap()]);
    }

    #[test]
    fn v4_v6_and_names_are_read() {
        assert_eq!(listen("127.0.0.1:0"), "127.0.0.1:0".parse().unwrap());
        assert_eq!(listen("[::1]:65535"), "[::1]:65535".parse().unwrap());
        assert_eq!(listen("localhost:1").port(), 1);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let bad = [
            "",
            "6881",
            "host",
            "host:",
            ":",
            ":65536",
            ":-1",
            ":+1",
            "::1:80",
            "[::1]",
            "[::1:80",
            "[x]:1",
            "a b:1",
            "a/b:1",
            "http://a:1",
            "1.2.3.4:x",
        ];
        for text in bad {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn port_zero_may_be_listened_on_but_not_called() {
        let address: Address = ":0".parse().unwrap();
        assert_eq!(address.listen().unwrap().port(), 0);
        assert_eq!(address.call().unwrap_err().exit, Exit::Usage);
        assert_eq!(address.unresolved().unwrap_err().exit, Exit::Usage);
    }

    fn hosts(texts: &[&str]) -> Vec<HostPort> {
        texts.iter().filter_map(|text| host::parse(text)).collect()
    }

    #[test]
    fn peers_without_an_address_are_complained_of_and_the_others_found() {
        let peers = hosts(&["127.0.0.1:1", "no-such-host.invalid:2", "[::1]:3"]);
        let (found, complaints) = resolve_within(NAMES_TIME, &peers, |_, _| Vec::new());
        let wanted: Vec<SocketAddr> = ["127.0.0.1:1", "[::1]:3"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(found, wanted);
        assert_eq!(complaints, ["no-such-host.invalid:2: no such host"]);
    }

    #[test]
    fn a_link_names_few_peers_that_are_tried_for_ever_and_loses_none() {
        let peers: Vec<HostPort> = (1..=24).map(|port| ("127.0.0.1".into(), port)).collect();
        let link = resolve_all(&peers);
        let ports = |addrs: &[SocketAddr]| addrs.iter().map(SocketAddr::port).collect::<Vec<_>>();
        assert_eq!(ports(&link.tireless), (1..=8).collect::<Vec<_>>());
        assert_eq!(ports(&link.found), (9..=24).collect::<Vec<_>>());
    }

    #[test]
    fn names_are_looked_up_side_by_side() {
        // Each look-up waits for the other.
        let both = Arc::new(Barrier::new(2));
        let look_up = move |_: &str, port| {
            both.wait();
            vec![SocketAddr::from(([127, 0, 0, 1], port))]
        };
        let peers = hosts(&["a.test:1", "b.test:2", "a.test:1"]);
        let (mut found, complaints) = resolve_within(Duration::from_secs(60), &peers, look_up);
        found.sort();
        let wanted: [SocketAddr; 2] = [1, 2].map(|port| ([127, 0, 0, 1], port).into());
        assert_eq!((found.as_slice(), complaints.len()), (&wanted[..], 0));
    }

    #[test]
    fn a_name_that_takes_too_long_is_done_without() {
        let (let_go, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let look_up = move |_: &str, _| {
            // Until the end of the test.
            let _ = held.lock().unwrap().recv();
            Vec::new()
        };
        let peers = hosts(&["slow.test:1", "127.0.0.1:2"]);
        let (found, complaints) = resolve_within(Duration::from_millis(1), &peers, look_up);
        assert_eq!(found, ["127.0.0.1:2".parse().unwrap()]);
        assert_eq!(
            complaints,
            ["slow.test:1: its address was not found in time"]
        );
        drop(let_go);
    }

    #[test]
    fn no_more_names_are_looked_up_than_a_link_may_ask_for() {
        let names: Vec<HostPort> = (1..=40).map(|port| ("n.test".to_owned(), port)).collect();
        let here = |_: &str, port| vec![SocketAddr::from(([127, 0, 0, 1], port))];
        let (found, complaints) = resolve_within(Duration::from_secs(60), &names, here);
        assert_eq!((found.len(), complaints.len()), (NAMES_MAX, 1));
    }

    #[test]
    fn empty_means_none_in_lists_and_where_to_listen() {
        assert_eq!("".parse::<AddressList>(), Ok(AddressList::default()));
        assert_eq!("".parse::<Listen>(), Ok(Listen(None)));
        assert_eq!(":1, h:2,".parse::<AddressList>().unwrap().0.len(), 2);
        assert!(":1,junk".parse::<AddressList>().is_err());
    }
}
