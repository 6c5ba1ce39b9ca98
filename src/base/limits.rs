//! Every bound of the program, with its reason. A queue or buffer without a name here is a bug.

use std::time::Duration;

// --- format: what a metainfo file may ask for -------------------------------------------------

/// Largest metainfo file that is read, in bytes: a million pieces take 20 MB, their file lists a few more.
pub const METAINFO_MAX: usize = 64 << 20;
/// Most pieces of one torrent: 2^21 pieces of 16 KiB are 32 GiB, of 16 MiB 32 TiB.
pub const PIECES_MAX: u32 = 1 << 21;
/// Largest piece length, in bytes: the largest that clients in use create is 256 MiB.
pub const PIECE_LEN_MAX: u32 = 256 << 20;
/// Deepest nesting of bencoded lists and dictionaries: real files stay below 10.
pub const BENCODE_DEPTH_MAX: usize = 64;
/// Most values in one bencoded document: bounds the memory of the reader's index.
pub const BENCODE_VALUES_MAX: usize = 4 << 20;
/// Longest name of a file or folder, in bytes: what Linux, macOS and Windows filesystems take.
pub const NAME_LEN_MAX: usize = 255;
/// Longest path of a file within a torrent, in bytes: Linux takes 4,096 and the destination needs room too.
pub const PATH_LEN_MAX: usize = 3_072;
/// Most components of a path below the torrent's own folder: as libtorrent allows.
pub const PATH_DEPTH_MAX: usize = 100;
/// Names tried to tell colliding files of one torrent apart before it is refused: as libtorrent allows. Bounds quadratic work.
pub const RENAMES_MAX: usize = 500;
/// Longest address of a tracker or web seed that is kept, in bytes: what HTTP servers take.
pub const URL_LEN_MAX: usize = 8 << 10;
/// Longest magnet link, in bytes: real ones with hundreds of trackers stay below 20 KiB.
pub const MAGNET_LEN_MAX: usize = 64 << 10;
/// Highest file index that a magnet link may select (BEP 53), exclusive: more files than any torrent that fits [`METAINFO_MAX`].
pub const SELECT_INDEX_MAX: u32 = 4 << 20;

// --- wire: what one connection may ask for ----------------------------------------------------

/// Largest block that a peer may request, in bytes: most clients drop peers that ask for more.
pub const REQUEST_LEN_MAX: u32 = 128 << 10;
/// Requests of one peer that wait to be served, told to it as `reqq` (BEP 10).
pub const UPLOAD_QUEUE_MAX: usize = 500;
/// Requests that we keep outstanding at one peer, if its `reqq` allows.
pub const PIPELINE_MAX: usize = 1000;
/// The `reqq` of a peer that does not tell: what old clients can take.
pub const PIPELINE_UNTOLD: usize = 250;
/// Largest extended message, in bytes, bar the metadata of a large torrent, which comes in 16 KiB pieces.
pub const EXTENDED_LEN_MAX: usize = 256 << 10;
/// Largest run of blocks handed from a connection to the disk at once, in bytes: a whole piece as a rule.
pub const RUN_LEN_MAX: u32 = 4 << 20;
/// Silence after which a connection is dropped: BEP 3 has peers send a keep-alive every two minutes.
pub const PEER_SILENCE: Duration = Duration::from_secs(150);
/// We send a keep-alive after this long without sending anything.
pub const KEEP_ALIVE: Duration = Duration::from_secs(100);
/// Time for a connection to be made and both handshakes to pass.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

// --- swarm: what one torrent may hold ---------------------------------------------------------

/// Addresses remembered for one torrent.
pub const ADDRESSES_MAX: usize = 1_000;

// --- net and engine: connections and queues ---------------------------------------------------

/// Connections of one torrent.
pub const PEERS_PER_TORRENT: usize = 80;
/// Connections of the whole engine.
pub const PEERS_TOTAL: usize = 400;
/// Connections being made at once, over all torrents: home routers choke on more.
pub const DIALS_MAX: usize = 30;
/// Events from all peers of a torrent that wait for its task.
pub const TORRENT_QUEUE: usize = 1_024;
/// Commands from a torrent's task that wait for one connection.
pub const PEER_QUEUE: usize = 1_024;
/// Events that a subscriber may lag behind before it loses some.
pub const EVENT_QUEUE: usize = 16_384;

// --- disk -------------------------------------------------------------------------------------

/// Received bytes that wait for the disk, over all torrents. Connections pause reading beyond it.
pub const WRITE_BUDGET: usize = 32 << 20;
/// Verified bytes that may wait to become durable: the most that is ever hashed again after a crash.
pub const CHECKPOINT_BYTES: u64 = 64 << 20;
/// Jobs that wait for one disk thread. Whoever submits more waits with them.
pub const DISK_QUEUE: usize = 64;
/// Payload files open at once, over all torrents, besides the locked ones; fewer if the system allows fewer. Files with bytes not
/// yet synced are closed last, and synced before.
pub const OPEN_FILES: usize = 256;
/// Files of one torrent that are locked and kept open, the first ones: two programs that fight over one payload meet there.
pub const LOCKED_FILES: usize = 16;
/// Bytes written to a file before the kernel is asked to start writing them back, so that a sync finds little left to do.
pub const WRITE_BACK_BYTES: u64 = 8 << 20;

// --- store ------------------------------------------------------------------------------------

/// Largest value in the database, in bytes: larger ones go to files that are never synced.
pub const STORE_VALUE_MAX: usize = 1_024;
/// Memory that the database may use as a cache, in bytes.
pub const STORE_CACHE: u64 = 32 << 20;
/// Peers remembered in the database for one torrent.
pub const STORED_PEERS_MAX: usize = 200;
/// DHT nodes remembered in the database: more than a full routing table holds.
pub const STORED_NODES_MAX: usize = 2_000;
/// Jobs that wait for the thread of the store: each torrent has one commit and a few notes under way at most.
pub const STORE_QUEUE: usize = 256;
/// Time after which a database that does not open counts as broken. A sound one opens in milliseconds.
pub const STORE_OPEN_TIME: Duration = Duration::from_secs(60);
/// Runs of blocks of unfinished pieces that one clean stop stores for a torrent; what is beyond is fetched again.
pub const STORED_PARTIALS_MAX: usize = 65_536;
/// Largest file of notes of one torrent, in bytes: ten times what a full checkpoint of 16 KiB pieces takes.
pub const NOTES_MAX: u64 = 1 << 20;
/// Largest file of choices of one torrent, in bytes: a path, and a few words.
pub const CHOICES_MAX: usize = 64 << 10;
