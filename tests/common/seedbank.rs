//! Seedbank itself, driven the way a person or a program drives it: arguments in, events and an exit status out.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::process::Process;
use super::wait;

/// The loopback address.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The program under test: the one that was built with the tests, or the one that `SEEDBANK_BINARY` names.
fn binary() -> PathBuf {
    std::env::var_os("SEEDBANK_BINARY")
        .map_or_else(|| env!("CARGO_BIN_EXE_seedbank").into(), PathBuf::from)
}

/// A bare command: the binary under test, without any `SEEDBANK_…` variable of the one who runs the tests, with a home of its
/// own, and with no DHT node to start from unless it is given one: no test ever talks to the routers of the real network.
pub fn command(home: &Path) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SEEDBANK_") {
            command.env_remove(name);
        }
    }
    command.env("HOME", home).env_remove("XDG_STATE_HOME");
    command.env("SEEDBANK_BOOTSTRAP", "");
    command
}

/// A `get`, `seed` or `dht` that is being put together: listening on a free loopback port, without DHT, events on standard output.
#[derive(Debug)]
pub struct Run {
    command: Command,
    listen: String,
    dht: String,
}

/// `seedbank dht --state STATE …`: a node alone.
pub fn node(state: &Path) -> Run {
    let mut command = command(state.parent().unwrap());
    command.args(["dht", "--log", "json", "--state"]).arg(state);
    Run {
        command,
        listen: String::new(),
        dht: "127.0.0.1:0".to_owned(),
    }
}

/// `seedbank seed SOURCE --dest DEST --state STATE …`
pub fn seed(source: &Path, dest: &Path, state: &Path) -> Run {
    Run::new("seed", &[source], dest, state)
}

/// `seedbank seed SOURCE… --dest DEST --state STATE …`
pub fn seed_all(sources: &[&Path], dest: &Path, state: &Path) -> Run {
    Run::new("seed", sources, dest, state)
}

/// `seedbank get SOURCE --dest DEST --state STATE …`
pub fn get(source: &Path, dest: &Path, state: &Path) -> Run {
    Run::new("get", &[source], dest, state)
}

/// `seedbank state ARGS… --state STATE`
pub fn state(args: &[&OsStr], state: &Path) -> Command {
    let mut command = command(state.parent().unwrap());
    command.arg("state").args(args).arg("--state").arg(state);
    command
}

