//! Known peers: a cache, of which damage costs itself only.

use super::*;
use crate::store::database::Batch;
use crate::store::open::open_unlocked;

fn peer(n: u8) -> KnownPeer {
    KnownPeer {
        addr: SocketAddr::from(([10, 0, 0, n], 9)),
        last_seen: 40,
        failures: n,
    }
}

fn key(n: u8) -> Vec<u8> {
    let mut key = schema::Row::Peer.of(&IH);
    crate::store::peers::put_addr(&mut key, peer(n).addr);
    key
}

#[test]
fn damaged_peers_cost_neither_the_database_nor_the_sound_ones_and_go_at_the_next_save() {
    let folder = tempfile::tempdir().unwrap();
    block_on(async {
        let (store, _) = open(folder.path()).await;
        load(&store).await;
        store.commit(IH, pieces([1, 8_000])).await.unwrap();
        store.put_peers(IH, vec![peer(1), peer(2)]).await.unwrap();
        store.close().await.unwrap();
    });
    let mut database = open_unlocked(&folder.path().join("db")).unwrap();
    let mut batch = Batch::default();
    let sound = codec::seal(&key(3), &[0; 9]);
    let mut wrecked = 0;
    for (n, len) in (10..).zip(0..sound.len()) {
        batch.put_sealed(&key(n), &sound[..len]);
        wrecked += 1;
    }
    for (n, at) in (100..).zip(0..sound.len()) {
        let mut flipped = codec::seal(&key(n), &[0; 9]);
        flipped[at] ^= 4;
        batch.put_sealed(&key(n), &flipped);
        wrecked += 1;
    }
    // Whole, under a key that no address makes.
    let odd = [&key(4)[..], b"?"].concat();
    batch.put_sealed(&odd, &codec::seal(&odd, &[0; 9]));
    database.apply(batch).unwrap();
    drop(database);
    let report = check(folder.path()).unwrap();
    assert_eq!(report.problems, [""; 0]);
    assert_eq!(report.passed_over.len(), wrecked + 1);
    block_on(async {
        let (store, history) = open(folder.path()).await;
        assert_eq!(history, History::Current);
        assert_eq!(durable(&store).await, [1, 8_000]);
        assert_eq!(store.peers(IH).await, [peer(1), peer(2)]);
        store.put_peers(IH, vec![peer(5)]).await.unwrap();
        assert_eq!(store.peers(IH).await, [peer(5)]);
        store.close().await.unwrap();
    });
    assert_eq!(check(folder.path()).unwrap().passed_over, [""; 0]);
}

#[test]
fn of_too_many_peers_the_last_seen_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let many = i64::try_from(STORED_PEERS_MAX).unwrap() + 50;
    let peers = (0..many).map(|n| KnownPeer {
        addr: SocketAddr::from(([10, 0, 0, 1], u16::try_from(n + 1).unwrap())),
        last_seen: n,
        failures: 0,
    });
    block_on(async {
        let (store, _) = open(folder.path()).await;
        store.put_peers(IH, peers.collect()).await.unwrap();
        let kept = store.peers(IH).await;
        assert_eq!(kept.len(), STORED_PEERS_MAX);
        assert!(kept.iter().all(|peer| peer.last_seen >= 50));
        store.put_peers(IH, kept[..1].to_vec()).await.unwrap();
        assert_eq!(store.peers(IH).await, kept[..1]);
    });
}
