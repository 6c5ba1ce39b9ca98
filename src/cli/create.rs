//! `seedbank create`: writes a .bit and a .torrent for a payload. Also the one way metainfo files are written.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use seedbank::base::limits::METAINFO_MAX;
use seedbank::format::metainfo::Metainfo;
use serde::Serialize;

use super::address::Address;
use super::args::{CreateArgs, Format};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::payload::{self, Place, Wishes};

/// What `create --log json` prints.
#[derive(Serialize)]
struct Created<'a> {
    info_hash: String,
    name: &'a str,
    paths: Vec<String>,
}

/// Describes the payload and writes what was asked for.
///
/// # Errors
/// If the payload cannot be read or a file cannot be written, or one is in the way that is no metainfo.
pub(crate) fn run(args: &CreateArgs, out: &Output) -> Result<Exit, Failure> {
    let wishes = wishes(args)?;
    let place = Place::of(&args.path)?;
    let targets = targets(&place, args);
    // Before the hours of hashing, not after them.
    targets
        .iter()
        .try_for_each(|(path, _)| check_overwrite(path))?;
    let described = payload::describe(&place, &wishes, out)?;
    for (path, format) in &targets {
        write(path, &encode(&described.metainfo, *format))?;
    }
    let info_hash = described.metainfo.info.info_hash().to_string();
    let paths = targets.iter().map(|(path, _)| path.display().to_string());
    if out.wants_json() {
        let name = described.metainfo.info.name();
        out.json(&Created {
            info_hash,
            name,
            paths: paths.collect(),
        });
    } else {
        paths.for_each(|path| out.clean_line(path));
        out.line(info_hash);
    }
    Ok(Exit::Done)
}

fn wishes(args: &CreateArgs) -> Result<Wishes, Failure> {
    for url in &args.announce {
        check_url(url, "--announce", &["http", "https", "udp"])?;
    }
    for url in &args.web_seed {
        check_url(url, "--web-seed", &["http", "https"])?;
    }
    let nodes = args.node.iter().flat_map(|list| list.0.clone());
    Ok(Wishes {
        piece_length: payload::piece_length(args.piece_length.0)?,
        announce: args.announce.iter().map(|url| vec![url.clone()]).collect(),
        web_seeds: args.web_seed.clone(),
        nodes: nodes.map(Address::into_parts).collect(),
        private: args.private,
        comment: args.comment.clone(),
    })
}

fn check_url(url: &str, flag: &str, schemes: &[&str]) -> Result<(), Failure> {
    let split = url.split_once("://");
    let good = split.is_some_and(|(scheme, rest)| {
        schemes
            .iter()
            .any(|known| known.eq_ignore_ascii_case(scheme))
            && !rest.is_empty()
            && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
    });
    if good {
        return Ok(());
    }
    let message = format!("{flag} {url}: not an address of this kind");
    Err(Failure::new(Exit::Usage, message)
        .hint(format!("it begins with {}://", schemes.join(":// or "))))
}

/// The paths to write, each with the one format that goes there.
fn targets(place: &Place, args: &CreateArgs) -> Vec<(PathBuf, Format)> {
    let both = |path: &dyn Fn(&str) -> PathBuf| {
        let bit = (path("bit"), Format::Bit);
        let torrent = (path("torrent"), Format::Torrent);
        match args.format {
            Some(Format::Bit) => vec![bit],
            Some(Format::Torrent) => vec![torrent],
            Some(Format::Both) | None => vec![bit, torrent],
        }
    };
    let Some(output) = &args.output else {
        return both(&|extension| place.beside(extension));
    };
    if output.is_dir() {
        return both(&|extension| output.join(format!("{}.{extension}", place.name)));
    }
    match (args.format, extension(output)) {
        (Some(format @ (Format::Bit | Format::Torrent)), _) | (None, Some(format)) => {
            vec![(output.clone(), format)]
        }
        (_, Some(_)) => both(&|extension| output.with_extension(extension)),
        (_, None) => both(&|extension| {
            let mut path = output.clone().into_os_string();
            path.push(".");
            path.push(extension);
            path.into()
        }),
    }
}

