//! Bencode (BEP 3): a reader that borrows and a writer that sorts.
//!
//! [`Document`] reads a whole message in one pass without recursion, into an index of twelve bytes a value; nothing is copied.
//! [`Value`] walks it and gives back the exact bytes of any part, which is what an info-hash is taken of. What torrents in the wild get
//! wrong but everybody reads (unsorted or duplicate keys, leading zeros) is read too and told by [`Document::is_canonical`].
//! [`Writer`] only writes the canonical form.

mod error;
mod reader;
mod value;
mod writer;

pub use error::BencodeError;
pub use reader::Document;
pub use value::{Dict, List, Value};
pub use writer::{DictWriter, Writer};

#[cfg(test)]
mod tests;
