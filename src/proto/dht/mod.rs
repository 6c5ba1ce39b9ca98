//! The DHT (BEP 5 and its dialect in JSON): one node, driven in virtual time.

pub mod message;

pub use message::{
    Body, Contact, Dialect, Dialects, Message, Query, Reply, Samples, Scrape, Token, Transaction,
    Want,
};
