//! What kind of device files lie on.

use std::fs;
use std::path::Path;

use rustix::fs::{fstat, major, minor};

use super::place::Place;

/// Where Linux shows its block devices by their numbers.
const DEVICES: &str = "/sys/dev/block";

/// Whether what is below `place` lies on a disk that spins, or says so: then a second stream of reads costs more than it brings.
/// What cannot be told does not spin.
pub(super) fn spins(place: &Place) -> bool {
    fstat(place.folder()).is_ok_and(|found| spins_in(Path::new(DEVICES), found.st_dev))
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
