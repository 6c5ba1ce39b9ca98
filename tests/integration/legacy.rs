//! The original client's commands run as they were written: one dash, no subcommand.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::payload::{self, MIB};
use crate::common::seedbank::{self, Seedbank, number};
use crate::common::{World, namespace, wait};

fn original(home: &Path, line: &[&str]) -> Command {
    let mut command = seedbank::command(home);
    command.args(line).args(["-dht-listen", ""]);
    command
}

#[test]
fn the_original_commands_share_and_fetch_a_file_and_resume() {
    let world = World::new();
    let film = world.dir("Movies").join("big_buck_bunny.mp4");
    payload::file(&film, 3 * MIB + 5, 1);
    let bit = world.path("Movies/big_buck_bunny.mp4.bit");
    let film_arg = film.to_str().unwrap();
    let seed = || {
        let line = ["-seed", film_arg, "-tcp-listen", "127.0.0.1:0"];
        Seedbank::spawn(&mut original(&world.dir("home-1"), &line))
    };
    let mut seeder = seed();
    let addr = seeder.ready(1).to_string();
    assert!(
        bit.is_file(),
        "the first run writes the metainfo beside the file"
    );

    let dest = world.dir("Downloads");
    let bit_arg = bit.to_str().unwrap();
    let get = |peer: &str| {
        let line = [
            "-get",
            bit_arg,
            "-dest",
            dest.to_str().unwrap(),
            "-tcp-listen",
            "127.0.0.1:0",
            "-peer",
            peer,
        ];
        Seedbank::spawn(&mut original(&world.dir("home-2"), &line))
    };
    let mut getter = get(&addr);
    getter.succeed();
    payload::assert_same(&film, &dest.join("big_buck_bunny.mp4"));
    assert_eq!(seeder.stop(Duration::from_secs(5)), Some(0));

    // Each command again, its state warm.
    let written = std::fs::read(&bit).unwrap();
    let again = seed();
    assert_eq!(std::fs::read(&bit).unwrap(), written);
    let mut getter = get(&again.ready(1).to_string());
    getter.succeed();
    assert_eq!(number(&getter.last("complete"), "downloaded"), 0);
    assert_eq!(number(&getter.last("resume"), "rechecked"), 0);
}

/// The four terminals of the original demo. The ports are those that the original names; elsewhere than in a network of our own
/// they may be taken.
struct Demo {
    world: World,
    /// What stands for the original's ports: pairs of DHT and TCP, of each terminal.
    ports: [(u16, u16); 4],
}

impl Demo {
    fn new(ports: [(u16, u16); 4]) -> Self {
        let world = World::new();
        let film = world.dir("Movies").join("big_buck_bunny.mp4");
        payload::file(&film, 5 * MIB + 7, 3);
        let program = env!("CARGO_BIN_EXE_seedbank");
        std::os::unix::fs::symlink(program, world.path("seedbank")).unwrap();
        world.dir("Downloads");
        world.dir("Downloads2");
        Self { world, ports }
    }

