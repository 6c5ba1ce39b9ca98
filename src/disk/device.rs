//! What kind of device files lie on, and whose turn it is to read from one that spins.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{fstat, major, minor};

use super::place::Place;

/// Where Linux shows its block devices by their numbers.
const DEVICES: &str = "/sys/dev/block";

/// Whoever holds it may read from its device.
pub(super) type Turn = Arc<Mutex<()>>;

/// The devices that were met. One that gets the number of another later on is taken for that: only speed depends on it.
static MET: Mutex<BTreeMap<u64, Option<Turn>>> = Mutex::new(BTreeMap::new());

/// The turn of the device below `place`, one for the whole process, if that spins, or says so: then a second stream of reads costs
/// more than it brings. What cannot be told does not spin.
pub(super) fn turn(place: &Place) -> Option<Turn> {
    let device = fstat(place.folder()).ok()?.st_dev;
    let mut met = MET.lock().unwrap_or_else(PoisonError::into_inner);
    let turn = met
        .entry(device)
        .or_insert_with(|| spins_in(Path::new(DEVICES), device).then(Turn::default));
    turn.clone()
}

fn spins_in(devices: &Path, device: u64) -> bool {
    let device = devices.join(format!("{}:{}", major(device), minor(device)));
    // A partition has no queue of its own: its folder lies in that of the disk.
    let queues = ["queue/rotational", "../queue/rotational"];
    let mut told = queues
        .iter()
        .filter_map(|queue| fs::read(device.join(queue)).ok());
    told.next().is_some_and(|told| told.starts_with(b"1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::makedev;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_lies_on_one_device_shares_one_turn() {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [one, other] = folders.each_ref().map(|folder| {
            turn(&Place::open(folder.path()).unwrap()).map(|turn| Arc::as_ptr(&turn))
        });
        assert_eq!(one, other);
    }

    #[test]
    fn disks_and_their_partitions_spin_alike_and_the_unknown_does_not() {
        let sys = tempfile::tempdir().unwrap();
        let numbers = sys.path().join("dev/block");
        fs::create_dir_all(&numbers).unwrap();
        for (disk, minor, told) in [("spinning", 0, "1\n"), ("solid", 16, "0\n")] {
            let disk = sys.path().join(disk);
            fs::create_dir_all(disk.join("queue")).unwrap();
            fs::create_dir_all(disk.join("part")).unwrap();
            fs::write(disk.join("queue/rotational"), told).unwrap();
            symlink(&disk, numbers.join(format!("8:{minor}"))).unwrap();
            let part = numbers.join(format!("8:{}", minor + 1));
            symlink(disk.join("part"), part).unwrap();
        }
        let spins = |minor| spins_in(&numbers, makedev(8, minor));
        assert_eq!(
            [0, 1, 16, 17, 32].map(spins),
            [true, true, false, false, false]
        );
    }
}
