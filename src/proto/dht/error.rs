//! Why a datagram is no message, and what its sender is to hear of that.

use super::{Body, Message, Transaction};
use crate::base::limits::TRANSACTION_MAX;
use crate::format::bencode::BencodeError;

/// Why a datagram is no message of the DHT.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It begins with a byte of neither dialect, or with none.
    #[error("the datagram is in neither dialect of the DHT")]
    UnknownDialect,
    /// It is longer than its dialect allows.
    #[error("the datagram has {len} bytes, of which at most {max} are read")]
    TooLong {
        /// Bytes that it has.
        len: usize,
        /// Bytes that it may have.
        max: usize,
    },
    /// It does not begin with a bencoded value.
    #[error("the datagram is not bencoded: {0}")]
    NotBencode(#[from] BencodeError),
    /// It is not one JSON object, or one of its fields has a value of the wrong type.
    #[error("the datagram is not a JSON object with the fields of a message, as seen at byte {at}")]
    NotJson {
        /// Where that was seen, in bytes from the start.
        at: usize,
    },
    /// Without its transaction nobody can be answered.
    #[error("the message has no transaction id of at most {TRANSACTION_MAX} bytes")]
    NoTransaction,
    /// It is neither a query nor a reply nor an error; in the JSON dialect, none of the five types.
    #[error("the message is of an unknown type")]
    UnknownType,
    /// A KRPC query with a method that we do not know and no point in it that we could answer with contacts for.
    #[error("the query has an unknown method")]
    UnknownMethod {
        /// Its transaction.
        transaction: Transaction,
    },
    /// A field that must be there is not, or makes no sense.
    #[error("the field {field} is missing or malformed")]
    Malformed {
        /// The field.
        field: &'static str,
        /// The transaction of a KRPC query; `None`: it was something that is not to be answered with an error.
        asked: Option<Transaction>,
    },
}

impl DecodeError {
    /// The KRPC error that the sender is to get, with the codes of BEP 5; `None` for what is best ignored. It is short, because
    /// whoever sends nonsense may have forged where it comes from.
    pub fn answer(&self) -> Option<Message> {
        let (transaction, code, text) = match self {
            Self::UnknownMethod { transaction } => (transaction, 204, "unknown method".to_owned()),
            Self::Malformed { asked, field } => (asked.as_ref()?, 203, format!("bad {field}")),
            _ => return None,
        };
        Some(Message {
            transaction: transaction.clone(),
            body: Body::Error { code, text },
        })
    }
}
