//! Datagrams of the mainline DHT: the questions that come most, and the largest answer that is usual.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use seedbank::base::{InfoHash, NodeId};
use seedbank::proto::dht::krpc::{decode, encode};
use seedbank::proto::dht::message::{
    Body, Contact, Message, Query, Reply, Token, Transaction, Want,
};

fn message(body: Body) -> Message {
    let transaction = Transaction(b"aa".to_vec());
    Message { transaction, body }
}

fn question(query: Query) -> Message {
    message(Body::Query {
        from: NodeId([1; 20]),
        read_only: false,
        query,
    })
}

/// Eight nodes, fifty peers and a token.
fn answer() -> Message {
    let addr = |n: u8| ([203, 0, 113, n], 6881).into();
    let contact = |n| Contact {
        id: NodeId([n; 20]),
        addr: addr(n),
    };
    message(Body::Reply {
        from: NodeId([2; 20]),
        observed: Some(addr(200)),
        reply: Reply {
            nodes: (1..=8).map(contact).collect(),
            peers: (1..=50).map(addr).collect(),
            token: Some(Token(vec![3; 8])),
            ..Reply::default()
        },
    })
}

fn krpc(criterion: &mut Criterion) {
    let ping = question(Query::Ping);
    let get_peers = question(Query::GetPeers {
        info_hash: InfoHash([4; 20]),
        want: Want::default(),
        scrape: false,
        no_seeds: false,
    });
    let messages = [
        ("ping", ping),
        ("get_peers", get_peers),
        ("answer with 50 peers", answer()),
    ];
    let mut group = criterion.benchmark_group("krpc");
    for (name, message) in messages {
        let bytes = encode(&message);
        assert_eq!(decode(&bytes).unwrap(), message);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("encode {name}"), |bencher| {
            bencher.iter(|| encode(&message));
        });
        group.bench_function(format!("decode {name}"), |bencher| {
            bencher.iter(|| decode(&bytes).unwrap());
        });
    }
}

criterion_group!(benches, krpc);
criterion_main!(benches);
