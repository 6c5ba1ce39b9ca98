//! What DHT nodes say to each other, whatever the dialect it is written in.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use crate::base::{InfoHash, NodeId};

/// A way to write messages down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Bencoded, as the mainline DHT speaks (BEP 5).
    Krpc,
    /// One JSON object a datagram, with five kinds of messages.
    Json,
}

impl Dialect {
    /// The one that a datagram beginning with this byte is written in; `None`: it belongs to another protocol.
    pub fn of(first: u8) -> Option<Self> {
        match first {
            b'd' => Some(Self::Krpc),
            b'{' => Some(Self::Json),
            _ => None,
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Krpc => Self::Json,
            Self::Json => Self::Krpc,
        }
    }

    /// Its name in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Krpc => "krpc",
            Self::Json => "json",
        }
    }
}

/// The dialects that a node was heard to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialects(u8);

impl Dialects {
    const KNOWN: u8 = 0b11;

    /// The set that [`bits`](Self::bits) wrote; unknown bits are left out.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & Self::KNOWN)
    }

    /// The set as it is stored: bit 0 for [`Dialect::Krpc`], bit 1 for [`Dialect::Json`].
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Adds one.
    pub fn insert(&mut self, dialect: Dialect) {
        self.0 |= Self::bit(dialect);
    }

    /// Whether it is in the set.
    pub fn contains(self, dialect: Dialect) -> bool {
        self.0 & Self::bit(dialect) != 0
    }

    /// The one to ask in: mainline if the node speaks it or is not known to speak anything.
    pub fn preferred(self) -> Dialect {
        if self == Self::from(Dialect::Json) {
            Dialect::Json
        } else {
            Dialect::Krpc
        }
    }

    fn bit(dialect: Dialect) -> u8 {
        match dialect {
            Dialect::Krpc => 0b01,
            Dialect::Json => 0b10,
        }
    }
}

impl From<Dialect> for Dialects {
    fn from(dialect: Dialect) -> Self {
        Self(Self::bit(dialect))
    }
}

/// A node as others tell of it: its id and where it takes datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Contact {
    /// Its id.
    pub id: NodeId,
    /// Its address; IPv4 ones are never written as IPv6.
    pub addr: SocketAddr,
}

/// What binds a reply to its query: chosen by who asks, echoed by who answers. At most
/// [`TRANSACTION_MAX`](crate::base::limits::TRANSACTION_MAX) bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transaction(pub Vec<u8>);

/// What a node hands out with a reply and wants to see with an announce (BEP 5). At most
/// [`TOKEN_MAX`](crate::base::limits::TOKEN_MAX) bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Token(pub Vec<u8>);

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which exchange it belongs to.
    pub transaction: Transaction,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A question.
    Query {
        /// Who asks.
        from: NodeId,
        /// Whether the asker answers no questions and belongs into no table (BEP 43).
        read_only: bool,
        /// What is asked.
        query: Query,
    },
    /// The answer to one.
    Reply {
        /// Who answers.
        from: NodeId,
        /// The asker's address as the answerer sees it (BEP 42).
        observed: Option<SocketAddr>,
        /// The answer.
        reply: Reply,
    },
    /// A question was not understood or not to be answered. The JSON dialect has no such message.
    Error {
        /// What is wrong (BEP 5: 201 generic, 202 server, 203 protocol, 204 method unknown).
        code: i64,
        /// The same for people.
        text: String,
    },
}

/// Contacts of which address families are asked for (BEP 32); neither means: the one that the query came by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Are you there?
    Ping,
    /// Who is close to this point? The JSON dialect asks [`Query::GetPeers`] instead.
    FindNode {
        /// The point.
        target: NodeId,
        /// Contacts wanted.
        want: Want,
    },
    /// Who has this torrent, and who is close to its name?
    GetPeers {
        /// The torrent.
        info_hash: InfoHash,
        /// Contacts wanted.
        want: Want,
        /// Whether the numbers of seeds and leechers are asked for (BEP 33).
        scrape: bool,
        /// Whether seeds are of no use to the asker (BEP 33).
        no_seeds: bool,
    },
    /// I have this torrent.
    Announce {
        /// The torrent.
        info_hash: InfoHash,
        /// The asker's TCP port; `None`: the port that the datagram came from (BEP 5, `implied_port`).
        port: Option<NonZeroU16>,
        /// Proof that the asker can be reached at its address.
        token: Token,
        /// Whether it has all of it (BEP 33).
        seed: bool,
    },
    /// What is stored at this point (BEP 44)? Nothing is, here; the answer names nodes, and holds a token, as some clients
    /// announce with one that they got like this.
    Get {
        /// The point.
        target: NodeId,
        /// Contacts wanted.
        want: Want,
    },
    /// Which torrents are announced to you (BEP 51)?
    Sample {
        /// A point whose neighbours are wanted as well.
        target: NodeId,
        /// Contacts wanted.
        want: Want,
    },
}

/// An answer. Which fields are filled depends on the question; an empty one says: I am here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The point that was asked for, when peers or nodes were. Written in the JSON dialect only, where it tells `peers` from
    /// `pong`.
    pub about: Option<InfoHash>,
    /// Contacts close to the point, of both families.
    pub nodes: Vec<Contact>,
    /// Peers that have the torrent.
    pub peers: Vec<SocketAddr>,
    /// What to announce with.
    pub token: Option<Token>,
    /// How many have the torrent (BEP 33).
    pub scrape: Option<Box<Scrape>>,
    /// Torrents announced here (BEP 51).
    pub samples: Option<Samples>,
}

/// Two Bloom filters of the addresses that announced a torrent (BEP 33).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrape {
    /// Of those that have all of it.
    pub seeds: [u8; 256],
    /// Of the others.
    pub leechers: [u8; 256],
}

/// Torrents announced to a node (BEP 51).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    /// Seconds after which another sample can be had.
    pub interval: u32,
    /// Torrents announced there in all.
    pub total: u32,
    /// Some of them, at most 20.
    pub hashes: Vec<InfoHash>,
}
