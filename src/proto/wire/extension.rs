//! The extension handshake (BEP 10), with what BEP 9, BEP 11, BEP 21 and BEP 54 add to it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::base::limits::{CLIENT_NAME_MAX, METAINFO_MAX};
use crate::format::bencode::{Document, Value, Writer};

use super::error::WireError;

/// Id of the extension handshake itself.
pub const HANDSHAKE_ID: u8 = 0;
/// The id by which we want to receive `ut_metadata` messages (BEP 9).
pub const METADATA_ID: u8 = 2;
/// The id by which we want to receive `lt_donthave` messages (BEP 54).
pub const DONT_HAVE_ID: u8 = 3;

/// The ids by which a client wants to receive the extensions that it speaks. `None`: not mentioned; 0: not spoken (any more).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// `ut_metadata` (BEP 9).
    pub metadata: Option<u8>,
    /// `ut_pex` (BEP 11).
    pub pex: Option<u8>,
    /// `lt_donthave` (BEP 54).
    pub dont_have: Option<u8>,
}

impl Extensions {
    const METADATA: &'static str = "ut_metadata";
    const PEX: &'static str = "ut_pex";
    const DONT_HAVE: &'static str = "lt_donthave";

    /// What this client speaks about every torrent; about those that are not private, `ut_metadata` too.
    pub fn ours() -> Self {
        Self {
            dont_have: Some(DONT_HAVE_ID),
            ..Self::default()
        }
    }
}

/// What one side says of itself in an extension handshake. Everything is optional, and a later handshake changes only
/// what it mentions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtendedHandshake {
    /// Extensions spoken (`m`).
    pub extensions: Extensions,
    /// Bytes of the info dictionary (BEP 9), from 1 to [`METAINFO_MAX`].
    pub metadata_size: Option<u32>,
    /// The TCP port where the sender listens (`p`), never 0.
    pub listen_port: Option<u16>,
    /// Requests that the sender queues without dropping any, at least 1.
    pub reqq: Option<u32>,
    /// Name and version of the software (`v`), printable.
    pub client: Option<String>,
    /// The receiver's address as the sender sees it.
    pub yourip: Option<IpAddr>,
    /// The sender's IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// The sender's IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Whether the sender wants nothing more (BEP 21).
    pub upload_only: Option<bool>,
}

impl ExtendedHandshake {
    /// The payload of the message with id [`HANDSHAKE_ID`].
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.dict(|dict| {
            if let Some(ip) = self.ipv4 {
                dict.bytes("ipv4", ip.octets());
            }
            if let Some(ip) = self.ipv6 {
                dict.bytes("ipv6", ip.octets());
            }
            dict.dict("m", |m| {
                let Extensions {
                    metadata,
                    pex,
                    dont_have,
                } = self.extensions;
                let ids = [
                    (Extensions::DONT_HAVE, dont_have),
                    (Extensions::METADATA, metadata),
                    (Extensions::PEX, pex),
                ];
                for (name, id) in ids {
                    if let Some(id) = id {
                        m.int(name, i64::from(id));
                    }
                }
            });
            let numbers = [
                ("metadata_size", self.metadata_size),
                ("p", self.listen_port.map(u32::from)),
                ("reqq", self.reqq),
                ("upload_only", self.upload_only.map(u32::from)),
            ];
            for (name, number) in numbers {
                if let Some(number) = number {
                    dict.int(name, i64::from(number));
                }
            }
            if let Some(client) = &self.client {
                dict.bytes("v", client);
            }
            match self.yourip.map(|ip| ip.to_canonical()) {
                Some(IpAddr::V4(ip)) => dict.bytes("yourip", ip.octets()),
                Some(IpAddr::V6(ip)) => dict.bytes("yourip", ip.octets()),
                None => (),
            }
        });
        writer.finish()
    }

    /// Reads the payload of the message with id [`HANDSHAKE_ID`]. Values that make no sense count as not mentioned; bytes
    /// after the dictionary are ignored.
    ///
    /// # Errors
    /// [`WireError::BadExtendedHandshake`] if there is no bencoded dictionary.
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        let parsed = Document::parse_prefix(payload);
        let (document, _) = parsed.map_err(|_| WireError::BadExtendedHandshake)?;
        let dict = document.root();
        if !dict.is_dict() {
            return Err(WireError::BadExtendedHandshake);
        }
        let int = |key: &[u8]| dict.get(key)?.as_int();
        let within = |key: &[u8], max: u32| {
            let number = u32::try_from(int(key)?).ok()?;
            (1..=max).contains(&number).then_some(number)
        };
        let bytes = |key: &[u8]| dict.get(key)?.as_bytes();
        let m = dict.get(b"m");
        let id = |name: &str| extension_id(m.as_ref()?, name);
        Ok(Self {
            extensions: Extensions {
                metadata: id(Extensions::METADATA),
                pex: id(Extensions::PEX),
                dont_have: id(Extensions::DONT_HAVE),
            },
            metadata_size: within(b"metadata_size", METAINFO_MAX as u32),
            listen_port: within(b"p", u32::from(u16::MAX)).map(|port| port as u16),
            reqq: within(b"reqq", u32::MAX),
            client: bytes(b"v").and_then(client_name),
            yourip: bytes(b"yourip").and_then(address),
            ipv4: bytes(b"ipv4").and_then(|ip| <[u8; 4]>::try_from(ip).ok().map(Ipv4Addr::from)),
            ipv6: bytes(b"ipv6").and_then(|ip| <[u8; 16]>::try_from(ip).ok().map(Ipv6Addr::from)),
            upload_only: int(b"upload_only").map(|flag| flag != 0),
        })
    }

    /// Takes over what `later` mentions.
    pub fn update(&mut self, later: Self) {
        let old = std::mem::take(self);
        *self = Self {
            extensions: Extensions {
                metadata: later.extensions.metadata.or(old.extensions.metadata),
                pex: later.extensions.pex.or(old.extensions.pex),
                dont_have: later.extensions.dont_have.or(old.extensions.dont_have),
            },
            metadata_size: later.metadata_size.or(old.metadata_size),
            listen_port: later.listen_port.or(old.listen_port),
            reqq: later.reqq.or(old.reqq),
            client: later.client.or(old.client),
            yourip: later.yourip.or(old.yourip),
            ipv4: later.ipv4.or(old.ipv4),
            ipv6: later.ipv6.or(old.ipv6),
            upload_only: later.upload_only.or(old.upload_only),
        };
    }
}

