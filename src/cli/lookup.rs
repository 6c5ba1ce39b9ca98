//! `seedbank dht lookup`: the peers of a torrent as the DHT names them, printed as they come.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use seedbank::base::InfoHash;
use seedbank::engine::events::Hex;
use seedbank::engine::{Engine, Event};
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::time::timeout;

use super::args::{NetworkArgs, Seconds};
use super::exit::{Exit, Failure};
use super::network::Settings;
use super::output::Output;
use super::session::{self, Session};

/// A search that began before any node had answered is repeated when one has, or after so long.
const PAUSE: Duration = Duration::from_secs(2);

/// What is printed for each peer.
#[derive(Serialize)]
#[serde(tag = "event", rename = "peer")]
struct Found {
    info_hash: Hex,
    peer: SocketAddr,
}

/// Looks `info_hash` up until the search ends; 0 if there is any peer, 3 if there is none.
///
/// # Errors
/// If the search does not end in time, or the user stops it.
pub(crate) fn run(
    args: &NetworkArgs,
    info_hash: InfoHash,
    limit: Seconds,
    out: &Arc<Output>,
) -> Result<Exit, Failure> {
    out.begin_events();
    let settings = Settings::of_node(args, out)?.into_guest();
    let work = async |session: &Session<'_>| {
        let mut lookup = Lookup {
            info_hash,
            seen: HashSet::new(),
            reached: false,
            out,
        };
        // Listened to from before the search, so that nothing is missed.
        let events = session.engine.subscribe();
        let search = lookup.search(session.engine, events);
        let ended = session.until(timeout(limit.0, search)).await;
        lookup.verdict(ended.map(|ended| ended.is_ok()))
    };
    session::run(&settings, out, work)
}

struct Lookup<'a> {
    info_hash: InfoHash,
    seen: HashSet<SocketAddr>,
    /// Some node has answered, so that there is a DHT to search.
    reached: bool,
    out: &'a Output,
}

impl Lookup<'_> {
    /// Searches, again if the search began before there was anyone to ask.
    async fn search(&mut self, engine: &Engine, mut events: broadcast::Receiver<Event>) {
        loop {
            let began_in_reach = self.reached;
            let Some(mut search) = engine.look_up(self.info_hash) else {
                return;
            };
            loop {
                tokio::select! {
                    biased;
                    found = search.next() => match found {
                        Some(peers) => self.print(peers),
                        None => break,
                    },
                    () = answer(&mut events), if !self.reached => self.reached = true,
                }
            }
            if !self.seen.is_empty() || began_in_reach {
                return;
            }
            if !self.reached {
                self.reached = timeout(PAUSE, answer(&mut events)).await.is_ok();
            }
        }
    }

    fn print(&mut self, peers: Vec<SocketAddr>) {
        for peer in peers {
            if self.seen.insert(peer) {
                let info_hash = Hex(self.info_hash);
                self.out.result(peer);
                self.out.record(&Found { info_hash, peer });
            }
        }
    }

    /// How it went; `ended` is whether the search came to its end in time, nothing if the user stopped it.
    fn verdict(&self, ended: Option<bool>) -> Result<Exit, Failure> {
        let info_hash = self.info_hash;
        match ended {
            None => Err(Failure::new(
                Exit::Stopped,
                "stopped before the search ended",
            )),
            Some(_) if !self.seen.is_empty() => Ok(Exit::Done),
            Some(false) if !self.reached => {
                Err(Failure::new(Exit::TimedOut, "no DHT node answered in time")
                    .hint("name some with --bootstrap, or wait longer with --timeout"))
            }
            // Those who were not asked yet may know of a peer.
            Some(false) => Err(Failure::new(
                Exit::TimedOut,
                "the search did not end in time, and found no peer so far",
            )
            .hint("wait longer with --timeout")),
            Some(true) => Err(Failure::new(
                Exit::NotFound,
                format!("{info_hash}: no peer is announced in the DHT"),
            )),
        }
    }
}

/// Waits until any node answers.
async fn answer(events: &mut broadcast::Receiver<Event>) {
    loop {
        match events.recv().await {
            Ok(Event::DhtReady { .. }) => return,
            Ok(Event::DhtPong { message, .. } | Event::DhtPeers { message, .. })
                if message.dir == "in" =>
            {
                return;
            }
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            // The engine is stopping, and with it this.
            Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Verbosity;

    fn verdict(reached: bool, ended: Option<bool>) -> Exit {
        let out = Output::new(&Verbosity {
            log: None,
            verbose: 0,
            quiet: true,
        });
        let lookup = Lookup {
            info_hash: InfoHash([1; 20]),
            seen: HashSet::new(),
            reached,
            out: &out,
        };
        lookup.verdict(ended).unwrap_err().exit
    }

    #[test]
    fn that_nobody_announces_a_torrent_is_said_only_when_the_search_has_ended() {
        assert_eq!(verdict(true, Some(true)), Exit::NotFound);
        assert_eq!(verdict(true, Some(false)), Exit::TimedOut);
        assert_eq!(verdict(false, Some(false)), Exit::TimedOut);
        assert_eq!(verdict(true, None), Exit::Stopped);
    }
}
