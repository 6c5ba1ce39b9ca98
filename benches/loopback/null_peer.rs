//! A peer that costs next to nothing, so that the other side is what gets measured.
//!
//! [`seed`] hands a file to the socket within the kernel, [`leech`] lets the kernel throw the payload away. Neither hashes, and
//! neither speaks any extension; it is for trusted partners on one machine.

mod leech;
mod seed;
mod tracker;

use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::time::Duration;

use seedbank::base::InfoHash;
use socket2::SockRef;

pub(crate) use leech::{leech, probe};
pub(crate) use seed::seed;
pub(crate) use tracker::track;

/// Bytes of BEP 3's handshake.
const HANDSHAKE: usize = 68;
const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
/// Whoever says nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ids of the messages that matter here.
mod id {
    pub(super) const CHOKE: u8 = 0;
    pub(super) const UNCHOKE: u8 = 1;
    pub(super) const INTERESTED: u8 = 2;
    pub(super) const HAVE: u8 = 4;
    pub(super) const BITFIELD: u8 = 5;
    pub(super) const REQUEST: u8 = 6;
    pub(super) const PIECE: u8 = 7;
}

/// A connection.
struct Link {
    stream: TcpStream,
    /// Room that is lent to the kernel and never read.
    void: Vec<MaybeUninit<u8>>,
}

impl Link {
    /// Exchanges handshakes; both sides may send theirs first.
    fn greet(mut stream: TcpStream, info_hash: &InfoHash) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut ours = [0; HANDSHAKE];
        ours[..20].copy_from_slice(PROTOCOL);
        ours[28..48].copy_from_slice(info_hash.as_bytes());
        ours[48..56].copy_from_slice(b"-NP0002-");
        ours[56..].copy_from_slice(&rand::random::<[u8; 12]>());
        let mut theirs = [0; HANDSHAKE];
        let void = vec![MaybeUninit::uninit(); 1 << 18];
        let link = Self {
            stream: stream.try_clone()?,
            void,
        };
        link.send(&ours, false)?;
        stream.read_exact(&mut theirs)?;
        if theirs[..20] != ours[..20] || theirs[28..48] != ours[28..48] {
            return Err(io::Error::other("the handshake is of another torrent"));
        }
        Ok(link)
    }

    /// Sends all of `bytes`; with `more` they may wait for what is sent next.
    fn send(&self, mut bytes: &[u8], more: bool) -> io::Result<()> {
        let flags = if more { libc::MSG_MORE } else { 0 };
        while !bytes.is_empty() {
            let sent = SockRef::from(&self.stream).send_with_flags(bytes, flags)?;
            bytes = &bytes[sent..];
        }
        Ok(())
    }

    /// Receives `len` bytes that are dropped in the kernel.
    fn discard(&mut self, mut len: usize) -> io::Result<()> {
        let flags = libc::MSG_TRUNC | libc::MSG_WAITALL;
        while len > 0 {
            let room = len.min(self.void.len());
            let socket = SockRef::from(&self.stream);
            match socket.recv_with_flags(&mut self.void[..room], flags)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => len -= n,
            }
        }
        Ok(())
    }

    /// The id of the next message that is no keep-alive, and how many bytes follow it.
    fn next_message(&mut self) -> io::Result<(u8, usize)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        while head[..4] == [0; 4] {
            // A keep-alive: the fifth byte belongs to what comes next.
            head[0] = head[4];
            self.stream.read_exact(&mut head[1..])?;
        }
        let [a, b, c, d, id] = head;
        Ok((id, u32::from_be_bytes([a, b, c, d]) as usize - 1))
    }
}
