//! What the owner of an [`Engine`](super::Engine) chooses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{FileIdentity, InfoHash};
use crate::disk::{Kernel, Medium, Pace};
use crate::format::host::HostPort;
use crate::format::metainfo::Metainfo;

/// How bytes get into the output file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoMode {
    /// What is fast and safe on that filesystem.
    #[default]
    Auto,
    /// Through a shared mapping.
    Mmap,
    /// With positioned writes.
    Pwrite,
}

/// Settings of the whole engine.
#[derive(Clone, Debug)]
pub struct Config {
    /// The state folder; it is made if need be and locked while the engine lives.
    pub state: PathBuf,
    /// Where to take connections; `None` takes none. Port 0 takes any free one.
    pub tcp_listen: Option<SocketAddr>,
    /// The DHT node; `None` runs none.
    pub dht: Option<DhtConfig>,
    /// How bytes get into files.
    pub io: IoMode,
    /// Most payload bytes per second to receive, over all torrents.
    pub max_down: Option<u64>,
    /// Most payload bytes per second to send, over all torrents.
    pub max_up: Option<u64>,
    /// How often everything that is shared is re-read, to find and mend what rotted on the disk; `None` for never.
    pub scrub: Option<Duration>,
}

/// What an engine stands on. The default is this machine; tests of what a crash leaves put something else under it.
#[derive(Clone, Debug)]
pub struct Footing {
    /// Where payload files lie.
    pub medium: Arc<dyn Medium>,
    /// When what is verified is made durable.
    pub pace: Pace,
}

impl Default for Footing {
    fn default() -> Self {
        Self {
            medium: Arc::new(Kernel),
            pace: Pace::default(),
        }
    }
}

/// Settings of the DHT node.
#[derive(Clone, Debug)]
pub struct DhtConfig {
    /// Where datagrams arrive; port 0 takes any free one. An IPv6 wildcard takes IPv4 as well.
    pub listen: SocketAddr,
    /// Nodes to start from besides those that the store remembers; names are looked up when they are needed.
    pub bootstrap: Vec<HostPort>,
}

impl DhtConfig {
    /// Nodes of the mainline network that independent parties keep up for newcomers.
    pub const ROUTERS: [(&str, u16); 5] = [
        ("router.bittorrent.com", 6881),
        ("router.utorrent.com", 6881),
        ("dht.transmissionbt.com", 6881),
        ("dht.libtorrent.org", 25401),
        ("dht.aelitis.com", 6881),
    ];
}

/// What to do with a torrent's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Fetch what is missing, and share.
    Download,
    /// Share a payload that is there already; adding fails if it is missing or incomplete.
    Seed,
}

/// A torrent to add.
#[derive(Clone, Debug)]
pub struct AddTorrent {
    /// What it is.
    pub metainfo: Metainfo,
    /// The folder that holds, or will hold, the file or folder that the metainfo names.
    pub dest: PathBuf,
    /// What to do.
    pub goal: Goal,
    /// Peers that the user names: tried for ever, besides those that trackers, the DHT and the store know.
    pub peers: Vec<SocketAddr>,
    /// Peers that were found before, as when its metadata was fetched: tried as any others.
    pub found: Vec<SocketAddr>,
    /// Whether files may be overwritten that seedbank did not make and that are not this torrent's.
    pub overwrite: bool,
    /// The payload was hashed just now, every piece was good, and this is what its files (in torrent order, pads and links left out) were before that:
    /// if they still are, nothing is hashed again.
    pub hashed: Option<Vec<FileIdentity>>,
}

/// A torrent of which only the name is known, as in a magnet link.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name.
    pub info_hash: InfoHash,
    /// Trackers to ask for peers, each a tier of its own.
    pub trackers: Vec<String>,
    /// Peers to try for ever, besides those that trackers, the DHT and the store know.
    pub peers: Vec<SocketAddr>,
    /// Peers that somebody names: tried as those from the DHT.
    pub found: Vec<SocketAddr>,
    /// DHT nodes to start from.
    pub nodes: Vec<HostPort>,
    /// Web servers that have the payload.
    pub web_seeds: Vec<String>,
}
