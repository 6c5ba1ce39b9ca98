use super::*;

const ASKER: &str = "0102030405060708090a0b0c0d0e0f1011121314";
const TORRENT: &str = "ffffffffffffffffffffffffffffffffffffffff";

fn id(digits: &str) -> InfoHash {
    digits.parse().unwrap()
}

/// A message of the type, with more fields, as the format's own text has them.
fn text(r#type: &str, fields: &str) -> String {
    format!(r#"{{"type":"{type}","t":"0a0b","id":"{ASKER}"{fields}}}"#)
}

fn read(r#type: &str, fields: &str) -> Result<Message, DecodeError> {
    decode(text(r#type, fields).as_bytes())
}

fn said(body: Body) -> Message {
    Message {
        transaction: Transaction(vec![10, 11]),
        body,
    }
}

fn asked(asked: Query) -> Message {
    said(query(id(ASKER).into(), asked))
}

fn answered(observed: Option<&str>, reply: Reply) -> Message {
    said(Body::Reply {
        from: id(ASKER).into(),
        observed: observed.map(|addr| addr.parse().unwrap()),
        reply,
    })
}

fn get_peers() -> Query {
    Query::GetPeers {
        info_hash: id(TORRENT),
        want: Want::default(),
        scrape: false,
        no_seeds: false,
    }
}

#[test]
fn the_five_messages_are_read_and_written() {
    let about = Some(id(TORRENT));
    let announce = Query::Announce {
        info_hash: id(TORRENT),
        port: NonZeroU16::new(6881),
        token: Token(vec![0xbe, 0xef]),
        seed: false,
    };
    let contact = Contact {
        id: id(TORRENT).into(),
        addr: "[2001:db8::1]:6882".parse().unwrap(),
    };
    let found = Reply {
        about,
        nodes: vec![contact],
        peers: vec!["1.2.3.4:6881".parse().unwrap()],
        token: Some(Token(vec![0xbe, 0xef])),
        ..Reply::default()
    };
    let torrent = format!(r#","info_hash":"{TORRENT}""#);
    let peers = format!(
        r#"{torrent},"peers":["1.2.3.4:6881"],"nodes":[{{"id":"{TORRENT}","addr":"[2001:db8::1]:6882"}}],"token":"beef""#
    );
    let cases = [
        ("ping", String::new(), asked(Query::Ping)),
        ("findPeers", torrent.clone(), asked(get_peers())),
        (
            "announce",
            format!(r#"{torrent},"port":6881,"token":"beef""#),
            asked(announce),
        ),
        (
            "pong",
            r#","addr":"1.2.3.4:5""#.into(),
            answered(Some("1.2.3.4:5"), Reply::default()),
        ),
        ("pong", String::new(), answered(None, Reply::default())),
        ("peers", peers, answered(None, found)),
    ];
    for (r#type, fields, message) in cases {
        assert_eq!(read(r#type, &fields), Ok(message.clone()));
        assert_eq!(
            String::from_utf8(encode(&message)).unwrap(),
            text(r#type, &fields)
        );
    }
}

#[test]
fn what_the_dialect_has_no_word_for_asks_for_peers_or_is_not_said() {
    let want = Want { v4: true, v6: true };
    let target = NodeId::from(id(TORRENT));
    for query in [
        Query::FindNode { target, want },
        Query::Sample { target, want },
    ] {
        assert_eq!(decode(&encode(&asked(query))), Ok(asked(get_peers())));
    }
    let implied = Query::Announce {
        info_hash: id(TORRENT),
        port: None,
        token: Token::default(),
        seed: true,
    };
    assert_eq!(encode(&asked(implied)), b"");
    let error = Body::Error {
        code: 201,
        text: "no".into(),
    };
    assert_eq!(encode(&said(error)), b"");
}

#[test]
fn an_announcement_without_a_usable_token_has_an_empty_one() {
    let long = "00".repeat(TOKEN_MAX + 1);
    for token in [
        "",
        r#","token":"xyz""#,
        r#","token":null"#,
        &format!(r#","token":"{long}""#),
    ] {
        let fields = format!(r#","info_hash":"{TORRENT}","port":1{token}"#);
        let Body::Query {
            query: Query::Announce { token, .. },
            ..
        } = read("announce", &fields).unwrap().body
        else {
            panic!("it is an announcement");
        };
        assert_eq!(token, Token::default());
    }
}

#[test]
fn an_entry_that_makes_no_sense_does_not_cost_the_others() {
    let fields = format!(
        r#","info_hash":"{TORRENT}","peers":[7,"1.2.3.4:1",null,"example.com:80","1.2.3.4","1.2.3.4:0",["1.2.3.4:2"],{{"a":[[]]}},"1.2.3.4:65536","\u005b::1]:3","[::ffff:1.2.3.4]:4"],"nodes":["x",{{"id":"{ASKER}"}},{{"id":"{ASKER}","addr":"1.2.3.4:5","age":[1]}},{{"id":"00","addr":"1.2.3.4:6"}},{{"id":"{ASKER}","addr":"router.example:6"}}],"token":"xyz","addr":[],"zzz":{{}}"#
    );
    let Body::Reply {
        reply,
        observed: None,
        ..
    } = read("peers", &fields).unwrap().body
    else {
        panic!("it is a reply that observes nothing");
    };
    let texts =
        |addrs: Vec<SocketAddr>| addrs.iter().map(SocketAddr::to_string).collect::<Vec<_>>();
    assert_eq!(texts(reply.peers), ["1.2.3.4:1", "[::1]:3", "1.2.3.4:4"]);
    assert_eq!(
        texts(reply.nodes.iter().map(|node| node.addr).collect()),
        ["1.2.3.4:5"]
    );
    assert_eq!(reply.token, None);
}

#[test]
fn what_is_no_message_is_refused_with_the_reason() {
    let malformed = |field| Err(DecodeError::Malformed { field, asked: None });
    assert_eq!(read("findPeers", ""), malformed("info_hash"));
    assert_eq!(
        read("findPeers", r#","info_hash":"00""#),
        malformed("info_hash")
    );
    let torrent = format!(r#","info_hash":"{TORRENT}""#);
    assert_eq!(read("announce", &torrent), malformed("port"));
    assert_eq!(
        read("announce", &format!(r#"{torrent},"port":0"#)),
        malformed("port")
    );
    assert_eq!(read("findNode", &torrent), Err(DecodeError::UnknownType));
    assert_eq!(decode(br#"{"type":"ping","t":"00"}"#), malformed("id"));
    for t in [
        "",
        r#","t":"0""#,
        r#","t":"zz""#,
        &format!(r#","t":"{}""#, "00".repeat(TRANSACTION_MAX + 1)),
    ] {
        let datagram = format!(r#"{{"type":"ping","id":"{ASKER}"{t}}}"#);
        assert_eq!(
            decode(datagram.as_bytes()),
            Err(DecodeError::NoTransaction),
            "{t}"
        );
    }
    let error = read("announce", &format!(r#"{torrent},"port":65536"#)).unwrap_err();
    assert!(matches!(error, DecodeError::NotJson { .. }));
    assert_eq!(error.answer(), None);
    assert_eq!(
        decode(b"{\n\"type\" 5}"),
        Err(DecodeError::NotJson { at: 10 })
    );
    for list in [r#"["ping"]"#, "", " {}", "{}x", "{"] {
        assert!(
            matches!(decode(list.as_bytes()), Err(DecodeError::NotJson { .. })),
            "{list}"
        );
    }
    assert!(
        matches!(
            read("ping", r#","t":"00""#),
            Err(DecodeError::NotJson { .. })
        ),
        "a field twice"
    );
    let deep = format!(r#","peers":{}{}"#, "[".repeat(600), "]".repeat(600));
    assert!(matches!(
        read("peers", &deep),
        Err(DecodeError::NotJson { .. })
    ));
    assert_eq!(
        decode(&[b'{'; DATAGRAM_MAX + 1]),
        Err(DecodeError::TooLong {
            len: DATAGRAM_MAX + 1,
            max: DATAGRAM_MAX
        })
    );
}

#[test]
fn at_most_eight_contacts_are_written() {
    let contact = |port: u16| Contact {
        id: id(TORRENT).into(),
        addr: ([1, 2, 3, 4], port).into(),
    };
    let mut mixed: Vec<_> = (1..=6).map(contact).collect();
    mixed.extend((1..=6).map(|port| Contact {
        addr: ([1; 8], port).into(),
        ..contact(1)
    }));
    let reply = Reply {
        about: Some(id(TORRENT)),
        nodes: mixed.clone(),
        ..Reply::default()
    };
    let Body::Reply { reply, .. } = decode(&encode(&answered(None, reply))).unwrap().body else {
        panic!("it is a reply");
    };
    assert_eq!(reply.nodes, mixed[..NODES_WRITTEN_MAX]);
}
