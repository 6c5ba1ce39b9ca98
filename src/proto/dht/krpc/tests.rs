use super::*;
use crate::format::bencode::BencodeError;

/// The two nodes of BEP 5's examples.
const ASKER: NodeId = NodeId(*b"abcdefghij0123456789");
const ANSWERER: NodeId = NodeId(*b"mnopqrstuvwxyz123456");

fn read(datagram: impl AsRef<[u8]>) -> Message {
    decode(datagram.as_ref()).unwrap()
}

fn transaction(bytes: &[u8]) -> Transaction {
    Transaction(bytes.to_vec())
}

fn asked(query: Query) -> Message {
    Message {
        transaction: transaction(b"aa"),
        body: Body::Query {
            from: ASKER,
            read_only: false,
            query,
        },
    }
}

fn answered(reply: Reply) -> Message {
    Message {
        transaction: transaction(b"aa"),
        body: Body::Reply {
            from: ANSWERER,
            observed: None,
            reply,
        },
    }
}

fn reply(datagram: impl AsRef<[u8]>) -> Reply {
    match read(datagram).body {
        Body::Reply { reply, .. } => reply,
        other => panic!("{other:?} is no reply"),
    }
}

/// `values` as the reply of [`ANSWERER`].
fn reply_with(values: &[u8]) -> Vec<u8> {
    [
        b"d1:rd2:id20:mnopqrstuvwxyz123456",
        values,
        b"e1:t2:aa1:y1:re",
    ]
    .concat()
}

/// What we write is what BEP 5 has, with our version added.
fn is_written_as(message: &Message, datagram: &str) {
    let (head, tail) = datagram.rsplit_once("1:y1:").unwrap();
    let expected = [
        head.as_bytes(),
        b"1:v4:SB\x00\x01",
        b"1:y1:",
        tail.as_bytes(),
    ]
    .concat();
    assert_eq!(
        encode(message).escape_ascii().to_string(),
        expected.escape_ascii().to_string()
    );
}

#[test]
fn the_examples_of_bep_5_are_read_and_written() {
    let info_hash = InfoHash(*b"mnopqrstuvwxyz123456");
    let queries = [
        (
            "d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe",
            Query::Ping,
        ),
        (
            "d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
            Query::FindNode {
                target: ANSWERER,
                want: Want::default(),
            },
        ),
        (
            "d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
            Query::GetPeers {
                info_hash,
                want: Want::default(),
                scrape: false,
                no_seeds: false,
            },
        ),
        (
            "d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
            Query::Announce {
                info_hash,
                port: NonZeroU16::new(6881),
                token: Token(b"aoeusnth".to_vec()),
                seed: false,
            },
        ),
    ];
    for (datagram, query) in queries {
        assert_eq!(read(datagram), asked(query.clone()));
        is_written_as(&asked(query), datagram);
    }
    let replies = [
        (
            "d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re",
            Reply::default(),
        ),
        (
            "d1:rd2:id20:mnopqrstuvwxyz1234565:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
            Reply {
                token: Some(Token(b"aoeusnth".to_vec())),
                peers: vec![
                    "97.120.106.101:11893".parse().unwrap(),
                    "105.100.104.116:28269".parse().unwrap(),
                ],
                ..Reply::default()
            },
        ),
    ];
    for (datagram, reply) in replies {
        assert_eq!(read(datagram), answered(reply.clone()));
        is_written_as(&answered(reply), datagram);
    }
    let error = "d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee";
    let body = Body::Error {
        code: 201,
        text: "A Generic Error Ocurred".into(),
    };
    assert_eq!(read(error).body, body);
    let transaction = transaction(b"aa");
    is_written_as(&Message { transaction, body }, error);
}

#[test]
fn an_implied_port_goes_before_the_one_that_is_told() {
    let port = |arguments: &str| {
        let datagram = format!(
            "d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456{arguments}5:token1:xe1:q13:announce_peer1:t2:aa1:y1:qe"
        );
        decode(datagram.as_bytes()).map(|message| match message.body {
            Body::Query {
                query: Query::Announce { port, .. },
                ..
            } => port,
            other => panic!("{other:?} is no announcement"),
        })
    };
    assert_eq!(port("12:implied_porti1e4:porti6881e"), Ok(None));
    assert_eq!(port("12:implied_porti1e"), Ok(None));
    assert_eq!(
        port("12:implied_porti0e4:porti6881e"),
        Ok(NonZeroU16::new(6881))
    );
    for bad in [
        "",
        "4:porti0e",
        "4:porti65536e",
        "4:porti-1e",
        "4:port4:6881",
    ] {
        let malformed = DecodeError::Malformed {
            field: "port",
            asked: Some(transaction(b"aa")),
        };
        assert_eq!(port(bad), Err(malformed), "{bad}");
    }
}

#[test]
fn an_unknown_method_that_names_a_point_asks_for_contacts() {
    for key in ["6:target", "9:info_hash"] {
        let datagram = format!(
            "d1:ad2:id20:abcdefghij0123456789{key}20:mnopqrstuvwxyz123456e1:q4:seek1:t2:aa1:y1:qe"
        );
        let want = Want::default();
        let query = Query::FindNode {
            target: ANSWERER,
            want,
        };
        assert_eq!(read(datagram), asked(query));
    }
}