    /// Types the original's command into a shell, `terminal` counting from 0.
    fn run(&self, terminal: usize) -> Seedbank {
        let [a, b, c, d] = self.ports;
        let bootstrap = a.0;
        let line = match terminal {
            0 => format!("./seedbank -dht-listen :{} -tcp-listen :{}", a.0, a.1),
            1 => format!(
                "./seedbank -seed ~/Movies/big_buck_bunny.mp4 -dht-listen :{} -tcp-listen :{} -bootstrap :{bootstrap}",
                b.0, b.1
            ),
            2 => format!(
                "./seedbank -get ~/Movies/big_buck_bunny.mp4.bit -dest ~/Downloads -dht-listen :{} -tcp-listen :{} \
                 -bootstrap :{bootstrap} -keep 1200",
                c.0, c.1
            ),
            _ => format!(
                "./seedbank -get ~/Movies/big_buck_bunny.mp4.bit -dest ~/Downloads2 -dht-listen :{} -tcp-listen :{} \
                 -bootstrap :{bootstrap}",
                d.0, d.1
            ),
        };
        let mut command = Command::new("sh");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SEEDBANK_") {
                command.env_remove(name);
            }
        }
        command.env("HOME", self.world.root());
        command.env_remove("XDG_STATE_HOME");
        command.env("SEEDBANK_BOOTSTRAP", "");
        command.current_dir(self.world.root());
        Seedbank::spawn(command.args(["-c", &format!("exec {line}")]))
    }

    /// All four at once, until both leechers have the film and are complete; then Ctrl-C for those that go on.
    fn play(&self) -> [Seedbank; 4] {
        let mut node = self.run(0);
        node.udp();
        let mut seeder = self.run(1);
        seeder.ready(1);
        let (mut keeper, mut leecher) = (self.run(2), self.run(3));
        leecher.succeed();
        keeper.wait_for("complete", wait::TRANSFER, |_| true);
        let film = self.world.path("Movies/big_buck_bunny.mp4");
        for dest in ["Downloads", "Downloads2"] {
            let found = self.world.path(&format!("{dest}/big_buck_bunny.mp4"));
            payload::assert_same(&film, &found);
        }
        assert!(keeper.process.runs(), "it keeps seeding for 1200 s");
        for running in [&seeder, &keeper] {
            running.wait_for("dht_ready", wait::SOON, |_| true);
        }
        for running in [&mut keeper, &mut seeder, &mut node] {
            assert_eq!(running.stop(Duration::from_secs(5)), Some(0));
        }
        [node, seeder, keeper, leecher]
    }
}

/// Plays the original demo twice, the second time with its state warm.
fn play_twice(ports: [(u16, u16); 4]) {
    let demo = Demo::new(ports);
    let first = demo.play();
    for (process, (dht, tcp)) in first.iter().zip(ports) {
        let listening = process.last("listening");
        let port = |transport: &str| {
            let addr = listening[transport].as_str().unwrap();
            addr.parse::<std::net::SocketAddr>().unwrap().port()
        };
        assert_eq!((port("udp"), port("tcp")), (dht, tcp));
        let state = format!("/seedbank/node-{dht}");
        assert!(listening["state"].as_str().unwrap().ends_with(&state));
    }
    let bit = demo.world.path("Movies/big_buck_bunny.mp4.bit");
    let written = std::fs::read(&bit).unwrap();

    let again = demo.play();
    assert_eq!(std::fs::read(&bit).unwrap(), written);
    for process in &again[1..] {
        let resume = process.last("resume");
        let left = (number(&resume, "rechecked"), number(&resume, "missing"));
        assert_eq!(left, (0, 0), "{resume}");
    }
    for process in &again[1..3] {
        // The node that it knew is there again.
        assert!(number(&process.last("dht_ready"), "warm") > 0);
    }
    for leecher in &again[2..] {
        assert_eq!(number(&leecher.last("complete"), "downloaded"), 0);
    }
}

#[test]
fn the_four_terminals_of_the_original_demo_run_word_for_word() {
    let original = [10_000, 20_000, 30_000, 40_000].map(|port| (port, port + 1));
    if !namespace::with_network(|| play_twice(original)) {
        let free = || (free_udp_port(), free_tcp_port());
        play_twice([free(), free(), free(), free()]);
    }
}

fn free_udp_port() -> u16 {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).unwrap();
    socket.local_addr().unwrap().port()
}

fn free_tcp_port() -> u16 {
    let socket = std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap();
    socket.local_addr().unwrap().port()
}

#[test]
fn values_may_be_attached_and_dashes_doubled() {
    let world = World::new();
    let file = world.dir("shared").join("f.bin");
    payload::file(&file, 100_000, 2);
    let seed = format!("-seed={}", file.display());
    let seeder = Seedbank::spawn(&mut original(
        &world.dir("home-1"),
        &[&seed, "-tcp-listen=127.0.0.1:0"],
    ));
    let peer = format!("--peer={}", seeder.ready(1));
    let bit = format!("{}.bit", file.display());
    let dest = world.dir("dest");
    let getter = Seedbank::spawn(&mut original(
        &world.dir("home-2"),
        &[
            "--get",
            &bit,
            "--dest",
            dest.to_str().unwrap(),
            "--tcp-listen=127.0.0.1:0",
            &peer,
            "-keep",
            "1200",
        ],
    ));
    getter.wait_for("complete", wait::SOON, |_| true);
    payload::assert_same(&file, &dest.join("f.bin"));
}
