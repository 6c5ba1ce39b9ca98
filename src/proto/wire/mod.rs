//! The peer wire protocol (BEP 3) with the fast extension (BEP 6) and the extension protocol (BEP 10).
//!
//! Bytes come in through [`handshake`] and [`framing`], which bound every length before anything is buffered.
//! Nothing here has a socket or a clock.

pub mod error;
pub mod fast;
pub mod framing;
pub mod handshake;
pub mod message;

pub use error::WireError;
pub use handshake::{HANDSHAKE_LEN, Handshake, Reserved};
pub use message::{Message, RawRange};
