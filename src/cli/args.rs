//! The command line as clap reads it: every subcommand, flag and environment variable.

mod every;
mod network;

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{FalseyValueParser, OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use seedbank::base::InfoHash;
use seedbank::engine::IoMode;

pub(crate) use every::Every;
pub(crate) use network::{FetchArgs, NetworkArgs, Seconds, StateFlag};

use super::address::{AddressList, Listen};
use super::rate::{Bytes, Rate};
use super::source::Source;

const EXAMPLES: &str = "\
Examples:
  seedbank demo                                   see a whole swarm work, with a kill and a resume
  seedbank seed ~/Movies/film.mp4                 share a file; writes film.mp4.bit beside it
  seedbank get film.mp4.bit --dest ~/Downloads
  seedbank get 'magnet:?xt=urn:btih:...'          fetch a torrent of which only the link is known
  seedbank get https://example.org/distro.torrent --keep 600
  seedbank verify distro.torrent ~/Downloads

The original one-dash commands run as written: seedbank -seed FILE, seedbank -get FILE.bit
Every flag has an environment variable: --max-down is SEEDBANK_MAX_DOWN.

Exit status:
  0 all done          7 stopped, unfinished    15 cannot open      28 bad usage
  1 unknown error     9 disk full              16 cannot create    32 hash check failed
  2 timed out        13 file exists and is     17 I/O error
  3 not found           not this torrent's";

const VERIFYING: &str = "\
A piece is good, bad, or missing: its file is absent or too short, or the piece lies in a hole
that nobody ever wrote to, as in a download whose files were made in full and not filled yet.
-v names good files too. Stopped or killed, the same command goes on where it was; files that
were written to since are hashed again. What other programs have in the page cache stays there.

Exit status: 0 all good, 7 stopped, 32 something is not.";

/// A BitTorrent client that remembers: what it calls durable survives a power cut and is never hashed or fetched again.
#[derive(Debug, Parser)]
#[command(name = "seedbank", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) verbosity: Verbosity,
}

impl Cli {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// What clap has to say about it, a request for help included.
    pub(crate) fn read(args: Vec<OsString>) -> Result<Self, clap::Error> {
        Self::from_arg_matches(&Self::tidied().try_get_matches_from(args)?)
    }

    /// What derives, with what no attribute can say.
    fn tidied() -> clap::Command {
        // The flags of `dht` are those of `dht lookup` too, before or after that word.
        let everywhere = |dht: clap::Command| dht.mut_args(|arg| arg.global(true));
        quiet(Self::command().mut_subcommand("dht", everywhere))
    }
}

/// The help says once that every flag has a variable, not with every flag.
fn quiet(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| arg.hide_env(true))
        .mut_subcommands(quiet)
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Download torrents, then exit
    Get(GetArgs),
    /// Share files, folders, or what a .bit or .torrent describes
    Seed(SeedArgs),
    /// Write a .bit and a .torrent for a file or folder
    Create(CreateArgs),
    /// Print what a .bit, .torrent or magnet link stands for
    Show(ShowArgs),
    /// Print the magnet link of a .bit or .torrent
    Magnet(MagnetArgs),
    /// Hash files on disk against their metainfo; changes nothing
    #[command(after_help = VERIFYING)]
    Verify(VerifyArgs),
    /// Look after the state folder
    State(StateArgs),
    /// Run a DHT node alone, or look an info-hash up
    Dht(DhtArgs),
    /// Run a whole swarm on this machine, with a kill and a resume in the middle
    Demo(DemoArgs),
}

/// How much to say, and to whom.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct Verbosity {
    /// Events for people or as one JSON object a line [default: json unless on a terminal]
    #[arg(long, global = true, env = "SEEDBANK_LOG", value_name = "STYLE")]
    pub(crate) log: Option<LogStyle>,
    /// Say more; -vv even more
    #[arg(short, long, global = true, env = "SEEDBANK_VERBOSE", action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Say nothing but results and errors
    #[arg(short, long, global = true, env = "SEEDBANK_QUIET", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    pub(crate) quiet: bool,
}

