//! `state move` while the power goes: each file is whole in one of the two places after every cut, and whoever goes on with the
//! move finds all of them trusted in exactly one.
//!
//! A torrent that was downloaded goes back and forth between two folders of one image, where it is renamed, and one of another,
//! where it is copied. The state is on the other image. A cut takes both images or one of them: a client that syncs nothing loses
//! nothing if all disks fall back to before it began, and the payload if only that one does which got it.
//!
//! `SEEDBANK_CUTS=N` makes a tenth of N cuts, on ext4 and XFS together.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::metainfo::Torrent;
use crate::common::payload::{self, MIB, Random};
use crate::common::process::Process;
use crate::common::seedbank::{self, Seedbank, number};
use crate::common::{World, namespace, skip, wait};
use crate::image::{self, Image, Kind};
use crate::mutant::Mutant;

/// Cuts on ext4 and XFS together, unless `SEEDBANK_CUTS` says otherwise.
const CUTS: usize = 4;

/// Cuts within which a client without syncs must be found out.
const PATIENCE: usize = 4;

/// The torrent that is moved, and who has it.
struct Subject {
    torrent: Torrent,
    addr: SocketAddr,
    _seeder: Seedbank,
    _world: World,
}

impl Subject {
    fn new() -> Self {
        let world = World::new();
        let payload = world.dir("payload").join("set");
        payload::file(&payload.join("big"), 24 * MIB, 1);
        for (name, len) in [("less", 700_001), ("within/a", 65_537), ("within/b", 9)] {
            payload::file(&payload.join(name), len, len);
        }
        payload::file(&payload.join("empty"), 0, 0);
        let torrent = Torrent::of(&payload, 256 << 10, &world.dir("metainfo"));
        let from = payload.parent().unwrap();
        let seeder = seedbank::seed(&torrent.path, from, &world.path("state")).spawn();
        Self {
            addr: seeder.ready(1),
            torrent,
            _seeder: seeder,
            _world: world,
        }
    }
}

/// Where the payload is or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    First,
    Second,
    /// On the image that has the state.
    Other,
}

impl Place {
    /// One of the two that this is not.
    fn another(self, random: &mut Random) -> Self {
        let places = [Self::First, Self::Second, Self::Other];
        let others: Vec<_> = places.into_iter().filter(|&place| place != self).collect();
        others[random.below(2) as usize]
    }

    fn is_on(self, other: Self) -> bool {
        (self == Self::Other) == (other == Self::Other)
    }
}

/// Which of the images a cut takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Both,
    Only(Place),
}

/// A move.
#[derive(Clone, Copy, Debug)]
struct Route {
    from: Place,
    to: Place,
}

/// What a client without syncs is to do.
#[derive(Clone, Copy, Debug)]
enum Without {
    EverySync,
    /// The names that the copies get are not synced; they themselves are.
    SyncsOfFolders,
    /// Neither the copies nor their names are synced; what the state says is.
    SyncsOfPayload,
}

/// What a cut left, before a client went on.
#[derive(Debug, Default)]
struct Found {
    /// Files that are whole in neither place.
    lost: Vec<PathBuf>,
    /// Other promises that do not hold, one line each.
    broken: Vec<String>,
    /// The one torrent of the state.
    listed: Value,
}

impl Found {
    fn is_in_order(&self) -> bool {
        self.lost.is_empty() && self.broken.is_empty()
    }

    /// Where the payload is, if no move is under way.
    fn settled(&self) -> Option<&str> {
        let listed = &self.listed;
        let settled = listed["moving_to"].is_null() && listed["moved_from"].is_null();
        settled.then(|| listed["dest"].as_str()).flatten()
    }
}

/// Two images with the payload on one of them.
struct Rig<'a> {
    subject: &'a Subject,
    one: Image,
    other: Image,
    at: Place,
    /// About how many milliseconds a move takes: within a filesystem, and across.
    pace: [u64; 2],
    _world: World,
}

impl<'a> Rig<'a> {
    fn new(kind: Kind, subject: &'a Subject, at: Place) -> Self {
        let world = World::new();
        let rig = Self {
            subject,
            one: Image::make(kind, world.root(), "one", Image::LEAST),
            other: Image::make(kind, world.root(), "other", Image::LEAST),
            at,
            pace: [150, 400],
            _world: world,
        };
        for place in [Place::First, Place::Second, Place::Other] {
            fs::create_dir(rig.path(place)).unwrap();
        }
        rig.get(at).peer(subject.addr).spawn().succeed();
        for image in [&rig.one, &rig.other] {
            rustix::fs::syncfs(File::open(image.at()).unwrap()).unwrap();
        }
        rig
    }

    fn path(&self, place: Place) -> PathBuf {
        match place {
            Place::First => self.one.at().join("first"),
            Place::Second => self.one.at().join("second"),
            Place::Other => self.other.at().join("third"),
        }
    }

