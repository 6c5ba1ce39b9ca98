use super::*;

const TARGET: NodeId = NodeId([0; 20]);

/// A contact at distance `distance`, in a network of its own.
fn contact(distance: u32) -> Contact {
    let mut id = [0; 20];
    id[..4].copy_from_slice(&distance.to_be_bytes());
    let [a, b, c, d] = distance.to_be_bytes();
    let ip = [80 + a, b, c, d];
    // Contacts a multiple of 256 apart differ in more than the last byte.
    Contact {
        id: NodeId(id),
        addr: (ip, 6881).into(),
    }
}

fn far(distance: u32) -> Contact {
    contact(distance << 8)
}

fn lookup(goal: Goal, known: impl IntoIterator<Item = u32>) -> Lookup {
    let mut lookup = Lookup::new(TARGET, goal);
    for distance in known {
        lookup.offer(far(distance), Dialects::from(Dialect::Krpc));
    }
    lookup
}

fn asked(lookup: &mut Lookup) -> Vec<SocketAddr> {
    std::iter::from_fn(|| lookup.next_ask().map(|ask| ask.contact.addr)).collect()
}

fn reply(lookup: &mut Lookup, from: Contact, nodes: &[Contact]) {
    lookup.on_reply(from.addr, Dialect::Krpc, Some(Token(vec![1])), nodes);
}

#[test]
fn the_closest_are_asked_first_and_a_few_at_once() {
    let mut lookup = lookup(Goal::Closest, [5, 3, 9, 1, 7]);
    assert_eq!(asked(&mut lookup), [far(1).addr, far(3).addr, far(5).addr]);
    assert!(!lookup.is_done());
    lookup.on_stall(far(1).addr);
    assert_eq!(asked(&mut lookup), [far(7).addr]);
}

#[test]
fn a_walk_ends_when_the_closest_has_answered_and_names_nobody_closer() {
    let mut lookup = lookup(Goal::Closest, [50, 60, 70]);
    asked(&mut lookup);
    reply(&mut lookup, far(50), &[far(2), far(90)]);
    assert!(!lookup.is_done());
    assert_eq!(asked(&mut lookup), [far(2).addr]);
    reply(&mut lookup, far(2), &[far(50), far(60)]);
    assert!(lookup.is_done());
    assert!(asked(&mut lookup).is_empty());
    let closest = lookup.closest(1).next().unwrap();
    assert_eq!((closest.contact, closest.hops), (far(2), 2));
}

#[test]
fn neighbours_are_found_when_the_eight_closest_have_answered() {
    let mut lookup = lookup(Goal::Neighbours, 1..=12);
    let mut answers = 0;
    while !lookup.is_done() {
        for addr in asked(&mut lookup) {
            lookup.on_reply(addr, Dialect::Krpc, None, &[]);
            answers += 1;
        }
    }
    assert_eq!(answers, 8);
    let closest: Vec<Contact> = lookup.closest(K).map(|node| node.contact).collect();
    assert_eq!(closest, (1..=8).map(far).collect::<Vec<_>>());
}

#[test]
fn a_silent_neighbour_is_asked_once_more_when_nobody_else_is_left() {
    let mut lookup = lookup(Goal::Neighbours, [1, 2, 3, 4]);
    assert_eq!(asked(&mut lookup).len(), ALPHA);
    lookup.on_stall(far(1).addr);
    assert_eq!(asked(&mut lookup), [far(4).addr], "others first");
    for distance in [2, 3, 4] {
        reply(&mut lookup, far(distance), &[]);
    }
    assert_eq!(asked(&mut lookup), [far(1).addr]);
    lookup.on_stall(far(1).addr);
    assert!(asked(&mut lookup).is_empty(), "twice is enough");
    assert!(!lookup.is_done());
    lookup.on_give_up(far(1).addr);
    assert!(lookup.is_done());
}

#[test]
fn a_late_answer_still_counts() {
    let mut lookup = lookup(Goal::Closest, [1, 2]);
    asked(&mut lookup);
    lookup.on_stall(far(1).addr);
    reply(&mut lookup, far(2), &[]);
    assert!(
        !lookup.is_done(),
        "a slow node that is closer may answer yet"
    );
    lookup.on_give_up(far(1).addr);
    assert!(lookup.is_done(), "but not for ever");
    reply(&mut lookup, far(1), &[]);
    assert_eq!(lookup.closest(1).next().unwrap().contact, far(1));
}

#[test]
fn a_lookup_in_which_nobody_answers_in_time_waits_for_the_late() {
    let mut lookup = lookup(Goal::Neighbours, [1, 2]);
    asked(&mut lookup);
    for distance in [1, 2] {
        lookup.on_stall(far(distance).addr);
        lookup.on_give_up(far(distance).addr);
    }
    assert!(!lookup.is_done());
    lookup.on_failure(far(1).addr);
    lookup.on_failure(far(2).addr);
    assert!(lookup.is_done());
}

#[test]
fn made_up_nodes_next_to_the_target_do_not_keep_a_lookup_from_ending() {
    let mut lookup = lookup(Goal::Neighbours, (1_000..1_010).chain([900]));
    let liar = far(900);
    let mut lies = 1;
    let mut silent = 0;
    while !lookup.is_done() {
        for addr in asked(&mut lookup) {
            if addr == liar.addr {
                let named: Vec<Contact> = (lies..lies + 100).map(far).collect();
                lies += 100;
                reply(&mut lookup, liar, &named);
            } else if (1_000..1_010).any(|honest| far(honest).addr == addr) {
                lookup.on_reply(addr, Dialect::Krpc, None, &[]);
            } else {
                silent += 1;
                lookup.on_failure(addr);
            }
        }
    }
    assert!(
        silent <= usize::from(SILENT_MAX) + K,
        "{silent} lies were followed"
    );
    let honest = lookup.closest(K).filter(|node| node.contact != liar);
    assert_eq!(honest.count(), K - 1);
}

