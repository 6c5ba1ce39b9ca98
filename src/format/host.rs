//! `host:port`, as `.bit` files and magnet links write nodes and peers. Nothing is resolved here.

use std::net::{IpAddr, Ipv6Addr};

/// A host, by name or address, and a port.
pub type HostPort = (String, u16);

/// Longest host name that DNS takes, in bytes.
const NAME_MAX: usize = 253;

/// Whether `host` is an IP address (v6 without brackets) or can be a name in DNS.
pub fn is_host(host: &str) -> bool {
    let named = !host.is_empty()
        && host.len() <= NAME_MAX
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    named || host.parse::<IpAddr>().is_ok()
}

/// Reads `host:port` or `[v6]:port`; `None` if it is neither or the port is 0.
pub fn parse(text: &str) -> Option<HostPort> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => {
            let inner = rest.strip_suffix(']')?;
            inner.parse::<Ipv6Addr>().ok()?;
            inner
        }
        // A bare v6 address does not say where its port begins.
        None if host.contains(':') => return None,
        None => host,
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|&port| digits && port > 0)?;
    is_host(host).then(|| (host.to_owned(), port))
}

/// Writes what [`parse`] reads.
pub fn format(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in ["127.0.0.1:6881", "[::1]:45", "router.example.com:1"] {
            let (host, port) = parse(text).unwrap();
            assert_eq!(format(&host, port), text);
        }
    }

    #[test]
    fn what_is_no_host_and_port_is_refused() {
        for text in [
            "", ":", ":1", "a:", "a:0", "a:65536", "a:+1", "::1:45", "[a]:1", "[::1:1", "<x>:100",
            "a b:1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
