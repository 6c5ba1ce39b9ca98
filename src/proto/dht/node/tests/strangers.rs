//! A node among others that do what they like.

use super::*;

/// What the others do with a question.
type Answer<'a> = &'a mut dyn FnMut(SocketAddr, Dialect, Message) -> Vec<(Dialect, Message)>;

/// Lets a node run among strangers for a while.
fn run(node: &mut Node, now: &mut Instant, seconds: f64, answer: Answer<'_>) -> Vec<Output> {
    let mut told = Vec::new();
    for _ in 0..(seconds * 100.0) as u32 {
        node.handle_timeout(*now);
        while let Some(output) = node.poll() {
            let Output::Send { to, datagram } = output else {
                told.push(output);
                continue;
            };
            let (dialect, asked) = decode(&datagram).unwrap();
            for (dialect, back) in answer(to, dialect, asked) {
                node.on_datagram(*now, to, &encode(dialect, &back));
            }
        }
        *now += Duration::from_millis(10);
    }
    told
}

/// What the node at `from` replies, whose id is its port.
fn reply(from: SocketAddr, asked: &Message, reply: Reply) -> Message {
    Message {
        transaction: asked.transaction.clone(),
        body: Body::Reply {
            from: id_of(from),
            observed: None,
            reply,
        },
    }
}

fn id_of(addr: SocketAddr) -> NodeId {
    let mut id = [5; 20];
    id[..2].copy_from_slice(&addr.port().to_be_bytes());
    NodeId(id)
}

#[test]
fn a_lookup_ends_though_a_node_answers_its_steps_in_the_wrong_dialect() {
    let mut node = Node::new(Instant::now(), config(1), Vec::new());
    let mut now = node.started;
    node.add_routers(now, &[local(9_000)]);
    let search = node.search(now, TORRENT, None, true);
    let mut wrong = 0;
    let told = run(&mut node, &mut now, 90.0, &mut |to, dialect, asked| {
        let step = matches!(
            asked.body,
            Body::Query {
                query: Query::GetPeers { .. },
                ..
            }
        );
        wrong += usize::from(step);
        let dialect = if step { dialect.other() } else { dialect };
        vec![(dialect, reply(to, &asked, Reply::default()))]
    });
    assert!(wrong > 0);
    assert!(told.contains(&Output::Finished { search }), "{told:?}");
}
