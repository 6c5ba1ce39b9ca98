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
pub const UPLOAD_QUEUE_MAX: usize = 2_000;
/// Requests that we keep outstanding at one peer, if its `reqq` allows.
pub const PIPELINE_MAX: usize = 1000;
/// The `reqq` of a peer that does not tell: what libtorrent asks of such peers, so that all in use have met it. BEP 10 names 250, which
/// a peer on a fast network sends in 2 ms, and then waits for us.
pub const PIPELINE_UNTOLD: usize = 500;
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
/// Requests outstanding at a peer of which nothing is known yet: 256 KiB fill most links for a round trip.
pub const PIPELINE_START: usize = 16;
/// Requests outstanding at even the slowest peer, so that one block's travel never leaves it idle.
pub const PIPELINE_MIN: usize = 8;
/// A peer that owes us blocks and sends none for this long is snubbing us (the time that BEP 3's choker uses).
pub const SNUB_TIME: Duration = Duration::from_secs(30);
/// A request that later ones have overtaken is given up after this long: clients without the fast extension drop requests
/// silently.
pub const REQUEST_OVERDUE: Duration = Duration::from_secs(30);
/// After a request was turned down by a peer that unchokes us, no new work is asked for until a block comes or this passes.
pub const REJECT_PAUSE: Duration = Duration::from_secs(1);
/// Blocks that nobody asked for before their sender is dropped; a few come from races in any client.
pub const UNREQUESTED_MAX: u32 = 64;
/// Rejects that wait for a peer to read them: more than its requests can be unless it floods us.
pub const REJECTS_PENDING_MAX: u32 = 8_192;
/// Bitfield, have-all and have-none messages of one connection: one is due, some clients correct themselves.
pub const BITFIELDS_MAX: u32 = 4;
/// Pieces that a peer may let us request while choked, and suggestions that it may make: real sets are of 10.
pub const ALLOWED_FAST_MAX: usize = 64;
/// Pieces that we let a peer with few pieces request while choked: the k that BEP 6 proposes.
pub const ALLOWED_FAST_COUNT: usize = 10;
/// Bytes that those pieces may have together, so that large pieces are not given away.
pub const ALLOWED_FAST_BYTES: u32 = 4 << 20;
/// Longest client name that is kept of an extension handshake, in bytes.
pub const CLIENT_NAME_MAX: usize = 64;
/// Times that one connection may fetch the whole metadata of us (BEP 9); then its requests are rejected.
pub const METADATA_COPIES_MAX: u32 = 3;
/// Bytes that may wait for a peer to read them before its requests for metadata are rejected.
pub const METADATA_UNREAD_MAX: usize = 256 << 10;

// --- tracker: what a reply may ask for --------------------------------------------------------

/// Largest reply of a tracker that is read, in bytes: 50,000 compact peers fit.
pub const TRACKER_REPLY_MAX: usize = 1 << 20;
/// Peers taken from one reply: several times what we ask for.
pub const TRACKER_PEERS_MAX: usize = 2_000;
/// Trackers of one torrent; lists beyond it are copied spam.
pub const TRACKERS_MAX: usize = 100;
/// Longest message of a tracker that is kept for the user, in bytes.
pub const TRACKER_TEXT_MAX: usize = 200;

// --- dht: what one datagram may ask for -------------------------------------------------------

/// Largest datagram that is read or written, in bytes: what passes every link without being cut.
pub const DATAGRAM_MAX: usize = 1_400;
/// Longest transaction id that is echoed, in bytes: clients in use have 2 to 8.
pub const TRANSACTION_MAX: usize = 32;
/// Longest token that is kept and handed back, in bytes: clients in use have 4 to 20.
pub const TOKEN_MAX: usize = 64;
/// Largest KRPC datagram that is read, in bytes: some nodes answer with more than [`DATAGRAM_MAX`], none with this much.
pub const KRPC_MAX: usize = 4_096;
/// Contacts of one address family that a reply of ours carries: the k of BEP 5.
pub const NODES_WRITTEN_MAX: usize = 8;
/// Contacts of one address family that are taken from a reply: some clients send 16.
pub const NODES_READ_MAX: usize = 16;
/// Peers taken from one reply or written into one: about what a datagram holds.
pub const DHT_PEERS_MAX: usize = 100;
/// Info-hashes of one sample (BEP 51), read or written: as many as leave room for contacts.
pub const SAMPLES_MAX: usize = 20;
/// Longest text of a KRPC error, in bytes of the datagram.
pub const DHT_TEXT_MAX: usize = 200;

