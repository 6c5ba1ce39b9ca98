//! The DHT (BEP 5 and its dialect in JSON): one node, driven in virtual time.

mod compact;
mod datagram;
mod error;
pub mod json;
pub mod krpc;
pub mod message;
mod portion;

pub use datagram::{decode, encode};
pub use error::DecodeError;
pub use message::{
    Body, Contact, Dialect, Dialects, Message, Query, Reply, Samples, Scrape, Token, Transaction,
    Want,
};