    fn payload(&self, place: Place) -> PathBuf {
        self.path(place).join(self.subject.torrent.name())
    }

    fn state(&self) -> PathBuf {
        self.other.at().join("state")
    }

    fn get(&self, place: Place) -> seedbank::Run {
        seedbank::get(&self.subject.torrent.path, &self.path(place), &self.state())
    }

    fn moving(&self, to: Place, mutant: Option<(&Mutant, Without)>) -> Process {
        let (name, dir) = (self.subject.torrent.hex(), self.path(to));
        let args = [OsStr::new("move"), OsStr::new(&name), dir.as_os_str()];
        let mut command = seedbank::state(&args, &self.state());
        if let Some((mutant, without)) = mutant {
            let payload = self.payload(to);
            let within = payload.join("within");
            let unfinished = format!(".{name}.moving");
            let copies = [payload.join(&unfinished), within.join(&unfinished)];
            let folders = [dir, payload, within];
            let paths = match without {
                Without::EverySync => Vec::new(),
                Without::SyncsOfFolders => folders.to_vec(),
                Without::SyncsOfPayload => [&copies[..], &folders].concat(),
            };
            command = mutant.command(&command, &paths);
        }
        Process::spawn("seedbank state move", &mut command)
    }

    /// Cuts the power and gives it back.
    fn cut(&mut self, taken: Taken, client: &mut Process, random: &mut Random) {
        let mut images = match taken {
            Taken::Both => vec![&mut self.one, &mut self.other],
            Taken::Only(Place::Other) => vec![&mut self.other],
            Taken::Only(Place::First | Place::Second) => vec![&mut self.one],
        };
        if random.below(2) == 0 {
            images.reverse();
        }
        image::cut(&mut images, client);
        images.iter_mut().for_each(|image| image.mount());
    }

    /// Moves it and cuts the power on the way; true if the move had not ended.
    fn move_and_cut(&mut self, random: &mut Random) -> bool {
        let from = self.at;
        let to = from.another(random);
        let route = Route { from, to };
        let taken = match random.below(4) {
            0 => Taken::Only(from),
            1 => Taken::Only(to),
            _ => Taken::Both,
        };
        let pace = &mut self.pace[usize::from(!from.is_on(to))];
        let moment = match random.below(4) {
            0 => wait::SOON,
            _ => Duration::from_millis(random.below(*pace * 5 / 4)),
        };
        let begin = Instant::now();
        let mut moving = self.moving(to, None);
        let ended = wait::within(moment, || (!moving.runs()).then(|| begin.elapsed()));
        let pace = &mut self.pace[usize::from(!from.is_on(to))];
        *pace = ended.map_or(*pace + *pace / 8, |took| took.as_millis() as u64);
        if ended.is_some() {
            moving.succeed(wait::SOON);
        }
        self.cut(taken, &mut moving, random);
        let mut found = self.look(route);
        if ended.is_some() && found.settled() != self.path(to).to_str() {
            let broken = format!("the move had ended: {}", found.listed);
            found.broken.push(broken);
        }
        assert!(found.is_in_order(), "{route:?}, {taken:?} cut: {found:#?}");
        self.finish(route, &found, random);
        ended.is_none()
    }

    /// What a cut of that move left.
    fn look(&self, route: Route) -> Found {
        let mut found = Found::default();
        let whole_in = |place, name: &Path, original: &Path| {
            let bytes = fs::read(self.payload(place).join(name));
            bytes.is_ok_and(|bytes| bytes == fs::read(original).unwrap())
        };
        let files = payload::files(&self.subject.torrent.payload);
        for (name, original) in &files {
            let places = [route.from, route.to];
            if !places.iter().any(|&place| whole_in(place, name, original)) {
                found.lost.push(name.clone());
            }
        }
        let args = ["list", "--json"].map(OsStr::new);
        let output = seedbank::state(&args, &self.state()).output().unwrap();
        let listed = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        let torrents = listed.as_array().map_or(0, Vec::len);
        if torrents != 1 || listed[0]["durable"] != self.subject.torrent.pieces {
            let broken = format!("not all is durable: {listed}, {output:?}");
            found.broken.push(broken);
        }
        found.listed = listed[0].clone();
        if let Some(dest) = found.settled().map(str::to_owned) {
            let place = self.place(dest.as_ref(), route);
            let missing = files
                .iter()
                .filter(|(name, original)| !whole_in(place, name, original));
            let missing = missing.count();
            if missing > 0 {
                let broken = format!("{missing} files are not where the state says, in {dest}");
                found.broken.push(broken);
            }
        }
        found
    }

    fn place(&self, path: &Path, route: Route) -> Place {
        if path == self.path(route.to) {
            route.to
        } else {
            assert_eq!(path, self.path(route.from));
            route.from
        }
    }

