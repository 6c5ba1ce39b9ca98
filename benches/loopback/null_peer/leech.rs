//! The half that takes: asks for everything, and throws it away in the kernel.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use seedbank::base::{BLOCK_LEN, Geometry, InfoHash, PieceIndex};
use seedbank::format::metainfo::Metainfo;

use super::{Link, PATIENCE, id};

/// Blocks that are asked for at a time: no client takes fewer.
const DEPTH: u32 = 250;
/// New requests go out, all in one call, when no more than this many are open.
const ASK_BELOW: u32 = 192;

/// Takes the whole torrent from `peer` once, its pieces dealt out to `links` connections, and tells how long it took from the
/// first connection to the last byte.
pub(crate) fn leech(metainfo: &Metainfo, peer: SocketAddr, links: u32) -> io::Result<Duration> {
    let (info_hash, geometry) = (metainfo.info.info_hash(), *metainfo.info.geometry());
    let begun = Instant::now();
    thread::scope(|scope| {
        let links: Vec<_> = (0..links)
            .map(|me| scope.spawn(move || take(peer, &info_hash, &geometry, me, links)))
            .collect();
        let mut taken = links.into_iter().map(thread::ScopedJoinHandle::join);
        taken.try_for_each(|link| link.map_err(|_| io::Error::other("a leecher panicked"))?)
    })?;
    Ok(begun.elapsed())
}

/// Waits until `peer` says that it has every piece.
pub(crate) fn probe(metainfo: &Metainfo, peer: SocketAddr, patience: Duration) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match is_seed(metainfo, peer) {
            Ok(true) => return Ok(()),
            Err(error) if begun.elapsed() > patience => return Err(error),
            Ok(false) if begun.elapsed() > patience => {
                return Err(io::Error::other("it is not a seed yet"));
            }
            _ => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn take(
    peer: SocketAddr,
    info_hash: &InfoHash,
    geometry: &Geometry,
    me: u32,
    links: u32,
) -> io::Result<()> {
    let mut link = Link::greet(TcpStream::connect_timeout(&peer, PATIENCE)?, info_hash)?;
    link.send(&[0, 0, 0, 1, id::INTERESTED], false)?;
    let mine = geometry
        .all_pieces()
        .filter(|piece| piece.get() % links == me);
    let mut due = mine.flat_map(|piece| requests(geometry, piece)).peekable();
    let (mut open, mut choked) = (0, true);
    let mut asked = Vec::new();
    while open > 0 || due.peek().is_some() {
        if !choked && open <= ASK_BELOW {
            asked.clear();
            for request in due.by_ref().take((DEPTH - open) as usize) {
                asked.extend_from_slice(&request);
                open += 1;
            }
            link.send(&asked, false)?;
        }
        let (id, len) = link.next_message()?;
        match id {
            id::UNCHOKE => choked = false,
            id::CHOKE if open > 0 => return Err(io::Error::other("choked in the middle")),
            id::CHOKE => choked = true,
            id::PIECE => open -= 1,
            _ => {}
        }
        link.discard(len)?;
    }
    Ok(())
}

/// Requests for the blocks of a piece, as messages.
fn requests(geometry: &Geometry, piece: PieceIndex) -> impl Iterator<Item = [u8; 17]> + use<> {
    let piece_len = geometry.len_of(piece);
    (0..geometry.blocks_in(piece)).map(move |block| {
        let begin = block * BLOCK_LEN;
        let len = BLOCK_LEN.min(piece_len - begin);
        let mut message = [0, 0, 0, 13, id::REQUEST, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        message[5..9].copy_from_slice(&piece.get().to_be_bytes());
        message[9..13].copy_from_slice(&begin.to_be_bytes());
        message[13..].copy_from_slice(&len.to_be_bytes());
        message
    })
}

/// Whether `peer` tells of every piece within half a second.
fn is_seed(metainfo: &Metainfo, peer: SocketAddr) -> io::Result<bool> {
    let stream = TcpStream::connect_timeout(&peer, PATIENCE)?;
    let mut link = Link::greet(stream, &metainfo.info.info_hash())?;
    link.stream
        .set_read_timeout(Some(Duration::from_millis(500)))?;
    let pieces = metainfo.info.geometry().pieces();
    let mut told = 0;
    while told < pieces {
        let Ok((id, len)) = link.next_message() else {
            return Ok(false);
        };
        match id {
            id::BITFIELD => {
                let mut bits = vec![0; len];
                link.stream.read_exact(&mut bits)?;
                told = bits.iter().map(|byte| byte.count_ones()).sum();
            }
            id::HAVE => {
                told += 1;
                link.discard(len)?;
            }
            _ => link.discard(len)?,
        }
    }
    Ok(true)
}