fn extension_id(m: &Value<'_>, name: &str) -> Option<u8> {
    u8::try_from(m.get(name.as_bytes())?.as_int()?).ok()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The name as it may be shown: bounded, without control characters, never empty.
fn client_name(bytes: &[u8]) -> Option<String> {
    let bounded = &bytes[..bytes.len().min(CLIENT_NAME_MAX)];
    let text = String::from_utf8_lossy(bounded);
    let shown: String = text.chars().filter(|c| !c.is_control()).collect();
    (!shown.is_empty()).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn metadata_sizes_of_minus_one_and_zero_count_as_unknown() {
        let minus_one = b"d1:md11:ut_metadatai3ee13:metadata_sizei-1ee";
        let zero = b"d1:md11:ut_metadatai9e6:ut_pexi11ee13:metadata_sizei0ee";
        let minus_one = ExtendedHandshake::decode(minus_one).unwrap();
        assert_eq!(minus_one.metadata_size, None);
        assert_eq!(minus_one.extensions.metadata, Some(3));
        let zero = ExtendedHandshake::decode(zero).unwrap();
        assert_eq!(zero.metadata_size, None);
        assert_eq!(zero.extensions.pex, Some(11));
    }

    #[test]
    fn values_that_make_no_sense_count_as_not_mentioned() {
        let bytes =
            b"d4:ipv43:abc1:mi7e1:pi70000e4:reqqi0e11:upload_only1:x1:v2:\x07\n6:yourip5:abcdee";
        let decoded = ExtendedHandshake::decode(bytes);
        assert_eq!(decoded, Ok(ExtendedHandshake::default()));
    }

    #[test]
    fn what_is_no_dictionary_is_refused_and_what_follows_one_is_ignored() {
        for bytes in [&b""[..], b"le", b"i1e", b"d1:m", b"x"] {
            let decoded = ExtendedHandshake::decode(bytes);
            assert_eq!(decoded, Err(WireError::BadExtendedHandshake));
        }
        assert!(ExtendedHandshake::decode(b"de junk").is_ok());
    }

    #[test]
    fn a_later_handshake_changes_only_what_it_mentions() {
        let mut first = ExtendedHandshake {
            reqq: Some(250),
            client: Some("x".into()),
            extensions: Extensions::ours(),
            ..Default::default()
        };
        let mut later = ExtendedHandshake::decode(b"d1:md11:lt_donthavei0ee11:upload_onlyi1ee");
        first.update(later.clone().unwrap());
        later.as_mut().unwrap().reqq = Some(250);
        later.as_mut().unwrap().client = Some("x".into());
        assert_eq!(Ok(first), later);
    }

    proptest! {
        #[test]
        fn survives_the_round_trip(
            ids: [Option<u8>; 3], size in prop::option::of(1u32..=METAINFO_MAX as u32), port in prop::option::of(1u16..),
            reqq in prop::option::of(1u32..), client in prop::option::of("[a-zA-Z0-9 ./é]{1,20}"), ip: Option<IpAddr>,
            ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>, upload_only: Option<bool>,
        ) {
            let [metadata, pex, dont_have] = ids;
            let handshake = ExtendedHandshake {
                extensions: Extensions { metadata, pex, dont_have },
                metadata_size: size,
                listen_port: port,
                reqq,
                client,
                yourip: ip.map(|ip| ip.to_canonical()),
                ipv4,
                ipv6,
                upload_only,
            };
            prop_assert_eq!(ExtendedHandshake::decode(&handshake.encode()), Ok(handshake));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ExtendedHandshake::decode(&bytes);
            let mut dict = b"d1:md".to_vec();
            dict.extend_from_slice(&bytes);
            let _ = ExtendedHandshake::decode(&dict);
        }
    }
}
