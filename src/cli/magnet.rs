//! `seedbank magnet`: the magnet link of a torrent.

use seedbank::format::magnet::Magnet;

use super::args::MagnetArgs;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::source::{self, Source};
use super::state;

/// Prints the link; one that was given comes back in canonical form.
///
/// # Errors
/// If the metainfo cannot be had or is not valid.
pub(crate) fn run(args: &MagnetArgs, out: &Output) -> Result<Exit, Failure> {
    let magnet = match &args.source {
        Source::Magnet(text) => source::magnet(text)?,
        other => {
            let state = state::folder(args.state.state.as_deref(), None)?;
            Magnet::from_metainfo(&other.load(&state)?.metainfo)
        }
    };
    if out.wants_json() {
        out.json(&serde_json::json!({ "magnet": magnet.to_string() }));
    } else {
        out.clean_line(magnet);
    }
    Ok(Exit::Done)
}
