//! Messages of every kind, as proptest makes them.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use proptest::collection::vec;
use proptest::prelude::*;
use seedbank::base::limits::{TOKEN_MAX, TRANSACTION_MAX};
use seedbank::base::{InfoHash, NodeId};
use seedbank::proto::dht::{
    Body, Contact, Message, Query, Reply, Samples, Scrape, Token, Transaction, Want,
};

/// How much there is of everything.
#[derive(Clone, Copy)]
pub(crate) enum Size {
    /// All of it fits one datagram in either dialect, and all addresses are sound.
    Modest,
    /// Nothing holds.
    Wild,
}

impl Size {
    fn pick(self, modest: usize, wild: usize) -> usize {
        match self {
            Self::Modest => modest,
            Self::Wild => wild,
        }
    }
}

/// Any message.
pub(crate) fn message(size: Size) -> impl Strategy<Value = Message> {
    let transaction = bytes(size.pick(TRANSACTION_MAX, 2_000)).prop_map(Transaction);
    (transaction, body(size)).prop_map(|(transaction, body)| Message { transaction, body })
}

fn body(size: Size) -> impl Strategy<Value = Body> {
    prop_oneof![
        4 => (node_id(), any::<bool>(), query(size)).prop_map(|(from, read_only, query)| Body::Query {
            from,
            read_only,
            query,
        }),
        4 => (node_id(), prop::option::of(addr(size)), reply(size)).prop_map(|(from, observed, reply)| {
            Body::Reply {
                from,
                observed,
                reply,
            }
        }),
        1 => (any::<i64>(), text(size)).prop_map(|(code, text)| Body::Error { code, text }),
    ]
}

fn text(size: Size) -> BoxedStrategy<String> {
    match size {
        Size::Modest => "[a-zé ]{0,60}".boxed(),
        Size::Wild => any::<String>().prop_map(|text| text.repeat(9)).boxed(),
    }
}

fn query(size: Size) -> impl Strategy<Value = Query> {
    let token = bytes(size.pick(TOKEN_MAX, 2_000)).prop_map(Token);
    let port = any::<u16>().prop_map(NonZeroU16::new);
    prop_oneof![
        Just(Query::Ping),
        (node_id(), want()).prop_map(|(target, want)| Query::FindNode { target, want }),
        (node_id(), want()).prop_map(|(target, want)| Query::Get { target, want }),
        (node_id(), want()).prop_map(|(target, want)| Query::Sample { target, want }),
        (info_hash(), want(), any::<bool>(), any::<bool>()).prop_map(
            |(info_hash, want, scrape, no_seeds)| Query::GetPeers {
                info_hash,
                want,
                scrape,
                no_seeds,
            }
        ),
        (info_hash(), port, token, any::<bool>()).prop_map(|(info_hash, port, token, seed)| {
            Query::Announce {
                info_hash,
                port,
                token,
                seed,
            }
        }),
    ]
}

fn reply(size: Size) -> impl Strategy<Value = Reply> {
    let contact = (node_id(), addr(size)).prop_map(|(id, addr)| Contact { id, addr });
    let samples = (
        any::<u32>(),
        any::<u32>(),
        vec(info_hash(), 0..size.pick(9, 90)),
    );
    let samples = samples.prop_map(|(interval, total, hashes)| Samples {
        interval,
        total,
        hashes,
    });
    (
        prop::option::of(info_hash()),
        vec(contact, 0..size.pick(5, 60)),
        vec(addr(size), 0..size.pick(5, 300)),
        prop::option::of(bytes(size.pick(TOKEN_MAX, 2_000)).prop_map(Token)),
        prop::option::of(scrape()),
        prop::option::of(samples),
    )
        .prop_map(|(about, nodes, peers, token, scrape, samples)| Reply {
            about,
            nodes,
            peers,
            token,
            scrape,
            samples,
        })
}

fn scrape() -> impl Strategy<Value = Box<Scrape>> {
    (any::<u8>(), any::<u8>()).prop_map(|(seeds, leechers)| {
        Box::new(Scrape {
            seeds: [seeds; 256],
            leechers: [leechers; 256],
        })
    })
}

fn addr(size: Size) -> impl Strategy<Value = SocketAddr> {
    let sound = (any::<std::net::IpAddr>(), 1u16..).prop_map(|(ip, port)| {
        let ip = ip.to_canonical();
        SocketAddr::new(ip, port)
    });
    let odd = prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(|ip| SocketAddr::new(ip.into(), 0)),
        any::<std::net::Ipv4Addr>().prop_map(|ip| SocketAddr::new(ip.to_ipv6_mapped().into(), 7)),
        any::<SocketAddr>(),
    ];
    let odd_share = size.pick(0, 1) as u32;
    prop_oneof![3 => sound, odd_share => odd]
}

fn want() -> impl Strategy<Value = Want> {
    any::<(bool, bool)>().prop_map(|(v4, v6)| Want { v4, v6 })
}

fn node_id() -> impl Strategy<Value = NodeId> {
    any::<[u8; 20]>().prop_map(NodeId)
}

fn info_hash() -> impl Strategy<Value = InfoHash> {
    any::<[u8; 20]>().prop_map(InfoHash)
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=max)
}
