//! Incoming connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

/// Connections that wait in the kernel until we accept them.
const BACKLOG: i32 = 256;
/// Wait after an error of `accept`, which is as a rule a lack of file handles and passes.
const PAUSE: Duration = Duration::from_millis(200);

/// Takes connections at one address.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    addr: SocketAddr,
}

impl Listener {
    /// Binds `addr`; port 0 takes any free port. An IPv6 wildcard takes IPv4 as well.
    ///
    /// # Errors
    /// If the address is in use or not ours.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(!addr.ip().is_unspecified())?;
        }
        // A restart must not wait for connections of the last run to time out.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let socket = TcpListener::from_std(socket.into())?;
        let addr = socket.local_addr()?;
        Ok(Self { socket, addr })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The next connection and where it comes from. IPv4 peers of an IPv6 socket show their IPv4 address.
    pub async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok((stream, from)) if stream.set_nodelay(true).is_ok() => {
                    return (
                        stream,
                        SocketAddr::new(from.ip().to_canonical(), from.port()),
                    );
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}
