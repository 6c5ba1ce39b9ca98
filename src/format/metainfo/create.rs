//! Making a torrent of files that were hashed.
//!
//! The info dictionary holds the basics and nothing else, and the files of a folder go in the order of the bytes of their paths, as mktorrent
//! puts them; so the same payload in pieces of the same length has the same info-hash wherever it was made. No padding.

use super::basics::{Basics, Content};
use super::{Info, Metainfo, MetainfoError, PlainFile, hints};
use crate::base::limits::{PIECE_LEN_MAX, PIECES_MAX};
use crate::base::{BLOCK_LEN, Geometry};
use crate::format::host::HostPort;

/// The piece length if nothing else is asked for, in bytes: 256 KiB.
pub const DEFAULT_PIECE_LENGTH: u32 = 256 << 10;

/// A torrent in the making: say what it holds, hash [`Draft::files`] in that order, set [`Draft::pieces`], and [`Draft::finish`].
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    name: String,
    content: Content,
    /// Bytes of every piece but the last: a power of two from 16 KiB to [`PIECE_LEN_MAX`].
    pub piece_length: u32,
    /// The SHA-1 of each piece.
    pub pieces: Vec<[u8; 20]>,
    /// Whether peers may come from its trackers only (BEP 27).
    pub private: bool,
    /// Trackers in tiers (BEP 12).
    pub announce: Vec<Vec<String>>,
    /// DHT nodes to start from (BEP 5).
    pub nodes: Vec<HostPort>,
    /// Addresses that serve the payload by HTTP (BEP 19).
    pub web_seeds: Vec<String>,
    /// Free text.
    pub comment: Option<String>,
    /// The program that makes it.
    pub created_by: Option<String>,
    /// Now, in seconds since 1970.
    pub creation_date: Option<i64>,
    /// BLAKE3 of the payload.
    pub blake3: Option<[u8; 32]>,
}

impl Draft {
    /// A torrent of one file of `length` bytes.
    pub fn file(name: impl Into<String>, length: u64) -> Self {
        Self::of(name.into(), Content::File(length))
    }

    /// A torrent of the files in a folder, which it puts in order.
    pub fn folder(name: impl Into<String>, mut files: Vec<PlainFile>) -> Self {
        files.sort_by(|one, other| bytes_of(one).cmp(bytes_of(other)));
        Self::of(name.into(), Content::Folder(files))
    }

    fn of(name: String, content: Content) -> Self {
        Self {
            name,
            content,
            piece_length: DEFAULT_PIECE_LENGTH,
            pieces: Vec::new(),
            private: false,
            announce: Vec::new(),
            nodes: Vec::new(),
            web_seeds: Vec::new(),
            comment: None,
            created_by: None,
            creation_date: None,
            blake3: None,
        }
    }

    /// The files of the folder in the order in which the payload runs through them; none for a single file.
    pub fn files(&self) -> &[PlainFile] {
        match &self.content {
            Content::File(_) => &[],
            Content::Folder(files) => files,
        }
    }

    /// How the payload is to be cut for hashing.
    ///
    /// # Errors
    /// If the piece length is not allowed, there is nothing to share, or there are too many pieces.
    pub fn geometry(&self) -> Result<Geometry, MetainfoError> {
        if !self.piece_length.is_power_of_two() || self.piece_length < BLOCK_LEN {
            return Err(MetainfoError::InvalidPieceLength);
        }
        if self.piece_length > PIECE_LEN_MAX {
            return Err(MetainfoError::PieceTooLong(i64::from(self.piece_length)));
        }
        let total = match &self.content {
            Content::File(length) => Some(*length),
            Content::Folder(files) => files
                .iter()
                .try_fold(0u64, |sum, file| sum.checked_add(file.length)),
        };
        match total {
            Some(0) => Err(MetainfoError::Empty),
            Some(total) => Geometry::new(total, self.piece_length)
                .filter(|geometry| geometry.pieces() <= PIECES_MAX)
                .ok_or(MetainfoError::TooManyPieces),
            None => Err(MetainfoError::InvalidLength),
        }
    }

    /// The torrent.
    ///
    /// # Errors
    /// If the pieces do not fit the files, an address is none, or a file cannot be shared under its name.
    pub fn finish(self) -> Result<Metainfo, MetainfoError> {
        self.geometry()?;
        hints::check_addresses(self.announce.iter().flatten().chain(&self.web_seeds))?;
        let basics = Basics {
            name: self.name,
            piece_length: self.piece_length,
            pieces: self.pieces,
            content: self.content,
            private: self.private,
        };
        let info = Info::from_raw(basics.to_raw())?;
        check_names(&basics, &info)?;
        let tiers = self
            .announce
            .iter()
            .map(|tier| tier.iter().map(String::as_str));
        let seeds = self.web_seeds.iter().map(String::as_str);
        Ok(Metainfo {
            announce: hints::tiers(tiers),
            nodes: self.nodes,
            web_seeds: hints::web_seeds(seeds, info.files().len() > 1),
            comment: self.comment.filter(|text| !text.is_empty()),
            created_by: self.created_by.filter(|text| !text.is_empty()),
            creation_date: self.creation_date.filter(|&date| hints::is_date(date)),
            blake3: self.blake3,
            info: info.into(),
        })
    }
}

/// The bytes of the path with its separators, which sort before most but not all characters.
fn bytes_of(file: &PlainFile) -> impl Iterator<Item = u8> {
    let names = file.path.iter().enumerate();
    names.flat_map(|(at, name)| (at > 0).then_some(b'/').into_iter().chain(name.bytes()))
}

/// Whoever reads the torrent makes the names safe and distinct. If that changes one, its own maker would not find the file.
fn check_names(basics: &Basics, info: &Info) -> Result<(), MetainfoError> {
    if info.name() != basics.name {
        return Err(MetainfoError::UnportableName(basics.name.clone()));
    }
    let Content::Folder(files) = &basics.content else {
        return Ok(());
    };
    for (plain, file) in files.iter().zip(info.files()) {
        let names = file.path().components().skip(1);
        if !names.eq(plain.path.iter().map(String::as_str)) {
            return Err(MetainfoError::UnportableName(plain.path.join("/")));
        }
    }
    Ok(())
}
