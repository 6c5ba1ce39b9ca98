//! The DHT (BEP 5 and its dialect in JSON): one node, driven in virtual time.

pub mod announced;
pub mod bucket;
pub mod entry;
pub mod identity;
pub mod message;
pub mod quota;
pub mod scope;
pub mod scrape;
mod shunned;
pub mod table;
pub mod tokens;

pub use message::{
    Body, Contact, Dialect, Dialects, Message, Query, Reply, Samples, Scrape, Token, Transaction,
    Want,
};