/// Who reads the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogStyle {
    /// People.
    Human,
    /// Programs.
    Json,
}

/// Connections, limits and files of everything that transfers.
#[derive(Args, Clone, Debug)]
pub(crate) struct TransferArgs {
    /// Folder of the payload [default: . for get, beside the metainfo for seed]
    #[arg(
        long,
        env = "SEEDBANK_DEST",
        value_name = "DIR",
        help_heading = "Files"
    )]
    pub(crate) dest: Option<PathBuf>,
    /// How bytes get into files
    #[arg(
        long,
        env = "SEEDBANK_IO",
        value_name = "HOW",
        default_value = "auto",
        help_heading = "Files"
    )]
    pub(crate) io: Io,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// Most bytes per second to receive: 500K, 2M, 1MiB; 0 for no limit
    #[arg(
        long,
        env = "SEEDBANK_MAX_DOWN",
        value_name = "RATE",
        help_heading = "Network"
    )]
    pub(crate) max_down: Option<Rate>,
    /// Most bytes per second to send
    #[arg(
        long,
        env = "SEEDBANK_MAX_UP",
        value_name = "RATE",
        help_heading = "Network"
    )]
    pub(crate) max_up: Option<Rate>,
    /// After a download: seed this many seconds, or `forever` (seed itself runs until it is stopped)
    #[arg(
        long,
        env = "SEEDBANK_KEEP",
        value_name = "SECONDS",
        default_value = "0",
        help_heading = "Network"
    )]
    pub(crate) keep: Keep,
    /// While seeding: re-read everything once in so long (7d, 12h, 30m, 90s), and fetch again what rotted
    #[arg(
        long,
        env = "SEEDBANK_SCRUB",
        value_name = "EVERY",
        help_heading = "Files"
    )]
    pub(crate) scrub: Option<Every>,
    /// On a terminal: a line for each peer
    #[arg(long, env = "SEEDBANK_PEERS", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue, help_heading = "Output")]
    pub(crate) peers: bool,
}

/// How bytes get into files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Io {
    /// What is fast and safe on that filesystem.
    Auto,
    /// Through a shared mapping.
    Mmap,
    /// With positioned writes.
    Pwrite,
}

impl From<Io> for IoMode {
    fn from(io: Io) -> Self {
        match io {
            Io::Auto => Self::Auto,
            Io::Mmap => Self::Mmap,
            Io::Pwrite => Self::Pwrite,
        }
    }
}

/// How long to seed after a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// For this long.
    For(Duration),
    /// Until stopped.
    Forever,
}

impl FromStr for Keep {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "forever" {
            return Ok(Self::Forever);
        }
        let seconds: u32 = text
            .parse()
            .map_err(|_| "a whole number of seconds, or `forever`")?;
        Ok(Self::For(Duration::from_secs(u64::from(seconds))))
    }
}

/// `get`
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// .bit or .torrent, http(s) address of either, magnet link or info-hash
    #[arg(required = true, value_name = "SOURCE", value_parser = source())]
    pub(crate) sources: Vec<Source>,
    /// Take over files that are in the way and are not this torrent's
    #[arg(long, env = "SEEDBANK_OVERWRITE", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue, help_heading = "Files")]
    pub(crate) overwrite: bool,
    /// Also write NAME.torrent and NAME.bit into the folder of the payload, as soon as they are known
    #[arg(long, env = "SEEDBANK_SAVE_METAINFO", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue, help_heading = "Files")]
    pub(crate) save_metainfo: bool,
    #[command(flatten)]
    pub(crate) transfer: TransferArgs,
}

/// `seed`
#[derive(Args, Debug)]
pub(crate) struct SeedArgs {
    /// File or folder to share, or a .bit or .torrent whose payload is here
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) transfer: TransferArgs,
}

