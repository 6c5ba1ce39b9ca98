//! The `SOURCE` of the command line: where a torrent's metainfo comes from, and getting it from there.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use seedbank::base::InfoHash;
use seedbank::base::limits::METAINFO_MAX;
use seedbank::format::host::HostPort;
use seedbank::format::magnet::Magnet;
use seedbank::format::metainfo::Metainfo;

use super::exit::{Exit, Failure};
use super::known;

/// A web server has this long to hand out a whole metainfo file.
const FETCH_TIME: Duration = Duration::from_secs(60);
/// And this long to take the connection.
const CONNECT_TIME: Duration = Duration::from_secs(15);

/// Where metainfo comes from, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A .bit or .torrent.
    File(PathBuf),
    /// An address of either; those of http and https can be fetched.
    Url(String),
    /// A magnet link or a bare info-hash.
    Magnet(String),
}

impl From<OsString> for Source {
    fn from(text: OsString) -> Self {
        let Some(plain) = text.to_str() else {
            return Self::File(text.into());
        };
        let starts = |prefix: &str| {
            plain
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        if starts("magnet:") {
            Self::Magnet(plain.to_owned())
        } else if plain.contains("://") && !Path::new(plain).exists() {
            Self::Url(plain.to_owned())
        } else if is_info_hash(plain) && !Path::new(plain).exists() {
            Self::Magnet(plain.to_owned())
        } else {
            Self::File(text.into())
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(text) | Self::Magnet(text) => f.write_str(text),
        }
    }
}

/// Metainfo and what came with it.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// The metainfo.
    pub(crate) metainfo: Metainfo,
    /// The folder where the payload is to be expected: beside the file, or where an earlier run put it.
    pub(crate) beside: Option<PathBuf>,
    /// The folder that an earlier run downloaded to.
    pub(crate) earlier: Option<PathBuf>,
    /// Peers to try.
    pub(crate) peers: Vec<HostPort>,
}

/// A torrent of which only the name is known, and hints where to find it.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// Its name.
    pub(crate) info_hash: InfoHash,
    /// The link that names it.
    pub(crate) magnet: Magnet,
}

/// What a source leads to without asking a peer.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// The metainfo.
    Loaded(Box<Loaded>),
    /// Nothing but a name: peers have to be asked.
    Named(Box<Named>),
}

impl Source {
    /// Gets the metainfo as far as that takes no peers: reads the file, asks the web server, or looks into the catalog in `state`.
    ///
    /// # Errors
    /// If it is not there, cannot be had, or is not valid.
    pub(crate) fn find(&self, state: &Path) -> Result<Found, Failure> {
        let loaded = match self {
            Self::File(path) => {
                let folder = path.parent().map(|folder| match folder.as_os_str() {
                    here if here.is_empty() => PathBuf::from("."),
                    _ => folder.to_owned(),
                });
                Loaded {
                    beside: folder,
                    ..Loaded::of(parse(&read(path)?, self)?)
                }
            }
            Self::Url(url) => Loaded::of(parse(&fetch(url)?, self)?),
            Self::Magnet(text) => {
                let magnet = magnet(text)?;
                let info_hash = info_hash(&magnet)?;
                match known::find(state, info_hash) {
                    None => return Ok(Found::Named(Box::new(Named { info_hash, magnet }))),
                    Some(known) => Loaded {
                        metainfo: enriched(known.metainfo, &magnet),
                        beside: known.dest.clone(),
                        earlier: known.dest,
                        peers: magnet.peers,
                    },
                }
            }
        };
        Ok(Found::Loaded(Box::new(loaded)))
    }

    /// Gets the metainfo for those who ask no peers.
    ///
    /// # Errors
    /// If it is not there, cannot be had without peers, or is not valid.
    pub(crate) fn load(&self, state: &Path) -> Result<Loaded, Failure> {
        match self.find(state)? {
            Found::Loaded(loaded) => Ok(*loaded),
            Found::Named(_) => {
                let message = format!("{self}: not in the state folder {}", state.display());
                Err(Failure::new(Exit::NotFound, message)
                    .hint("`seedbank get` fetches it from peers"))
            }
        }
    }
}

impl Loaded {
    /// Metainfo that came with nothing.
    pub(crate) fn of(metainfo: Metainfo) -> Self {
        Self {
            metainfo,
            beside: None,
            earlier: None,
            peers: Vec::new(),
        }
    }

    /// Takes the hints of a link to the same torrent; none if it is private, which keeps to its own trackers.
    pub(crate) fn take_hints(&mut self, magnet: &Magnet) {
        if !self.metainfo.info.is_private() {
            enrich(&mut self.metainfo, magnet);
            add_new(&mut self.peers, &magnet.peers);
        }
    }
}

impl Found {
    /// Which torrent it is.
    pub(crate) fn info_hash(&self) -> InfoHash {
        match self {
            Self::Loaded(loaded) => loaded.metainfo.info.info_hash(),
            Self::Named(named) => named.info_hash,
        }
    }
}

/// What the catalog has, with the hints of a newer link to the same torrent.
fn enriched(mut metainfo: Metainfo, magnet: &Magnet) -> Metainfo {
    enrich(&mut metainfo, magnet);
    metainfo
}

