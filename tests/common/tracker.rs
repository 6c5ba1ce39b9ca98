//! An HTTP tracker (BEP 3, compact replies of BEP 23) that records every announce.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::wait;

/// One announce.
#[derive(Clone, Debug)]
pub struct Announce {
    /// When it came.
    pub at: Instant,
    /// The address that the announcing peer listens at.
    pub peer: SocketAddr,
    /// Which torrent.
    pub info_hash: Vec<u8>,
    /// The announcing peer's id.
    pub peer_id: Vec<u8>,
    /// `started`, `completed`, `stopped`, or nothing when it is a regular one.
    pub event: String,
    /// Payload bytes still missing, as the peer says.
    pub left: u64,
    /// Payload bytes received, as the peer says.
    pub downloaded: u64,
    /// Payload bytes sent, as the peer says.
    pub uploaded: u64,
    /// The whole query, as it came.
    pub query: String,
}

/// A tracker on a thread of its own until dropped.
#[derive(Debug)]
pub struct Tracker {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    refuse: AtomicBool,
    interval: u32,
    seen: Mutex<Vec<Announce>>,
    peers: Mutex<BTreeSet<SocketAddr>>,
}

impl Tracker {
    /// Listens at a free port of `ip` and tells peers to come back after `interval` seconds.
    pub fn start(ip: IpAddr, interval: u32) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            refuse: AtomicBool::new(false),
            interval,
            seen: Mutex::default(),
            peers: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stop.load(Ordering::SeqCst) {
                    return;
                }
                let serving = Arc::clone(&serving);
                if let Ok(stream) = stream {
                    std::thread::spawn(move || serving.serve(&stream));
                }
            }
        });
        Self { addr, shared }
    }

    /// Where to announce.
    pub fn url(&self) -> String {
        format!("http://{}/announce", self.addr)
    }

    /// Gives `peer` to whoever asks from now on. Peers that announce themselves are given to the others anyway.
    pub fn give(&self, peer: SocketAddr) {
        self.shared.peers.lock().unwrap().insert(peer);
    }

    /// From now on every announce is recorded and refused.
    pub fn refuse(&self) {
        self.shared.refuse.store(true, Ordering::SeqCst);
    }

    /// All announces so far.
    pub fn announces(&self) -> Vec<Announce> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The first announce that `pick` accepts, waiting for it if need be.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        pick: impl Fn(&Announce) -> bool,
    ) -> Announce {
        wait::until(what, limit, || self.announces().into_iter().find(&pick))
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) {
        let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let Some(request) = lines.next() else { return };
        let _headers = lines.take_while(|line| !line.is_empty()).count();
        let body = self.answer(stream, &request);
        let (status, body) = match body {
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", b"d14:failure reason7:refusede".to_vec()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let mut to = stream;
        let _ = to.write_all(&[head.as_bytes(), &body].concat());
    }

    fn answer(&self, stream: &TcpStream, request: &str) -> Option<Vec<u8>> {
        let query = request
            .strip_prefix("GET /announce?")?
            .split(' ')
            .next()?
            .to_owned();
        let field = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let value = pairs.find(|(key, _)| *key == name)?.1;
            Some(percent_encoding::percent_decode_str(value).collect::<Vec<u8>>())
        };
        let text = |name| field(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let number = |name| text(name).and_then(|digits| digits.parse::<u64>().ok());
        let port = u16::try_from(number("port")?).ok()?;
        let announce = Announce {
            at: Instant::now(),
            peer: SocketAddr::new(stream.peer_addr().ok()?.ip(), port),
            info_hash: field("info_hash")?,
            peer_id: field("peer_id")?,
            event: text("event").unwrap_or_default(),
            left: number("left").unwrap_or(u64::MAX),
            downloaded: number("downloaded").unwrap_or(0),
            uploaded: number("uploaded").unwrap_or(0),
            query: query.clone(),
        };
        let (asker, event) = (announce.peer, announce.event.clone());
        self.seen.lock().unwrap().push(announce);
        if self.refuse.load(Ordering::SeqCst) {
            return None;
        }
        let mut peers = self.peers.lock().unwrap();
        let compact: Vec<u8> = peers
            .iter()
            .filter(|&&peer| peer != asker)
            .filter_map(|peer| match peer.ip() {
                IpAddr::V4(ip) => Some([&ip.octets()[..], &peer.port().to_be_bytes()].concat()),
                IpAddr::V6(_) => None,
            })
            .collect::<Vec<_>>()
            .concat();
        if event == "stopped" {
            peers.remove(&asker);
        } else {
            peers.insert(asker);
        }
        let interval = self.interval;
        let head = format!(
            "d8:completei0e10:incompletei0e8:intervali{interval}e12:min intervali1e5:peers{}:",
            compact.len()
        );
        Some([head.as_bytes(), &compact, b"e"].concat())
    }
}
