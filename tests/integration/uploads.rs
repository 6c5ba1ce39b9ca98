//! Payload as peers get it, block by block, whatever they ask for and however slowly they read.

use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use crate::common::World;
use crate::common::metainfo::Torrent;
use crate::common::payload::{self, MIB, Random};
use crate::common::wait::SOON;
use crate::common::wire::{Raw, handshake, id, message, one_file, request};
use crate::transfer::seeder;

const BLOCK: u32 = 16 << 10;
/// The largest block that is served.
const BLOCK_MAX: u64 = 128 << 10;

/// Joined, as number `number`, and unchoked.
fn unchoked(addr: SocketAddr, torrent: &Torrent, number: u8) -> Raw {
    let mut raw = Raw::dial(addr);
    let mut peer_id = *b"-XX0001-abcdefghijkl";
    peer_id[19] = number;
    raw.write(&handshake(torrent.info_hash, peer_id)).unwrap();
    raw.read(68).unwrap();
    raw.send(id::INTERESTED, &[]).unwrap();
    raw.receive_until(id::UNCHOKE).unwrap();
    raw
}

/// The payload as one run of bytes.
fn whole(torrent: &Torrent) -> Vec<u8> {
    let read = |(relative, _): &(std::path::PathBuf, u64)| {
        let path = if relative.as_os_str().is_empty() {
            torrent.payload.clone()
        } else {
            torrent.payload.join(relative)
        };
        fs::read(path).unwrap()
    };
    torrent.files.iter().flat_map(read).collect()
}

/// The body of the message that answers a request for these bytes.
fn answer(torrent: &Torrent, payload: &[u8], bytes: Range<usize>) -> Vec<u8> {
    let (piece, begin) = place(torrent, bytes.start);
    let numbers = [piece, begin].map(u32::to_be_bytes).concat();
    [&numbers[..], &payload[bytes]].concat()
}

fn place(torrent: &Torrent, offset: usize) -> (u32, u32) {
    let offset = u32::try_from(offset).unwrap();
    (offset / torrent.piece_len, offset % torrent.piece_len)
}

fn ask(torrent: &Torrent, bytes: &Range<usize>) -> Vec<u8> {
    let (piece, begin) = place(torrent, bytes.start);
    let len = u32::try_from(bytes.len()).unwrap();
    message(id::REQUEST, &request(piece, begin, len))
}

/// All blocks of the payload in their order.
fn blocks(torrent: &Torrent) -> Vec<Range<usize>> {
    let len = torrent.len as usize;
    let starts = (0..len).step_by(BLOCK as usize);
    starts.map(|at| at..len.min(at + BLOCK as usize)).collect()
}

#[test]
fn blocks_of_any_length_are_served_over_the_borders_of_files() {
    let world = World::new();
    let numbers = payload::numbers(&world.dir("payload"));
    let torrent = Torrent::of(&numbers, 256 << 10, world.root());
    let bytes = whole(&torrent);
    let (_seeder, addr) = seeder(&torrent, &world.path("seeder"));
    let mut raw = unchoked(addr, &torrent, 0);
    let mut random = Random::of_this_run("uploads");
    for _ in 0..10 {
        let asked: Vec<Range<usize>> = (0..100)
            .map(|_| {
                let from = random.below(torrent.len);
                let rest_of_piece =
                    u64::from(torrent.piece_len) - from % u64::from(torrent.piece_len);
                let most = rest_of_piece.min(torrent.len - from).min(BLOCK_MAX);
                // Small ones too: many files here are of a few bytes.
                let most = if random.below(2) == 0 {
                    most
                } else {
                    most.min(200)
                };
                let len = 1 + random.below(most);
                from as usize..(from + len) as usize
            })
            .collect();
        let requests: Vec<u8> = asked.iter().flat_map(|at| ask(&torrent, at)).collect();
        raw.write(&requests).unwrap();
        for at in asked {
            let found = raw.receive_until(id::PIECE).unwrap();
            assert!(found == answer(&torrent, &bytes, at.clone()), "{at:?}");
        }
    }
}

#[test]
fn peers_that_do_not_read_cost_little_and_hold_up_nobody() {
    const STUCK: u8 = 6;
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "large.bin", 32 * MIB, 47);
    let bytes = whole(&torrent);
    let (seeder, addr) = seeder(&torrent, &world.path("seeder"));
    let requests: Vec<u8> = blocks(&torrent)
        .iter()
        .take(1_900)
        .flat_map(|at| ask(&torrent, at))
        .collect();
    let stuck: Vec<Raw> = (0..STUCK)
        .map(|number| {
            let mut raw = unchoked(addr, &torrent, number);
            raw.write(&requests).unwrap();
            raw
        })
        .collect();
    let mut reader = unchoked(addr, &torrent, STUCK);
    for some in blocks(&torrent).chunks(64) {
        let requests: Vec<u8> = some.iter().flat_map(|at| ask(&torrent, at)).collect();
        reader.write(&requests).unwrap();
        for at in some {
            let found = reader.receive_until(id::PIECE).unwrap();
            assert!(found == answer(&torrent, &bytes, at.clone()), "{at:?}");
        }
    }
    let memory = seeder.process.anonymous_memory();
    assert!(memory < 48 * MIB, "{memory} bytes of memory");
    // Whoever reads at last gets what he asked for.
    for mut raw in stuck {
        for at in blocks(&torrent).into_iter().take(1_900) {
            let found = raw.receive_until(id::PIECE).unwrap();
            assert!(found == answer(&torrent, &bytes, at.clone()), "{at:?}");
        }
    }
}

#[test]
fn what_changes_while_it_is_uploaded_is_not_uploaded() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "shaky.bin", 32 * MIB, 48);
    let bytes = whole(&torrent);
    let file = fs::File::options()
        .write(true)
        .open(&torrent.payload)
        .unwrap();
    // Clocks of filesystems are coarse.
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    file.set_modified(long_ago).unwrap();
    let (seeder, addr) = seeder(&torrent, &world.path("seeder"));
    let mut raw = unchoked(addr, &torrent, 0);
    let asked: Vec<_> = blocks(&torrent).into_iter().take(1_900).collect();
    let requests: Vec<u8> = asked.iter().flat_map(|at| ask(&torrent, at)).collect();
    raw.write(&requests).unwrap();
    let mut asked = asked.into_iter();
    for at in asked.by_ref().take(100) {
        let found = raw.receive_until(id::PIECE).unwrap();
        assert!(found == answer(&torrent, &bytes, at), "before");
    }
    // Sockets hold some of the rest already; by far not all.
    for at in (0..32 * MIB).step_by(4_096) {
        file.write_all_at(b"changed", at).unwrap();
    }
    let mut after = 0;
    for at in asked {
        let Ok(found) = raw.receive_until(id::PIECE) else {
            break;
        };
        assert!(found == answer(&torrent, &bytes, at), "{after} after");
        after += 1;
    }
    assert!(after < 1_800, "all was sent, or held in memory");
    assert!(raw.hangs_up(SOON), "still connected");
    drop(seeder);
}
