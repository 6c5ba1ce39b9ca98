//! The first 68 bytes each way (BEP 3): who we are and which torrent it is about.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::base::limits::HANDSHAKE_TIME;
use crate::base::{InfoHash, PeerId};
use crate::proto::wire::{HANDSHAKE_LEN, Handshake, Reserved};

/// Why a connection ended before it began.
#[derive(Debug, thiserror::Error)]
pub enum GreetError {
    /// The connection failed or the other end hung up.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Nothing came in time.
    #[error("no handshake came in time")]
    Silent,
    /// What came is not a BitTorrent handshake.
    #[error("the other end does not speak BitTorrent")]
    NotBitTorrent,
    /// The peer answered for another torrent.
    #[error("the peer shares another torrent")]
    OtherTorrent,
}

/// Greets a peer that we dialled.
///
/// # Errors
/// If it does not answer in time, or not as a peer of that torrent.
pub async fn dialled(
    stream: &mut TcpStream,
    info_hash: InfoHash,
    ours: PeerId,
) -> Result<Handshake, GreetError> {
    stream
        .write_all(&handshake(info_hash, ours).encode())
        .await?;
    let theirs = listen(stream).await?;
    if theirs.info_hash == info_hash {
        Ok(theirs)
    } else {
        Err(GreetError::OtherTorrent)
    }
}

/// Reads the greeting of a peer that dialled us. It is answered with [`answer`] once its torrent is found.
///
/// # Errors
/// If none comes in time.
pub async fn listen(stream: &mut TcpStream) -> Result<Handshake, GreetError> {
    let mut bytes = [0; HANDSHAKE_LEN];
    timeout(HANDSHAKE_TIME, stream.read_exact(&mut bytes))
        .await
        .map_err(|_| GreetError::Silent)??;
    let handshake = Handshake::decode(&bytes).ok().flatten();
    handshake.ok_or(GreetError::NotBitTorrent)
}

/// Answers a peer that dialled us.
///
/// # Errors
/// If the connection is gone.
pub async fn answer(stream: &mut TcpStream, info_hash: InfoHash, ours: PeerId) -> io::Result<()> {
    stream.write_all(&handshake(info_hash, ours).encode()).await
}

fn handshake(info_hash: InfoHash, peer_id: PeerId) -> Handshake {
    Handshake {
        reserved: Reserved::ours(false),
        info_hash,
        peer_id,
    }
}