    /// Goes on with the move, to either place if it is still free to choose.
    fn finish(&mut self, route: Route, found: &Found, random: &mut Random) {
        let place = match found.settled() {
            Some(dest) => self.place(dest.as_ref(), route),
            None if random.below(2) == 0 => route.from,
            None => route.to,
        };
        let left = if place == route.to {
            route.from
        } else {
            route.to
        };
        if random.below(2) == 0 {
            self.moving(place, None).succeed(wait::TRANSFER);
        }
        let mut getter = self.get(place).spawn();
        getter.succeed();
        let resume = getter.last("resume");
        let of = |name: &str| number(&resume, name);
        let pieces = u64::from(self.subject.torrent.pieces);
        assert_eq!(
            (of("trusted"), of("rechecked"), of("missing")),
            (pieces, 0, 0),
            "{route:?}: {resume} after {}",
            found.listed
        );
        payload::assert_same(&self.subject.torrent.payload, &self.payload(place));
        let left = self.payload(left);
        assert!(!left.exists(), "something is left in {}", left.display());
        let found = self.look(route);
        assert_eq!(found.settled(), self.path(place).to_str(), "{found:?}");
        self.at = place;
    }
}

/// The filesystems whose power can be cut without a copy of the image.
fn kinds() -> impl Iterator<Item = Kind> {
    crate::kinds()
        .into_iter()
        .filter(|&kind| kind != Kind::Btrfs)
}

/// Runs `campaign` on every filesystem at once, each where nobody else sees its mounts.
fn on_all(test: &str, campaign: impl Fn(Kind, &Subject, &mut Random) + Sync) {
    if !skip::unless_root("cutting the power of a loop image") {
        return;
    }
    let mut random = Random::of_this_run(test);
    let (subject, campaign) = (&Subject::new(), &campaign);
    thread::scope(|scope| {
        for kind in kinds() {
            let mut random = Random::new(random.next());
            scope.spawn(move || {
                namespace::with_mounts(&[], || campaign(kind, subject, &mut random));
            });
        }
    });
}

#[test]
fn a_move_whose_power_is_cut_loses_nothing() {
    let asked = std::env::var("SEEDBANK_CUTS").ok();
    let cuts = asked.map_or(CUTS, |text| text.parse::<usize>().unwrap().div_ceil(10));
    on_all(
        "a_move_whose_power_is_cut_loses_nothing",
        |kind, subject, random| {
            let mut rig = Rig::new(kind, subject, Place::First);
            let cuts = cuts.div_ceil(2);
            let under_way = (0..cuts).filter(|_| rig.move_and_cut(random)).count();
            eprintln!("{kind}: {cuts} cuts, {under_way} during a move: nothing is lost");
        },
    );
}

#[test]
fn a_move_that_does_not_sync_is_found_out() {
    let mutants = Mutant::all();
    let Some(mutant) = mutants.first() else {
        return;
    };
    on_all(
        "a_move_that_does_not_sync_is_found_out",
        |kind, subject, random| {
            use Place::{First, Other, Second};
            let tries = [
                (First, Other, Without::EverySync, Taken::Only(Other)),
                (First, Second, Without::EverySync, Taken::Only(First)),
                // The state has the other image synced all the time.
                (Other, First, Without::SyncsOfFolders, Taken::Both),
                (Other, First, Without::SyncsOfPayload, Taken::Both),
            ];
            thread::scope(|scope| {
                for (from, to, without, taken) in tries {
                    let mut random = Random::new(random.next());
                    let route = Route { from, to };
                    scope.spawn(move || {
                        let mutant = (mutant, without);
                        find_out(kind, subject, route, mutant, taken, &mut random);
                    });
                }
            });
        },
    );
}

/// Each try is on fresh images: what reached the disk by chance once, as when another program syncs all disks, stays there.
fn find_out(
    kind: Kind,
    subject: &Subject,
    route: Route,
    (mutant, without): (&Mutant, Without),
    taken: Taken,
    random: &mut Random,
) {
    for attempt in 1..=PATIENCE {
        let mut rig = Rig::new(kind, subject, route.from);
        let mut moving = rig.moving(route.to, Some((mutant, without)));
        // It believes that all is well, and so does whoever reads what it says.
        moving.succeed(wait::TRANSFER);
        rig.cut(taken, &mut moving, random);
        let Found { lost, broken, .. } = rig.look(route);
        // A rename that is undone loses no bytes, but the state speaks of another folder.
        if !lost.is_empty() || (route.from.is_on(route.to) && !broken.is_empty()) {
            eprintln!("{kind}, {route:?}, {without:?}: lost {lost:?}, {broken:?} at cut {attempt}");
            return;
        }
    }
    panic!("{kind}, {route:?}, {without:?}: not found out in {PATIENCE} cuts");
}
