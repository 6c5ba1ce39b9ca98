//! One set of torrents on one set of images: started, cut, looked at, and started again until it is complete.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;

use crate::common::metainfo::Torrent;
use crate::common::payload::{self, MIB, Random};
use crate::common::seedbank::{self, Seedbank, number};
use crate::common::{World, wait};
use crate::image::{self, Image, Kind};
use crate::load::Load;
use crate::moment::Moment;
use crate::mutant::Mutant;
use crate::promise::{self, Damage, Found, Promise};
use crate::table::Row;

/// The most of one torrent that may be hashed again after a cut.
const WINDOW: u64 = 64 * MIB;

/// Where data and state are, and which of the two a cut takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Places {
    /// On one image.
    Same,
    /// On two, and both are cut.
    Both,
    /// On two, and the data's is cut.
    Data,
    /// On two, and the state's is cut.
    State,
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Same => "one image",
            Self::Both => "two images, both cut",
            Self::Data => "two images, data cut",
            Self::State => "two images, state cut",
        })
    }
}

/// What is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Setup {
    pub(crate) kind: Kind,
    pub(crate) places: Places,
    /// The value of `--io`.
    pub(crate) io: &'static str,
}

impl Setup {
    /// Every filesystem has so many.
    pub(crate) const COUNT: usize = 12;

    /// One in which a cut takes the data.
    pub(crate) fn with_data_cut(kind: Kind, random: &mut Random) -> Self {
        let number = random.below(Self::COUNT as u64) as usize;
        let setup = Self::of(kind, number);
        match setup.places {
            Places::State => Self::of(kind, number + 1),
            _ => setup,
        }
    }

    /// The one with this number; neighbours differ in both.
    pub(crate) fn of(kind: Kind, number: usize) -> Self {
        const PLACES: [Places; 4] = [Places::Same, Places::Both, Places::Data, Places::State];
        const IO: [&str; 3] = ["auto", "mmap", "pwrite"];
        Self {
            kind,
            places: PLACES[number % 4],
            io: IO[number % 3],
        }
    }
}

/// A download that is under way, or about to be.
pub(crate) struct Download<'a> {
    load: &'a Load,
    setup: Setup,
    mutant: Option<&'a Mutant>,
    /// Before the world that they are mounted in.
    data: Image,
    state: Option<Image>,
    seeder: Seedbank,
    addr: SocketAddr,
    promises: Vec<Promise>,
    /// What the last look found.
    found: Vec<Found>,
    /// What came of it so far.
    pub(crate) row: Row,
    world: World,
}

impl<'a> Download<'a> {
    /// Formats the images. The seeder keeps its state in `home`, so that it hashes the payloads once for all downloads.
    pub(crate) fn new(
        load: &'a Load,
        setup: Setup,
        mutant: Option<&'a Mutant>,
        home: &World,
    ) -> Self {
        let world = World::new();
        let image = |name: &str, size| Image::make(setup.kind, world.root(), name, size);
        let data = image("data", load.len() * 2 + 128 * MIB);
        let apart = setup.places != Places::Same;
        let (seeder, addr) = load.seeder(&home.path(&format!("seeder-{}", setup.kind)));
        Self {
            data,
            state: apart.then(|| image("state", Image::LEAST)),
            seeder,
            addr,
            promises: vec![Promise::default(); load.torrents.len()],
            found: vec![Found::default(); load.torrents.len()],
            row: Row::default(),
            world,
            load,
            setup,
            mutant,
        }
    }

    /// One run, one cut, one look. True if the client was done before the cut.
    pub(crate) fn cut(&mut self, moment: Moment, random: &mut Random) -> bool {
        let rate = (moment != Moment::Finished).then(|| 12 << random.below(4));
        let mut client = self.start(rate);
        let in_time = moment.wait(&mut client, random);
        let status = (!client.process.runs()).then(|| client.process.exit(wait::SOON).code());
        let in_order = in_time && matches!(status, Some(Some(0 | 7)));
        let failed = client.all("error");
        self.cut_power(&mut client, random);
        self.row.cuts += 1;

        let events = client.events();
        let mut damage = self.judge(&events);
        if in_time && (!failed.is_empty() || (status.is_some() && !in_order)) {
            let broken = format!("ended with {status:?} before the cut: {failed:?}");
            damage.broken.push(broken);
        }
        for (torrent, promise) in self.load.torrents.iter().zip(&mut self.promises) {
            promise.hear(&of(torrent, &events), in_order);
        }
        damage.add(self.look());
        if !damage.is_none() && self.mutant.is_none() {
            let (setup, said) = (self.setup, client.process.transcript());
            eprintln!("{setup:?}, {moment:?}: {damage:?}\n{said}");
        }
        self.row.damage.add(damage);
        status == Some(Some(0))
    }