/// `create`
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// File or folder to describe
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// What to write [default: both, or what the name given with -o says]
    #[arg(long, env = "SEEDBANK_FORMAT", value_name = "FORMAT")]
    pub(crate) format: Option<Format>,
    /// Where to write [default: beside PATH, named after it]
    #[arg(short, long, env = "SEEDBANK_OUTPUT", value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Bytes of a piece: a power of two, at least 16KiB
    #[arg(
        long,
        env = "SEEDBANK_PIECE_LENGTH",
        value_name = "N",
        default_value = "256KiB"
    )]
    pub(crate) piece_length: Bytes,
    /// Tracker; each one given is a tier of its own
    #[arg(long, env = "SEEDBANK_ANNOUNCE", value_name = "URL")]
    pub(crate) announce: Vec<String>,
    /// Web server that has the payload
    #[arg(long, env = "SEEDBANK_WEB_SEED", value_name = "URL")]
    pub(crate) web_seed: Vec<String>,
    /// DHT node to name in the metainfo
    #[arg(long, env = "SEEDBANK_NODE", value_name = "ADDR[,ADDR]")]
    pub(crate) node: Vec<AddressList>,
    /// Peers from the trackers only
    #[arg(long, env = "SEEDBANK_PRIVATE", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    pub(crate) private: bool,
    /// Free text
    #[arg(long, env = "SEEDBANK_COMMENT", value_name = "TEXT")]
    pub(crate) comment: Option<String>,
}

/// Which metainfo files to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// JSON.
    Bit,
    /// Bencode.
    Torrent,
    /// One of each.
    Both,
}

/// `show`
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    /// .bit or .torrent, http(s) address of either, magnet link or info-hash
    #[arg(value_name = "SOURCE", value_parser = source())]
    pub(crate) source: Source,
    /// One JSON document
    #[arg(long, env = "SEEDBANK_JSON", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) fetch: FetchArgs,
}

/// `magnet`
#[derive(Args, Debug)]
pub(crate) struct MagnetArgs {
    /// .bit or .torrent, http(s) address of either, magnet link or info-hash
    #[arg(value_name = "SOURCE", value_parser = source())]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) state: StateFlag,
}

/// `verify`
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// .bit or .torrent, http(s) address of either, magnet link or info-hash
    #[arg(value_name = "SOURCE", value_parser = source())]
    pub(crate) source: Source,
    /// The payload, or the folder that holds it [default: beside the metainfo]
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<PathBuf>,
    /// Folder that holds the payload, as for get and seed
    #[arg(long, env = "SEEDBANK_DEST", value_name = "DIR")]
    pub(crate) dest: Option<PathBuf>,
    /// Only this file or folder of the torrent, named as show does; may be repeated
    #[arg(long, env = "SEEDBANK_ONLY", value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// One JSON document
    #[arg(long, env = "SEEDBANK_JSON", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) fetch: FetchArgs,
}

/// `state`
#[derive(Args, Debug)]
pub(crate) struct StateArgs {
    #[command(subcommand)]
    pub(crate) action: StateAction,
    /// State folder [default: $XDG_STATE_HOME/seedbank/default]
    #[arg(long, env = "SEEDBANK_STATE", value_name = "DIR", global = true)]
    pub(crate) state: Option<PathBuf>,
    /// The folder of the node with this DHT address
    #[arg(long, env = "SEEDBANK_DHT_LISTEN", value_name = "ADDR", global = true)]
    pub(crate) dht_listen: Option<Listen>,
}

