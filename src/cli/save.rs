//! `--save-metainfo`: what is downloaded gets a .torrent and a .bit beside it.

use std::fs;
use std::path::{Path, PathBuf};

use seedbank::base::limits::METAINFO_MAX;
use seedbank::format::metainfo::Metainfo;

use super::create;
use super::exit::{Exit, Failure};
use super::output::Output;

/// Longest part of the torrent's name that goes into theirs, in bytes: with the endings it fits every file system.
const NAME_MAX: usize = 200;

/// Writes `<name>.torrent` and `<name>.bit` into `folder`. A file of the same torrent that is there already stays as it is,
/// since it may say more than we know; one of another torrent is replaced if `overwrite` is set.
///
/// # Errors
/// If a file is in the way that is about something else, or the folder cannot be written.
pub(crate) fn save(
    metainfo: &Metainfo,
    folder: &Path,
    overwrite: bool,
    out: &Output,
) -> Result<(), Failure> {
    let stem = stem(metainfo);
    let encodings = [
        ("torrent", metainfo.to_torrent()),
        ("bit", metainfo.to_bit().into_bytes()),
    ];
    for (extension, bytes) in encodings {
        let path = folder.join(format!("{stem}.{extension}"));
        if may_write(&path, metainfo, overwrite)? {
            create::write(&path, &bytes)?;
            out.say(format_args!("wrote {}", path.display()));
        }
    }
    Ok(())
}

/// Whether there is something to write at `path`.
fn may_write(path: &PathBuf, metainfo: &Metainfo, overwrite: bool) -> Result<bool, Failure> {
    if path.symlink_metadata().is_err() {
        return Ok(true);
    }
    let small = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|found| found.is_file() && found.len() <= METAINFO_MAX as u64)
    };
    let there = small(path).then(|| fs::read(path).ok()).flatten();
    let there = there.and_then(|bytes| Metainfo::parse(&bytes).ok());
    if there.is_some_and(|there| there.info.info_hash() == metainfo.info.info_hash()) {
        return Ok(false);
    }
    if overwrite {
        return Ok(true);
    }
    let message = format!("{} exists and is about something else", path.display());
    Err(Failure::new(Exit::FileExists, message)
        .hint("move it away, or replace a metainfo file with --overwrite"))
}

/// The name that the payload has on disk, which is safe, cut to a length that leaves room.
fn stem(metainfo: &Metainfo) -> String {
    let info = &metainfo.info;
    let top = info.files().first();
    let top = top.and_then(|file| file.path().components().next());
    let top = top.map_or_else(|| info.info_hash().to_string(), str::to_owned);
    let mut end = top.len().min(NAME_MAX);
    while !top.is_char_boundary(end) {
        end -= 1;
    }
    top[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Verbosity;
    use seedbank::format::metainfo::create::Draft;

    fn metainfo(name: &str, byte: u8) -> Metainfo {
        let mut draft = Draft::file(name, 5);
        draft.pieces = vec![[byte; 20]];
        draft.finish().unwrap()
    }

    fn quiet() -> Output {
        Output::new(&Verbosity {
            log: None,
            verbose: 0,
            quiet: true,
        })
    }

    #[test]
    fn both_files_are_written_and_say_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let metainfo = metainfo("a b", 1);
        save(&metainfo, folder.path(), false, &quiet()).unwrap();
        for name in ["a b.torrent", "a b.bit"] {
            let bytes = fs::read(folder.path().join(name)).unwrap();
            assert_eq!(Metainfo::parse(&bytes).unwrap().info, metainfo.info);
        }
    }

    #[test]
    fn what_is_about_something_else_is_replaced_only_when_told_to_and_never_if_it_is_no_metainfo() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (metainfo("n", 1), metainfo("n", 2));
        let path = folder.path().join("n.torrent");
        save(&one, folder.path(), false, &quiet()).unwrap();
        save(&one, folder.path(), false, &quiet()).unwrap();
        let refused = save(&other, folder.path(), false, &quiet()).unwrap_err();
        assert_eq!(refused.exit, Exit::FileExists);
        assert_eq!(fs::read(&path).unwrap(), one.to_torrent());
        save(&other, folder.path(), true, &quiet()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), other.to_torrent());
        fs::write(&path, "my diary").unwrap();
        assert!(save(&other, folder.path(), true, &quiet()).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"my diary");
    }

    #[test]
    fn a_file_of_the_same_torrent_stays_as_it_is_whatever_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let ours = metainfo("n", 1);
        let mut theirs = ours.clone();
        theirs.comment = Some("what only their file says".to_owned());
        let path = folder.path().join("n.torrent");
        fs::write(&path, theirs.to_torrent()).unwrap();
        save(&ours, folder.path(), true, &quiet()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), theirs.to_torrent());
        assert!(folder.path().join("n.bit").exists());
    }

    #[test]
    fn a_name_of_any_length_leaves_room_for_the_ending() {
        let long = "ü".repeat(120);
        assert_eq!(stem(&metainfo(&long, 1)), "ü".repeat(100));
    }
}
