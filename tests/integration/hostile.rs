//! Peers that break the protocol lose their connection; the process lives, its memory is bounded, and it serves the next one.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use crate::common::metainfo::Torrent;
use crate::common::payload::{self, MIB};
use crate::common::seedbank::{self, LOOPBACK, Seedbank};
use crate::common::wire::{self, Raw, full_bitfield, id, message, one_file, request};
use crate::common::{World, wait};
use crate::transfer::seeder;

/// Time in which what breaks the protocol is noticed.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Time in which a handshake that does not come is given up, with room for a busy machine.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// Anonymous memory that a victim may use, whatever is thrown at it.
const MEMORY: u64 = 160 * MIB;

/// A seeder of 41 pieces, under attack.
struct Victim {
    world: World,
    torrent: Torrent,
    seeder: Seedbank,
    addr: SocketAddr,
}

impl Victim {
    fn new() -> Self {
        let world = World::new();
        let torrent = one_file(&world.dir("payload"), "target.bin", 10 * MIB + 1, 41);
        assert_eq!(torrent.pieces, 41);
        let (seeder, addr) = seeder(&torrent, &world.path("seeder"));
        Self {
            world,
            torrent,
            seeder,
            addr,
        }
    }

    fn join(&self) -> Raw {
        Raw::join(self.addr, self.torrent.info_hash)
    }

    /// Joined and unchoked.
    fn unchoked(&self) -> Raw {
        let mut raw = self.join();
        raw.send(id::INTERESTED, &[]).unwrap();
        raw.receive_until(id::UNCHOKE).unwrap();
        raw
    }

    /// Sends `bytes` after the handshakes; the connection must end.
    fn drops(&self, what: &str, bytes: &[u8]) {
        let mut raw = self.join();
        // It may hang up before everything is sent.
        let _ = raw.write(bytes);
        assert!(raw.hangs_up(AT_ONCE), "{what}: still connected");
    }

    /// It lives, within its bounds, and an ordinary peer gets everything.
    fn stays_well(mut self) {
        assert!(self.seeder.process.runs());
        let memory = self.seeder.process.anonymous_memory();
        assert!(memory > 0 && memory < MEMORY, "{memory} bytes of memory");
        let dest = self.world.dir("dest");
        let mut getter = seedbank::get(&self.torrent.path, &dest, &self.world.path("getter"))
            .peer(self.addr)
            .spawn();
        getter.succeed();
        payload::assert_same(&self.torrent.payload, &dest.join(self.torrent.name()));
        let said = self.seeder.process.stderr().tail(100);
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(self.seeder.stop(AT_ONCE), Some(0));
    }
}

#[test]
fn a_message_that_breaks_the_protocol_ends_the_connection() {
    let victim = Victim::new();
    let pieces = victim.torrent.pieces;
    let full = full_bitfield(pieces);
    let spare = [&full[..5], &[0xff]].concat();
    let piece_len = victim.torrent.piece_len;
    let messages: [(&str, Vec<u8>); 10] = [
        ("a length of 4 GiB", vec![0xff; 4]),
        ("a length of 64 MiB", (64u32 << 20).to_be_bytes().to_vec()),
        (
            "a bitfield too long",
            message(id::BITFIELD, &[&full[..], &[0]].concat()),
        ),
        ("a bitfield too short", message(id::BITFIELD, &full[..5])),
        ("a bitfield with spare bits", message(id::BITFIELD, &spare)),
        (
            "a piece that does not exist",
            message(id::HAVE, &pieces.to_be_bytes()),
        ),
        ("a have of three bytes", message(id::HAVE, &[0; 3])),
        ("an unchoke with a payload", message(id::UNCHOKE, &[0])),
        ("a request of five bytes", message(id::REQUEST, &[0; 5])),
        (
            "an extended message that is too large",
            (2u32 << 20)
                .to_be_bytes()
                .into_iter()
                .chain([id::EXTENDED, 0])
                .collect(),
        ),
    ];
    for (what, bytes) in &messages {
        victim.drops(what, bytes);
    }
    let requests = [
        ("a request past the last piece", request(pieces, 0, 16384)),
        (
            "a request past the end of a piece",
            request(0, piece_len, 16384),
        ),
        ("a request that wraps around", request(0, u32::MAX, 16384)),
        ("a request that is too long", request(0, 0, 256 * 1024 + 1)),
    ];
    for (what, body) in &requests {
        let mut raw = victim.unchoked();
        raw.send(id::REQUEST, body).unwrap();
        assert!(raw.hangs_up(AT_ONCE), "{what}: still connected");
    }
    victim.stays_well();
}

#[test]
fn what_is_no_handshake_for_a_torrent_of_ours_ends_the_connection() {
    let victim = Victim::new();
    let stranger = wire::handshake([7; 20], *b"-XX0001-abcdefghijkl");
    let hellos: [(&str, &[u8]); 4] = [
        ("a torrent that is not here", &stranger),
        (
            "another protocol",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nand so on and so on and so on and so on",
        ),
        ("noise", &[0xa5; 512]),
        ("a length of 255", &[0xff; 300]),
    ];
    for (what, bytes) in hellos {
        let mut raw = Raw::dial(victim.addr);
        let _ = raw.write(bytes);
        assert!(raw.hangs_up(HANDSHAKE), "{what}: still connected");
    }
    victim.stays_well();
}

