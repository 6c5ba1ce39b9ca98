//! The peer wire protocol (BEP 3) with the fast extension (BEP 6), the extension protocol (BEP 10) and metadata (BEP 9).
//!
//! Bytes come in through [`handshake`] and [`framing`], which bound every length before anything is buffered.
//! [`Session`] is one connection after the handshake: it answers for the order of messages, keeps the pipeline of
//! requests full and serves what the peer may have. [`Inquiry`] is one about a torrent of which only the name is known.
//! Nothing here has a socket or a clock.

pub mod error;
pub mod event;
pub mod extension;
pub mod fast;
pub mod framing;
pub mod handshake;
pub mod inquiry;
pub mod message;
pub mod metadata;
mod offer;
mod outgoing;
mod pipeline;
mod requests;
pub mod session;
mod uploads;

pub use error::WireError;
pub use event::{Event, Tally};
pub use extension::{ExtendedHandshake, Extensions};
pub use handshake::{HANDSHAKE_LEN, Handshake, Reserved};
pub use inquiry::{Inquiry, InquiryConfig, InquiryEvent};
pub use message::{Message, RawRange};
pub use metadata::MetadataMessage;
pub use session::{Session, SessionConfig};
