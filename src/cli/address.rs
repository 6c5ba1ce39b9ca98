//! The `ADDR` of the command line: `:6881`, `host:port` or `[v6]:port`. Parsed without a look-up; resolved when it is used.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use super::exit::{Exit, Failure};

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

    /// Where to listen: without a host, on every interface.
    ///
    /// # Errors
    /// If the host has no address.
    pub(crate) fn listen(&self) -> Result<SocketAddr, Failure> {
        let Some(host) = &self.host else {
            return Ok((Ipv4Addr::UNSPECIFIED, self.port).into());
        };
        let addresses = resolve(host, self.port)?;
        addresses.first().copied().ok_or_else(|| unknown(host))
    }

    /// Whom to call: without a host, this machine; all addresses of a name.
    ///
    /// # Errors
    /// If the port is 0 or the host has no address.
    pub(crate) fn call(&self) -> Result<Vec<SocketAddr>, Failure> {
        if self.port == 0 {
            return Err(Failure::new(Exit::Usage, "port 0 cannot be called")
                .hint("give the port that the peer listens on"));
        }
        match &self.host {
            None => Ok(vec![(Ipv4Addr::LOCALHOST, self.port).into()]),
            Some(host) => resolve(host, self.port),
        }
    }

    /// The host and port as a torrent's `nodes` have them, this machine if there is no host.
    pub(crate) fn into_parts(self) -> (String, u16) {
        let host = self.host.unwrap_or_else(|| "127.0.0.1".to_owned());
        (host, self.port)
    }
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
    use super::*;

    fn listen(text: &str) -> SocketAddr {
        text.parse::<Address>().unwrap().listen().unwrap()
    }

    #[test]
    fn an_address_without_a_host_listens_everywhere_and_calls_this_machine() {
        assert_eq!(listen(":6881"), "0.0.0.0:6881".parse().unwrap());
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
    }

    #[test]
    fn empty_means_none_in_lists_and_where_to_listen() {
        assert_eq!("".parse::<AddressList>(), Ok(AddressList::default()));
        assert_eq!("".parse::<Listen>(), Ok(Listen(None)));
        assert_eq!(":1, h:2,".parse::<AddressList>().unwrap().0.len(), 2);
        assert!(":1,junk".parse::<AddressList>().is_err());
    }
}
