//! Why a file is not a torrent that we take.

use super::super::bencode::BencodeError;
use crate::base::InfoHash;
use crate::base::limits::{METAINFO_MAX, PATH_DEPTH_MAX, PATH_LEN_MAX, PIECE_LEN_MAX, PIECES_MAX};

/// Why a file is not a torrent that we take. `Display` is one line for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetainfoError {
    /// Not bencode.
    #[error("not a torrent: {0}")]
    Bencode(#[from] BencodeError),
    /// Not a `.bit`.
    #[error("not a valid .bit file: {0}")]
    Json(String),
    /// Larger than [`METAINFO_MAX`].
    #[error("the file has {0} bytes; a torrent has at most {METAINFO_MAX}")]
    TooLarge(usize),
    /// The outermost value is not a dictionary.
    #[error("not a torrent: it is not a dictionary")]
    NotDict,
    /// No info dictionary.
    #[error("not a torrent: it has no info dictionary")]
    MissingInfo,
    /// A BitTorrent v2 torrent without v1 part (BEP 52).
    #[error("v2-only torrents are not supported: ask for a v1 or hybrid one")]
    V2Only,
    /// A version that does not exist yet.
    #[error("this torrent is of version {0}, which is not supported")]
    UnknownVersion(i64),
    /// A v2 info dictionary that is not canonical bencode, as BEP 52 demands.
    #[error("the info dictionary is not canonically encoded, which a v2 torrent has to be")]
    NotCanonical,
    /// `piece length` is missing, no positive number or, in a v2 torrent, no power of two from 16 KiB.
    #[error("the piece length is missing or invalid")]
    InvalidPieceLength,
    /// A piece length past [`PIECE_LEN_MAX`].
    #[error("the piece length is {0} bytes; at most {PIECE_LEN_MAX} are supported")]
    PieceTooLong(i64),
    /// `name` is missing, no string, or nothing of it can be a file name.
    #[error("the name is missing or cannot be a file name")]
    MissingName,
    /// A file without `path`, or whose path is not a list of strings.
    #[error("file {} has no path, or its path is not a list of names", .0 + 1)]
    InvalidPath(usize),
    /// A path with more levels or bytes than we take.
    #[error("file {} has a path of more than {PATH_DEPTH_MAX} levels or {PATH_LEN_MAX} bytes", .0 + 1)]
    PathTooLong(usize),
    /// More equal paths than is plausible.
    #[error("too many files have the same name")]
    TooManyCollisions,
    /// An entry of the file list that is no dictionary.
    #[error("file {} of the list is malformed", .0 + 1)]
    InvalidFile(usize),
    /// A length that is missing, negative or beyond all bounds.
    #[error("the length of a file is missing, negative or too large")]
    InvalidLength,
    /// No file at all.
    #[error("the torrent has no files")]
    NoFiles,
    /// Not one byte to share.
    #[error("the torrent is empty: its files have no content")]
    Empty,
    /// More pieces than [`PIECES_MAX`].
    #[error("the torrent has more than {PIECES_MAX} pieces; use a larger piece length")]
    TooManyPieces,
    /// No `pieces`, or no string.
    #[error("the piece hashes are missing")]
    MissingPieces,
    /// `pieces` is not 20 bytes for each piece.
    #[error("there are {found} bytes of piece hashes where {expected} are due")]
    PiecesMismatch {
        /// Bytes that the payload and the piece length ask for.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
    /// A v2 torrent without `file tree`, or a file tree in a v1 torrent, or a malformed one.
    #[error("the file tree of this v2 torrent is missing or malformed")]
    InvalidFileTree,
    /// A v2 file with content but without the root of its hash tree.
    #[error("a file of this v2 torrent has no root hash")]
    MissingPiecesRoot,
    /// The two halves of a hybrid torrent describe different files.
    #[error("the v1 and v2 parts of this hybrid torrent describe different files")]
    InconsistentFiles,
    /// A piece layer of no file, of the wrong length, or with another root.
    #[error("a piece layer of this v2 torrent does not match its file")]
    InvalidPieceLayer,
    /// A `.bit` field that is not what it should be.
    #[error("not a valid .bit file: {field} {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A `.bit` whose content does not have the info-hash it claims.
    #[error("the .bit file claims the info-hash {claimed}, but its content has {found}")]
    InfoHashMismatch {
        /// What it claims.
        claimed: InfoHash,
        /// What it is.
        found: InfoHash,
    },
    /// The address of a tracker or web seed that is none.
    #[error("{0:?} is not an address: it needs a scheme, as in http://host/path")]
    InvalidAddress(String),
    /// A file that cannot be shared under its own name, since everybody would save it under another.
    #[error(
        "{0:?} cannot be shared under this name: rename it (other systems would take it for another file, a device or a folder)"
    )]
    UnportableName(String),
}
