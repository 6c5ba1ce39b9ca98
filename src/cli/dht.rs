//! `seedbank dht`, and the original client run without a mode: a DHT node alone, until it is stopped.

use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use seedbank::engine::Event;
use seedbank::engine::events::DhtMessage;
use tokio::sync::broadcast;
use tokio::time::{MissedTickBehavior, interval};

use super::args::{DhtAction, DhtArgs};
use super::exit::{Exit, Failure};
use super::lookup;
use super::network::Settings;
use super::output::Output;
use super::progress;
use super::session::{self, Session};

/// How often the status line is drawn.
const TICK: Duration = Duration::from_millis(250);

/// Runs a node, or looks something up with one.
///
/// # Errors
/// If the engine cannot start.
pub(crate) fn run(args: &DhtArgs, out: &Arc<Output>) -> Result<Exit, Failure> {
    if let Some(DhtAction::Lookup { info_hash, timeout }) = args.action {
        return lookup::run(&args.network, info_hash, timeout, out);
    }
    out.begin_events();
    let settings = Settings::of_node(&args.network, out)?;
    session::run(&settings, out, async |session: &Session<'_>| {
        let events = session.engine.subscribe();
        let line = progress::line(out);
        session.until(watch(events, &line)).await;
        line.finish_and_clear();
        Ok(Exit::Done)
    })
}

/// How the node stands, as far as its events tell.
#[derive(Default)]
struct Standing {
    /// Nodes in its table, and how many of them it knew from an earlier run, when it had found its neighbours.
    ready: Option<(usize, usize)>,
    received: u64,
    sent: u64,
}

/// Keeps the status line up to date for as long as the node runs.
async fn watch(mut events: broadcast::Receiver<Event>, line: &ProgressBar) {
    let mut standing = Standing::default();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => standing.note(&event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                // The engine is stopping.
                Err(broadcast::error::RecvError::Closed) => return,
            },
            _ = tick.tick(), if !line.is_hidden() => line.set_message(standing.summary()),
        }
    }
}

impl Standing {
    fn note(&mut self, event: &Event) {
        match event {
            Event::DhtReady { nodes, warm, .. } => self.ready = Some((*nodes, *warm)),
            Event::DhtPing(message)
            | Event::DhtPong { message, .. }
            | Event::DhtFindPeers { message, .. }
            | Event::DhtPeers { message, .. }
            | Event::DhtAnnounce { message, .. } => self.count(message),
            _ => {}
        }
    }

    fn count(&mut self, message: &DhtMessage) {
        match message.dir {
            "in" => self.received += 1,
            _ => self.sent += 1,
        }
    }

    fn summary(&self) -> String {
        let table = match self.ready {
            Some((nodes, warm)) => format!("{nodes} nodes ({warm} known from before)"),
            None => "looking for neighbours".to_owned(),
        };
        format!(
            "DHT node: {table}  messages in {}, out {}",
            self.received, self.sent
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seedbank::base::InfoHash;
    use seedbank::engine::events::Hex;

    #[test]
    fn the_status_line_counts_messages_and_nodes() {
        let message = |dir| {
            Box::new(DhtMessage {
                dir,
                addr: "127.0.0.1:1".parse().unwrap(),
                dialect: "krpc",
                id: Hex(InfoHash([0; 20])),
            })
        };
        let mut standing = Standing::default();
        assert!(standing.summary().contains("looking"));
        standing.note(&Event::DhtPing(message("out")));
        standing.note(&Event::DhtPong {
            message: message("in"),
            observed: None,
        });
        standing.note(&Event::DhtPing(message("out")));
        standing.note(&Event::DhtReady {
            nodes: 5,
            warm: 3,
            seconds: 0.1,
        });
        assert_eq!(
            standing.summary(),
            "DHT node: 5 nodes (3 known from before)  messages in 1, out 2"
        );
    }
}
