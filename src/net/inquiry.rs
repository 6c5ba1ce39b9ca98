//! One task per connection that is about metadata: it moves bytes between a socket and an [`Inquiry`], and words between the
//! inquiry and whoever fetches the metadata. It decides nothing.

use std::convert::Infallible;
use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::inbox::Inbox;
use crate::proto::wire::{Inquiry, InquiryEvent, WireError};
use crate::swarm::PeerKey;

/// How long a peer may take to notice that we hang up. Until it does it would take our next connection for a second one.
const PARTING: Duration = Duration::from_millis(250);

/// An order from whoever fetches the metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Ask for this piece.
    Request(u32),
    /// Hang up.
    Close,
}

/// What a connection tells.
#[derive(Debug)]
pub enum Report {
    /// The peer said something.
    Heard(InquiryEvent),
    /// The connection is over, for this reason; nothing follows.
    Gone(String),
}

/// What a connection is tied to.
#[derive(Debug)]
pub struct Ties {
    /// How whoever fetches the metadata calls this peer.
    pub key: PeerKey,
    /// Orders come from here; when it closes, the connection ends.
    pub commands: mpsc::Receiver<Command>,
    /// Reports go there.
    pub reports: mpsc::Sender<(PeerKey, Report)>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Gone {
    #[error("the peer hung up")]
    HungUp,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the peer {0}")]
    Violation(#[from] WireError),
    #[error("it was closed")]
    Ordered,
}

/// Runs a connection that has passed the handshake until it ends, parts from the peer and reports that it is gone.
pub async fn run(stream: TcpStream, inquiry: Inquiry, ties: Ties) {
    let mut connection = Connection {
        stream,
        inquiry,
        ties,
        inbox: Inbox::default(),
    };
    let Err(gone) = connection.serve().await;
    if matches!(gone, Gone::Ordered) {
        // It is as good as gone, whether or not the peer notices in time.
        let _ = timeout(PARTING, connection.part()).await;
    }
    let report = Report::Gone(gone.to_string());
    let Ties { key, reports, .. } = connection.ties;
    // If nobody fetches any more, nobody is left to tell.
    let _ = reports.send((key, report)).await;
}

struct Connection {
    stream: TcpStream,
    inquiry: Inquiry,
    ties: Ties,
    inbox: Inbox,
}

impl Connection {
    async fn serve(&mut self) -> Result<Infallible, Gone> {
        loop {
            while let Some(event) = self.inquiry.poll() {
                let report = (self.ties.key, Report::Heard(event));
                let sent = self.ties.reports.send(report).await;
                sent.map_err(|_| Gone::Ordered)?;
            }
            let deadline = self.inquiry.next_deadline();
            let may_write = !self.inquiry.outgoing().is_empty();
            tokio::select! {
                command = self.ties.commands.recv() => match command {
                    Some(Command::Request(piece)) => self.inquiry.request(Instant::now(), piece),
                    Some(Command::Close) | None => return Err(Gone::Ordered),
                },
                ready = self.stream.readable() => {
                    ready?;
                    self.receive()?;
                }
                ready = self.stream.writable(), if may_write => {
                    ready?;
                    self.transmit()?;
                }
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.inquiry.handle_timeout(Instant::now())?;
                }
            }
        }
    }

    fn receive(&mut self) -> Result<(), Gone> {
        let wanted = self.inquiry.wanted();
        let read = |room: &mut [u8]| self.stream.try_read(room);
        let understand = |bytes: &[u8]| Ok::<_, Gone>(self.inquiry.receive(Instant::now(), bytes)?);
        match self.inbox.receive(wanted, usize::MAX, read, understand)? {
            Some(0) => Err(Gone::HungUp),
            _ => Ok(()),
        }
    }

    fn transmit(&mut self) -> Result<(), Gone> {
        match self.stream.try_write(self.inquiry.outgoing()) {
            Ok(written) => self.inquiry.sent(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Says good-bye and waits until the peer does.
    async fn part(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        let mut waste = [0; 4096];
        while self.stream.read(&mut waste).await? > 0 {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::net::TcpListener;

    use super::*;
    use crate::base::{InfoHash, PeerId};
    use crate::proto::wire::{ExtendedHandshake, InquiryConfig, Message, MetadataMessage};
    use crate::swarm::{MetadataFetch, PeerInfo};

    /// More than anything here takes.
    const LIMIT: Duration = Duration::from_secs(20);
    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Only who fetches makes keys.
    fn key() -> PeerKey {
        let mut fetch = MetadataFetch::new(InfoHash([1; 20]), PeerId([1; 20]), 1);
        let info = PeerInfo {
            addr: (IP, 1).into(),
            listen: None,
            id: PeerId([2; 20]),
            incoming: true,
            fast: true,
        };
        fetch.on_connected(Instant::now(), info).unwrap()
    }

    struct Rig {
        peer: TcpStream,
        commands: mpsc::Sender<Command>,
        reports: mpsc::Receiver<(PeerKey, Report)>,
    }

    async fn rig() -> Rig {
        let listener = TcpListener::bind((IP, 0)).await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap());
        let (peer, accepted) = tokio::join!(peer, listener.accept());
        let (commands, orders) = mpsc::channel(4);
        let (told, reports) = mpsc::channel(4);
        let config = InquiryConfig {
            fast: false,
            local: ExtendedHandshake::default(),
            remote_ip: IP,
        };
        let inquiry = Inquiry::new(Instant::now(), config);
        let ties = Ties {
            key: key(),
            commands: orders,
            reports: told,
        };
        tokio::spawn(run(accepted.unwrap().0, inquiry, ties));
        Rig {
            peer: peer.unwrap(),
            commands,
            reports,
        }
    }

    impl Rig {
        async fn say(&mut self, id: u8, payload: &[u8]) {
            let mut bytes = Vec::new();
            Message::Extended { id, payload }.encode(&mut bytes);
            self.peer.write_all(&bytes).await.unwrap();
        }

        async fn report(&mut self) -> Report {
            let report = timeout(LIMIT, self.reports.recv()).await;
            report.unwrap().unwrap().1
        }

        /// Everything until the other end hangs up.
        async fn rest(&mut self) -> Vec<u8> {
            let mut rest = Vec::new();
            let read = timeout(LIMIT, self.peer.read_to_end(&mut rest)).await;
            read.unwrap().unwrap();
            rest
        }
    }

    #[tokio::test]
    async fn what_is_ordered_is_asked_and_what_is_answered_is_reported() {
        let mut rig = rig().await;
        rig.say(0, b"d1:md11:ut_metadatai7ee13:metadata_sizei3ee")
            .await;
        let Report::Heard(InquiryEvent::Extended(said)) = rig.report().await else {
            panic!("no handshake");
        };
        assert_eq!(said.metadata_size, Some(3));
        rig.commands.send(Command::Request(0)).await.unwrap();
        let data = MetadataMessage::Data {
            piece: 0,
            total_size: Some(3),
            bytes: b"abc",
        };
        let mut head = [0; 4];
        rig.peer.read_exact(&mut head).await.unwrap();
        let mut hello = vec![0; u32::from_be_bytes(head) as usize];
        rig.peer.read_exact(&mut hello).await.unwrap();
        rig.peer.read_exact(&mut head).await.unwrap();
        let mut request = vec![0; u32::from_be_bytes(head) as usize];
        rig.peer.read_exact(&mut request).await.unwrap();
        assert_eq!(request[..2], [20, 7]);
        rig.say(2, &data.encode()).await;
        let Report::Heard(InquiryEvent::Data { bytes, .. }) = rig.report().await else {
            panic!("no data");
        };
        assert_eq!(bytes, b"abc");
    }

    #[tokio::test]
    async fn it_is_gone_only_when_the_peer_has_noticed() {
        let mut rig = rig().await;
        rig.commands.send(Command::Close).await.unwrap();
        rig.rest().await;
        assert!(rig.reports.try_recv().is_err(), "the peer is still there");
        drop(std::mem::replace(&mut rig.peer, {
            let listener = TcpListener::bind((IP, 0)).await.unwrap();
            TcpStream::connect(listener.local_addr().unwrap())
                .await
                .unwrap()
        }));
        assert!(matches!(rig.report().await, Report::Gone(_)));
    }

    #[tokio::test]
    async fn a_violation_ends_it_with_the_reason() {
        let mut rig = rig().await;
        rig.say(0, b"no dictionary").await;
        let Report::Gone(reason) = rig.report().await else {
            panic!("it goes on");
        };
        assert!(reason.contains("extension handshake"), "{reason}");
        rig.rest().await;
    }

    #[tokio::test]
    async fn it_ends_when_nobody_gives_orders_any_more() {
        let mut rig = rig().await;
        rig.commands = mpsc::channel(1).0;
        rig.rest().await;
    }
}
