//! Torrents known by name only: their metadata from peers, true and false, and what becomes of it (BEP 9).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use seedbank::base::{InfoHash, PeerId};
use seedbank::disk::sha1;
use seedbank::engine::{AddTorrent, Engine, EngineError, Event, Fetched, Goal, Wanted};
use seedbank::format::metainfo::create::Draft;
use seedbank::proto::wire::extension::{HANDSHAKE_ID, METADATA_ID};
use seedbank::proto::wire::framing::{FrameLimits, decode};
use seedbank::proto::wire::metadata::{METADATA_PIECE_LEN, metadata_piece_len};
use seedbank::proto::wire::{
    ExtendedHandshake, Extensions, HANDSHAKE_LEN, Handshake, Message, MetadataMessage, RawRange,
    Reserved,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::time::timeout;

use crate::world::World;

/// Where peers that dial us say that they listen; nobody is there.
const LISTENS: u16 = 9;
/// Far more than anything here takes.
const SOON: Duration = Duration::from_secs(30);

fn tcp(engine: &Engine) -> SocketAddr {
    engine.tcp_addr().unwrap()
}

fn wanted(info_hash: InfoHash, peers: &[SocketAddr]) -> Wanted {
    Wanted {
        info_hash,
        trackers: vec![],
        peers: peers.to_vec(),
        found: vec![],
        nodes: vec![],
        web_seeds: vec![],
    }
}

async fn fetch(engine: &Engine, wanted: Wanted) -> Result<Fetched, EngineError> {
    timeout(SOON, engine.fetch(wanted)).await.unwrap()
}

fn download(world: &World, fetched: Fetched, dest: &str) -> AddTorrent {
    AddTorrent {
        metainfo: fetched.metainfo,
        ..world.torrent(dest, Goal::Download, fetched.peers)
    }
}

/// The message of every warning about metadata so far.
fn lies(events: &mut broadcast::Receiver<Event>) -> Vec<String> {
    let events = std::iter::from_fn(|| events.try_recv().ok());
    let lies = events.filter_map(|event| match event {
        Event::Warning {
            kind: "metadata",
            message,
            ..
        } => Some(message),
        _ => None,
    });
    lies.collect()
}

/// An info dictionary of a few pieces of metadata. Its payload does not exist.
fn large() -> Vec<u8> {
    let pieces = 8_000;
    let mut draft = Draft::file("large.bin", pieces * 16_384);
    draft.piece_length = 16_384;
    draft.pieces = (0..pieces).map(|n| sha1(&n.to_be_bytes())).collect();
    draft.finish().unwrap().info.raw().to_vec()
}

/// A peer that passes on `metadata`, true or not, to all who ask for `info_hash`, until the test ends.
async fn peer(info_hash: InfoHash, metadata: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let metadata = metadata.clone();
            // The other end hangs up: that is how it should end.
            tokio::spawn(async move { serve(stream, info_hash, &metadata).await });
        }
    });
    addr
}

async fn greet(
    stream: &mut TcpStream,
    info_hash: InfoHash,
    dht: bool,
) -> std::io::Result<Handshake> {
    let hello = Handshake {
        reserved: Reserved::ours(dht),
        info_hash,
        peer_id: PeerId(*b"-XX0001-abcdefghijkl"),
    };
    stream.write_all(&hello.encode()).await?;
    let mut hello = [0; HANDSHAKE_LEN];
    stream.read_exact(&mut hello).await?;
    Ok(Handshake::decode(&hello).unwrap().unwrap())
}

fn extended(id: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Message::Extended { id, payload }.encode(&mut bytes);
    bytes
}

/// The next message, length and all.
async fn frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let len = stream.read_u32().await?;
    let mut frame = len.to_be_bytes().to_vec();
    frame.resize(4 + len as usize, 0);
    stream.read_exact(&mut frame[4..]).await?;
    Ok(frame)
}

/// The payload of the next extended message with the id `wanted`.
async fn hear(stream: &mut TcpStream, wanted: u8) -> std::io::Result<Vec<u8>> {
    loop {
        let frame = frame(stream).await?;
        if let Ok(Some((Message::Extended { id, payload }, _))) =
            decode(&frame, &FrameLimits::new(1_000))
            && id == wanted
        {
            return Ok(payload.to_vec());
        }
    }
}

/// Every message so far: answers come in order, and a request out of turn has one for certain.
async fn until_reject(stream: &mut TcpStream) -> Vec<Vec<u8>> {
    let fence = RawRange {
        piece: 0,
        begin: 0,
        len: 5,
    };
    let mut bytes = Vec::new();
    Message::Request(fence).encode(&mut bytes);
    stream.write_all(&bytes).await.unwrap();
    let mut frames = Vec::new();
    loop {
        let frame = frame(stream).await.unwrap();
        let rejects = frame.get(4) == Some(&16);
        frames.push(frame);
        if rejects {
            return frames;
        }
    }
}

