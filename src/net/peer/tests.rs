//! What a connection's task does between a socket and its torrent, over loopback.

use std::io::IoSliceMut;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::timeout;

use super::*;
use crate::base::{BLOCK_LEN, Bitfield, Geometry, InfoHash, SharedBitfield};
use crate::proto::wire::{ExtendedHandshake, SessionConfig};
use crate::swarm::{self, PeerInfo, Start, Swarm};

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A torrent of 64 pieces of one block each, all of them served.
fn geometry() -> Geometry {
    Geometry::new(64 * u64::from(BLOCK_LEN), BLOCK_LEN).unwrap()
}

fn session() -> Session {
    let config = SessionConfig {
        geometry: geometry(),
        served: Arc::new(SharedBitfield::new(&Bitfield::full(64))),
        fast: false,
        extended: false,
        local: ExtendedHandshake::default(),
        metadata: None,
        remote_ip: "127.0.0.1".parse().unwrap(),
        info_hash: InfoHash([7; 20]),
    };
    Session::new(Instant::now(), config)
}

/// Only a swarm makes keys.
fn key() -> PeerKey {
    let config = swarm::Config {
        geometry: geometry(),
        seed: 1,
        max_peers: 10,
        upload_slots: 1,
        id: crate::base::PeerId([1; 20]),
        own: Vec::new(),
    };
    let start = Start {
        verified: Bitfield::new(64),
        durable: Bitfield::new(64),
        partial: Vec::new(),
    };
    let addr = "10.0.0.1:1000".parse().unwrap();
    let info = PeerInfo {
        addr,
        listen: Some(addr),
        id: crate::base::PeerId([2; 20]),
        incoming: false,
        fast: false,
    };
    let now = Instant::now();
    Swarm::new(now, config, start)
        .on_connected(now, info)
        .unwrap()
}

/// A connection that serves from `source`, unchoked, and both of its ends.
struct Rig {
    remote: TcpStream,
    commands: mpsc::Sender<Command>,
    reports: mpsc::Receiver<(PeerKey, Report)>,
}

impl Rig {
    async fn new(source: impl BlockSource, up: Option<u64>, queue: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialling = TcpStream::connect(listener.local_addr().unwrap());
        let (remote, accepted) = tokio::join!(dialling, listener.accept());
        let (commands, orders) = mpsc::channel(16);
        let (reporter, reports) = mpsc::channel(queue);
        let now = Instant::now();
        let ties = Ties {
            key: key(),
            commands: orders,
            reports: reporter,
            source,
            budget: Arc::new(Semaphore::new(1 << 20)),
            up: Arc::new(Throttle::new(now, up)),
            down: Arc::new(Throttle::new(now, None)),
            spare: Arc::new(Spare::new()),
        };
        tokio::spawn(run(accepted.unwrap().0, session(), ties));
        commands.send(Command::Choke(false)).await.unwrap();
        let mut rig = Self {
            remote: remote.unwrap(),
            commands,
            reports,
        };
        // The bitfield and the unchoke; what is asked before them is refused.
        let mut said = [0; 4 + 1 + 8 + 4 + 1];
        rig.remote.read_exact(&mut said).await.unwrap();
        assert_eq!(said.last(), Some(&1));
        rig
    }

    /// Asks for the first `blocks` blocks.
    async fn ask(&mut self, blocks: u32) {
        for piece in 0..blocks {
            let numbers = [13, piece, 0, BLOCK_LEN].map(u32::to_be_bytes);
            let mut message = numbers.concat();
            message.insert(4, 6);
            self.remote.write_all(&message).await.unwrap();
        }
    }

    async fn report(&mut self) -> Report {
        let next = timeout(PATIENCE, self.reports.recv()).await;
        next.expect("a report in time").expect("a last word").1
    }
}

#[derive(Clone)]
struct Panicking;

impl BlockSource for Panicking {
    fn read_now(&self, _: &[BlockRange], _: &mut [IoSliceMut<'_>]) -> Attempt {
        Attempt::WouldWait
    }

    async fn read(&self, _: Vec<BlockRange>) -> Option<Vec<u8>> {
        panic!("a defect, for a test");
    }
}

#[tokio::test]
async fn a_connection_that_panics_is_reported_as_gone() {
    // With room in the queue, and without.
    for queue in [64, 1] {
        let mut rig = Rig::new(Panicking, None, queue).await;
        rig.ask(1).await;
        while !matches!(rig.report().await, Report::Gone { .. }) {}
        assert!(rig.commands.send(Command::Choke(true)).await.is_err());
        let end = timeout(PATIENCE, rig.reports.recv()).await;
        assert!(end.unwrap().is_none(), "more than a last word");
    }
}

/// Tells of each read.
#[derive(Clone)]
struct Telling(mpsc::UnboundedSender<usize>);

impl BlockSource for Telling {
    fn read_now(&self, _: &[BlockRange], _: &mut [IoSliceMut<'_>]) -> Attempt {
        Attempt::WouldWait
    }

    async fn read(&self, ranges: Vec<BlockRange>) -> Option<Vec<u8>> {
        let bytes = ranges.iter().map(|range| range.len() as usize).sum();
        self.0.send(bytes).unwrap();
        Some(vec![5; bytes])
    }
}

#[tokio::test]
async fn nothing_is_read_for_a_peer_before_its_time_has_come() {
    let (tell, mut reads) = mpsc::unbounded_channel();
    // One byte per second: the first batch waits for hours.
    let mut rig = Rig::new(Telling(tell), Some(1), 64).await;
    rig.ask(10).await;
    // Orders are obeyed meanwhile; a read would have come before the end.
    let close = Command::Close("enough".into());
    rig.commands.send(close).await.unwrap();
    while !matches!(rig.report().await, Report::Gone { .. }) {}
    assert_eq!(reads.try_recv(), Err(TryRecvError::Disconnected));
}

#[tokio::test]
async fn what_moved_is_told_soon_though_nothing_else_happens() {
    let (tell, _reads) = mpsc::unbounded_channel();
    let mut rig = Rig::new(Telling(tell), None, 64).await;
    rig.ask(3).await;
    let mut blocks = vec![0; 3 * (13 + BLOCK_LEN as usize)];
    rig.remote.read_exact(&mut blocks).await.unwrap();
    let began = Instant::now();
    // The rate falls by and by, which is told as well.
    let mut rates = Vec::new();
    while rates.len() < 3 {
        if let Report::Tally(tally) = rig.report().await
            && tally.uploaded == 3 * u64::from(BLOCK_LEN)
        {
            rates.push(tally.up_rate);
        }
    }
    assert!(rates[2] < rates[1], "{rates:?}");
    assert!(began.elapsed() < PATIENCE);
}
