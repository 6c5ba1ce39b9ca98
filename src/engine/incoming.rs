//! Connections from outside, from the listener to the torrent they ask for.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::catalogue::Torrents;
use super::resources::Resources;
use super::torrent::Incoming;
use crate::net::greet;
use crate::net::listener::Listener;

/// Connections that have not said yet what they want. Honest ones say it at once, so beyond this the oldest has to go.
const STRANGERS: usize = 256;

/// Takes connections for ever.
pub(super) async fn accept(listener: Listener, torrents: Torrents, resources: Arc<Resources>) {
    let mut strangers = VecDeque::new();
    loop {
        let (stream, from) = listener.accept().await;
        let torrents = torrents.clone();
        let resources = Arc::clone(&resources);
        let stranger = tokio::spawn(async move {
            if let Err(error) = introduce(stream, from, &torrents, &resources).await {
                tracing::debug!(peer = %from, %error, "incoming connection dropped");
            }
        });
        strangers.retain(|stranger: &AbortHandle| !stranger.is_finished());
        strangers.push_back(stranger.abort_handle());
        if strangers.len() > STRANGERS
            && let Some(oldest) = strangers.pop_front()
        {
            oldest.abort();
        }
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