/// The format that a file's name promises.
pub(crate) fn extension(path: &Path) -> Option<Format> {
    let extension = path.extension()?;
    if extension.eq_ignore_ascii_case("bit") {
        Some(Format::Bit)
    } else if extension.eq_ignore_ascii_case("torrent") {
        Some(Format::Torrent)
    } else {
        None
    }
}

fn encode(metainfo: &Metainfo, format: Format) -> Vec<u8> {
    match format {
        Format::Torrent => metainfo.to_torrent(),
        Format::Bit | Format::Both => metainfo.to_bit().into_bytes(),
    }
}

/// Refuses to replace anything but a metainfo file.
fn check_overwrite(path: &Path) -> Result<(), Failure> {
    let Ok(found) = path.symlink_metadata() else {
        return Ok(());
    };
    let small = found.is_file() && found.len() <= METAINFO_MAX as u64;
    let is_metainfo = || fs::read(path).is_ok_and(|bytes| Metainfo::parse(&bytes).is_ok());
    if small && is_metainfo() {
        return Ok(());
    }
    let message = format!("{} exists and is no .bit or .torrent", path.display());
    Err(Failure::new(Exit::FileExists, message)
        .hint("move it away or write elsewhere with -o; only metainfo files are replaced"))
}

/// Writes a metainfo file whole or not at all: beside its place, synced, then moved there.
///
/// # Errors
/// If something else is in the way or the folder cannot be written.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    check_overwrite(path)?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.part", std::process::id()));
    let draft = PathBuf::from(draft);
    let written = File::create_new(&draft)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&draft, path))
        .and_then(|()| sync_folder(path));
    written.map_err(|error| {
        // If it was never made there is nothing to take away.
        let _ = fs::remove_file(&draft);
        Failure::create(path, &error)
    })
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets_for(format: Option<Format>, output: Option<&str>) -> Vec<String> {
        let place = Place {
            path: "/p/film.mp4".into(),
            folder: "/p".into(),
            name: "film.mp4".into(),
        };
        let args = CreateArgs {
            path: place.path.clone(),
            format,
            output: output.map(PathBuf::from),
            piece_length: super::super::rate::Bytes(1 << 18),
            announce: vec![],
            web_seed: vec![],
            node: vec![],
            private: false,
            comment: None,
        };
        let found = targets(&place, &args).into_iter();
        found.map(|(path, _)| path.display().to_string()).collect()
    }

    #[test]
    fn both_formats_go_beside_the_payload_unless_told_otherwise() {
        assert_eq!(
            targets_for(None, None),
            ["/p/film.mp4.bit", "/p/film.mp4.torrent"]
        );
        assert_eq!(targets_for(Some(Format::Bit), None), ["/p/film.mp4.bit"]);
        assert_eq!(targets_for(None, Some("/q/x.torrent")), ["/q/x.torrent"]);
        assert_eq!(
            targets_for(None, Some("/q/x")),
            ["/q/x.bit", "/q/x.torrent"]
        );
        assert_eq!(
            targets_for(Some(Format::Both), Some("/q/x.bit")),
            ["/q/x.bit", "/q/x.torrent"]
        );
        assert_eq!(
            targets_for(Some(Format::Torrent), Some("/q/odd")),
            ["/q/odd"]
        );
    }

    #[test]
    fn addresses_of_the_wrong_kind_are_refused() {
        let schemes = ["http", "https", "udp"];
        for good in ["http://t/announce", "UDP://t:6969", "https://t"] {
            assert!(check_url(good, "--announce", &schemes).is_ok(), "{good}");
        }
        for bad in [
            "",
            "t:80",
            "ftp://t",
            "http://",
            "http://a b",
            "://x",
            "http://a\n",
        ] {
            assert!(check_url(bad, "--announce", &schemes).is_err(), "{bad}");
        }
    }
}