/// Bytes that are read of a datagram: one more than the longest that is understood, so that a longer one shows.
pub const DATAGRAM_READ_MAX: usize = KRPC_MAX + 1;
/// Nodes taken from one list of names, as in a metainfo: real ones name three to ten.
pub const HOSTS_MAX: usize = 20;
/// Names of nodes that are looked up at once.
pub const NAMES_AT_ONCE: usize = 32;
/// Addresses taken of one name: routers have one or two of each family.
pub const NODES_PER_NAME: usize = 8;

// --- dht: what a node may have under way ------------------------------------------------------

/// Questions that wait for an answer: lookups of [`SEARCHES_AT_ONCE`] torrents and checks of the table take a few hundred.
pub const DHT_TRANSACTIONS_MAX: usize = 2_048;
/// Candidates that one lookup remembers: it asks far fewer, the others are replaced by closer ones.
pub const LOOKUP_CANDIDATES_MAX: usize = 128;
/// Nodes that one lookup asks before it ends with what it has: five times what it takes in a network of millions.
pub const LOOKUP_QUERIES_MAX: usize = 100;
/// Torrents whose peers are looked for at once; others wait their turn.
pub const SEARCHES_AT_ONCE: usize = 16;
/// Peers that one round of a search tells of: more than anybody can dial until the next.
pub const PEERS_PER_ROUND_MAX: usize = 2_000;
/// Unknown nodes that asked us something and wait for a ping.
pub const NEWCOMERS_MAX: usize = 64;
/// Bootstrap addresses that are kept: real lists have 4 to 10.
pub const ROUTERS_MAX: usize = 64;
/// Who told us our own address, counted once per network.
pub const VOTES_MAX: usize = 32;
/// Identities of earlier runs, one per external address: of the networks that one machine moves between.
pub const IDENTITIES_MAX: usize = 16;
/// Contacts that wait for a place in one bucket of the routing table: as many as a full lookup of its range brings.
pub const SPARES_PER_BUCKET: usize = 8;
/// Addresses remembered for having changed their node id; beyond it the oldest are forgotten.
pub const SHUNNED_MAX: usize = 256;
/// Announcers remembered for one torrent: a reply holds fewer than 200, and beyond 500 a random choice gets no better.
pub const ANNOUNCED_PER_TORRENT_MAX: usize = 500;
/// Announcers remembered over all torrents: at some 450 bytes each, each for a torrent of its own at worst, 9 MB.
pub const ANNOUNCED_MAX: usize = 20_000;
/// Announces of one host, which may have all addresses of an IPv6 network of 48 bits: a seeder of 10,000 torrents has fewer than this fall to any one node of the mainline DHT. Half a
/// percent of [`ANNOUNCED_MAX`], so that nobody pushes out others.
pub const ANNOUNCED_PER_SOURCE_MAX: usize = 100;
/// Peers at one address of the internet that may announce one torrent: a few behind one router.
pub const ANNOUNCED_PER_ADDRESS_MAX: usize = 4;
/// Datagrams answered for one source, a second in the long run: a busy lookup asks one node once or twice.
pub const QUOTA_SOURCE_RATE: u32 = 20;
/// Datagrams answered for one source at once, after some silence.
pub const QUOTA_SOURCE_BURST: u32 = 100;
/// Datagrams answered for all strangers together, a second; as many again for good contacts. A busy node of the mainline DHT
/// gets some hundred.
pub const QUOTA_RATE: u32 = 2_000;
/// Datagrams answered for all strangers together at once, after some silence; as many again for good contacts.
pub const QUOTA_BURST: u32 = 4_000;
/// Counters that sources share by chance, at 8 bytes each. Every source has two, so that a flooder silences one in 2 million.
pub const QUOTA_COUNTERS: usize = 2_048;

// --- swarm: what one torrent may hold ---------------------------------------------------------

/// Addresses remembered for one torrent.
pub const ADDRESSES_MAX: usize = 1_000;
/// Connections that one torrent makes at once: leaves some of [`DIALS_MAX`] to others.
pub const DIALS_PER_TORRENT: usize = 10;
/// Bans remembered for one torrent: each cost the liar at least a block, so the list fills slowly.
pub const BANS_MAX: usize = 4_096;
/// Failed copies of pieces kept until a good one shows who lied.
pub const BLAME_RECORDS_MAX: usize = 64;
/// Blocks of those copies, at 34 bytes each: 4 MiB.
pub const BLAME_BLOCKS_MAX: usize = 128 << 10;
/// Pieces remembered of what one peer suggested (BEP 6), and of what it serves while it chokes us.
pub const HINTS_PER_PEER: usize = 32;
/// Copies of a block that may be on the way at once, in the end game.
pub const BLOCK_COPIES_MAX: u8 = 3;
/// Connections over which metadata is looked for at once: some of many will have it, and a liar cannot hold them all for long.
pub const METADATA_PEERS_MAX: usize = 20;
/// Of these, connections that others made: the rest is for addresses that we choose ourselves.
pub const METADATA_INCOMING_MAX: usize = 10;
/// Requests for metadata outstanding at one peer: clients in use queue a few and reject the rest.
pub const METADATA_PIPELINE: usize = 3;
/// Bytes of metadata held from all peers until the info-hash tells which are true: two of the largest size that is believed.
pub const METADATA_BYTES_MAX: usize = 2 * METAINFO_MAX;

