//! One socket, two dialects: which of them a datagram is in, its first byte tells.

use super::{DecodeError, Dialect, Message, json, krpc};

/// The datagram that says `message` in `dialect`; see [`krpc::encode`] and [`json::encode`].
pub fn encode(dialect: Dialect, message: &Message) -> Vec<u8> {
    match dialect {
        Dialect::Krpc => krpc::encode(message),
        Dialect::Json => json::encode(message),
    }
}

/// What a datagram says, and in which dialect.
///
/// # Errors
/// If its first byte belongs to no dialect, or it is not a message in that dialect.
pub fn decode(datagram: &[u8]) -> Result<(Dialect, Message), DecodeError> {
    let first = datagram.first().ok_or(DecodeError::UnknownDialect)?;
    let dialect = Dialect::of(*first).ok_or(DecodeError::UnknownDialect)?;
    let message = match dialect {
        Dialect::Krpc => krpc::decode(datagram),
        Dialect::Json => json::decode(datagram),
    }?;
    Ok((dialect, message))
}
