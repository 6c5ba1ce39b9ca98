//! The first 68 bytes each way (BEP 3): who we are and which torrent it is about.

use std::future::Future;
use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::base::limits::HANDSHAKE_TIME;
use crate::base::{InfoHash, PeerId};
use crate::proto::wire::{HANDSHAKE_LEN, Handshake, Reserved};

/// Bytes of a peer id, which comes last.
const PEER_ID_LEN: usize = 20;

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

/// Greets a peer that we dialled; `reserved` says what we speak.
///
/// # Errors
/// If it does not answer in time, or not as a peer of that torrent.
pub async fn dialled(
    stream: &mut TcpStream,
    info_hash: InfoHash,
    ours: PeerId,
    reserved: Reserved,
) -> Result<Handshake, GreetError> {
    in_time(async {
        say(stream, info_hash, ours, reserved).await?;
        let (reserved, theirs) = hear_head(stream).await?;
        if theirs != info_hash {
            return Err(GreetError::OtherTorrent);
        }
        let peer_id = hear_id(stream).await?;
        Ok(Handshake {
            reserved,
            info_hash,
            peer_id,
        })
    })
    .await
}

/// Greets a peer that dialled us, for the torrent that `find` has under the name that it says, with what we speak about it.
///
/// It is answered before it has said its peer id, which some clients hold back until then.
///
/// # Errors
/// If it does not say enough in time, speaks another protocol, or asks for a torrent that is not here.
pub async fn answered<T>(
    stream: &mut TcpStream,
    ours: PeerId,
    find: impl FnOnce(InfoHash) -> Option<(T, Reserved)>,
) -> Result<(Handshake, T), GreetError> {
    in_time(async {
        let (reserved, info_hash) = hear_head(stream).await?;
        let (found, speak) = find(info_hash).ok_or(GreetError::OtherTorrent)?;
        say(stream, info_hash, ours, speak).await?;
        let handshake = Handshake {
            reserved,
            info_hash,
            peer_id: hear_id(stream).await?,
        };
        Ok((handshake, found))
    })
    .await
}

/// Bounds all of a greeting, however it is cut into packets.
async fn in_time<T>(
    greeting: impl Future<Output = Result<T, GreetError>>,
) -> Result<T, GreetError> {
    let greeted = timeout(HANDSHAKE_TIME, greeting).await;
    greeted.unwrap_or(Err(GreetError::Silent))
}

async fn say(
    stream: &mut TcpStream,
    info_hash: InfoHash,
    ours: PeerId,
    reserved: Reserved,
) -> io::Result<()> {
    let handshake = Handshake {
        reserved,
        info_hash,
        peer_id: ours,
    };
    stream.write_all(&handshake.encode()).await
}

async fn hear_head(stream: &mut TcpStream) -> Result<(Reserved, InfoHash), GreetError> {
    let mut head = [0; HANDSHAKE_LEN - PEER_ID_LEN];
    stream.read_exact(&mut head).await?;
    let head = Handshake::decode_head(&head).ok().flatten();
    head.ok_or(GreetError::NotBitTorrent)
}

async fn hear_id(stream: &mut TcpStream) -> io::Result<PeerId> {
    let mut id = [0; PEER_ID_LEN];
    stream.read_exact(&mut id).await?;
    Ok(PeerId(id))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const HASH: InfoHash = InfoHash([3; 20]);
    const PLAIN: Reserved = Reserved([0; 8]);

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialling = TcpStream::connect(listener.local_addr().unwrap());
        let (dialled, accepted) = tokio::join!(dialling, listener.accept());
        (dialled.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn a_peer_that_holds_back_its_id_is_answered_first() {
        let (mut theirs, mut ours) = pair().await;
        let them = async {
            let hello = Handshake {
                reserved: Reserved::ours(false),
                info_hash: HASH,
                peer_id: PeerId([2; 20]),
            };
            let hello = hello.encode();
            theirs.write_all(&hello[..48]).await.unwrap();
            let mut answer = [0; HANDSHAKE_LEN];
            theirs.read_exact(&mut answer).await.unwrap();
            theirs.write_all(&hello[48..]).await.unwrap();
            Handshake::decode(&answer).unwrap().unwrap()
        };
        let us = answered(&mut ours, PeerId([1; 20]), |hash| Some((hash, PLAIN)));
        let (answer, greeted) = tokio::join!(them, us);
        let (theirs, found) = greeted.unwrap();
        assert_eq!(answer.peer_id, PeerId([1; 20]));
        assert_eq!((theirs.peer_id, found), (PeerId([2; 20]), HASH));
    }

    #[tokio::test]
    async fn both_ends_learn_each_other() {
        let (mut one, mut other) = pair().await;
        let (dialled, answered) = tokio::join!(
            dialled(&mut one, HASH, PeerId([1; 20]), PLAIN),
            answered(&mut other, PeerId([2; 20]), |_| Some((
                (),
                Reserved::ours(true)
            ))),
        );
        let (dialled, answered) = (dialled.unwrap(), answered.unwrap().0);
        assert_eq!(dialled.peer_id, PeerId([2; 20]));
        assert_eq!(dialled.reserved, Reserved::ours(true));
        assert_eq!(answered.peer_id, PeerId([1; 20]));
        assert_eq!(answered.reserved, PLAIN);
    }

    #[tokio::test]
    async fn who_asks_for_a_torrent_that_is_not_here_hears_nothing() {
        let (mut one, mut other) = pair().await;
        let listening = async {
            let refused = answered(&mut other, PeerId([2; 20]), |_| None::<((), Reserved)>).await;
            assert!(matches!(refused, Err(GreetError::OtherTorrent)));
            drop(other);
        };
        let (dialled, ()) =
            tokio::join!(dialled(&mut one, HASH, PeerId([1; 20]), PLAIN), listening);
        assert!(matches!(dialled, Err(GreetError::Io(_))), "{dialled:?}");
    }
}