// --- net and engine: connections and queues ---------------------------------------------------

/// Empty buffers of stored runs that are kept for the next ones, over all connections, in bytes: most of what waits for
/// the disk as a rule. Fresh memory costs a page fault every 4 KiB.
pub const SPARE_BYTES: usize = 12 << 20;
/// Room of each network thread to read into, in bytes: more would fall out of the second-level cache.
pub const READ_ROOM: usize = 256 << 10;
/// Strangers: connections that have not said yet what they want. Honest ones say it at once.
pub const STRANGERS_MAX: usize = 256;
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
pub const EVENT_QUEUE: usize = 32_768;

// --- disk -------------------------------------------------------------------------------------

/// Received bytes that wait for the disk, over all torrents. Connections pause reading beyond it.
pub const WRITE_BUDGET: usize = 12 << 20;
/// Verified bytes that may wait to become durable: the most that is ever hashed again after a crash.
pub const CHECKPOINT_BYTES: u64 = 64 << 20;
/// Jobs that wait for one disk thread. Whoever submits more waits with them.
pub const DISK_QUEUE: usize = 64;
/// Payload files open at once, over all torrents, besides the locked ones; fewer if the system allows fewer. Files with bytes not
/// yet synced are closed last, and synced before: more files than a checkpoint's window takes in small ones, or writes wait for syncs.
pub const OPEN_FILES: usize = 1_024;
/// Files of one torrent that are locked and kept open, the first ones: two programs that fight over one payload meet there.
pub const LOCKED_FILES: usize = 16;
/// Files from which on they are synced with their whole filesystem instead of one by one.
pub const SYNC_TOGETHER: usize = 16;
/// Unwritten bytes of all programs beyond which that would wait for what is none of our business.
pub const FOREIGN_DIRTY_MAX: u64 = 256 << 20;
/// Bytes written to a file before the kernel is asked to start writing them back, so that a sync finds little left to do.
pub const WRITE_BACK_BYTES: u64 = 8 << 20;

/// Bytes per second that a torrent is re-read at least while it is its turn, so that small ones are done early in the period.
pub const SCRUB_RATE_MIN: u64 = 1 << 20;
/// Bytes per second that are re-read at most, over all torrents: a fraction of what any disk gives, so that transfers do not feel it.
pub const SCRUB_RATE_MAX: u64 = 32 << 20;

// --- store ------------------------------------------------------------------------------------

/// Largest value in the database, in bytes: larger ones go to files that are never synced.
pub const STORE_VALUE_MAX: usize = 1_024;
/// Memory that the database may use as a cache, in bytes.
pub const STORE_CACHE: u64 = 32 << 20;
/// Peers remembered in the database for one torrent.
pub const STORED_PEERS_MAX: usize = 200;
/// DHT nodes remembered in the database: more than a full routing table holds.
pub const STORED_NODES_MAX: usize = 2_000;
/// Ids of our own remembered in the database, one for each address that we were seen at.
pub const STORED_IDENTITIES_MAX: usize = 8;
/// Jobs that wait for the thread of the store: each torrent has one commit and a few notes under way at most.
pub const STORE_QUEUE: usize = 256;
/// Time after which nobody waits for a database to open any more. A sound one on a disk that is well opens in milliseconds.
pub const STORE_OPEN_TIME: Duration = Duration::from_secs(60);
/// Runs of blocks of unfinished pieces that one clean stop stores for a torrent; what is beyond is fetched again.
pub const STORED_PARTIALS_MAX: usize = 65_536;
/// Largest file of notes of one torrent, in bytes: ten times what a full checkpoint of 16 KiB pieces takes.
pub const NOTES_MAX: u64 = 1 << 20;
/// Largest file of choices of one torrent, in bytes: a path, and a few words.
pub const CHOICES_MAX: usize = 64 << 10;
