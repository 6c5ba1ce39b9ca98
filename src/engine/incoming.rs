//! Connections from outside, from the listener to the torrent they ask for.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::catalogue::Torrents;
use super::resources::Resources;
use super::torrent::Incoming;
use crate::net::greet;
use crate::net::listener::Listener;

/// Connections that have not said yet what they want; more wait in the kernel.
const STRANGERS: usize = 64;

/// Takes connections for ever.
pub(super) async fn accept(listener: Listener, torrents: Torrents, resources: Arc<Resources>) {
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    loop {
        let Ok(place) = Arc::clone(&strangers).acquire_owned().await else {
            return;
        };
        let (stream, from) = listener.accept().await;
        let torrents = torrents.clone();
        let resources = Arc::clone(&resources);
        tokio::spawn(async move {
            if let Err(error) = introduce(stream, from, &torrents, &resources).await {
                tracing::debug!(peer = %from, %error, "incoming connection dropped");
            }
            drop(place);
        });
    }
}

async fn introduce(
    mut stream: TcpStream,
    from: std::net::SocketAddr,
    torrents: &Torrents,
    resources: &Resources,
) -> Result<(), greet::GreetError> {
    let handshake = greet::listen(&mut stream).await?;
    let Some(torrent) = torrents.get(handshake.info_hash) else {
        return Err(greet::GreetError::OtherTorrent);
    };
    greet::answer(&mut stream, handshake.info_hash, resources.peer_id).await?;
    torrent
        .incoming(Incoming {
            stream,
            from,
            handshake,
        })
        .await;
    Ok(())
}
