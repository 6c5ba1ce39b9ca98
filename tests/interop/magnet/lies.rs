//! Peers that lie about metadata are named, and the download completes from one that does not.

use std::net::SocketAddr;

use super::fake::Fake;
use super::libtorrent::Libtorrent;
use super::{Program, get, link, torrent};
use crate::common::metainfo::Torrent;
use crate::common::payload::{self, Random};
use crate::common::process::Process;
use crate::common::seedbank::Seedbank;
use crate::dht::network::Network;

#[test]
fn liars_are_named_and_the_download_completes() {
    if !Libtorrent.available() {
        return;
    }
    let network = Network::new();
    let torrent = torrent(&network);
    let size = metadata_len(&torrent);
    let liars = [size, size + 20_000].map(|len| rubbish(&torrent, len));
    let addrs = [liars[0].addr(), liars[1].addr()];
    let mut getter = get(&network, &link(&torrent, &addrs), &[]);
    for liar in &liars {
        liar.lies();
    }

    // Who is honest comes once the lies are told: found out they are even so.
    let folder = torrent.payload.parent().unwrap();
    let mut command = Libtorrent.command("seed", torrent.path.to_str().unwrap(), folder);
    command.arg(format!("peer={}", getter.addr()));
    let _honest = Process::spawn("honest seeder", &mut command);
    getter.succeed();
    let found = network.world.path("dest").join(torrent.name());
    payload::assert_same(&torrent.payload, &found);
    for addr in addrs {
        assert!(is_blamed(&getter, addr), "{addr} is not blamed");
    }
}

#[test]
fn the_rig_works_without_seedbank() {
    if !Libtorrent.available() {
        return;
    }
    let network = Network::new();
    let torrent = torrent(&network);
    let liar = rubbish(&torrent, metadata_len(&torrent));
    let mut command = Libtorrent.command(
        "get",
        &link(&torrent, &[liar.addr()]),
        &network.world.dir("dest"),
    );
    let _deceived = Process::spawn("getter", &mut command);
    liar.lies();
}

/// A liar whose metadata is `len` random bytes.
fn rubbish(torrent: &Torrent, len: usize) -> Fake {
    let mut bytes = vec![0; len];
    Random::new(len as u64).fill(&mut bytes);
    Fake::start(torrent.info_hash, bytes)
}

fn is_blamed(getter: &Seedbank, liar: SocketAddr) -> bool {
    let warnings = getter.all("warning");
    warnings
        .iter()
        .any(|event| event["kind"] == "metadata" && event.to_string().contains(&liar.to_string()))
}

/// Bytes of the info dictionary.
fn metadata_len(torrent: &Torrent) -> usize {
    // The file holds `d4:info`, the dictionary and `e`.
    let file = std::fs::read(&torrent.path).unwrap();
    file.len() - b"d4:infoe".len()
}