async fn serve(mut stream: TcpStream, info_hash: InfoHash, metadata: &[u8]) -> std::io::Result<()> {
    greet(&mut stream, info_hash, false).await?;
    let size = metadata.len() as u32;
    let hello = ExtendedHandshake {
        extensions: Extensions {
            metadata: Some(METADATA_ID),
            ..Extensions::default()
        },
        metadata_size: Some(size),
        listen_port: Some(LISTENS),
        ..ExtendedHandshake::default()
    };
    let hello = extended(HANDSHAKE_ID, &hello.encode());
    stream.write_all(&hello).await?;
    let theirs = hear(&mut stream, HANDSHAKE_ID).await?;
    let theirs = ExtendedHandshake::decode(&theirs).unwrap();
    let id = theirs.extensions.metadata.unwrap();
    loop {
        let request = hear(&mut stream, METADATA_ID).await?;
        let request = MetadataMessage::decode(&request).unwrap();
        let Some(MetadataMessage::Request(piece)) = request else {
            continue;
        };
        let begin = (piece * METADATA_PIECE_LEN) as usize;
        let len = metadata_piece_len(size, piece).unwrap() as usize;
        let answer = MetadataMessage::Data {
            piece,
            total_size: Some(size),
            bytes: &metadata[begin..begin + len],
        };
        stream.write_all(&extended(id, &answer.encode())).await?;
    }
}

#[tokio::test]
async fn a_torrent_known_by_name_is_fetched_downloaded_and_passed_on() {
    let world = World::new();
    let (seeder, _) = world.seeder().await;
    let info_hash = world.metainfo.info.info_hash();
    let first = world.engine("first").await;
    let begun = Instant::now();
    let mut wanted_first = wanted(info_hash, &[tcp(&seeder)]);
    wanted_first.trackers = vec!["http://127.0.0.1:9/announce".into()];
    wanted_first.nodes = vec![("127.0.0.1".into(), 9)];
    wanted_first.web_seeds = vec!["http://127.0.0.1:9/pair".into()];
    let fetched = fetch(&first, wanted_first.clone()).await.unwrap();
    println!("metadata after {:?}", begun.elapsed());
    assert_eq!(fetched.metainfo.info, world.metainfo.info);
    assert_eq!(fetched.metainfo.announce, [wanted_first.trackers]);
    assert_eq!(fetched.metainfo.nodes, wanted_first.nodes);
    assert_eq!(fetched.metainfo.web_seeds, wanted_first.web_seeds);
    assert_eq!(fetched.peers, [tcp(&seeder)]);
    let torrent = first.add(download(&world, fetched, "one")).await.unwrap();
    timeout(SOON, torrent.completed()).await.unwrap().unwrap();
    println!("payload after {:?}", begun.elapsed());
    seeder.shutdown().await;

    let second = world.engine("second").await;
    let fetched = fetch(&second, wanted(info_hash, &[tcp(&first)])).await;
    let torrent = download(&world, fetched.unwrap(), "two");
    let torrent = second.add(torrent).await.unwrap();
    timeout(SOON, torrent.completed()).await.unwrap().unwrap();
    world.assert_whole("two");
    first.shutdown().await;
    second.shutdown().await;
}

#[tokio::test]
async fn a_peer_that_dials_us_while_we_look_is_asked() {
    let world = World::new();
    let info_hash = world.metainfo.info.info_hash();
    let engine = world.engine("fetcher").await;
    let seeder = world.engine("seeder").await;
    let seed = world.torrent("source", Goal::Seed, vec![tcp(&engine)]);
    let fetching = fetch(&engine, wanted(info_hash, &[]));
    let (fetched, seeding) = tokio::join!(fetching, seeder.add(seed));
    seeding.unwrap();
    let fetched = fetched.unwrap();
    assert_eq!(fetched.metainfo.info, world.metainfo.info);
    assert_eq!(fetched.peers, [tcp(&seeder)], "where it listens");
    engine.shutdown().await;
    seeder.shutdown().await;
}