    /// Mounts what was cut and holds all that was ever said against it.
    fn look(&mut self) -> Damage {
        for image in [&mut self.data].into_iter().chain(&mut self.state) {
            if !image.is_mounted() {
                image.mount();
            }
        }
        let (state, dest) = (self.state_folder(), self.dest());
        let scratch = self.world.path("copy");
        let torrents = &self.load.torrents;
        let places = (&*state, &*dest, &*scratch);
        let (found, damage) = promise::inspect(torrents, &mut self.promises, places);
        self.row.bits += found.iter().map(|found| found.durable.len()).sum::<usize>();
        self.found = found;
        damage
    }

    /// A last run, which must find all there and right, unless something went wrong before; what came of all.
    pub(crate) fn finish(mut self) -> Row {
        if !self.row.damage.is_none() {
            return self.row;
        }
        let mut client = self.start(None);
        let status = client.process.exit(wait::TRANSFER).code();
        let events = client.events();
        let damage = self.judge(&events);
        self.row.damage.add(damage);
        let fetched = events.iter().filter(|event| is_fetched(event)).count();
        if status != Some(0) || fetched > 0 {
            let broken = format!("complete, then {fetched} pieces fetched and status {status:?}");
            self.row.damage.broken.push(broken);
        }
        for torrent in &self.load.torrents {
            payload::assert_same(&torrent.payload, &self.dest().join(torrent.name()));
        }
        self.row.fetched_twice = self.sent().saturating_sub(self.load.len());
        self.row
    }

    fn start(&self, rate: Option<u64>) -> Seedbank {
        let sources = self.load.sources();
        let mut run = seedbank::get_all(&sources, &self.dest(), &self.state_folder())
            .peer(self.addr)
            .flag("--io", self.setup.io);
        if let Some(mib) = rate {
            run = run.flag("--max-down", format!("{mib}MiB"));
        }
        if let Some(mutant) = self.mutant {
            run = mutant.applied_to(run, &self.dest());
        }
        run.spawn()
    }

    fn cut_power(&mut self, client: &mut Seedbank, random: &mut Random) {
        let mut images: Vec<&mut Image> = match self.setup.places {
            Places::Same | Places::Data => vec![&mut self.data],
            Places::State => self.state.iter_mut().collect(),
            Places::Both => [&mut self.data]
                .into_iter()
                .chain(&mut self.state)
                .collect(),
        };
        if random.below(2) == 0 {
            images.reverse();
        }
        image::cut(&mut images, &mut client.process);
    }

    /// Holds what a run did against what was found before it.
    fn judge(&mut self, events: &[Value]) -> Damage {
        let mut damage = Damage::default();
        let mut rehashed = 0;
        for (torrent, found) in self.load.torrents.iter().zip(&self.found) {
            let name = torrent.name();
            let events = of(torrent, events);
            let is_durable = |event: &&Value| {
                u32::try_from(number(event, "piece"))
                    .is_ok_and(|piece| found.durable.contains(&piece))
            };
            let again = events
                .iter()
                .filter(|event| is_fetched(event))
                .filter(is_durable)
                .count();
            if again > 0 {
                let broken = format!("{name}: {again} durable pieces fetched again");
                damage.broken.push(broken);
            }
            let Some(resume) = events.iter().find(|event| event["event"] == "resume") else {
                continue;
            };
            if number(resume, "trusted") < found.durable.len() as u64 {
                let durable = found.durable.len();
                damage
                    .broken
                    .push(format!("{name}: {durable} pieces were durable: {resume}"));
            }
            let pieces = number(resume, "rechecked").min(found.touched);
            let bytes = pieces * u64::from(torrent.piece_len);
            if bytes > WINDOW {
                damage
                    .broken
                    .push(format!("{name}: more than a window is hashed: {resume}"));
            }
            rehashed += bytes;
        }
        self.row.rehashed = self.row.rehashed.max(rehashed);
        damage
    }

    /// Payload bytes that the seeder has sent in all.
    fn sent(&self) -> u64 {
        let left = wait::until("every connection is closed", wait::SOON, || {
            let events = self.seeder.events();
            let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
            (count("joined_to_peer") == count("left_peer")).then(|| self.seeder.all("left_peer"))
        });
        left.iter().map(|event| number(event, "uploaded")).sum()
    }

    fn dest(&self) -> PathBuf {
        self.data.at().join("dest")
    }

    fn state_folder(&self) -> PathBuf {
        self.state
            .as_ref()
            .unwrap_or(&self.data)
            .at()
            .join("client")
    }
}

/// The events about one torrent.
fn of(torrent: &Torrent, events: &[Value]) -> Vec<Value> {
    let info_hash = torrent.hex();
    let about = events
        .iter()
        .filter(|event| event["info_hash"] == info_hash.as_str());
    about.cloned().collect()
}

/// Whether the event says that a piece came from a peer.
fn is_fetched(event: &Value) -> bool {
    event["event"] == "have" && !event["peer"].is_null()
}
