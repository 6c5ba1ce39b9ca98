//! What a person is told of an event, in a line; of most of them nothing.

use indicatif::BinaryBytes;
use seedbank::base::InfoHash;
use seedbank::engine::Event;
use seedbank::engine::events::{DhtMessage, Hex};

/// From this many `-v` on single messages of the DHT are told.
const MESSAGES: u8 = 2;

/// The line for `event` where it matters at this verbosity. `called` knows the names of torrents.
pub(super) fn of(
    event: &Event,
    verbose: u8,
    called: impl Fn(&InfoHash) -> String,
) -> Option<String> {
    let named = |hash: &Hex| called(&hash.0);
    let prose = match event {
        Event::Listening { tcp, udp, state } => {
            let places = [(tcp, "TCP"), (udp, "DHT")];
            let places = places
                .into_iter()
                .filter_map(|(addr, what)| addr.map(|addr| format!("{addr} ({what})")));
            let places = places.collect::<Vec<_>>().join(", ");
            let places = if places.is_empty() {
                "nowhere"
            } else {
                &places
            };
            format!("listening on {places}; state in {}", state.display())
        }
        Event::Resume {
            info_hash,
            trusted,
            rechecked,
            missing,
            total,
            seconds,
            ..
        } if total != missing => {
            format!(
                "{}: {} of {total} pieces are here ({trusted} trusted, {rechecked} checked in {seconds:.1} s)",
                named(info_hash),
                total.saturating_sub(*missing)
            )
        }
        Event::Complete {
            info_hash,
            bytes,
            seconds,
            ..
        } => {
            format!(
                "{}: complete, {} in {seconds:.1} s",
                named(info_hash),
                BinaryBytes(*bytes)
            )
        }
        Event::HashFailed {
            info_hash,
            piece,
            peers,
        } => {
            format!(
                "{}: piece {piece} from {peers:?} is damaged; it is fetched again",
                named(info_hash)
            )
        }
        Event::Scrubbed {
            info_hash,
            pieces,
            bad,
            bytes,
            ..
        } => {
            let found = match bad {
                0 => "all is well".to_owned(),
                _ => format!("{bad} of {pieces} pieces had rotted"),
            };
            let bytes = BinaryBytes(*bytes);
            format!("{}: {bytes} were re-read, {found}", named(info_hash))
        }
        Event::DhtReady {
            nodes,
            warm,
            seconds,
        } => {
            format!("DHT: {nodes} nodes after {seconds:.1} s, {warm} of them known from before")
        }
        _ if verbose == 0 => return None,
        Event::JoinedToPeer {
            peer,
            client,
            incoming,
            ..
        } => {
            let way = if *incoming { "from" } else { "to" };
            format!("connected {way} {peer} ({client})")
        }
        Event::LeftPeer { peer, reason, .. } => format!("left {peer}: {reason}"),
        Event::Durable {
            info_hash,
            pieces,
            total,
            ms,
        } => {
            format!(
                "{}: {pieces} of {total} pieces durable ({ms} ms)",
                named(info_hash)
            )
        }
        _ if verbose < MESSAGES => return None,
        Event::DhtPing(message) => told(message, "ping"),
        Event::DhtPong { message, .. } => told(message, "pong"),
        Event::DhtFindPeers { message, info_hash } => {
            told(message, &format!("findPeers {}", info_hash.0))
        }
        Event::DhtPeers {
            message,
            peers,
            nodes,
            ..
        } => told(message, &format!("{} peers, {nodes} nodes", peers.len())),
        Event::DhtAnnounce {
            message, info_hash, ..
        } => told(message, &format!("announce {}", info_hash.0)),
        _ => return None,
    };
    Some(prose)
}

fn told(message: &DhtMessage, what: &str) -> String {
    let way = if message.dir == "in" { "from" } else { "to" };
    format!("DHT {way} {} ({}): {what}", message.addr, message.dialect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prose(event: &Event, verbose: u8) -> Option<String> {
        of(event, verbose, |_| "it".to_owned())
    }

    #[test]
    fn single_messages_of_the_dht_are_told_only_when_asked_for() {
        let ping = Event::DhtPing(Box::new(DhtMessage {
            dir: "in",
            addr: "127.0.0.1:1".parse().unwrap(),
            dialect: "json",
            id: Hex(InfoHash([1; 20])),
        }));
        assert_eq!(prose(&ping, 0), None);
        assert_eq!(prose(&ping, 1), None);
        assert_eq!(
            prose(&ping, 2).as_deref(),
            Some("DHT from 127.0.0.1:1 (json): ping")
        );
        let ready = Event::DhtReady {
            nodes: 9,
            warm: 4,
            seconds: 0.25,
        };
        assert_eq!(
            prose(&ready, 0).as_deref(),
            Some("DHT: 9 nodes after 0.2 s, 4 of them known from before")
        );
    }

    #[test]
    fn where_it_listens_is_named_for_each_transport() {
        let listening = |tcp: Option<&str>, udp: Option<&str>| Event::Listening {
            tcp: tcp.map(|addr| addr.parse().unwrap()),
            udp: udp.map(|addr| addr.parse().unwrap()),
            state: "s".into(),
        };
        let said = |tcp, udp| prose(&listening(tcp, udp), 0).unwrap();
        assert_eq!(said(None, None), "listening on nowhere; state in s");
        assert_eq!(
            said(Some("[::]:1"), Some("[::]:2")),
            "listening on [::]:1 (TCP), [::]:2 (DHT); state in s"
        );
    }
}