/// `inner` under another program: `wrapper` with its arguments, which must make it a child of ours all the same.
pub fn under(inner: &Command, wrapper: &[impl AsRef<OsStr>]) -> Command {
    let mut outer = Command::new(&wrapper[0]);
    outer.args(&wrapper[1..]);
    outer.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// `seedbank get SOURCE… --dest DEST --state STATE …`
pub fn get_all(sources: &[&Path], dest: &Path, state: &Path) -> Run {
    Run::new("get", sources, dest, state)
}

impl Run {
    fn new(mode: &str, sources: &[&Path], dest: &Path, state: &Path) -> Self {
        let mut command = command(state.parent().unwrap());
        command.arg(mode).args(sources);
        command.args(["--log", "json"]);
        command.arg("--dest").arg(dest);
        command.arg("--state").arg(state);
        Self {
            command,
            listen: "127.0.0.1:0".to_owned(),
            dht: String::new(),
        }
    }

    /// With a DHT node on a free loopback port that starts from the node at `bootstrap`, if any.
    pub fn dht(mut self, bootstrap: Option<SocketAddr>) -> Self {
        self.dht = "127.0.0.1:0".to_owned();
        let bootstrap = bootstrap.map_or_else(String::new, |addr| addr.to_string());
        self.flag("--bootstrap", bootstrap)
    }

    /// A peer to try.
    pub fn peer(self, peer: SocketAddr) -> Self {
        self.peers(&[peer])
    }

    /// Peers to try.
    pub fn peers(self, peers: &[SocketAddr]) -> Self {
        let list: Vec<String> = peers.iter().map(ToString::to_string).collect();
        self.flag("--peer", list.join(","))
    }

    /// Listens at another address than `127.0.0.1:0`.
    pub fn listen(mut self, addr: &str) -> Self {
        addr.clone_into(&mut self.listen);
        self
    }

    /// One more flag with a value.
    pub fn flag(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.arg(name).arg(value);
        self
    }

    /// Runs it [`under`] another program.
    pub fn under(mut self, wrapper: &[impl AsRef<OsStr>]) -> Self {
        self.command = under(&self.command, wrapper);
        self
    }

    /// One more flag without a value.
    pub fn switch(mut self, name: &str) -> Self {
        self.command.arg(name);
        self
    }

    /// Starts it.
    pub fn spawn(mut self) -> Seedbank {
        self.command.args(["--tcp-listen", &self.listen]);
        self.command.args(["--dht-listen", &self.dht]);
        Seedbank::spawn(&mut self.command)
    }
}

/// A running seedbank.
#[derive(Debug)]
pub struct Seedbank {
    /// Its process.
    pub process: Process,
}

impl Seedbank {
    /// Starts `command`, which should print events.
    pub fn spawn(command: &mut Command) -> Self {
        let args: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
        let name = format!("seedbank {}", args.join(" "));
        let process = Process::spawn(&name, command);
        Self { process }
    }

    /// The address that its `listening` event names.
    pub fn addr(&self) -> SocketAddr {
        let event = self.wait_for("listening", wait::SOON, |_| true);
        let addr = event["tcp"].as_str().unwrap_or_default();
        addr.parse()
            .unwrap_or_else(|_| panic!("no address to dial in {event}"))
    }

    /// The address of its DHT node, which its `listening` event names.
    pub fn udp(&self) -> SocketAddr {
        let event = self.wait_for("listening", wait::SOON, |_| true);
        let addr = event["udp"].as_str().unwrap_or_default();
        addr.parse()
            .unwrap_or_else(|_| panic!("no DHT node in {event}"))
    }

    /// Waits until another node of the DHT has taken in that it has a torrent.
    pub fn announced(&self) {
        let mut told = BTreeSet::new();
        let answered = |line: &str| {
            let event = event(line)?;
            let addr = event["addr"].as_str().unwrap_or_default().to_owned();
            match (event["event"].as_str()?, event["dir"].as_str()?) {
                ("dht_announce", "out") => drop(told.insert(addr)),
                ("dht_pong", "in") if told.contains(&addr) => return Some(()),
                _ => {}
            }
            None
        };
        let announced = self.process.stdout().find(wait::SOON, answered);
        assert!(announced.is_some(), "{}", self.process.transcript());
    }

    /// Waits until `torrents` torrents are looked at, so that a peer that asks for one is not turned away; where it listens.
    pub fn ready(&self, torrents: usize) -> SocketAddr {
        let addr = self.addr();
        let mut seen = BTreeSet::new();
        self.wait_for("resume", wait::TRANSFER, |event| {
            seen.insert(event["info_hash"].to_string());
            seen.len() == torrents
        });
        addr
    }

    /// The first event called `name` that `pick` accepts, waiting for it if need be; panics with all that was printed after `limit`.
    pub fn wait_for(&self, name: &str, limit: Duration, pick: impl FnMut(&Value) -> bool) -> Value {
        self.look_for(name, limit, pick).unwrap_or_else(|| {
            panic!(
                "no such `{name}` within {limit:?}: {}",
                self.process.transcript()
            )
        })
    }

    /// Like [`wait_for`](Self::wait_for), but nothing is found when the time is over.
    pub fn look_for(
        &self,
        name: &str,
        limit: Duration,
        mut pick: impl FnMut(&Value) -> bool,
    ) -> Option<Value> {
        self.process.stdout().find(limit, |line| {
            event(line).filter(|event| event["event"] == name && pick(event))
        })
    }

    /// All events so far. A line that is no JSON object fails the test, but for the last one of a process that was killed.
    pub fn events(&self) -> Vec<Value> {
        let lines = self.process.stdout().all();
        let last = lines.len().saturating_sub(1);
        lines
            .iter()
            .enumerate()
            .filter_map(|(at, line)| {
                let event = event(line);
                assert!(
                    event.is_some() || at == last,
                    "standard output carries {line:?}"
                );
                event
            })
            .collect()
    }

    /// The events called `name` so far.
    pub fn all(&self, name: &str) -> Vec<Value> {
        let mut events = self.events();
        events.retain(|event| event["event"] == name);
        events
    }

    /// The last event called `name`; there must be one.
    pub fn last(&self, name: &str) -> Value {
        self.all(name)
            .pop()
            .unwrap_or_else(|| panic!("no `{name}`: {}", self.process.transcript()))
    }

    /// Waits until it exits with status 0.
    pub fn succeed(&mut self) {
        self.process.succeed(wait::TRANSFER);
    }

    /// Ctrl-C, which must end it in order within `limit`; the exit status.
    pub fn stop(&mut self, limit: Duration) -> Option<i32> {
        self.process.interrupt();
        self.process.exit(limit).code()
    }
}

/// The field `name` of an event as a number; panics if it is not one.
pub fn number(event: &Value, name: &str) -> u64 {
    event[name]
        .as_u64()
        .unwrap_or_else(|| panic!("no number {name:?} in {event}"))
}

fn event(line: &str) -> Option<Value> {
    let event: Value = serde_json::from_str(line).ok()?;
    (event["event"].is_string() && event["ts"].is_string()).then_some(event)
}
