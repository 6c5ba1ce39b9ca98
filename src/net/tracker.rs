//! One question to an HTTP tracker and its answer.

use std::sync::LazyLock;
use std::time::Duration;

use ureq::Agent;

use crate::base::PeerId;
use crate::base::id::CLIENT;
use crate::base::limits::TRACKER_REPLY_MAX;

/// Time for a tracker to answer; those that need longer are overloaded, and the next tier is better.
const PATIENCE: Duration = Duration::from_secs(15);

static AGENT: LazyLock<Agent> = LazyLock::new(|| {
    Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        .user_agent(CLIENT)
        .max_redirects(5)
        // Many trackers put a bencoded failure reason into a reply with status 400.
        .http_status_as_error(false)
        .build()
        .into()
});

/// The tracker did not answer, or not in time.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(#[from] Box<ureq::Error>);

/// Fetches `url` (an announce with its query) and returns the body, whatever its status.
///
/// # Errors
/// If there is no answer within 15 seconds, or it is longer than [`TRACKER_REPLY_MAX`].
pub async fn fetch(url: String) -> Result<Vec<u8>, Unreachable> {
    let fetched = tokio::task::spawn_blocking(move || get(&url)).await;
    match fetched {
        Ok(result) => result.map_err(|error| Unreachable(Box::new(error))),
        Err(stopped) => std::panic::resume_unwind(stopped.into_panic()),
    }
}

fn get(url: &str) -> Result<Vec<u8>, ureq::Error> {
    let mut reply = AGENT.get(url).call()?;
    reply
        .body_mut()
        .with_config()
        .limit(TRACKER_REPLY_MAX as u64)
        .read_to_vec()
}

/// The key by which a tracker knows us when our address changes (BEP 3), made from our peer id.
pub fn key(peer_id: &PeerId) -> u32 {
    let tail: [u8; 4] = peer_id.0[16..]
        .try_into()
        .expect("an array of 20 has a tail of 4");
    u32::from_be_bytes(tail)
}