/// What to do with the state folder.
#[derive(Debug, Subcommand)]
pub(crate) enum StateAction {
    /// Name the torrents that it knows
    List {
        /// One JSON document
        #[arg(long, env = "SEEDBANK_JSON", value_parser = FalseyValueParser::new(), action = ArgAction::SetTrue)]
        json: bool,
    },
    /// Look for damage; changes nothing
    Check,
    /// Make the database anew from the catalog; payloads are checked again at the next start
    Rebuild,
    /// Move the payload of a torrent to another folder; can be stopped and run again
    Move {
        /// Which
        #[arg(value_name = "IH")]
        info_hash: InfoHash,
        /// The folder that is to hold it, which must exist
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Forget a torrent; its payload stays
    Forget {
        /// Which
        #[arg(value_name = "IH")]
        info_hash: InfoHash,
    },
}

/// `dht`
#[derive(Args, Debug)]
pub(crate) struct DhtArgs {
    #[command(subcommand)]
    pub(crate) action: Option<DhtAction>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// The original client took it without a mode as well
    #[arg(long, env = "SEEDBANK_DEST", value_name = "DIR", hide = true)]
    pub(crate) dest: Option<PathBuf>,
    /// The same
    #[arg(long, env = "SEEDBANK_KEEP", value_name = "SECONDS", hide = true)]
    pub(crate) keep: Option<Keep>,
}

/// What to do in the DHT besides being in it.
#[derive(Debug, Subcommand)]
pub(crate) enum DhtAction {
    /// Find peers of a torrent; prints them as they come
    Lookup {
        /// Which
        #[arg(value_name = "IH")]
        info_hash: InfoHash,
        /// Give up after so long
        #[arg(
            long,
            env = "SEEDBANK_TIMEOUT",
            value_name = "SECONDS",
            default_value = "60"
        )]
        timeout: Seconds,
    },
}

/// `demo`
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Share this file instead of random bytes
    #[arg(long, env = "SEEDBANK_FILE", value_name = "PATH")]
    pub(crate) file: Option<PathBuf>,
    /// How many random bytes to share
    #[arg(
        long,
        env = "SEEDBANK_SIZE",
        value_name = "N",
        default_value = "256MiB"
    )]
    pub(crate) size: Bytes,
    /// Seed of the random bytes [default: another each time]
    #[arg(long, env = "SEEDBANK_RANDOM", value_name = "N")]
    pub(crate) random: Option<u64>,
}

fn source() -> impl TypedValueParser<Value = Source> {
    OsStringValueParser::new().map(|text: OsString| Source::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::tidied().debug_assert();
    }

    #[test]
    fn every_flag_has_the_environment_variable_of_its_name() {
        fn look(command: &clap::Command, path: &str) {
            for flag in command.get_arguments() {
                let Some(long) = flag
                    .get_long()
                    .filter(|&long| long != "help" && long != "version")
                else {
                    continue;
                };
                let wanted = format!("SEEDBANK_{}", long.replace('-', "_").to_uppercase());
                let found = flag
                    .get_env()
                    .map(|name| name.to_string_lossy().into_owned());
                assert_eq!(found, Some(wanted), "{path} --{long}");
            }
            for sub in command.get_subcommands() {
                look(sub, &format!("{path} {}", sub.get_name()));
            }
        }
        look(&Cli::tidied(), "seedbank");
    }

    #[test]
    fn flags_of_the_dht_may_stand_before_and_after_lookup() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let network = |line: &str| {
            let args = line.split(' ').map(OsString::from).collect();
            match Cli::read(args).unwrap().command {
                Command::Dht(args) => args.network,
                other => panic!("{other:?}"),
            }
        };
        let wanted = network("seedbank dht --bootstrap :1 --state s");
        for line in [
            format!("seedbank dht --bootstrap :1 --state s lookup {hash}"),
            format!("seedbank dht lookup {hash} --bootstrap :1 --state s"),
            format!("seedbank dht --state s lookup --bootstrap :1 {hash}"),
        ] {
            let found = network(&line);
            assert_eq!(found.bootstrap, wanted.bootstrap, "{line}");
            assert_eq!(found.state.state, wanted.state.state, "{line}");
        }
    }

    #[test]
    fn keep_takes_seconds_or_forever() {
        assert_eq!("1200".parse(), Ok(Keep::For(Duration::from_secs(1200))));
        assert_eq!("forever".parse(), Ok(Keep::Forever));
        for bad in ["", "-1", "1.5", "1h", "Forever", "99999999999"] {
            assert!(bad.parse::<Keep>().is_err(), "{bad}");
        }
    }
}