/// Adds the hints of a link to the same torrent; its peers are left to the caller. A private torrent keeps to its own trackers.
pub(crate) fn enrich(metainfo: &mut Metainfo, magnet: &Magnet) {
    if metainfo.info.is_private() {
        return;
    }
    metainfo.add_hints(&magnet.trackers, &magnet.nodes, &magnet.web_seeds);
}

/// Adds the hints of another link to the same torrent.
pub(crate) fn merge(magnet: &mut Magnet, other: &Magnet) {
    add_new(&mut magnet.trackers, &other.trackers);
    add_new(&mut magnet.peers, &other.peers);
    add_new(&mut magnet.nodes, &other.nodes);
    add_new(&mut magnet.web_seeds, &other.web_seeds);
}

fn add_new<T: Clone + PartialEq>(to: &mut Vec<T>, from: &[T]) {
    for item in from {
        if !to.contains(item) {
            to.push(item.clone());
        }
    }
}

/// Reads a magnet link or a bare info-hash.
///
/// # Errors
/// If it is neither.
pub(crate) fn magnet(text: &str) -> Result<Magnet, Failure> {
    Magnet::parse(text)
        .map_err(|error| Failure::new(Exit::Usage, format!("{text}: not a magnet link: {error}")))
}

fn info_hash(magnet: &Magnet) -> Result<InfoHash, Failure> {
    magnet.info_hash.ok_or_else(|| {
        Failure::new(
            Exit::Unknown,
            "the magnet link names a v2-only torrent, which is not supported",
        )
    })
}

fn is_info_hash(text: &str) -> bool {
    let hex = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let base32 = text.len() == 32
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphabetic() || (b'2'..=b'7').contains(&byte));
    hex || base32
}

fn parse(bytes: &[u8], source: &Source) -> Result<Metainfo, Failure> {
    Metainfo::parse(bytes).map_err(|error| {
        Failure::new(
            Exit::Unknown,
            format!("{source}: not a usable .bit or .torrent: {error}"),
        )
    })
}

/// Reads a metainfo file, never more than [`METAINFO_MAX`] bytes of it.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let fail = |error: std::io::Error| Failure::open(path, &error);
    let file = File::open(path).map_err(fail)?;
    let meta = file.metadata().map_err(fail)?;
    if meta.is_dir() {
        let message = format!("{} is a folder, not a .bit or .torrent", path.display());
        return Err(Failure::new(Exit::CannotOpen, message)
            .hint("`seedbank seed` and `seedbank create` take folders"));
    }
    let mut bytes = Vec::new();
    file.take(METAINFO_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    if bytes.len() > METAINFO_MAX {
        let message = format!("{} is too large for a .bit or .torrent", path.display());
        return Err(Failure::new(Exit::Unknown, message).hint(LARGEST));
    }
    Ok(bytes)
}

const LARGEST: &str = "64 MiB is the most; is it the payload itself?";

fn fetch(url: &str) -> Result<Vec<u8>, Failure> {
    let scheme = url.split("://").next().unwrap_or_default();
    if !["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
    {
        let message = format!("{url}: only http and https addresses can be fetched");
        return Err(Failure::new(Exit::Usage, message).hint("download it and name the file"));
    }
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(FETCH_TIME))
        .timeout_connect(Some(CONNECT_TIME))
        .user_agent(seedbank::base::id::CLIENT)
        .build()
        .into();
    let mut answer = agent
        .get(url)
        .call()
        .map_err(|error| unfetched(url, &error))?;
    let body = answer.body_mut().with_config().limit(METAINFO_MAX as u64);
    body.read_to_vec().map_err(|error| unfetched(url, &error))
}

fn unfetched(url: &str, error: &ureq::Error) -> Failure {
    let exit = match error {
        ureq::Error::Timeout(_) => Exit::TimedOut,
        ureq::Error::StatusCode(404 | 410) | ureq::Error::HostNotFound => Exit::NotFound,
        ureq::Error::BadUri(_) => Exit::Usage,
        _ => Exit::Unknown,
    };
    let failure = Failure::new(exit, format!("{url}: cannot be fetched: {error}"));
    match error {
        ureq::Error::BodyExceedsLimit(_) => failure.hint(LARGEST),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(text: &str) -> Source {
        Source::from(OsString::from(text))
    }

    #[test]
    fn every_kind_of_source_is_told_by_its_look() {
        let hash = "0123456789abcdef0123456789ABCDEF01234567";
        assert_eq!(read_as(hash), Source::Magnet(hash.to_owned()));
        assert!(matches!(
            read_as("MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U"),
            Source::Magnet(_)
        ));
        assert!(matches!(
            read_as("MAGNET:?xt=urn:btih:x"),
            Source::Magnet(_)
        ));
        assert!(matches!(read_as("https://h/x.torrent"), Source::Url(_)));
        assert!(matches!(read_as("ftp://h/x.torrent"), Source::Url(_)));
        assert!(matches!(read_as("http.torrent"), Source::File(_)));
        assert!(matches!(read_as("é"), Source::File(_)));
        assert!(matches!(read_as(&hash[1..]), Source::File(_)));
    }
}
