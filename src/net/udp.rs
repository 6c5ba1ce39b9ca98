//! The one UDP socket of a client. Everything that speaks over datagrams shares it, so that one port, one hole in a NAT
//! and one external address serve all.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::UdpSocket;

use crate::base::limits::DATAGRAM_READ_MAX;

/// Bytes that may wait in the kernel each way: a burst of answers to one lookup must not be lost while a task is busy.
const KERNEL_BUFFER: usize = 1 << 20;
/// Wait after an error of the socket that is not about one datagram.
const PAUSE: Duration = Duration::from_millis(50);

/// What a datagram belongs to, told by its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The DHT: `d` begins a bencoded dictionary, `{` a JSON object.
    Dht,
    /// Anything else: uTP and the replies of UDP trackers, which this version does not speak.
    Other,
}

impl Protocol {
    /// The protocol of a datagram.
    pub fn of(datagram: &[u8]) -> Self {
        match datagram.first() {
            Some(b'd' | b'{') => Self::Dht,
            _ => Self::Other,
        }
    }
}

/// A bound UDP socket.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    addr: SocketAddr,
}

impl Udp {
    /// Binds `addr`; port 0 takes any free port. An IPv6 wildcard takes IPv4 as well.
    ///
    /// # Errors
    /// If the address is in use or not ours.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let protocol = Some(socket2::Protocol::UDP);
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, protocol)?;
        if addr.is_ipv6() {
            socket.set_only_v6(!addr.ip().is_unspecified())?;
        }
        // A system that allows less gives what it allows.
        let _ = socket.set_recv_buffer_size(KERNEL_BUFFER);
        let _ = socket.set_send_buffer_size(KERNEL_BUFFER);
        socket.bind(&addr.into())?;
        socket.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(socket.into())?;
        let addr = socket.local_addr()?;
        Ok(Self { socket, addr })
    }

    /// Where datagrams arrive.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether IPv4 addresses can be reached.
    pub fn reaches_v4(&self) -> bool {
        self.addr.is_ipv4() || self.addr.ip().is_unspecified()
    }

    /// Whether IPv6 addresses can be reached: for a socket on all interfaces, whether there is a way to the internet.
    pub fn reaches_v6(&self) -> bool {
        self.addr.is_ipv6() && (!self.is_dual() || has_v6_route())
    }

    /// Whether it takes both IPv4 and IPv6.
    pub fn is_dual(&self) -> bool {
        self.addr.is_ipv6() && self.addr.ip().is_unspecified()
    }

    /// Waits for a datagram and says whom it is from and how long it is. IPv4 senders show their IPv4 address.
    pub async fn receive(&self, buffer: &mut [u8; DATAGRAM_READ_MAX]) -> (SocketAddr, usize) {
        loop {
            match self.socket.recv_from(buffer).await {
                Ok((len, from)) => return (canonical(from), len),
                Err(error) => self.endure(&error).await,
            }
        }
    }

    /// A datagram that has arrived already, if there is one.
    pub fn try_receive(&self, buffer: &mut [u8; DATAGRAM_READ_MAX]) -> Option<(SocketAddr, usize)> {
        let (len, from) = self.socket.try_recv_from(buffer).ok()?;
        Some((canonical(from), len))
    }

    /// Sends a datagram as soon as the kernel takes it. What cannot be sent is lost, as any datagram may be.
    pub async fn send(&self, to: SocketAddr, datagram: &[u8]) {
        if let Err(error) = self.socket.send_to(datagram, self.native(to)).await {
            tracing::trace!(%to, %error, "datagram not sent");
        }
    }

    /// How the socket writes an address: an IPv6 socket reaches IPv4 under mapped addresses.
    fn native(&self, to: SocketAddr) -> SocketAddr {
        match (self.addr, to.ip()) {
            (SocketAddr::V6(_), IpAddr::V4(ip)) => (ip.to_ipv6_mapped(), to.port()).into(),
            _ => to,
        }
    }

    /// Some systems report here that an earlier datagram found nobody; others only run out of something for a while.
    async fn endure(&self, error: &io::Error) {
        tracing::trace!(%error, "receiving failed");
        if error.kind() != io::ErrorKind::ConnectionReset {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Whether packets for the IPv6 internet have somewhere to go. Connecting a datagram socket asks the routing table and sends
/// nothing.
fn has_v6_route() -> bool {
    /// Any global address will do.
    const SOMEWHERE: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1);
    let socket = std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
    socket.is_ok_and(|socket| socket.connect((SOMEWHERE, 9)).is_ok())
}

fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether this machine can open IPv6 sockets that take IPv4 as well.
    fn has_dual_stack() -> bool {
        let open = || {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(socket2::Protocol::UDP))?;
            socket.set_only_v6(false)?;
            let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
            socket.bind(&any.into())
        };
        open().is_ok()
    }

    async fn exchange(one: &str, other: &str, reach: IpAddr) {
        let one = Udp::bind(one.parse().unwrap()).unwrap();
        let other = Udp::bind(other.parse().unwrap()).unwrap();
        let to = SocketAddr::new(reach, other.addr().port());
        one.send(to, b"d1:ae").await;
        let mut buffer = [0; DATAGRAM_READ_MAX];
        let (from, len) = other.receive(&mut buffer).await;
        assert_eq!(&buffer[..len], b"d1:ae");
        assert_eq!(from, SocketAddr::new(reach, one.addr().port()));
        other.send(from, b"{}").await;
        let (from, len) = one.receive(&mut buffer).await;
        assert_eq!((from, &buffer[..len]), (to, &b"{}"[..]));
        assert_eq!(one.try_receive(&mut buffer), None);
    }

    #[tokio::test]
    async fn ipv4_sockets_exchange_datagrams() {
        exchange("127.0.0.1:0", "127.0.0.1:0", [127, 0, 0, 1].into()).await;
    }

    #[tokio::test]
    async fn a_dual_stack_socket_shows_ipv4_addresses_as_such() {
        if !has_dual_stack() {
            eprintln!("skipped: no IPv6 here");
            return;
        }
        exchange("[::]:0", "127.0.0.1:0", [127, 0, 0, 1].into()).await;
        exchange("127.0.0.1:0", "[::]:0", [127, 0, 0, 1].into()).await;
        exchange("[::]:0", "[::]:0", Ipv6Addr::LOCALHOST.into()).await;
    }

    #[tokio::test]
    async fn what_it_reaches_depends_on_where_it_is_bound() {
        let reach = |addr: &str| {
            let udp = Udp::bind(addr.parse().unwrap()).unwrap();
            (udp.reaches_v4(), udp.reaches_v6())
        };
        assert_eq!(reach("127.0.0.1:0"), (true, false));
        if has_dual_stack() {
            assert_eq!(reach("[::]:0"), (true, has_v6_route()));
            assert_eq!(reach("[::1]:0"), (false, true));
        } else {
            eprintln!("skipped: no IPv6 here");
        }
    }

    #[test]
    fn protocols_are_told_apart_by_the_first_byte() {
        assert_eq!(Protocol::of(b"d1:ade"), Protocol::Dht);
        assert_eq!(Protocol::of(b"{\"type\""), Protocol::Dht);
        assert_eq!(Protocol::of(&[0x41, 0]), Protocol::Other);
        assert_eq!(Protocol::of(b""), Protocol::Other);
    }
}
