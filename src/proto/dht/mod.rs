//! The DHT (BEP 5 and its dialect in JSON): one node, driven in virtual time.

pub mod announced;
mod bootstrap;
pub mod bucket;
mod compact;
mod datagram;
pub mod entry;
mod error;
mod external;
pub mod identity;
pub mod json;
pub mod krpc;
pub mod lookup;
pub mod message;
pub mod node;
mod portion;
pub mod quota;
pub mod round_trip;
pub mod scope;
pub mod scrape;
mod search;
mod shunned;
pub mod table;
pub mod tokens;
pub mod transactions;

pub use datagram::{decode, encode};
pub use error::DecodeError;
pub use message::{
    Body, Contact, Dialect, Dialects, Message, Query, Reply, Samples, Scrape, Token, Transaction,
    Want,
};
pub use node::{Config, Direction, LookupId, Node, Output, Saved};
pub use search::{Announce, SearchId};
