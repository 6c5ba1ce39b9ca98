//! Raw BitTorrent peers (BEP 3) that do exactly what a test tells them, right or wrong.

use std::fs::File;
use std::io::{self, Read, Write};
#[cfg(target_os = "linux")]
use std::net::IpAddr;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::metainfo::Torrent;
use super::payload::{self, Random};
use super::seedbank::LOOPBACK;

/// Message ids of BEP 3.
pub mod id {
    pub const CHOKE: u8 = 0;
    pub const UNCHOKE: u8 = 1;
    pub const INTERESTED: u8 = 2;
    pub const HAVE: u8 = 4;
    pub const BITFIELD: u8 = 5;
    pub const REQUEST: u8 = 6;
    pub const PIECE: u8 = 7;
    pub const EXTENDED: u8 = 20;
}

/// The 68 bytes of a handshake that offers extended messages (BEP 10) and nothing else.
pub fn handshake(info_hash: [u8; 20], peer_id: [u8; 20]) -> Vec<u8> {
    [
        &b"\x13BitTorrent protocol"[..],
        &[0, 0, 0, 0, 0, 0x10, 0, 0],
        &info_hash,
        &peer_id,
    ]
    .concat()
}

/// A message with its length in front.
pub fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len() + 1).unwrap();
    [&len.to_be_bytes()[..], &[id], payload].concat()
}

/// The payload of a `request`.
pub fn request(piece: u32, begin: u32, len: u32) -> Vec<u8> {
    [piece, begin, len].map(u32::to_be_bytes).concat()
}

/// One end of a connection.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects to `to`; nothing is sent yet.
    pub fn dial(to: SocketAddr) -> Self {
        Self::new(TcpStream::connect(to).unwrap())
    }

    /// Connects to `to` from the address `from`; nothing is sent yet.
    #[cfg(target_os = "linux")]
    pub fn dial_from(from: IpAddr, to: SocketAddr) -> Self {
        let domain = socket2::Domain::for_address(to);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        Self::new(socket.into())
    }

    /// Connects to `to` and exchanges handshakes for `info_hash`.
    pub fn join(to: SocketAddr, info_hash: [u8; 20]) -> Self {
        let mut raw = Self::dial(to);
        raw.write(&handshake(info_hash, *b"-XX0001-abcdefghijkl"))
            .unwrap();
        let answer = raw.read(68).unwrap();
        assert_eq!(answer[28..48], info_hash);
        raw
    }

    /// Wraps a connection that was made.
    pub fn new(stream: TcpStream) -> Self {
        let limit = Some(Duration::from_secs(20));
        stream.set_read_timeout(limit).unwrap();
        stream.set_write_timeout(limit).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// How long reading may take from now on.
    pub fn read_limit(&self, limit: Duration) {
        self.stream.set_read_timeout(Some(limit)).unwrap();
    }

    /// How long sending may take from now on.
    pub fn write_limit(&self, limit: Duration) {
        self.stream.set_write_timeout(Some(limit)).unwrap();
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a message.
    pub fn send(&mut self, id: u8, payload: &[u8]) -> io::Result<()> {
        self.write(&message(id, payload))
    }

    /// The next `len` bytes.
    pub fn read(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The next message that is not a keep-alive.
    pub fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let len = u32::from_be_bytes(self.read(4)?.try_into().unwrap());
            assert!(len <= 1 << 22, "a message of {len} bytes");
            if len > 0 {
                let mut body = self.read(len as usize)?;
                return Ok((body.remove(0), body));
            }
        }
    }

    /// Reads on until a message `wanted` comes.
    pub fn receive_until(&mut self, wanted: u8) -> io::Result<Vec<u8>> {
        loop {
            let (id, body) = self.receive()?;
            if id == wanted {
                return Ok(body);
            }
        }
    }

    /// Whether the other end hangs up within `limit`, whatever it still sends until then.
    pub fn hangs_up(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut waste = [0; 16384];
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let left = left.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.stream.read(&mut waste) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let kind = error.kind();
                    return !matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                }
            }
        }
        false
    }
}

