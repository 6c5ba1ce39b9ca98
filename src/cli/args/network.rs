//! The flags of everything that takes part in the network.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::cli::address::{AddressList, Listen};

/// Where the state is kept.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "State")]
pub(crate) struct StateFlag {
    /// State folder [default: $XDG_STATE_HOME/seedbank/node-<DHT port>, or default]
    #[arg(long, env = "SEEDBANK_STATE", value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

/// Where others reach this process, and whom it asks.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Network")]
pub(crate) struct NetworkArgs {
    /// Take connections here; empty for none [default: :6881, or any free port if that is taken; none for dht]
    #[arg(long, env = "SEEDBANK_TCP_LISTEN", value_name = "ADDR")]
    pub(crate) tcp_listen: Option<Listen>,
    /// DHT node here; empty for none [default: :6881, or any free port if that is taken]
    #[arg(long, env = "SEEDBANK_DHT_LISTEN", value_name = "ADDR")]
    pub(crate) dht_listen: Option<Listen>,
    /// DHT nodes to start from; empty for none [default: public routers]
    #[arg(long, env = "SEEDBANK_BOOTSTRAP", value_name = "ADDR[,ADDR]")]
    pub(crate) bootstrap: Vec<AddressList>,
    /// Peers to connect to
    #[arg(long, env = "SEEDBANK_PEER", value_name = "ADDR[,ADDR]")]
    pub(crate) peer: Vec<AddressList>,
    #[command(flatten)]
    pub(crate) state: StateFlag,
}

/// For commands that fetch metainfo from peers if that is all it takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Network")]
pub(crate) struct FetchArgs {
    /// Give up fetching metainfo from peers after so long
    #[arg(
        long,
        env = "SEEDBANK_TIMEOUT",
        value_name = "SECONDS",
        default_value = "120"
    )]
    pub(crate) timeout: Seconds,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
}

/// How long to wait: a whole number of seconds, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seconds(pub(crate) Duration);

impl FromStr for Seconds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<u32>() {
            Ok(seconds @ 1..) => Ok(Self(Duration::from_secs(u64::from(seconds)))),
            _ => Err("a whole number of seconds, at least 1"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_whole_number_of_seconds() {
        assert_eq!("60".parse(), Ok(Seconds(Duration::from_secs(60))));
        for bad in ["", "0", "-1", "1.5", "1m", "forever", "99999999999"] {
            assert!(bad.parse::<Seconds>().is_err(), "{bad}");
        }
    }
}