#[tokio::test]
async fn of_many_peers_with_false_metadata_and_one_with_the_true_the_one_is_believed() {
    let world = World::new();
    let truth = large();
    let info_hash = InfoHash(sha1(&truth));
    let engine = world.engine("fetcher").await;
    let mut events = engine.subscribe();
    let mut peers = Vec::new();
    for n in 0..30 {
        let mut metadata = truth.clone();
        match n % 3 {
            0 => metadata[n * 1_000] ^= 1,
            1 => metadata.fill(b'x'),
            _ => metadata.extend([0; 9]),
        }
        peers.push(peer(info_hash, metadata).await);
    }
    let honest = peer(info_hash, truth.clone()).await;
    peers.push(honest);
    let fetched = fetch(&engine, wanted(info_hash, &peers)).await.unwrap();
    assert!(fetched.metainfo.info.raw() == truth);
    assert!(fetched.peers.contains(&honest));
    let lies = lies(&mut events);
    println!("{lies:#?}");
    let blamed = |addr: &SocketAddr| lies.iter().any(|lie| lie.starts_with(&addr.to_string()));
    assert!(!blamed(&honest));
    let banned = peers.iter().filter(|addr| blamed(addr));
    assert!(banned.clone().count() == lies.len() && !lies.is_empty());
    for addr in banned {
        assert!(!fetched.peers.contains(addr), "{addr}");
    }
    engine.shutdown().await;
}

#[tokio::test]
async fn what_the_info_hash_names_and_is_no_torrent_is_refused_with_the_reason() {
    let world = World::new();
    let truth = b"d6:lengthi5e4:name1:x12:piece lengthi16384ee".to_vec();
    let info_hash = InfoHash(sha1(&truth));
    let engine = world.engine("fetcher").await;
    let mut events = engine.subscribe();
    let honest = peer(info_hash, truth).await;
    let error = fetch(&engine, wanted(info_hash, &[honest])).await;
    let error = error.unwrap_err();
    assert!(matches!(error, EngineError::InvalidTorrent { .. }));
    let message = error.to_string();
    assert!(message.contains("piece hashes are missing"), "{message}");
    assert!(lies(&mut events).is_empty(), "nobody lied");
    engine.shutdown().await;
}

