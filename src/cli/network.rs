//! From the flags to an engine that takes part in the network.

use std::mem::take;
use std::net::SocketAddr;
use std::path::PathBuf;

use seedbank::engine::{Config, DhtConfig, Engine, EngineError, ErrorKind, IoMode, Transport};
use seedbank::format::host::HostPort;

use super::address::{Address, Listen, everywhere};
use super::args::NetworkArgs;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::state;
use super::temporary::Folder;

/// Where peers and nodes reach us unless told otherwise.
const DEFAULT_PORT: u16 = 6881;

/// How an engine is to be started.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Its settings.
    pub(crate) config: Config,
    /// Whether any free port will do when the one in `config` is taken: for connections and for datagrams.
    any_tcp: bool,
    any_udp: bool,
    /// Whether a temporary state folder will do when the one in `config` is in use.
    guest: bool,
}

/// An engine that was started.
#[derive(Debug)]
pub(crate) struct Started {
    /// The engine.
    pub(crate) engine: Engine,
    /// Its state folder.
    pub(crate) state: PathBuf,
    temporary: Option<Folder>,
}

impl Started {
    /// The engine, and the folder of a guest, which is removed when it is dropped.
    pub(crate) fn into_parts(self) -> (Engine, Option<Folder>) {
        (self.engine, self.temporary)
    }
}

impl Settings {
    /// The settings that the flags ask for.
    ///
    /// # Errors
    /// If an address has no host or there is no place for state.
    pub(crate) fn of(args: &NetworkArgs, out: &Output) -> Result<Self, Failure> {
        let tcp_listen = listen(args.tcp_listen.as_ref())?;
        let dht = listen(args.dht_listen.as_ref())?;
        let bootstrap = bootstrap(args)?;
        if dht.is_none() && args.bootstrap.iter().any(|list| !list.0.is_empty()) {
            out.warn("dht", "--bootstrap is of no use without a DHT node");
        }
        let state = state::folder(args.state.state.as_deref(), args.dht_listen.as_ref())?;
        let state = std::path::absolute(&state).map_err(|error| Failure::open(&state, &error))?;
        let config = Config {
            state,
            tcp_listen,
            dht: dht.map(|listen| DhtConfig { listen, bootstrap }),
            io: IoMode::Auto,
            max_down: None,
            max_up: None,
            scrub: None,
        };
        Ok(Self {
            config,
            any_tcp: args.tcp_listen.is_none(),
            any_udp: args.dht_listen.is_none(),
            guest: false,
        })
    }

    /// The same for a node that takes no connections unless told to.
    ///
    /// # Errors
    /// The same, and if the flags ask for no DHT node.
    pub(crate) fn of_node(args: &NetworkArgs, out: &Output) -> Result<Self, Failure> {
        let mut settings = Self::of(args, out)?;
        if settings.config.dht.is_none() {
            return Err(Failure::new(Exit::Usage, "a DHT node needs an address")
                .hint("give one with --dht-listen, such as :6881"));
        }
        if args.tcp_listen.is_none() {
            settings.config.tcp_listen = None;
        }
        Ok(settings)
    }

    /// The same for a run that keeps nothing: if the state folder is in use it takes a temporary one.
    pub(crate) fn into_guest(mut self) -> Self {
        self.guest = true;
        self
    }

    /// Starts the engine.
    ///
    /// # Errors
    /// If an address that was asked for cannot be bound, or the state folder cannot be used.
    pub(crate) async fn start(&self) -> Result<Started, Failure> {
        let mut config = self.config.clone();
        let mut temporary = None;
        let engine = match self.start_with(config.clone()).await {
            Err(error) if self.guest && error.kind() == ErrorKind::InUse => {
                let folder = Folder::new("state")?;
                config.state = folder.join("state");
                temporary = Some(folder);
                self.start_with(config.clone()).await
            }
            started => started,
        }?;
        Ok(Started {
            engine,
            state: config.state,
            temporary,
        })
    }

    /// Starts at any free port where the usual one is taken and nobody asked for it.
    async fn start_with(&self, mut config: Config) -> Result<Engine, EngineError> {
        let (mut any_tcp, mut any_udp) = (self.any_tcp, self.any_udp);
        loop {
            let error = match Engine::start(config.clone()).await {
                Ok(engine) => return Ok(engine),
                Err(error) => error,
            };
            let EngineError::Listen { transport, .. } = &error else {
                return Err(error);
            };
            let address = match transport {
                Transport::Tcp if take(&mut any_tcp) => config.tcp_listen.as_mut(),
                Transport::Udp if take(&mut any_udp) => {
                    config.dht.as_mut().map(|dht| &mut dht.listen)
                }
                Transport::Tcp | Transport::Udp => None,
            };
            match address {
                Some(address) => address.set_port(0),
                None => return Err(error),
            }
        }
    }
}

/// Peers that the flags name, for every torrent.
///
/// # Errors
/// If one has no host or port 0.
pub(crate) fn peers(args: &NetworkArgs) -> Result<Vec<SocketAddr>, Failure> {
    let peers = args.peer.iter().flat_map(|list| &list.0);
    let peers: Vec<Vec<SocketAddr>> = peers.map(Address::call).collect::<Result<_, _>>()?;
    Ok(peers.concat())
}

/// Where to listen: at the usual port if the flag was not given, nowhere if it is empty.
fn listen(flag: Option<&Listen>) -> Result<Option<SocketAddr>, Failure> {
    match flag {
        None => Ok(Some(SocketAddr::new(everywhere(), DEFAULT_PORT))),
        Some(Listen(address)) => address.as_ref().map(Address::listen).transpose(),
    }
}

/// The nodes to start from: public routers unless the flag says otherwise, if only that there are none.
fn bootstrap(args: &NetworkArgs) -> Result<Vec<HostPort>, Failure> {
    if args.bootstrap.is_empty() {
        let routers = DhtConfig::ROUTERS.iter();
        return Ok(routers
            .map(|(host, port)| ((*host).to_owned(), *port))
            .collect());
    }
    let named = args.bootstrap.iter().flat_map(|list| &list.0);
    named.map(Address::unresolved).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(bootstrap: &[&str]) -> NetworkArgs {
        NetworkArgs {
            bootstrap: bootstrap.iter().map(|text| text.parse().unwrap()).collect(),
            ..NetworkArgs::default()
        }
    }

    #[test]
    fn routers_are_asked_unless_others_or_none_are_named() {
        assert!(bootstrap(&args(&[])).unwrap().len() >= 4);
        assert_eq!(bootstrap(&args(&[""])).unwrap(), []);
        let here = ("127.0.0.1".to_owned(), 10_000);
        let there = ("h".to_owned(), 2);
        assert_eq!(
            bootstrap(&args(&[":10000,h:2"])).unwrap(),
            [here.clone(), there.clone()]
        );
        assert_eq!(bootstrap(&args(&[":10000", "h:2"])).unwrap(), [here, there]);
        assert_eq!(bootstrap(&args(&[":0"])).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn the_usual_port_is_listened_at_unless_another_or_none_is_named() {
        assert_eq!(listen(None).unwrap().unwrap().port(), 6881);
        let named = |text: &str| listen(Some(&text.parse().unwrap())).unwrap();
        assert_eq!(named(""), None);
        assert_eq!(named("127.0.0.1:7").unwrap().to_string(), "127.0.0.1:7");
    }
}
