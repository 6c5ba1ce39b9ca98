//! What the engine tells its owner: one [`Event`] for each thing worth a line in a log.
//!
//! The serde form is the JSON of the event log, less `ts`, which the printer adds.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use crate::base::{InfoHash, PeerId};

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The engine takes connections.
    Listening {
        /// Where peers connect, if anywhere.
        tcp: Option<SocketAddr>,
        /// Where datagrams arrive, if anywhere.
        udp: Option<SocketAddr>,
        /// The state folder.
        state: PathBuf,
    },
    /// A connection passed its handshake.
    JoinedToPeer {
        /// The torrent it is about.
        info_hash: Hex,
        /// The other end.
        peer: SocketAddr,
        /// What carries the connection: `tcp`.
        transport: &'static str,
        /// Whether the peer dialled us.
        incoming: bool,
        /// The name of its software.
        client: String,
    },
    /// A connection ended.
    LeftPeer {
        /// The torrent it was about.
        info_hash: Hex,
        /// The other end.
        peer: SocketAddr,
        /// Why.
        reason: String,
        /// Payload bytes that came from it.
        downloaded: u64,
        /// Payload bytes that went to it.
        uploaded: u64,
    },
    /// A piece, or part of it, is asked of a peer; once per piece and peer.
    Request {
        /// The torrent.
        info_hash: Hex,
        /// The piece.
        piece: u32,
        /// Who is asked.
        peer: SocketAddr,
    },
    /// A piece is verified.
    Have {
        /// The torrent.
        info_hash: Hex,
        /// The piece.
        piece: u32,
        /// Who sent it; the first, when several did; nobody when it was found on disk.
        peer: Option<SocketAddr>,
        /// Pieces verified so far.
        verified: u32,
        /// Pieces of the torrent.
        total: u32,
    },
    /// A piece came that is not what the metainfo says.
    HashFailed {
        /// The torrent.
        info_hash: Hex,
        /// The piece.
        piece: u32,
        /// Who sent parts of it.
        peers: Vec<SocketAddr>,
    },
    /// Pieces are on the medium and committed: they survive a power cut.
    Durable {
        /// The torrent.
        info_hash: Hex,
        /// Pieces that are durable now.
        pieces: u32,
        /// Pieces of the torrent.
        total: u32,
        /// Time that syncing and committing took, in milliseconds.
        ms: u64,
    },
    /// A piece, or part of it, was sent to a peer; once per piece and peer.
    Uploaded {
        /// The torrent.
        info_hash: Hex,
        /// The piece.
        piece: u32,
        /// Who got it.
        peer: SocketAddr,
    },
    /// How things stand; every second while something moves.
    Progress {
        /// The torrent.
        info_hash: Hex,
        /// Pieces verified.
        verified: u32,
        /// Pieces of the torrent.
        total: u32,
        /// Payload bytes per second that come in.
        down_rate: u64,
        /// Payload bytes per second that go out.
        up_rate: u64,
        /// Connections.
        peers: usize,
    },
    /// What was found of a torrent's payload when it was added.
    Resume {
        /// The torrent.
        info_hash: Hex,
        /// Pieces taken on trust.
        trusted: u32,
        /// Pieces hashed, whatever came out.
        rechecked: u32,
        /// Pieces still to be fetched.
        missing: u32,
        /// Pieces of the torrent.
        total: u32,
        /// Whether the last run ended in order.
        clean: bool,
        /// Time it took.
        seconds: f64,
    },
    /// A torrent's payload is whole and durable.
    Complete {
        /// The torrent.
        info_hash: Hex,
        /// Its name.
        name: String,
        /// Bytes of the payload.
        bytes: u64,
        /// Time since it was added in this run.
        seconds: f64,
        /// Payload bytes received in this run.
        downloaded: u64,
        /// Of these, how many were thrown away.
        wasted: u64,
    },
    /// All of a payload that is shared was re-read, once in the period that was asked for.
    Scrubbed {
        /// The torrent.
        info_hash: Hex,
        /// Pieces that were read.
        pieces: u32,
        /// Of these, how many were bad; each was told of in a warning of kind `bit_rot`.
        bad: u32,
        /// Bytes of the payload.
        bytes: u64,
        /// Time since the pass began, times when nothing ran included.
        seconds: u64,
    },
    /// A node asks whether the other is there.
    #[serde(rename = "dht_ping")]
    DhtPing(Box<DhtMessage>),
    /// The answer to a ping or an announce.
    #[serde(rename = "dht_pong")]
    DhtPong {
        /// Between whom.
        #[serde(flatten)]
        message: Box<DhtMessage>,
        /// The asker's address as the answerer sees it.
        #[serde(skip_serializing_if = "Option::is_none")]
        observed: Option<SocketAddr>,
    },
    /// A node asks for peers of a torrent, or for nodes close to a point.
    #[serde(rename = "dht_findPeers")]
    DhtFindPeers {
        /// Between whom.
        #[serde(flatten)]
        message: Box<DhtMessage>,
        /// The torrent or point.
        info_hash: Hex,
    },
    /// The answer to that.
    #[serde(rename = "dht_peers")]
    DhtPeers {
        /// Between whom.
        #[serde(flatten)]
        message: Box<DhtMessage>,
        /// The torrent or point, if the dialect repeats it.
        #[serde(skip_serializing_if = "Option::is_none")]
        info_hash: Option<Hex>,
        /// Peers of the torrent.
        peers: Vec<SocketAddr>,
        /// How many nodes it names.
        nodes: usize,
    },
    /// A node says that it has a torrent.
    #[serde(rename = "dht_announce")]
    DhtAnnounce {
        /// Between whom.
        #[serde(flatten)]
        message: Box<DhtMessage>,
        /// The torrent.
        info_hash: Hex,
        /// Its TCP port; nothing if it is that of the datagram.
        port: Option<u16>,
    },
    /// The DHT node has found its neighbours and can be used.
    DhtReady {
        /// Nodes in its table.
        nodes: usize,
        /// Of these, how many come from the table of an earlier run.
        warm: usize,
        /// Time since the start.
        seconds: f64,
    },
    /// Something failed and needs a person.
    Error {
        /// The torrent, if it is about one.
        #[serde(skip_serializing_if = "Option::is_none")]
        info_hash: Option<Hex>,
        /// One word for machines.
        kind: &'static str,
        /// One sentence for people.
        message: String,
    },
    /// Something is wrong that the engine copes with.
    Warning {
        /// The torrent, if it is about one.
        #[serde(skip_serializing_if = "Option::is_none")]
        info_hash: Option<Hex>,
        /// One word for machines.
        kind: &'static str,
        /// One sentence for people.
        message: String,
    },
}

// The queue of events is memory that a process holds once it was busy: 32,768 times this much.
const _: () = assert!(size_of::<Event>() <= 104);

/// Between whom a message of the DHT went.
#[derive(Clone, Debug, Serialize)]
pub struct DhtMessage {
    /// `in` or `out`.
    pub dir: &'static str,
    /// The other end.
    pub addr: SocketAddr,
    /// What it was written in: `json` or `krpc`.
    pub dialect: &'static str,
    /// The id of the node that sent it.
    pub id: Hex,
}

/// An [`InfoHash`] that serialises as 40 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hex(pub InfoHash);

impl Serialize for Hex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The name of a peer's software, from what it said of itself or else from its id (BEP 20).
pub fn client_name(said: Option<&str>, id: &PeerId) -> String {
    let mut name = match said {
        Some(said) if !said.trim().is_empty() => said.trim().to_owned(),
        _ => id.0[..8].escape_ascii().to_string(),
    };
    name.retain(|c| !c.is_control());
    name.chars().take(64).collect()
}