#[test]
fn a_query_that_is_not_understood_is_answered_with_an_error_of_its_transaction() {
    let cases = [
        (
            "d1:ad2:id20:abcdefghij0123456789e1:q4:vote1:t2:aa1:y1:qe",
            Some(204),
        ),
        (
            "d1:ad2:id20:abcdefghij0123456789e1:q9:find_node1:t2:aa1:y1:qe",
            Some(203),
        ),
        (
            "d1:ad2:id19:abcdefghij012345678e1:q4:ping1:t2:aa1:y1:qe",
            Some(203),
        ),
        ("d1:q4:ping1:t2:aa1:y1:qe", Some(203)),
        ("d1:ad2:id20:abcdefghij0123456789e1:t2:aa1:y1:qe", Some(203)),
        // No more is a reply answered, nor what has no transaction or one that is too long.
        ("d1:rd2:id3:abce1:t2:aa1:y1:re", None),
        ("d1:t2:aa1:y1:re", None),
        ("d1:ad2:id20:abcdefghij0123456789e1:q4:vote1:y1:qe", None),
        (
            "d1:q4:vote1:t33:0123456789012345678901234567890121:y1:qe",
            None,
        ),
        ("d1:t2:aa1:y1:xe", None),
        ("d1:t2:aae", None),
        ("de", None),
        ("d1:a", None),
        ("", None),
    ];
    for (datagram, code) in cases {
        let answer = decode(datagram.as_bytes()).unwrap_err().answer();
        assert_eq!(answer.is_some(), code.is_some(), "{datagram}");
        let Some(answer) = answer else { continue };
        assert_eq!(answer.transaction, transaction(b"aa"));
        assert!(matches!(answer.body, Body::Error { code: told, .. } if Some(told) == code));
        assert!(
            encode(&answer).len() < 60,
            "an error is no larger than a query"
        );
    }
}

#[test]
fn what_nodes_in_use_get_wrong_is_read() {
    let ping = asked(Query::Ping);
    for datagram in [
        "d1:y1:q1:t2:aa1:q4:ping1:ad2:id20:abcdefghij0123456789ee",
        "d1:ad2:id20:abcdefghij01234567895:extrali1eee1:q4:ping1:t2:aa1:v4:LT\x01\x021:y1:q2:zzdee",
        "d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe\0\r\n",
    ] {
        assert_eq!(read(datagram), ping, "{datagram}");
    }
    let two: Vec<SocketAddr> = vec![
        "97.120.106.101:11893".parse().unwrap(),
        "105.100.104.116:28269".parse().unwrap(),
    ];
    for values in [
        "12:axje.uidhtnm",
        "l12:axje.uidhtnme",
        "13:axje.uidhtnmx",
        "l6:axje.ui7e3:abc6:idhtnme",
    ] {
        let datagram = reply_with(format!("6:values{values}").as_bytes());
        assert_eq!(reply(datagram).peers, two, "{values}");
    }
    for values in [
        "6:valuesi7e",
        "5:nodesi7e",
        "5:token65:01234567890123456789012345678901234567890123456789012345678901234",
        "7:samplesle",
        "4:BFsd3:abc4:BFpe3:abc",
    ] {
        assert_eq!(
            reply(reply_with(values.as_bytes())),
            Reply::default(),
            "{values}"
        );
    }
}

#[test]
fn errors_are_read_in_every_shape_without_control_characters() {
    let error = |e: &str| match read(format!("d1:e{e}1:t2:aa1:y1:ee")).body {
        Body::Error { code, text } => (code, text),
        other => panic!("{other:?} is no error"),
    };
    assert_eq!(error("li203e5:wronge"), (203, "wrong".into()));
    assert_eq!(error("l5:wrongi203ee"), (203, "wrong".into()));
    assert_eq!(error("5:wrong"), (201, "wrong".into()));
    assert_eq!(error("i203e"), (201, String::new()));
    assert_eq!(error("l6:a\x1b[1mbe"), (201, "a[1mb".into()));
    assert_eq!(
        read("d1:t2:aa1:y1:ee").body,
        Body::Error {
            code: 201,
            text: String::new()
        }
    );
}

#[test]
fn contacts_and_peers_of_both_families_are_kept_apart() {
    let v4 = Contact {
        id: ASKER,
        addr: "1.2.3.4:6881".parse().unwrap(),
    };
    let v6 = Contact {
        id: ANSWERER,
        addr: "[2001:db8::1]:6882".parse().unwrap(),
    };
    let sent = Reply {
        nodes: vec![v6, v4],
        peers: vec![v6.addr, v4.addr],
        ..Reply::default()
    };
    let got = reply(encode(&answered(sent.clone())));
    assert_eq!(got.nodes, [v4, v6]);
    assert_eq!(got.peers, sent.peers);
}

