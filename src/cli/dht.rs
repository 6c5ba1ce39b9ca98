//! `seedbank dht`, and the original client run without a mode. This version has no DHT yet and does not pretend to.

use super::args::DhtArgs;
use super::exit::{Exit, Failure};

/// Says that there is no DHT yet.
///
/// # Errors
/// Always.
pub(crate) fn run(_args: &DhtArgs) -> Result<Exit, Failure> {
    Err(Failure::new(
        Exit::Unknown,
        "this version has no DHT yet; it comes with a later one",
    )
    .hint("peers are found through trackers and --peer"))
}
