//! The HTTP tracker protocol (BEP 3) with compact peers (BEP 23) and IPv6 (BEP 7): the address to get, and the reply.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::base::limits::{TRACKER_PEERS_MAX, TRACKER_REPLY_MAX, TRACKER_TEXT_MAX};
use crate::base::{InfoHash, PeerId};
use crate::format::bencode::{Document, Value};

/// Everything but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Announcing more often than this is abuse, whatever the tracker says.
const INTERVAL_MIN: Duration = Duration::from_secs(30);
/// Announcing less often than this would have most trackers forget us.
const INTERVAL_MAX: Duration = Duration::from_secs(2 * 3600);
/// The interval of a tracker that does not say: what most say.
const INTERVAL_UNTOLD: Duration = Duration::from_secs(1800);
/// Longest tracker id that is sent back.
const TRACKER_ID_MAX: usize = 256;

/// What an announce tells beyond its numbers (BEP 3, `event`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnounceEvent {
    /// The first announce of a session.
    Started,
    /// The download has become complete in this session.
    Completed,
    /// The session ends.
    Stopped,
}

impl AnnounceEvent {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
        }
    }
}

/// What we tell a tracker.
#[derive(Clone, Copy, Debug)]
pub struct AnnounceRequest<'a> {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Ourselves.
    pub peer_id: PeerId,
    /// The TCP port where we listen.
    pub port: u16,
    /// Payload bytes sent in this session.
    pub uploaded: u64,
    /// Payload bytes received in this session.
    pub downloaded: u64,
    /// Payload bytes missing.
    pub left: u64,
    /// What happened, if anything.
    pub event: Option<AnnounceEvent>,
    /// A number by which the tracker knows us when our address changes; the same all session.
    pub key: u32,
    /// Peers wanted; 0 when we stop.
    pub num_want: u32,
    /// What the tracker gave us to send back.
    pub tracker_id: Option<&'a [u8]>,
    /// An address of ours of the other family than the one that the request travels by (BEP 7).
    pub other_address: Option<IpAddr>,
}

impl AnnounceRequest<'_> {
    /// The address to get: `base`, the announce address of the metainfo, with the request in its query. A query that it
    /// already has is kept, a fragment is dropped.
    pub fn url(&self, base: &str) -> String {
        let base = base.split('#').next().unwrap_or_default();
        let join = match base.split_once('?') {
            None => "?",
            Some((_, "")) => "",
            Some((_, query)) if query.ends_with('&') => "",
            Some(_) => "&",
        };
        let mut url = format!(
            "{base}{join}info_hash={}&peer_id={}&port={}&uploaded={}&downloaded={}&left={}\
             &compact=1&numwant={}&key={:08x}",
            percent_encode(self.info_hash.as_bytes(), ENCODED),
            percent_encode(self.peer_id.as_bytes(), ENCODED),
            self.port,
            self.uploaded,
            self.downloaded,
            self.left,
            self.num_want,
            self.key,
        );
        let mut add = |name: &str, value: &dyn std::fmt::Display| {
            write!(url, "&{name}={value}").expect("a String takes every write");
        };
        if let Some(event) = self.event {
            add("event", &event.as_str());
        }
        if let Some(id) = self.tracker_id {
            add("trackerid", &percent_encode(id, ENCODED));
        }
        match self.other_address {
            Some(IpAddr::V4(ip)) => add("ipv4", &ip),
            Some(IpAddr::V6(ip)) => {
                add("ipv6", &percent_encode(ip.to_string().as_bytes(), ENCODED));
            }
            None => (),
        }
        url
    }
}

/// What a tracker answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Time until the next announce, clamped to what is sensible.
    pub interval: Duration,
    /// Time before which it does not want another, at most `interval`.
    pub min_interval: Option<Duration>,
    /// Other peers, in the order sent and no more than
    /// [`TRACKER_PEERS_MAX`]; never port 0 or an address that nothing can listen at.
    pub peers: Vec<SocketAddr>,
    /// Peers that have everything.
    pub complete: Option<u32>,
    /// Peers that do not.
    pub incomplete: Option<u32>,
    /// Something that a person should read.
    pub warning: Option<String>,
    /// To be sent back with the next announce.
    pub tracker_id: Option<Vec<u8>>,
}

/// Why a reply is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrackerError {
    /// The tracker refuses, and says why.
    #[error("the tracker says: {0}")]
    Refused(String),
    /// The reply is larger than any honest one.
    #[error("the tracker's reply is larger than {TRACKER_REPLY_MAX} bytes")]
    TooLarge,
    /// The reply is not a bencoded dictionary.
    #[error("the tracker's reply is not a bencoded dictionary; is this the address of a tracker?")]
    NotADictionary,
}

