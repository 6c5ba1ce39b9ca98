//! seedbank: a BitTorrent client that remembers.
//!
//! A piece called *durable* survives a power cut, and nothing durable is ever hashed or fetched again. Pieces go to memory-mapped
//! or positioned output files; a database keeps which of them are durable, what the files looked like then, who the
//! peers are, and the DHT's routing table. This library is the whole client; the binary adds the command line.
//!
//! # Using it
//! An [`Engine`](engine::Engine) runs any number of torrents. Here one shares a file and another fetches it:
//!
//! ```
//! use seedbank::engine::{AddTorrent, Config, Engine, Event, Goal, IoMode};
//! use seedbank::format::metainfo::create::Draft;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let home = tempfile::tempdir()?;
//! let (here, there) = (home.path().join("here"), home.path().join("there"));
//! std::fs::create_dir(&here)?;
//! let payload = vec![42; 300_000];
//! std::fs::write(here.join("answer.bin"), &payload)?;
//!
//! let mut draft = Draft::file("answer.bin", 300_000);
//! draft.pieces = payload
//!     .chunks(draft.piece_length as usize)
//!     .map(seedbank::disk::sha1)
//!     .collect();
//! let metainfo = draft.finish()?;
//!
//! let config = |name: &str| Config {
//!     state: home.path().join(name),
//!     tcp_listen: Some(([127, 0, 0, 1], 0).into()),
//!     dht: None,
//!     io: IoMode::Auto,
//!     max_down: None,
//!     max_up: None,
//!     scrub: None,
//! };
//! let torrent = |dest, goal, peers| AddTorrent {
//!     metainfo: metainfo.clone(),
//!     dest,
//!     goal,
//!     peers,
//!     found: vec![],
//!     overwrite: false,
//!     hashed: None,
//! };
//! let seeder = Engine::start(config("seeder")).await?;
//! seeder.add(torrent(here, Goal::Seed, vec![])).await?.completed().await?;
//!
//! let leecher = Engine::start(config("leecher")).await?;
//! let mut events = leecher.subscribe();
//! let peers = seeder.tcp_addr().into_iter().collect();
//! let download = leecher.add(torrent(there.clone(), Goal::Download, peers)).await?;
//! download.completed().await?;
//! assert_eq!(std::fs::read(there.join("answer.bin"))?, payload);
//! while !matches!(events.recv().await?, Event::Complete { .. }) {}
//!
//! download.pause().await; // everything verified is durable now
//! download.resume().await; // and nothing is hashed again
//! download.completed().await?;
//! leecher.remove(download.info_hash()).await?; // the payload stays
//! leecher.shutdown().await;
//! seeder.shutdown().await;
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # The map
//! Layers, lowest first. Each may use those above it in this list and no other; a test reads the sources and holds them to it.
//!
//! | layer | what it is | what it may touch |
//! |---|---|---|
//! | [`base`] | values: ids, geometry, bitfields, rates, and every limit with its reason | nothing |
//! | [`format`](mod@format) | bytes ↔ values: bencode, `.torrent` and `.bit`, magnet links, safe paths | nothing |
//! | [`proto`] | protocols as state machines: the peer wire, metadata from peers, the DHT, HTTP trackers | nothing: bytes and time are arguments |
//! | [`swarm`] | decisions for one torrent: what to ask of whom, whom to serve, whom to ban; before that, whose metadata to believe | nothing |
//! | [`net`] · [`disk`] · [`store`] | effects: sockets · payload files · the state folder. They never name each other | the world |
//! | [`engine`] | ownership: tasks, lifetimes, the public API | those three, through their handles |
//! | `cli` (in the binary) | what a person sees | the public API |
//!
//! # Four rules that hold everywhere
//! - **verified** means that the hash matched: it may be announced and served. **durable** means that the bytes were synced *and then*
//!   the bit was committed. No bit is ever ahead of its bytes.
//! - A pure machine has one shape: `handle_*`/`on_*` takes the time and an input and mutates once, `poll` is drained until `None`,
//!   `next_deadline` says when to come back.
//! - Whatever comes from the network or the disk is bounded before it allocates; the bounds stand in [`base::limits`].
//! - A torrent is owned by one task, by value. There is no lock on the data path, and the task never waits for a disk or a peer.
//!
//! # Seven journeys
//! 1. **A received block.** [`net::peer`] reads; [`proto::wire::Session`] bounds the message, checks that the block was granted and
//!    copies it into the run it belongs to. A whole run goes to the torrent's task, which asks [`swarm::Swarm::on_run`]: as a rule
//!    it is a whole piece, hashed while it is in cache and written only if it is good ([`disk::Payload::check_and_write`]), noted
//!    ([`store::Store::note`]), and announced. [`disk::Checkpoint`] gathers such pieces; they are synced ([`disk::Payload::sync`]),
//!    committed ([`store::Store::commit`]), durable.
//! 2. **A request.** The session checks it against what is served and queues it. When the socket takes bytes, the connection reads a
//!    batch of blocks from the page cache ([`net::peer::BlockSource`]), or has a disk thread read it, and writes it with its headers.
//!    The torrent's task hears afterwards.
//! 3. **A liar.** A piece whose hash fails leaves BLAKE3 digests of its blocks and their senders behind; when the good copy is
//!    there, those whose blocks differ are banned ([`swarm::Action::Banned`]), and nobody else.
//! 4. **A DHT lookup.** A torrent that is not private has a search at the node ([`proto::dht::node::Node::search`]), which one task
//!    owns together with the socket ([`net::udp::Udp`]). A [`proto::dht::lookup::Lookup`] walks towards the info-hash, three nodes
//!    at a time, and knows no messages; a dialect ([`proto::dht::krpc`], [`proto::dht::json`]) writes them down. A reply counts if
//!    its transaction, its address and its id are those that were asked. Peers go to the torrent's address book; contacts
//!    that answered go to the table ([`proto::dht::table::Table`]), which is saved in batches ([`store::Store::put_nodes`]).
//! 5. **A restart.** The state folder is locked and opened ([`store::Store::open`]: migrated if older, refused if newer, rebuilt from the
//!    catalog if broken). For each torrent the files are compared with what they were at the last commit: unchanged ones are
//!    trusted without reading a byte, changed ones are hashed, missing ones are reported as missing and never made anew unasked.
//!    The saved table is asked first of all, best contacts first, and in parallel.
//! 6. **Trouble with the disk.** Every call that changes, syncs or reads a payload goes through a [`disk::Medium`], which a test may
//!    replace by one that fails. An error ends the torrent's transfers and nobody else's: what can still be synced is committed, what a
//!    failed sync covered is forgotten with its cached pages. If the trouble may pass ([`engine::EngineError::is_passing`]) the
//!    torrent is prepared anew after 1, 2, 4 … 60 s. A file that is only shared is compared with what it was at every read.
//! 7. **Rot and moves.** A scrub ([`disk::Payload::scrub`]) re-reads what is shared, slowly; a bad piece is taken back durably first and then
//!    fetched like any missing one. A move ([`engine::move_payload`]) says in the catalog where to before it touches a file, and is
//!    finished by whoever comes next.

pub mod base;
pub mod disk;
pub mod engine;
pub mod format;
pub mod net;
pub mod proto;
pub mod store;
pub mod swarm;