#[tokio::test]
async fn metadata_of_a_torrent_that_was_added_is_not_fetched_again_after_a_restart() {
    let world = World::new();
    let (seeder, _) = world.seeder().await;
    let info_hash = world.metainfo.info.info_hash();
    let engine = world.engine("getter").await;
    let fetched = fetch(&engine, wanted(info_hash, &[tcp(&seeder)])).await;
    let torrent = download(&world, fetched.unwrap(), "there");
    engine.add(torrent).await.unwrap();
    let again = engine.fetch(wanted(info_hash, &[])).await;
    assert!(matches!(again, Err(EngineError::AlreadyAdded(_))));
    engine.shutdown().await;
    seeder.shutdown().await;

    let engine = world.engine("getter").await;
    let mut known = wanted(info_hash, &[]);
    known.trackers = vec!["http://127.0.0.1:9/announce".into()];
    let fetched = fetch(&engine, known.clone()).await.unwrap();
    assert_eq!(fetched.metainfo.info, world.metainfo.info);
    assert_eq!(fetched.metainfo.announce, [known.trackers]);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_fetch_that_is_given_up_leaves_nothing_behind() {
    let world = World::new();
    let (seeder, _) = world.seeder().await;
    let info_hash = world.metainfo.info.info_hash();
    let engine = world.engine("getter").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = listener.local_addr().unwrap();
    let (mut connection, taken) = {
        let fetching = engine.fetch(wanted(info_hash, &[mute]));
        tokio::pin!(fetching);
        let connection = tokio::select! {
            accepted = listener.accept() => accepted.unwrap().0,
            _ = &mut fetching => panic!("there is nothing to be had"),
        };
        (connection, engine.fetch(wanted(info_hash, &[])).await)
    };
    assert!(matches!(taken, Err(EngineError::AlreadyAdded(_))));
    let mut rest = Vec::new();
    let ended = timeout(SOON, connection.read_to_end(&mut rest)).await;
    ended.unwrap().unwrap();
    let fetched = fetch(&engine, wanted(info_hash, &[tcp(&seeder)])).await;
    assert!(fetched.is_ok());
    engine.shutdown().await;
    seeder.shutdown().await;
}

/// Makes a torrent of one small file the one to share.
fn secret(world: &mut World, private: bool) -> InfoHash {
    let mut draft = Draft::file("secret", 5);
    draft.private = private;
    draft.pieces = vec![sha1(b"hello")];
    std::fs::write(world.path("source/secret"), b"hello").unwrap();
    world.metainfo = draft.finish().unwrap();
    world.metainfo.info.info_hash()
}

#[tokio::test]
async fn of_a_private_torrent_no_peer_is_told_that_was_found_on_the_way() {
    let mut world = World::new();
    for private in [false, true] {
        let info_hash = secret(&mut world, private);
        let engine = world.engine(&format!("fetcher {private}")).await;
        let caller = async {
            loop {
                let stream = TcpStream::connect(tcp(&engine)).await.unwrap();
                // Until the fetch has begun nobody is let in.
                let _ = serve(stream, info_hash, world.metainfo.info.raw()).await;
            }
        };
        let fetched = tokio::select! {
            biased;
            fetched = fetch(&engine, wanted(info_hash, &[])) => fetched.unwrap(),
            () = caller => unreachable!("it calls again and again"),
        };
        let here = SocketAddr::from(([127, 0, 0, 1], LISTENS));
        let all = if private { vec![] } else { vec![here] };
        assert_eq!(fetched.peers, all);
        engine.shutdown().await;
    }
}

#[tokio::test]
async fn a_link_adds_no_hints_to_a_private_torrent_of_the_catalog() {
    let mut world = World::new();
    for private in [false, true] {
        let info_hash = secret(&mut world, private);
        let name = format!("seeder {private}");
        let engine = world.engine(&name).await;
        let seed = world.torrent("source", Goal::Seed, vec![]);
        let seed = engine.add(seed).await.unwrap();
        seed.completed().await.unwrap();
        engine.shutdown().await;

        let engine = world.engine(&name).await;
        let mut known = wanted(info_hash, &[]);
        known.trackers = vec!["http://127.0.0.1:9/announce".into()];
        known.nodes = vec![("127.0.0.1".into(), 9)];
        let fetched = fetch(&engine, known).await.unwrap().metainfo;
        assert_eq!(fetched.announce.is_empty(), private);
        assert_eq!(fetched.nodes.is_empty(), private);
        engine.shutdown().await;
    }
}

#[tokio::test]
async fn metadata_of_a_private_torrent_is_neither_offered_nor_served() {
    let mut world = World::new();
    for private in [false, true] {
        let info_hash = secret(&mut world, private);
        let engine = world.engine(&format!("seeder {private}")).await;
        let seed = world.torrent("source", Goal::Seed, vec![]);
        engine.add(seed).await.unwrap();

        let mut stream = TcpStream::connect(tcp(&engine)).await.unwrap();
        greet(&mut stream, info_hash, false).await.unwrap();
        let hello = b"d1:md11:ut_metadatai7eee";
        let hello = extended(HANDSHAKE_ID, hello);
        stream.write_all(&hello).await.unwrap();
        let said = hear(&mut stream, HANDSHAKE_ID).await.unwrap();
        let said = ExtendedHandshake::decode(&said).unwrap();
        assert_eq!(said.extensions.metadata.is_none(), private);
        assert_eq!(said.metadata_size.is_none(), private);
        let request = MetadataMessage::Request(0).encode();
        let request = extended(METADATA_ID, &request);
        stream.write_all(&request).await.unwrap();
        let answers = timeout(SOON, until_reject(&mut stream)).await.unwrap();
        let served = answers
            .iter()
            .any(|frame| frame.get(4..6) == Some(&[20, 7]));
        assert_eq!(served, !private, "{answers:?}");
        engine.shutdown().await;
    }
}

#[tokio::test]
async fn a_bare_info_hash_is_enough_where_there_is_a_dht() {
    let world = World::new();
    let router = world.node("router", &[]).await;
    let bootstrap = [router.udp_addr().unwrap()];
    let seeder = world.node("seeder", &bootstrap).await;
    let seed = world.torrent("source", Goal::Seed, vec![]);
    seeder.add(seed).await.unwrap();
    let leecher = world.node("leecher", &bootstrap).await;
    let info_hash = world.metainfo.info.info_hash();
    let fetched = fetch(&leecher, wanted(info_hash, &[])).await.unwrap();
    assert_eq!(fetched.peers, [tcp(&seeder)]);
    let torrent = leecher.add(download(&world, fetched, "there")).await;
    let torrent = torrent.unwrap();
    timeout(SOON, torrent.completed()).await.unwrap().unwrap();
    world.assert_whole("there");
    for engine in [leecher, seeder, router] {
        engine.shutdown().await;
    }
}

#[tokio::test]
async fn peers_hear_of_our_dht_node_unless_the_torrent_is_private() {
    let mut world = World::new();
    for private in [false, true] {
        let info_hash = secret(&mut world, private);
        let engine = world.node(&format!("seeder {private}"), &[]).await;
        let seed = world.torrent("source", Goal::Seed, vec![]);
        engine.add(seed).await.unwrap();
        let mut stream = TcpStream::connect(tcp(&engine)).await.unwrap();
        let hello = greet(&mut stream, info_hash, true).await.unwrap();
        assert_eq!(hello.reserved.dht(), !private);
        let said = timeout(SOON, until_reject(&mut stream)).await.unwrap();
        let mut port = Vec::new();
        Message::Port(engine.udp_addr().unwrap().port()).encode(&mut port);
        assert_eq!(said.contains(&port), !private, "{said:?}");
        engine.shutdown().await;
    }
}