impl Reply {
    /// Reads the body of a tracker's reply. Fields that make no sense count as missing; bytes behind the dictionary
    /// are ignored.
    ///
    /// # Errors
    /// If the tracker refuses, or the body is too large or no dictionary.
    pub fn parse(body: &[u8]) -> Result<Self, TrackerError> {
        if body.len() > TRACKER_REPLY_MAX {
            return Err(TrackerError::TooLarge);
        }
        let parsed = Document::parse_prefix(body);
        let (document, _) = parsed.map_err(|_| TrackerError::NotADictionary)?;
        let dict = document.root();
        if !dict.is_dict() {
            return Err(TrackerError::NotADictionary);
        }
        let text = |key: &[u8]| Some(shown(dict.get(key)?.as_bytes()?));
        if let Some(reason) = text(b"failure reason") {
            return Err(TrackerError::Refused(reason));
        }
        let int = |key: &[u8]| dict.get(key)?.as_int();
        let number = |key: &[u8]| u32::try_from(int(key)?).ok();
        let seconds = |key: &[u8]| {
            let seconds = u64::try_from(int(key)?).ok()?;
            Some(Duration::from_secs(seconds).clamp(INTERVAL_MIN, INTERVAL_MAX))
        };
        let interval = seconds(b"interval").unwrap_or(INTERVAL_UNTOLD);
        let mut peers = Vec::new();
        if let Some(value) = dict.get(b"peers") {
            read_peers(&value, &mut peers);
        }
        if let Some(packed) = dict.get(b"peers6").and_then(|value| value.as_bytes()) {
            add(&mut peers, packed.as_chunks().0.iter().map(compact_v6));
        }
        let id = dict.get(b"tracker id").and_then(|id| id.as_bytes());
        Ok(Self {
            interval,
            min_interval: seconds(b"min interval").map(|min| min.min(interval)),
            peers,
            complete: number(b"complete"),
            incomplete: number(b"incomplete"),
            warning: text(b"warning message"),
            tracker_id: id
                .filter(|id| id.len() <= TRACKER_ID_MAX)
                .map(<[u8]>::to_vec),
        })
    }
}

/// Peers are one string of six bytes each (BEP 23) or a list of dictionaries (BEP 3).
fn read_peers(value: &Value<'_>, peers: &mut Vec<SocketAddr>) {
    if let Some(packed) = value.as_bytes() {
        add(peers, packed.as_chunks().0.iter().map(compact_v4));
    } else {
        add(peers, value.list().filter_map(|peer| listed(&peer)));
    }
}

fn add(peers: &mut Vec<SocketAddr>, more: impl Iterator<Item = SocketAddr>) {
    let room = TRACKER_PEERS_MAX.saturating_sub(peers.len());
    peers.extend(more.filter(can_be_dialled).take(room));
}

fn compact_v4(&[a, b, c, d, high, low]: &[u8; 6]) -> SocketAddr {
    let ip = Ipv4Addr::new(a, b, c, d);
    SocketAddr::from((ip, u16::from_be_bytes([high, low])))
}

fn compact_v6(bytes: &[u8; 18]) -> SocketAddr {
    let (ip, port) = bytes.split_at(16);
    let ip: [u8; 16] = ip.try_into().expect("the first 16 of 18 bytes");
    SocketAddr::from((Ipv6Addr::from(ip), u16::from_be_bytes([port[0], port[1]])))
}

/// A dictionary's `ip` may be a host name by BEP 3; those are skipped, as nobody sends them.
fn listed(peer: &Value<'_>) -> Option<SocketAddr> {
    let ip: IpAddr = peer.get(b"ip")?.as_str()?.parse().ok()?;
    let port = u16::try_from(peer.get(b"port")?.as_int()?).ok()?;
    Some(SocketAddr::from((ip, port)))
}

