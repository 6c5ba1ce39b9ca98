//! The `.bit` encoding: a torrent as JSON, with the same info-hash.
//!
//! Its fields spell out the basics of an info dictionary, which is rebuilt from them and must have the info-hash that the file
//! claims. An info dictionary with more than the basics, or with more than [`SPELLED_MAX`] pieces, is carried whole in `info`,
//! and fields beside it must agree with it.

use std::fmt;
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use jiff::Timestamp;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::basics::{Basics, Content};
use super::{Info, Metainfo, MetainfoError, PlainFile, hints};
use crate::base::InfoHash;
use crate::base::limits::METAINFO_MAX;
use crate::format::host;

/// The version of the format.
const VERSION: u32 = 1;
/// Most piece hashes that are spelled out; more are carried in `info`, which takes half the space, so that every torrent fits
/// [`METAINFO_MAX`].
const SPELLED_MAX: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bit {
    bit: u32,
    info_hash: Hex<20>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    piece_length: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<PlainFile>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pieces: Option<Vec<Hex<20>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    announce: Vec<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    web_seeds: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creation_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blake3: Option<Hex<32>>,
}

impl Metainfo {
    /// Reads a `.bit`. Everything in it is checked, and nothing that is unknown is passed over.
    ///
    /// # Errors
    /// If it is not valid, or describes a torrent that is not valid or not supported.
    pub fn from_bit(bytes: &[u8]) -> Result<Self, MetainfoError> {
        if bytes.len() > METAINFO_MAX {
            return Err(MetainfoError::TooLarge(bytes.len()));
        }
        let bit: Bit = serde_json::from_slice(bytes)
            .map_err(|error| MetainfoError::Json(error.to_string()))?;
        if bit.bit != VERSION {
            return Err(wrong("bit", "must be 1: the file is of another version"));
        }
        let (bit, info) = bit.info()?;
        hints::check_addresses(bit.announce.iter().flatten().chain(&bit.web_seeds))?;
        let tiers = bit
            .announce
            .iter()
            .map(|tier| tier.iter().map(String::as_str));
        let seeds = bit.web_seeds.iter().map(String::as_str);
        Ok(Self {
            announce: hints::tiers(tiers),
            nodes: bit.nodes()?,
            web_seeds: hints::web_seeds(seeds, info.files().len() > 1),
            creation_date: bit.creation_date()?,
            comment: bit.comment.filter(|text| !text.is_empty()),
            created_by: bit.created_by.filter(|text| !text.is_empty()),
            blake3: bit.blake3.map(|digest| digest.0),
            info: Arc::new(info),
        })
    }

    /// Writes a `.bit`.
    pub fn to_bit(&self) -> String {
        let basics = Basics::of(&self.info).expect("the dictionary of an Info was read before");
        let plain = basics.pieces.len() <= SPELLED_MAX && basics.to_raw() == self.info.raw();
        let (length, files) = basics.content.split();
        let date = self
            .creation_date
            .and_then(|date| Timestamp::from_second(date).ok());
        let bit = Bit {
            bit: VERSION,
            info_hash: Hex(self.info.info_hash().0),
            name: Some(basics.name),
            piece_length: Some(basics.piece_length),
            length,
            files,
            // The raw dictionary has them too, in a third of the space.
            pieces: plain.then(|| basics.pieces.into_iter().map(Hex).collect()),
            private: basics.private.then_some(true),
            info: (!plain).then(|| BASE64.encode(self.info.raw())),
            announce: self.announce.clone(),
            nodes: self
                .nodes
                .iter()
                .map(|(name, port)| host::format(name, *port))
                .collect(),
            web_seeds: self.web_seeds.clone(),
            comment: self.comment.clone(),
            created_by: self.created_by.clone(),
            creation_date: date.map(|date| date.to_string()),
            blake3: self.blake3.map(Hex),
        };
        let mut text = serde_json::to_string_pretty(&bit)
            .expect("texts, numbers and lists of them can be JSON");
        text.push('\n');
        text
    }
}