#[test]
fn one_network_of_the_internet_has_one_candidate_at_most() {
    let mut lookup = lookup(Goal::Neighbours, [5_000]);
    asked(&mut lookup);
    let neighbours: Vec<Contact> = (1..=8)
        .map(|host| Contact {
            addr: ([66, 66, 66, host], 6881).into(),
            ..far(u32::from(host))
        })
        .collect();
    reply(&mut lookup, far(5_000), &neighbours);
    assert_eq!(asked(&mut lookup), [neighbours[0].addr]);
}

#[test]
fn whole_networks_on_one_machine_can_be_walked() {
    let at = |port: u16| Contact {
        addr: ([127, 0, 0, 1], port).into(),
        ..far(u32::from(port))
    };
    let mut lookup = Lookup::new(TARGET, Goal::Neighbours);
    lookup.offer(at(5_000), Dialects::from(Dialect::Krpc));
    asked(&mut lookup);
    let neighbours: Vec<Contact> = (1..=8).map(at).collect();
    reply(&mut lookup, at(5_000), &neighbours);
    assert_eq!(asked(&mut lookup).len(), ALPHA);
}

#[test]
fn nodes_that_tell_of_local_addresses_or_of_themselves_are_not_believed() {
    let mut lookup = lookup(Goal::Neighbours, [5_000]);
    asked(&mut lookup);
    let named = [
        Contact {
            addr: ([127, 0, 0, 1], 6881).into(),
            ..far(1)
        },
        Contact {
            addr: ([80, 1, 1, 1], 0).into(),
            ..far(2)
        },
        Contact {
            addr: far(5_000).addr,
            ..far(3)
        },
    ];
    reply(&mut lookup, far(5_000), &named);
    assert!(asked(&mut lookup).is_empty());
    assert!(lookup.is_done());
}

#[test]
fn no_lookup_asks_or_remembers_without_bound() {
    let mut lookup = lookup(Goal::Neighbours, [1 << 21]);
    let mut next = 1 << 20;
    let mut count = 0;
    while !lookup.is_done() {
        for addr in asked(&mut lookup) {
            count += 1;
            next -= 10;
            // Everybody answers, and everybody names closer ones.
            let named: Vec<Contact> = (next..next + 8).map(far).collect();
            lookup.on_reply(addr, Dialect::Krpc, None, &named);
            assert!(lookup.candidates.len() <= LOOKUP_CANDIDATES_MAX + 1);
        }
    }
    assert_eq!(count, LOOKUP_QUERIES_MAX);
}

#[test]
fn an_answer_from_outside_does_not_prove_another_id_at_its_address() {
    let mut lookup = lookup(Goal::Closest, [2]);
    asked(&mut lookup);
    let honest = Contact {
        addr: far(2).addr,
        ..far(7)
    };
    lookup.offer_answer(honest, Dialect::Krpc, &[]);
    assert_eq!(lookup.closest(K).count(), 0);
    lookup.offer_answer(far(2), Dialect::Krpc, &[]);
    assert_eq!(lookup.closest(K).next().unwrap().contact, far(2));
}

/// A made-up id, closer than all others, at the address of an honest node.
fn impostor(honest: Contact, id: u32) -> Contact {
    Contact {
        addr: honest.addr,
        ..far(id)
    }
}

#[test]
fn a_node_that_was_named_under_a_made_up_id_is_found_under_its_own() {
    let mut lookup = lookup(Goal::Neighbours, [50]);
    asked(&mut lookup);
    reply(&mut lookup, far(50), &[impostor(far(9), 1)]);
    assert_eq!(asked(&mut lookup), [far(9).addr]);
    lookup.on_other(far(9), Dialect::Krpc);
    assert!(!lookup.is_done());
    assert_eq!(asked(&mut lookup), [far(9).addr]);
    reply(&mut lookup, far(9), &[]);
    assert!(lookup.is_done());
    assert_eq!(lookup.closest(1).next().unwrap().contact, far(9));
}

#[test]
fn a_node_that_answers_under_ever_other_ids_is_asked_twice() {
    let mut lookup = lookup(Goal::Neighbours, [50]);
    let mut ids = 1..;
    let mut questions = 0;
    while let Some(ask) = lookup.next_ask() {
        questions += 1;
        lookup.on_other(impostor(ask.contact, ids.next().unwrap()), Dialect::Krpc);
    }
    assert_eq!(questions, 2);
    assert!(lookup.is_done());
}

#[test]
fn a_made_up_id_gives_way_to_what_others_say_of_its_address() {
    for (made_up, silent) in [(1, true), (90, false)] {
        let mut lookup = lookup(Goal::Neighbours, [50, 60]);
        asked(&mut lookup);
        reply(&mut lookup, far(50), &[impostor(far(9), made_up)]);
        if silent {
            assert_eq!(asked(&mut lookup), [far(9).addr]);
            lookup.on_failure(far(9).addr);
        }
        reply(&mut lookup, far(60), &[far(9)]);
        let known = lookup.candidates.iter().find(|c| c.contact == far(9));
        assert_eq!(known.map(|c| c.state.has_answered()), Some(false));
        assert_eq!(lookup.candidates.len(), 3);
        let next = asked(&mut lookup);
        assert!(next.contains(&far(9).addr), "{next:?}");
        reply(&mut lookup, far(9), &[]);
        assert!(lookup.closest(K).any(|node| node.contact == far(9)));
    }
}