fn can_be_dialled(addr: &SocketAddr) -> bool {
    let ip = addr.ip().to_canonical();
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// A tracker's text as it may be shown: bounded and without control characters.
fn shown(bytes: &[u8]) -> String {
    let bounded = &bytes[..bytes.len().min(TRACKER_TEXT_MAX)];
    let text = String::from_utf8_lossy(bounded);
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> AnnounceRequest<'static> {
        AnnounceRequest {
            info_hash: InfoHash(*b"\x12\x34\x56\x78\x9a\xbc\xde\xf1\x23\x45\x67\x89\xab\xcd\xef\x12\x34\x56\x78\x9a"),
            peer_id: PeerId(*b"-SB0100-abc~.&+ \xff012"),
            port: 6881,
            uploaded: 1,
            downloaded: 2,
            left: 3,
            event: None,
            key: 0xbeef,
            num_want: 50,
            tracker_id: None,
            other_address: None,
        }
    }

    #[test]
    fn binary_names_are_percent_encoded() {
        let url = request().url("http://t.example/announce");
        assert_eq!(
            url,
            "http://t.example/announce?info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A\
             &peer_id=-SB0100-abc~.%26%2B%20%FF012&port=6881&uploaded=1&downloaded=2&left=3\
             &compact=1&numwant=50&key=0000beef"
        );
    }

    #[test]
    fn a_query_of_the_announce_address_is_kept() {
        for (base, begin) in [
            ("http://t/a?passkey=x", "http://t/a?passkey=x&info_hash="),
            ("http://t/a?passkey=x&", "http://t/a?passkey=x&info_hash="),
            ("http://t/a?", "http://t/a?info_hash="),
            ("http://t/a#top", "http://t/a?info_hash="),
        ] {
            assert!(request().url(base).starts_with(begin), "{base}");
        }
    }

    #[test]
    fn optional_fields_appear_only_when_there_is_something_to_say() {
        let url = AnnounceRequest {
            event: Some(AnnounceEvent::Stopped),
            tracker_id: Some(b"a b"),
            other_address: Some("2001:db8::1".parse().unwrap()),
            ..request()
        }
        .url("http://t/a");
        let end = "&event=stopped&trackerid=a%20b&ipv6=2001%3Adb8%3A%3A1";
        assert!(url.ends_with(end), "{url}");
    }

    #[test]
    fn an_empty_list_of_peers_is_no_error() {
        let body = b"d8:intervali60e8:completei1e10:incompletei1e10:downloadedi21e5:peers0:e";
        let reply = Reply::parse(body).unwrap();
        assert_eq!(reply.interval, Duration::from_secs(60));
        assert_eq!((reply.complete, reply.incomplete), (Some(1), Some(1)));
        assert_eq!(reply.peers, []);
    }

    #[test]
    fn peers_come_packed_or_listed_and_of_both_families() {
        let mut packed = b"d5:peers20:\x0a\x00\x00\x01\x1a\xe1\x0a\x00\x00\x02\x00\x00\x00\x00\x00\x00\x1a\xe1\x01\x02".to_vec();
        packed.extend_from_slice(b"6:peers618:");
        packed.extend_from_slice(&Ipv6Addr::LOCALHOST.octets());
        packed.extend_from_slice(b"\x1a\xe1e");
        let both = ["10.0.0.1:6881", "[::1]:6881"].map(|addr| addr.parse().unwrap());
        assert_eq!(Reply::parse(&packed).unwrap().peers, both);

        let listed =
            b"d5:peersld2:ip8:10.0.0.14:porti6881eed2:ip3:::14:porti6881eed2:ip1:x4:porti1eei7eee";
        assert_eq!(Reply::parse(listed).unwrap().peers, both);
    }

    #[test]
    fn a_refusal_is_told_with_its_reason_and_without_its_control_characters() {
        let refused = Reply::parse(b"d14:failure reason7:no\x1b[7m\ne");
        assert_eq!(refused, Err(TrackerError::Refused("no[7m".into())));
        assert_eq!(Reply::parse(b"<html>"), Err(TrackerError::NotADictionary));
        assert_eq!(Reply::parse(b"le"), Err(TrackerError::NotADictionary));
        let large = vec![b'd'; TRACKER_REPLY_MAX + 1];
        assert_eq!(Reply::parse(&large), Err(TrackerError::TooLarge));
    }

    #[test]
    fn intervals_are_kept_within_reason() {
        let parse = |body: &str| {
            let reply = Reply::parse(body.as_bytes()).unwrap();
            let min = reply.min_interval.map(|min| min.as_secs());
            (reply.interval.as_secs(), min)
        };
        assert_eq!(parse("de"), (1_800, None));
        assert_eq!(parse("d8:intervali0ee"), (30, None));
        assert_eq!(parse("d8:intervali-5ee"), (1_800, None));
        assert_eq!(
            parse("d8:intervali99999999e12:min intervali90ee"),
            (7_200, Some(90))
        );
        assert_eq!(
            parse("d8:intervali60e12:min intervali900ee"),
            (60, Some(60))
        );
    }

    #[test]
    fn more_peers_than_anyone_needs_are_cut_off() {
        let packed = [10, 0, 0, 1, 1, 1].repeat(TRACKER_PEERS_MAX + 5);
        let mut body = format!("d5:peers{}:", packed.len()).into_bytes();
        body.extend_from_slice(&packed);
        body.push(b'e');
        assert_eq!(Reply::parse(&body).unwrap().peers.len(), TRACKER_PEERS_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reply::parse(&bytes);
            let mut peers = b"d5:peers".to_vec();
            peers.extend_from_slice(&bytes);
            let _ = Reply::parse(&peers);
        }
    }
}