/// A seeder in this process which corrupts one block in `one_in` (picked at random), until dropped.
#[derive(Debug)]
pub struct Liar {
    addr: SocketAddr,
    told: Arc<Told>,
}

/// What a [`Liar`] did.
#[derive(Debug, Default)]
pub struct Told {
    stop: AtomicBool,
    /// Connections that got through the handshake.
    pub connections: AtomicU64,
    /// Blocks sent.
    pub blocks: AtomicU64,
    /// Blocks sent that were wrong.
    pub lies: AtomicU64,
}

impl Liar {
    /// Serves the payload of `torrent` at a free loopback port, at most `per_second` bytes each second.
    pub fn start(torrent: &Torrent, one_in: u64, seed: u64, per_second: u64) -> Self {
        assert!(torrent.payload.is_file());
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let told = Arc::new(Told::default());
        let random = Arc::new(Mutex::new(Random::new(seed)));
        let (torrent, shared) = (torrent.clone(), Arc::clone(&told));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (torrent, told, random) =
                    (torrent.clone(), Arc::clone(&shared), Arc::clone(&random));
                std::thread::spawn(move || {
                    let mut lie = || random.lock().unwrap().below(one_in) == 0;
                    // The other end hangs up: that is how it should end.
                    let _ = serve(Raw::new(stream), &torrent, &told, per_second, &mut lie);
                });
            }
        });
        Self { addr, told }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it did so far.
    pub fn told(&self) -> &Told {
        &self.told
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.told.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
    }
}

fn serve(
    mut raw: Raw,
    torrent: &Torrent,
    told: &Told,
    per_second: u64,
    lie: &mut impl FnMut() -> bool,
) -> io::Result<()> {
    let hello = raw.read(68)?;
    if hello[28..48] != torrent.info_hash {
        return Ok(());
    }
    told.connections.fetch_add(1, Ordering::SeqCst);
    raw.write(&handshake(torrent.info_hash, *b"-LI0001-honestpeer12"))?;
    raw.send(id::BITFIELD, &full_bitfield(torrent.pieces))?;
    raw.send(id::UNCHOKE, &[])?;
    let file = File::open(&torrent.payload)?;
    loop {
        let (id, body) = raw.receive()?;
        if id != id::REQUEST {
            continue;
        }
        let [piece, begin, len] =
            [0, 4, 8].map(|at| u32::from_be_bytes(body[at..at + 4].try_into().unwrap()));
        let mut block = vec![0; len as usize];
        let offset = u64::from(piece) * u64::from(torrent.piece_len) + u64::from(begin);
        file.read_exact_at(&mut block, offset)?;
        if lie() {
            block[len as usize / 2] ^= 1;
            told.lies.fetch_add(1, Ordering::SeqCst);
        }
        told.blocks.fetch_add(1, Ordering::SeqCst);
        let head = [piece, begin].map(u32::to_be_bytes).concat();
        raw.send(id::PIECE, &[head, block].concat())?;
        std::thread::sleep(Duration::from_secs(1) * len / u32::try_from(per_second).unwrap());
    }
}

/// A bitfield of `pieces` ones.
pub fn full_bitfield(pieces: u32) -> Vec<u8> {
    let mut bits = vec![0xff; pieces.div_ceil(8) as usize];
    if let (Some(last), 1..) = (bits.last_mut(), pieces % 8) {
        *last = !(0xff >> (pieces % 8));
    }
    bits
}

/// A payload of one file and its torrent in pieces of 256 KiB: `name` in `folder`, `len` bytes from `seed`.
pub fn one_file(folder: &std::path::Path, name: &str, len: u64, seed: u64) -> Torrent {
    let path = folder.join(name);
    payload::file(&path, len, seed);
    Torrent::of(&path, 256 * 1024, folder)
}
