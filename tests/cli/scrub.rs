//! `seed --scrub`.

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Running, World, bytes};

#[test]
fn a_scrub_is_told_of_and_remembered() {
    let world = World::new();
    world.file("p", &bytes(300_000, 1));
    let network = [
        "--tcp-listen",
        "127.0.0.1:0",
        "--dht-listen",
        "",
        "--state",
        "state",
    ];
    let seed = [
        &["seed", "p", "--scrub", "1s", "--log", "json"],
        &network[..],
    ]
    .concat();
    let mut seeder = Running::start(world.command(&seed));
    let event = seeder.wait_for("scrubbed");
    assert_eq!((&event["pieces"], &event["bad"]), (&2.into(), &0.into()));
    assert_eq!(event["bytes"], 300_000);
    assert!(event["seconds"].is_u64() && event["info_hash"].is_string());
    seeder.signal(Signal::TERM);
    seeder.end();
    let listed = world.ok(&["state", "list", "--json", "--state", "state"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let when = listed[0]["scrubbed"].as_str().unwrap();
    assert!(when.parse::<jiff::Timestamp>().is_ok(), "{when}");
    let listed = world.ok(&["state", "list", "--state", "state"]);
    assert!(listed.contains("(scrubbed "), "{listed}");
    let refused = world.run(&["seed", "p", "--scrub", "soon"]);
    assert_eq!(refused.code, 28);
    assert!(
        refused.stderr.contains("7d, 12h, 30m"),
        "{}",
        refused.stderr
    );
}