#[test]
fn addresses_without_a_port_are_left_out_both_ways() {
    let nowhere: SocketAddr = "1.2.3.4:0".parse().unwrap();
    let contact = |addr| Contact { id: ASKER, addr };
    let there: SocketAddr = "1.2.3.4:1".parse().unwrap();
    let sent = Reply {
        nodes: vec![contact(nowhere), contact(there)],
        peers: vec![nowhere, there],
        ..Reply::default()
    };
    let got = reply(encode(&answered(sent)));
    assert_eq!((got.nodes, got.peers), (vec![contact(there)], vec![there]));

    let raw = [
        b"5:nodes26:",
        ASKER.as_bytes().as_slice(),
        &[1, 2, 3, 4, 0, 0],
        b"6:valuesl6:",
        &[1, 2, 3, 4, 0, 0],
        b"e",
    ];
    assert_eq!(reply(reply_with(&raw.concat())), Reply::default());
}

#[test]
fn the_observed_address_is_found_where_old_nodes_put_it() {
    let expected: SocketAddr = "1.2.3.4:258".parse().unwrap();
    let ip = b"2:ip6:\x01\x02\x03\x04\x01\x02";
    let new = [
        b"d",
        ip.as_slice(),
        b"1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re",
    ]
    .concat();
    for datagram in [new, reply_with(ip)] {
        assert!(
            matches!(read(datagram).body, Body::Reply { observed: Some(addr), .. } if addr == expected)
        );
    }
}

#[test]
fn a_reply_of_several_tools_keeps_no_more_than_the_bounds() {
    let nodes = [7; 26 * (NODES_READ_MAX + 5) + 3];
    let raw = [format!("5:nodes{}:", nodes.len()).as_bytes(), &nodes].concat();
    assert_eq!(reply(reply_with(&raw)).nodes.len(), NODES_READ_MAX);

    let peers = [7; 6 * (DHT_PEERS_MAX + 5)];
    let raw = [format!("6:values{}:", peers.len()).as_bytes(), &peers].concat();
    assert_eq!(reply(reply_with(&raw)).peers.len(), DHT_PEERS_MAX);

    let hashes = [7; 20 * (SAMPLES_MAX + 5)];
    let raw = [
        format!(
            "8:intervali-5e3:numi{}e7:samples{}:",
            i64::MAX,
            hashes.len()
        )
        .as_bytes(),
        &hashes,
    ]
    .concat();
    let samples = reply(reply_with(&raw)).samples.unwrap();
    assert_eq!(
        (samples.hashes.len(), samples.interval, samples.total),
        (SAMPLES_MAX, 0, u32::MAX)
    );

    assert_eq!(
        decode(&[b'd'; KRPC_MAX + 1]),
        Err(DecodeError::TooLong {
            len: KRPC_MAX + 1,
            max: KRPC_MAX
        })
    );
    assert_eq!(decode(b"4:ping"), Err(DecodeError::NoTransaction));
    assert_eq!(
        decode(b"d"),
        Err(DecodeError::NotBencode(BencodeError::Truncated { at: 1 }))
    );
}

#[test]
fn what_other_clients_were_heard_to_say_is_read() {
    // libtorrent 2.1 tells its port once more, and wraps errors into replies.
    let head = b"d2:ip6:\x7f\0\0\x01\xd2\x0f1:rd2:id20:mnopqrstuvwxyz123456".as_slice();
    let tail = b"1:t2:aa1:v4:LT\x02\x111:y1:re";
    let sample = b"8:intervali21600e5:nodes26:abcdefghij0123456789\x7f\0\0\x01\xd2\x0f3:numi1e1:pi53775e7:samples20:mnopqrstuvwxyz123456e";
    let us: SocketAddr = "127.0.0.1:53775".parse().unwrap();
    let heard = Message {
        transaction: transaction(b"aa"),
        body: Body::Reply {
            from: ANSWERER,
            observed: Some(us),
            reply: Reply {
                nodes: vec![Contact {
                    id: ASKER,
                    addr: us,
                }],
                samples: Some(Samples {
                    interval: 21_600,
                    total: 1,
                    hashes: vec![ANSWERER.into()],
                }),
                ..Reply::default()
            },
        },
    };
    assert_eq!(read([head, sample, tail].concat()), heard);
    let error = b"d1:eli203e15:unknown messagee2:ip6:\x7f\0\0\x01\xd2\x0f1:rd2:id20:mnopqrstuvwxyz1234561:pi53775ee1:t2:aa1:v4:LT\x02\x111:y1:ee";
    let body = Body::Error {
        code: 203,
        text: "unknown message".into(),
    };
    assert_eq!(read(error).body, body);
    // The crate mainline says that it is not read-only, and that its port is not implied.
    let announce = read(
        "d1:ad2:id20:abcdefghij012345678912:implied_porti0e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token4:wxyze1:q13:announce_peer2:roi0e1:t4:\0\0\x01\x021:v4:RS\0\x051:y1:qe",
    );
    let query = Query::Announce {
        info_hash: ANSWERER.into(),
        port: NonZeroU16::new(6881),
        token: Token(b"wxyz".to_vec()),
        seed: false,
    };
    let expected = Message {
        transaction: transaction(&[0, 0, 1, 2]),
        ..asked(query)
    };
    assert_eq!(announce, expected);
}
