//! A foreign client, as far as the tests need to know it.

use std::net::{IpAddr, TcpListener};
use std::path::Path;

use crate::common::process::Process;

/// What a client is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The payload lies in the folder.
    Seed,
    /// The folder is empty.
    Get,
}

/// One run of a client.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// The `.torrent`; it names the tracker of the test.
    pub(crate) torrent: &'a Path,
    /// The folder that holds, or will hold, the payload under its name.
    pub(crate) folder: &'a Path,
    /// A folder for settings and state.
    pub(crate) home: &'a Path,
    /// The address to use.
    pub(crate) ip: IpAddr,
    /// What for.
    pub(crate) role: Role,
}

/// A foreign client. It finds its peers through the tracker, and the test learns from the tracker how far it is.
pub(crate) trait Client: Sync {
    /// Whether it can run here; says `skipped: …` if not.
    fn available(&self) -> bool;

    /// Starts it.
    fn start(&self, job: &Job<'_>) -> Process;

    /// Whether it ends by itself, successfully, when it has the payload. If not, it is ended once the tracker has heard `completed`.
    fn ends_when_complete(&self) -> bool {
        true
    }

    /// Whether a payload that it got lacks the files that have no bytes.
    fn leaves_empty_files_out(&self) -> bool {
        false
    }

    /// Whether it must not be met on the loopback address.
    fn needs_network(&self) -> bool {
        false
    }
}

/// A port that was free a moment ago, for programs that cannot take port 0.
pub(crate) fn free_port(ip: IpAddr) -> u16 {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Declares the tests of one client: both directions with a file and with a folder, and the rig alone.
macro_rules! pairs {
    ($client:expr) => {
        #[test]
        fn it_gets_a_file_that_seedbank_seeds() {
            crate::pair::seedbank_seeds(&$client, crate::pair::big_file);
        }

        #[test]
        fn it_gets_a_folder_that_seedbank_seeds() {
            crate::pair::seedbank_seeds(&$client, crate::pair::folder);
        }

        #[test]
        fn seedbank_gets_a_file_that_it_seeds() {
            crate::pair::seedbank_gets(&$client, crate::pair::big_file);
        }

        #[test]
        fn seedbank_gets_a_folder_that_it_seeds() {
            crate::pair::seedbank_gets(&$client, crate::pair::folder);
        }

        #[test]
        fn the_rig_works_without_seedbank() {
            crate::pair::rig(&$client, crate::pair::folder);
        }
    };
}
pub(crate) use pairs;
