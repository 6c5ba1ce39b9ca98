//! Outgoing connections.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::base::limits::HANDSHAKE_TIME;

/// Connects to `addr`, within [`HANDSHAKE_TIME`].
///
/// # Errors
/// If nobody answers there in time.
pub async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(HANDSHAKE_TIME, TcpStream::connect(addr)).await??;
    // Requests are small and urgent; blocks are large enough to fill packets by themselves.
    stream.set_nodelay(true)?;
    Ok(stream)
}
