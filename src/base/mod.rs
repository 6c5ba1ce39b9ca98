//! Values that every layer speaks: identifiers, geometry, bitfields, rates and limits.
//!
//! Nothing here performs I/O, reads a clock or draws a random number.

pub mod bitfield;
pub mod checked;
pub mod digest;
pub mod geometry;
pub mod id;
pub mod identity;
pub mod limits;
pub mod random;
pub mod rate;

pub use bitfield::{Bitfield, SharedBitfield};
pub use checked::Checked;
pub use digest::PieceDigest;
pub use geometry::{BLOCK_LEN, BlockRange, Geometry, PieceIndex};
pub use id::{Distance, InfoHash, NodeId, PeerId};
pub use identity::FileIdentity;
pub use random::Random;
