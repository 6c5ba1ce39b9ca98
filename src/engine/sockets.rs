//! Where the engine can be reached, bound before anything else: an address that is taken must not cost the store a recovery.

use std::net::SocketAddr;

use super::config::Config;
use super::error::{EngineError, Transport};
use crate::net::listener::Listener;
use crate::net::udp::Udp;

/// The sockets that a configuration asks for.
pub(super) struct Sockets {
    pub(super) listener: Option<Listener>,
    pub(super) udp: Option<Udp>,
}

/// Where these sockets listen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Addresses {
    pub(super) tcp: Option<SocketAddr>,
    pub(super) udp: Option<SocketAddr>,
}

impl Sockets {
    pub(super) fn bind(config: &Config) -> Result<Self, EngineError> {
        let listener = config.tcp_listen.map(|addr| {
            Listener::bind(addr).map_err(|error| refused(Transport::Tcp, addr, &error))
        });
        let udp = config.dht.as_ref().map(|dht| {
            Udp::bind(dht.listen).map_err(|error| refused(Transport::Udp, dht.listen, &error))
        });
        Ok(Self {
            listener: listener.transpose()?,
            udp: udp.transpose()?,
        })
    }

    pub(super) fn addresses(&self) -> Addresses {
        Addresses {
            tcp: self.listener.as_ref().map(Listener::addr),
            udp: self.udp.as_ref().map(Udp::addr),
        }
    }
}

fn refused(transport: Transport, addr: SocketAddr, error: &std::io::Error) -> EngineError {
    EngineError::Listen {
        transport,
        addr,
        reason: error.to_string(),
    }
}