#[test]
fn connections_that_never_finish_their_handshake_do_not_keep_others_out() {
    let victim = Victim::new();
    let half = &wire::handshake(victim.torrent.info_hash, [1; 20])[..48];
    let mut stalled: Vec<Raw> = (0..300)
        .map(|_| {
            let mut raw = Raw::dial(victim.addr);
            let _ = raw.write(half);
            raw
        })
        .collect();
    // Whoever comes in the meantime has to wait for places at the most.
    wait::until("a place for an honest peer", HANDSHAKE, || {
        let mut raw = Raw::dial(victim.addr);
        raw.write(&wire::handshake(victim.torrent.info_hash, [2; 20]))
            .ok()?;
        raw.read(68).ok()
    });
    for raw in &mut stalled {
        assert!(
            raw.hangs_up(HANDSHAKE),
            "half a handshake is still waited for"
        );
    }
    victim.stays_well();
}

#[test]
fn a_peer_that_holds_back_its_id_until_it_is_answered_is_let_in() {
    let victim = Victim::new();
    let hello = wire::handshake(victim.torrent.info_hash, *b"-XX0001-abcdefghijkl");
    let mut raw = Raw::dial(victim.addr);
    raw.read_limit(AT_ONCE);
    raw.write(&hello[..48]).unwrap();
    assert_eq!(raw.read(68).unwrap()[28..48], hello[28..48]);
    raw.write(&hello[48..]).unwrap();
    let (first, _) = raw.receive().unwrap();
    assert_eq!(first, id::EXTENDED);
    victim.stays_well();
}

// Elsewhere loopback is one address.
#[cfg(target_os = "linux")]
#[test]
fn silent_connections_from_one_address_push_out_nobody_but_themselves() {
    let victim = Victim::new();
    let mut slow = Raw::dial(victim.addr);
    let mut flood: Vec<Raw> = (0..400)
        .map(|_| Raw::dial_from("127.0.0.2".parse().unwrap(), victim.addr))
        .collect();
    assert!(flood[0].hangs_up(AT_ONCE), "all of the flood is let in");
    slow.read_limit(AT_ONCE);
    slow.write(&wire::handshake(victim.torrent.info_hash, [2; 20]))
        .unwrap();
    slow.read(68).expect("an answer for whoever came first");
    victim.stays_well();
}

#[test]
fn a_peer_that_never_sends_the_extension_handshake_joins_before_it_leaves() {
    let victim = Victim::new();
    drop(victim.join());
    let left = victim.seeder.wait_for("left_peer", AT_ONCE, |_| true);
    let joined = victim.seeder.last("joined_to_peer");
    assert_eq!(joined["peer"], left["peer"]);
    victim.stays_well();
}

#[test]
fn a_flood_of_requests_from_one_who_does_not_read_costs_bounded_memory() {
    let victim = Victim::new();
    let mut raw = victim.unchoked();
    let ask = message(id::REQUEST, &request(0, 0, 16384));
    let flood = ask.repeat(2_000);
    // 100,000 requests for 1.6 GB. Either the connection is dropped, or it stops taking more.
    raw.write_limit(Duration::from_secs(1));
    for _ in 0..50 {
        if let Err(error) = raw.write(&flood) {
            eprintln!("the flood ends: {error}");
            assert!(error.kind() != ErrorKind::NotFound);
            break;
        }
    }
    let memory = victim.seeder.process.anonymous_memory();
    assert!(memory < MEMORY, "{memory} bytes of memory");
    drop(raw);
    victim.stays_well();
}

#[test]
fn a_choked_peer_gets_nothing() {
    let victim = Victim::new();
    let mut raw = victim.join();
    let ask = message(id::REQUEST, &request(0, 0, 16384));
    raw.write(&ask.repeat(50)).unwrap();
    // It may be unchoked at some time; what it asked for before that is void.
    raw.read_limit(Duration::from_secs(1));
    while let Ok((id, _)) = raw.receive() {
        assert_ne!(id, id::PIECE, "served while choked");
        if id == id::UNCHOKE {
            break;
        }
    }
    drop(raw);
    victim.stays_well();
}

#[test]
fn bencode_bombs_in_extended_messages_are_survived() {
    let victim = Victim::new();
    let deep = [&[0][..], &vec![b'l'; 200_000]].concat();
    let long = [&[0][..], b"d1:m999999999999999999999:x"].concat();
    let huge = [
        &[0][..],
        b"d13:metadata_sizei9223372036854775807e1:md11:ut_metadatai1eee",
    ]
    .concat();
    let flood = message(id::EXTENDED, b"\0d1:mdee").repeat(10_000);
    for body in [deep, long, huge] {
        let mut raw = victim.join();
        let _ = raw.send(id::EXTENDED, &body);
        // Whether it is dropped is its choice.
        raw.hangs_up(Duration::from_millis(300));
    }
    let _ = victim.join().write(&flood);
    victim.stays_well();
}

#[test]
fn a_leecher_takes_nothing_that_it_did_not_ask_for() {
    let world = World::new();
    let torrent = one_file(&world.dir("payload"), "unasked.bin", 2 * MIB, 42);
    let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let (_seeder, honest) = seeder(&torrent, &world.path("seeder"));
    let dest = world.dir("dest");
    let mut getter = seedbank::get(&torrent.path, &dest, &world.path("getter"))
        .peers(&[listener.local_addr().unwrap(), honest])
        .flag("--max-down", "512KiB")
        .spawn();
    let (stream, _) = listener.accept().unwrap();
    let mut raw = Raw::new(stream);
    raw.read(68).unwrap();
    raw.write(&wire::handshake(torrent.info_hash, [3; 20]))
        .unwrap();
    // Garbage for every piece, several times over, while we are choking it.
    let head = |piece: u32| [piece.to_be_bytes(), [0; 4]].concat();
    for piece in (0..torrent.pieces).cycle().take(400) {
        let body = [head(piece), vec![0xee; 16384]].concat();
        if raw.send(id::PIECE, &body).is_err() {
            break;
        }
    }
    getter.succeed();
    payload::assert_same(&torrent.payload, &dest.join(torrent.name()));
    assert!(getter.all("hash_failed").is_empty());
}
