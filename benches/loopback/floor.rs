//! The floor under any download: the same bytes received, hashed and written, with no protocol around them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;

use seedbank::format::metainfo::Metainfo;
use sha1::{Digest, Sha1};

/// Bytes that are received, hashed and written at a time, so that they are in cache throughout.
const PART: u32 = 256 << 10;

/// Sends `payload` to whoever connects, once each. Prints the address that it listens on.
pub(crate) fn serve(payload: &Path, listen: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    println!("serving on {}", listener.local_addr()?);
    let file = File::open(payload)?;
    let len = file.metadata()?.len();
    for stream in listener.incoming() {
        let (stream, mut offset) = (stream?, 0);
        while offset < len && rustix::fs::sendfile(&stream, &file, Some(&mut offset), 1 << 20)? > 0
        {
        }
    }
    Ok(())
}

/// Receives the payload of `metainfo` into files below `dest`, checking every piece. Nothing is reserved beforehand, nothing is
/// synced.
pub(crate) fn get(metainfo: &Metainfo, dest: &Path, from: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(from)?;
    let geometry = metainfo.info.geometry();
    let mut buffer = vec![0; PART.min(geometry.piece_len()) as usize];
    let mut files = metainfo.info.files().iter().map(|file| {
        let path = file.path().under(dest);
        create(&path, file.length())
    });
    let mut open: Option<(File, u64, u64)> = None;
    for piece in geometry.all_pieces() {
        let (mut hasher, mut left) = (Sha1::new(), geometry.len_of(piece) as usize);
        while left > 0 {
            let part = left.min(buffer.len());
            let mut data = &mut buffer[..part];
            stream.read_exact(data)?;
            hasher.update(&*data);
            left -= part;
            while !data.is_empty() {
                let (file, offset, length) = match open.take() {
                    Some(file) => file,
                    None => files.next().expect("the lengths sum to the payload")?,
                };
                let here = (length - offset).min(data.len() as u64);
                let (head, tail) = data.split_at_mut(here as usize);
                file.write_all_at(head, offset)?;
                data = tail;
                open = (offset + here < length).then_some((file, offset + here, length));
            }
        }
        if hasher.finalize()[..] != metainfo.info.piece_hash(piece)[..] {
            return Err(io::Error::other("a piece is wrong"));
        }
    }
    Ok(())
}

/// A new file, where it is written next, and its length.
fn create(path: &Path, length: u64) -> io::Result<(File, u64, u64)> {
    let file = match (File::create_new(path), path.parent()) {
        (Err(error), Some(folder)) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder)?;
            File::create_new(path)
        }
        (made, _) => made,
    };
    Ok((file?, 0, length))
}
