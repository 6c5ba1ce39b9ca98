//! Where a torrent's peers come from: its trackers, one announce at a time, and the DHT.

use std::time::Instant;

use crate::base::limits::ADDRESSES_MAX;
use crate::base::{InfoHash, PeerId};
use crate::net::tracker;
use crate::proto::tracker::http::{AnnounceEvent, AnnounceRequest, Reply};
use crate::proto::tracker::tiers::{Announce, Tiers};

/// Peers that we ask a tracker for.
const WANTED: u32 = 100;

/// Keeps a torrent announced.
#[derive(Debug)]
pub(super) struct Discovery {
    tiers: Tiers,
    info_hash: InfoHash,
    peer_id: PeerId,
    port: u16,
}

/// The answer to one announce, for [`Discovery::answered`].
#[derive(Debug)]
pub(super) struct Answer {
    url: String,
    result: Result<Reply, String>,
}

/// Payload bytes so far, as trackers count them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) uploaded: u64,
    pub(super) downloaded: u64,
    pub(super) left: u64,
}

impl Discovery {
    pub(super) fn new(
        now: Instant,
        tiers: Vec<Vec<String>>,
        seed: u64,
        info_hash: InfoHash,
        peer_id: PeerId,
        port: Option<u16>,
    ) -> Self {
        Self {
            tiers: Tiers::new(now, tiers, seed),
            info_hash,
            peer_id,
            // Trackers refuse port 0; port 1 tells them of a peer that nobody can reach.
            port: port.unwrap_or(1),
        }
    }

    /// An announce that is due, to be carried out by [`carry_out`].
    pub(super) fn poll(&mut self, now: Instant) -> Option<Announce> {
        self.tiers.poll(now)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.tiers.next_deadline()
    }

    /// The payload is whole now.
    pub(super) fn completed(&mut self, now: Instant) {
        self.tiers.completed(now);
    }

    /// The announces that say good-bye.
    pub(super) fn stop(&mut self) -> Vec<Announce> {
        self.tiers.stop()
    }

    /// The address to fetch for `announce`.
    pub(super) fn url(&self, announce: &Announce, counts: Counts) -> String {
        let request = AnnounceRequest {
            info_hash: self.info_hash,
            peer_id: self.peer_id,
            port: self.port,
            uploaded: counts.uploaded,
            downloaded: counts.downloaded,
            left: counts.left,
            event: announce.event,
            num_want: if announce.event == Some(AnnounceEvent::Stopped) {
                0
            } else {
                WANTED
            },
            key: tracker::key(&self.peer_id),
            tracker_id: announce.tracker_id.as_deref(),
            other_address: None,
        };
        request.url(&announce.url)
    }

    /// Takes in an answer: the peers it names, or what went wrong.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        answer: Answer,
    ) -> Result<Vec<std::net::SocketAddr>, String> {
        match answer.result {
            Ok(reply) => {
                self.tiers.on_reply(now, &answer.url, &reply);
                Ok(reply.peers.into_iter().take(ADDRESSES_MAX).collect())
            }
            Err(error) => {
                self.tiers.on_error(now, &answer.url);
                Err(format!("{}: {error}", answer.url))
            }
        }
    }
}

/// Carries out `announce` by fetching `url`.
pub(super) async fn carry_out(announce: Announce, url: String) -> Answer {
    let result = match tracker::fetch(url).await {
        Ok(body) => Reply::parse(&body).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    Answer {
        url: announce.url,
        result,
    }
}
