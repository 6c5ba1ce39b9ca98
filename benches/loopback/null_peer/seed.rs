//! The half that gives: file to socket, without a copy of its own.

use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use seedbank::base::{Bitfield, Geometry};
use seedbank::format::metainfo::Metainfo;

use super::{Link, id};

/// Room for messages: more than the bitfield of any torrent that is measured.
const BUFFER: usize = 1 << 18;

/// Serves `payload`, the run of bytes of the whole torrent in one file, to whoever comes. Prints the address that it listens on,
/// and returns only if it cannot go on.
pub(crate) fn seed(metainfo: &Metainfo, payload: &Path, listen: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    println!("seeding on {}", listener.local_addr()?);
    let file = Arc::new(File::open(payload)?);
    for stream in listener.incoming() {
        let (stream, file) = (stream?, Arc::clone(&file));
        let (info_hash, geometry) = (metainfo.info.info_hash(), *metainfo.info.geometry());
        thread::spawn(move || {
            let served = Link::greet(stream, &info_hash)
                .and_then(|link| serve(&link, &link.stream, &geometry, &file));
            if let Err(error) = served
                && error.kind() != io::ErrorKind::UnexpectedEof
            {
                eprintln!("null seeder: {error}");
            }
        });
    }
    Ok(())
}

fn serve(link: &Link, mut from: &TcpStream, geometry: &Geometry, file: &File) -> io::Result<()> {
    let bits = Bitfield::full(geometry.pieces());
    let mut first = (bits.as_bytes().len() as u32 + 1).to_be_bytes().to_vec();
    first.push(id::BITFIELD);
    first.extend_from_slice(bits.as_bytes());
    link.send(&first, false)?;
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    loop {
        let received = from.read(&mut buffer[filled..])?;
        if received == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += received;
        let mut at = 0;
        while let Some((message, len)) = message(&buffer[at..filled])? {
            answer(link, message, geometry, file)?;
            at += len;
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
    }
}

/// The message at the start of `bytes`, without its length, and how long it is with it.
fn message(bytes: &[u8]) -> io::Result<Option<(&[u8], usize)>> {
    let Some((prefix, rest)) = bytes.split_first_chunk() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(*prefix) as usize;
    if len > BUFFER - 4 {
        return Err(io::Error::other("a message is too long"));
    }
    Ok(rest.get(..len).map(|message| (message, len + 4)))
}

fn answer(link: &Link, message: &[u8], geometry: &Geometry, file: &File) -> io::Result<()> {
    match message {
        [id::INTERESTED] => link.send(&[0, 0, 0, 1, id::UNCHOKE], false),
        [id::REQUEST, range @ ..] if range.len() == 12 => send_block(link, range, geometry, file),
        _ => Ok(()),
    }
}

fn send_block(link: &Link, range: &[u8], geometry: &Geometry, file: &File) -> io::Result<()> {
    let number = |at: usize| {
        let bytes = range[at..at + 4].try_into();
        u32::from_be_bytes(bytes.expect("the slice has four bytes"))
    };
    let Some(block) = geometry.range(number(0), number(4), number(8)) else {
        return Err(io::Error::other("a request is out of bounds"));
    };
    let mut header = [0; 13];
    header[..4].copy_from_slice(&(9 + block.len()).to_be_bytes());
    header[4] = id::PIECE;
    header[5..].copy_from_slice(&range[..8]);
    link.send(&header, true)?;
    let mut offset = geometry.offset(block);
    let end = offset + u64::from(block.len());
    while offset < end {
        let left = (end - offset) as usize;
        if rustix::fs::sendfile(&link.stream, file, Some(&mut offset), left)? == 0 {
            return Err(io::Error::other("the payload is too short"));
        }
    }
    Ok(())
}