impl Bit {
    /// Takes out what makes the info dictionary, and checks that it is the one that the file claims.
    fn info(mut self) -> Result<(Self, Info), MetainfoError> {
        let info = match self.info.take() {
            Some(raw) => self.carried(&raw)?,
            None => self.rebuilt()?,
        };
        let (claimed, found) = (InfoHash(self.info_hash.0), info.info_hash());
        if claimed != found {
            return Err(MetainfoError::InfoHashMismatch { claimed, found });
        }
        Ok((self, info))
    }

    fn rebuilt(&mut self) -> Result<Info, MetainfoError> {
        let content = match (self.length, self.files.take()) {
            (Some(length), None) => Content::File(length),
            (None, Some(files)) => Content::Folder(files),
            _ => return Err(wrong("length", "or files must be there, and not both")),
        };
        let pieces = self.pieces.take().ok_or(wrong("pieces", "is missing"))?;
        let basics = Basics {
            name: self.name.take().ok_or(wrong("name", "is missing"))?,
            piece_length: self
                .piece_length
                .ok_or(wrong("piece_length", "is missing"))?,
            pieces: pieces.into_iter().map(|hash| hash.0).collect(),
            content,
            private: self.private == Some(true),
        };
        Info::from_raw(basics.to_raw())
    }

    /// Reads the dictionary that is carried whole; the fields that spell out part of it must agree.
    fn carried(&self, info: &str) -> Result<Info, MetainfoError> {
        let raw = BASE64
            .decode(info.as_bytes())
            .map_err(|_| wrong("info", "is not base64"))?;
        let info = Info::from_raw(raw)?;
        let basics = Basics::of(&info)?;
        let (length, files) = basics.content.split();
        let pieces = basics.pieces.into_iter().map(Hex).collect();
        agree("name", self.name.as_ref(), Some(&basics.name))?;
        agree(
            "piece_length",
            self.piece_length.as_ref(),
            Some(&basics.piece_length),
        )?;
        agree("pieces", self.pieces.as_ref(), Some(&pieces))?;
        agree("private", self.private.as_ref(), Some(&basics.private))?;
        agree("length", self.length.as_ref(), length.as_ref())?;
        agree("files", self.files.as_ref(), files.as_ref())?;
        Ok(info)
    }

    fn nodes(&self) -> Result<Vec<host::HostPort>, MetainfoError> {
        let node =
            |text: &String| host::parse(text).ok_or(wrong("nodes", "holds what is not host:port"));
        self.nodes.iter().map(node).collect()
    }

    fn creation_date(&self) -> Result<Option<i64>, MetainfoError> {
        let Some(text) = &self.creation_date else {
            return Ok(None);
        };
        let date = text.parse::<Timestamp>().ok().map(Timestamp::as_second);
        date.filter(|&date| hints::is_date(date))
            .map(Some)
            .ok_or(wrong(
                "creation_date",
                "is not a date such as 2026-01-31T12:00:00Z",
            ))
    }
}

fn wrong(field: &'static str, problem: &'static str) -> MetainfoError {
    MetainfoError::Field { field, problem }
}

fn agree<T: PartialEq>(
    field: &'static str,
    said: Option<&T>,
    carried: Option<&T>,
) -> Result<(), MetainfoError> {
    if said.is_some() && said != carried {
        return Err(wrong(field, "does not agree with info"));
    }
    Ok(())
}

/// Bytes that JSON spells in hexadecimal.
#[derive(PartialEq)]
struct Hex<const N: usize>([u8; N]);

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(HexVisitor)
    }
}

struct HexVisitor<const N: usize>;

impl<const N: usize> Visitor<'_> for HexVisitor<N> {
    type Value = Hex<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} hexadecimal digits", N * 2)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Hex<N>, E> {
        let invalid = || E::invalid_value(de::Unexpected::Str(text), &self);
        let mut bytes = [0; N];
        if text.len() != N * 2 {
            return Err(invalid());
        }
        HEXLOWER_PERMISSIVE
            .decode_mut(text.as_bytes(), &mut bytes)
            .map_err(|_| invalid())?;
        Ok(Hex(bytes))
    }
}
