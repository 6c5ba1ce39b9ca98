//! `.torrent` files (BEP 3) made without seedbank, so that its own maker can be held against them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};

use super::payload;

/// A payload and the `.torrent` that describes it.
#[derive(Clone, Debug)]
pub struct Torrent {
    /// The `.torrent` file; it names no tracker.
    pub path: PathBuf,
    /// The payload.
    pub payload: PathBuf,
    /// The SHA-1 of the info dictionary.
    pub info_hash: [u8; 20],
    /// Bytes of every piece but the last.
    pub piece_len: u32,
    /// Number of pieces.
    pub pieces: u32,
    /// Bytes of the payload.
    pub len: u64,
    /// Its files in torrent order: path below the payload (empty if the payload is one file) and bytes.
    pub files: Vec<(PathBuf, u64)>,
    /// The SHA-1 of each piece.
    pub hashes: Vec<[u8; 20]>,
    info: Vec<u8>,
}

impl Torrent {
    /// Describes `payload` in pieces of `piece_len` bytes and writes `<name>.torrent` into the folder `into`.
    pub fn of(payload: &Path, piece_len: u32, into: &Path) -> Self {
        let name = payload.file_name().unwrap().to_str().unwrap().to_owned();
        let files = payload::files(payload);
        let mut hashes = PieceHashes::new(piece_len);
        let mut list = Vec::new();
        let mut lengths = Vec::new();
        let mut len = 0;
        for (relative, path) in &files {
            let size = hashes.add(path);
            len += size;
            lengths.push((relative.clone(), size));
            let parts = relative
                .iter()
                .map(|part| string(part.to_str().unwrap().as_bytes()))
                .collect::<Vec<_>>()
                .concat();
            list.extend([b"d6:lengthi", size.to_string().as_bytes(), b"e4:pathl"].concat());
            list.extend([&parts, &b"ee"[..]].concat());
        }
        let pieces = hashes.finish();
        let content = if payload.is_file() {
            format!("6:lengthi{len}e").into_bytes()
        } else {
            [b"5:filesl", &list[..], b"e"].concat()
        };
        let info = [
            b"d",
            &content[..],
            b"4:name",
            &string(name.as_bytes()),
            format!("12:piece lengthi{piece_len}e6:pieces").as_bytes(),
            &string(&pieces),
            b"e",
        ]
        .concat();
        let torrent = Self {
            path: into.join(format!("{name}.torrent")),
            payload: payload.to_owned(),
            info_hash: Sha1::digest(&info).into(),
            piece_len,
            pieces: u32::try_from(pieces.len() / 20).unwrap(),
            len,
            files: lengths,
            hashes: pieces
                .chunks(20)
                .map(|hash| hash.try_into().unwrap())
                .collect(),
            info,
        };
        std::fs::create_dir_all(into).unwrap();
        std::fs::write(&torrent.path, torrent.bytes(&[])).unwrap();
        torrent
    }

    /// A second file for the same swarm that names trackers, one tier (BEP 12) each.
    pub fn tracked(&self, path: &Path, tiers: &[Vec<String>]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, self.bytes(tiers)).unwrap();
    }

    /// The info-hash as 40 hexadecimal digits.
    pub fn hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.info_hash)
    }

    /// The name of the payload.
    pub fn name(&self) -> &str {
        self.payload.file_name().unwrap().to_str().unwrap()
    }

    fn bytes(&self, tiers: &[Vec<String>]) -> Vec<u8> {
        let mut out = b"d".to_vec();
        if let Some(first) = tiers.first().and_then(|tier| tier.first()) {
            let tiers = tiers.iter().map(|tier| {
                let urls = tier.iter().map(|url| string(url.as_bytes()));
                [b"l", &urls.collect::<Vec<_>>().concat()[..], b"e"].concat()
            });
            out.extend([b"8:announce", &string(first.as_bytes())[..]].concat());
            out.extend(b"13:announce-listl");
            out.extend(tiers.collect::<Vec<_>>().concat());
            out.extend(b"e");
        }
        out.extend(b"4:info");
        out.extend(&self.info);
        out.extend(b"e");
        out
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [format!("{}:", bytes.len()).as_bytes(), bytes].concat()
}

/// Hashes files one after the other as one run of bytes.
struct PieceHashes {
    piece: Vec<u8>,
    piece_len: usize,
    hashes: Vec<u8>,
}

impl PieceHashes {
    fn new(piece_len: u32) -> Self {
        Self {
            piece: Vec::new(),
            piece_len: piece_len as usize,
            hashes: Vec::new(),
        }
    }

    fn add(&mut self, path: &Path) -> u64 {
        let mut file = File::open(path).unwrap();
        let mut size = 0;
        loop {
            let due = self.piece_len - self.piece.len();
            let got = (&mut file)
                .take(due as u64)
                .read_to_end(&mut self.piece)
                .unwrap();
            size += got as u64;
            if self.piece.len() == self.piece_len {
                self.flush();
            }
            if got == 0 {
                return size;
            }
        }
    }

    fn flush(&mut self) {
        self.hashes.extend(Sha1::digest(&self.piece));
        self.piece.clear();
    }

    fn finish(mut self) -> Vec<u8> {
        if !self.piece.is_empty() {
            self.flush();
        }
        self.hashes
    }
}

/// The SHA-1 of the info dictionary in the `.torrent` at `path`, byte for byte as it stands there.
pub fn info_hash_of(path: &Path) -> [u8; 20] {
    let bytes = std::fs::read(path).unwrap();
    let mut at = 1;
    while bytes[at] != b'e' {
        let key = at;
        at = end_of(&bytes, at);
        let value = at;
        at = end_of(&bytes, at);
        if &bytes[key..value] == b"4:info" {
            return Sha1::digest(&bytes[value..at]).into();
        }
    }
    panic!("no info dictionary in {}", path.display());
}

/// Where the bencoded value that begins at `at` ends.
fn end_of(bytes: &[u8], at: usize) -> usize {
    match bytes[at] {
        b'i' => at + bytes[at..].iter().position(|&byte| byte == b'e').unwrap() + 1,
        b'l' | b'd' => {
            let mut at = at + 1;
            while bytes[at] != b'e' {
                at = end_of(bytes, at);
            }
            at + 1
        }
        _ => {
            let colon = at + bytes[at..].iter().position(|&byte| byte == b':').unwrap();
            let len: usize = std::str::from_utf8(&bytes[at..colon])
                .unwrap()
                .parse()
                .unwrap();
            colon + 1 + len
        }
    }
}
