//! A peer that serves metadata (BEP 9, BEP 10) which is not that of the torrent, and nothing else.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::common::seedbank::LOOPBACK;
use crate::common::wait;
use crate::common::wire::{self, Raw, id};

/// Bytes of a piece of metadata.
const PIECE: usize = 16 * 1024;
/// The id that we ask others to use for `ut_metadata`.
const OURS: u8 = 7;

/// A liar on a free loopback port, until dropped.
pub(super) struct Fake {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    info_hash: [u8; 20],
    metadata: Vec<u8>,
    stop: AtomicBool,
    /// Pieces that somebody got.
    served: Mutex<BTreeSet<usize>>,
}

impl Fake {
    /// Says that `metadata` is that of `info_hash`.
    pub(super) fn start(info_hash: [u8; 20], metadata: Vec<u8>) -> Self {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            info_hash,
            metadata,
            stop: AtomicBool::new(false),
            served: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stop.load(Ordering::SeqCst) {
                    return;
                }
                let serving = Arc::clone(&serving);
                if let Ok(stream) = stream {
                    // The other end hangs up: that is how it should end.
                    std::thread::spawn(move || serving.serve(Raw::new(stream)));
                }
            }
        });
        Self { addr, shared }
    }

    /// Where it listens.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits until every piece of the lie was sent.
    pub(super) fn lies(&self) {
        let pieces = self.shared.metadata.len().div_ceil(PIECE);
        wait::until("the lie is told", wait::SOON, || {
            (self.shared.served.lock().unwrap().len() == pieces).then_some(())
        });
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
    }
}

impl Shared {
    fn serve(&self, mut raw: Raw) -> io::Result<()> {
        let hello = raw.read(68)?;
        if hello[28..48] != self.info_hash {
            return Ok(());
        }
        raw.write(&wire::handshake(self.info_hash, *b"-FK0001-liarliarliar"))?;
        let size = self.metadata.len();
        let greeting = format!("d1:md11:ut_metadatai{OURS}ee13:metadata_sizei{size}ee");
        raw.send(id::EXTENDED, &[&[0], greeting.as_bytes()].concat())?;
        let mut theirs = 0;
        loop {
            let body = raw.receive_until(id::EXTENDED)?;
            match body[0] {
                0 => theirs = number(&body, "11:ut_metadatai").unwrap_or(0),
                OURS => {
                    let asked = number(&body, "5:piecei");
                    let piece = asked.expect("a request for a piece");
                    self.lie(&mut raw, u8::try_from(theirs).unwrap(), piece)?;
                }
                _ => {}
            }
        }
    }

    fn lie(&self, raw: &mut Raw, theirs: u8, piece: usize) -> io::Result<()> {
        let size = self.metadata.len();
        let bytes = self.metadata.chunks(PIECE).nth(piece);
        let bytes = bytes.expect("a piece that there is");
        let head = format!("d8:msg_typei1e5:piecei{piece}e10:total_sizei{size}ee");
        raw.send(id::EXTENDED, &[&[theirs], head.as_bytes(), bytes].concat())?;
        self.served.lock().unwrap().insert(piece);
        Ok(())
    }
}

/// The number that follows `key` in a bencoded message.
fn number(message: &[u8], key: &str) -> Option<usize> {
    let text = String::from_utf8_lossy(message);
    let (_, rest) = text.split_once(key)?;
    rest.split_once('e')?.0.parse().ok()
}
