//! `seedbank show`: what a metainfo file or a magnet link stands for, for people or as one JSON document.

use std::sync::Arc;

use indicatif::BinaryBytes;
use seedbank::format::host;
use seedbank::format::metainfo::{FileKind, Metainfo};
use serde::Serialize;

use super::args::ShowArgs;
use super::exit::{Exit, Failure};
use super::inquiry;
use super::output::Output;

/// The document that `--json` prints.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    info_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    info_hash_v2: Option<String>,
    piece_length: u32,
    pieces: u32,
    length: u64,
    private: bool,
    files: Vec<ShownFile>,
    announce: &'a [Vec<String>],
    nodes: Vec<String>,
    web_seeds: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    creation_date: Option<String>,
}

#[derive(Serialize)]
struct ShownFile {
    path: String,
    length: u64,
}

/// Prints the metainfo.
///
/// # Errors
/// If it cannot be had or is not valid.
pub(crate) fn run(args: &ShowArgs, out: &Arc<Output>) -> Result<Exit, Failure> {
    let metainfo = inquiry::obtain(&args.source, &args.fetch, out)?.metainfo;
    let shown = shown(&metainfo);
    if args.json || out.wants_json() {
        out.json(&shown);
    } else {
        human(&shown, out);
    }
    Ok(Exit::Done)
}

fn shown(metainfo: &Metainfo) -> Shown<'_> {
    let info = &metainfo.info;
    let files = info
        .files()
        .iter()
        .filter(|file| !matches!(file.kind(), FileKind::Pad));
    let files = files.map(|file| ShownFile {
        path: file.path().as_str().to_owned(),
        length: file.length(),
    });
    let date = metainfo
        .creation_date
        .and_then(|second| jiff::Timestamp::from_second(second).ok());
    Shown {
        name: info.name(),
        info_hash: info.info_hash().to_string(),
        info_hash_v2: info
            .info_hash_v2()
            .map(|hash| data_encoding::HEXLOWER.encode(&hash)),
        piece_length: info.geometry().piece_len(),
        pieces: info.geometry().pieces(),
        length: info.geometry().total(),
        private: info.is_private(),
        files: files.collect(),
        announce: &metainfo.announce,
        nodes: metainfo
            .nodes
            .iter()
            .map(|(host, port)| host::format(host, *port))
            .collect(),
        web_seeds: &metainfo.web_seeds,
        comment: metainfo.comment.as_deref(),
        created_by: metainfo.created_by.as_deref(),
        creation_date: date.map(|date| date.to_string()),
    }
}

fn human(shown: &Shown<'_>, out: &Output) {
    let row = |label: &str, value: &str| out.clean_line(format_args!("{label:<14}{value}"));
    row("name", shown.name);
    row("info-hash", &shown.info_hash);
    if let Some(hash) = &shown.info_hash_v2 {
        row("info-hash v2", hash);
    }
    row(
        "length",
        &format!("{} ({} bytes)", BinaryBytes(shown.length), shown.length),
    );
    let piece = BinaryBytes(u64::from(shown.piece_length));
    row("pieces", &format!("{} of {piece}", shown.pieces));
    if shown.private {
        row("private", "yes");
    }
    for (tier, urls) in shown.announce.iter().enumerate() {
        urls.iter()
            .for_each(|url| row(&format!("tracker {}", tier + 1), url));
    }
    shown.nodes.iter().for_each(|node| row("DHT node", node));
    shown.web_seeds.iter().for_each(|url| row("web seed", url));
    let optional = [
        ("comment", shown.comment),
        ("created by", shown.created_by),
        ("created", shown.creation_date.as_deref()),
    ];
    for (label, value) in optional {
        value.into_iter().for_each(|value| row(label, value));
    }
    for file in &shown.files {
        row(
            "file",
            &format!(
                "{:>12}  {}",
                BinaryBytes(file.length).to_string(),
                file.path
            ),
        );
    }
}
