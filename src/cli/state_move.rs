//! `seedbank state move`: the payload of a torrent moves to another folder.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{BinaryBytes, ProgressBar};
use seedbank::base::InfoHash;
use seedbank::disk::Step;
use seedbank::engine::{EngineError, Moved, move_payload};
use seedbank::format::metainfo::Metainfo;
use seedbank::store::{Choices, Store};
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::known;
use super::output::Output;
use super::progress;
use super::signals::Stop;
use super::state_cmd;
use super::transfer;

/// What `--log json` prints of a move.
#[derive(Serialize)]
struct Told {
    info_hash: String,
    dest: String,
    /// Bytes of files that were copied; 0 if renaming them did.
    copied: u64,
    /// Pieces that were damaged before.
    damaged: u32,
}

/// Moves it, and says where it is then.
///
/// # Errors
/// If the torrent is not known, the folder is missing, a file is in the way, the payload or the state folder is in use, or a disk fails. What was
/// stopped or cut off is finished by the same command.
pub(crate) fn run(
    folder: &Path,
    info_hash: InfoHash,
    dir: &Path,
    out: &Arc<Output>,
) -> Result<Exit, Failure> {
    let dest = transfer::absolute(dir)?;
    if !folder.exists() {
        return Err(state_cmd::unknown(folder, info_hash));
    }
    let stop = Stop::install()?;
    let opened = known::run(Store::open(folder.to_owned()))?;
    state_cmd::tell(&opened.history, out);
    let store = opened.store;
    let done = known::run(async {
        let found = find(&store, folder, info_hash).await?;
        let moved = relocate(&store, found, &dest, stop, out).await;
        let closed = store.close().await;
        let moved = moved?;
        closed?;
        Ok::<_, Failure>(moved)
    });
    let Some(moved) = done? else {
        out.say("stopped; run the same command again to go on");
        return Ok(Exit::Stopped);
    };
    for warning in moved.warnings() {
        out.warn("moving", warning);
    }
    if out.wants_json() {
        out.json(&Told {
            info_hash: info_hash.to_string(),
            dest: dest.display().to_string(),
            copied: moved.copied,
            damaged: moved.damaged,
        });
    } else {
        out.say(format_args!("{info_hash} is in {}", dest.display()));
    }
    Ok(Exit::Done)
}

async fn find(
    store: &Store,
    folder: &Path,
    info_hash: InfoHash,
) -> Result<(Metainfo, Choices), Failure> {
    let choices = store.choices(info_hash).await?;
    let bytes = store.metainfo(info_hash).await?;
    let (Some(choices), Some(bytes)) = (choices, bytes) else {
        return Err(state_cmd::unknown(folder, info_hash));
    };
    let metainfo = known::parse(info_hash, &bytes).ok_or_else(|| {
        let message = format!(
            "{info_hash}: its metainfo in {} is damaged",
            folder.display()
        );
        Failure::new(Exit::Unknown, message)
            .hint("`seedbank get` with its .torrent or .bit mends that")
    })?;
    Ok((metainfo, choices))
}

/// Nothing if the user stopped it.
async fn relocate(
    store: &Store,
    (metainfo, choices): (Metainfo, Choices),
    dest: &Path,
    stop: Stop,
    out: &Arc<Output>,
) -> Result<Option<Moved>, Failure> {
    let info = &metainfo.info;
    if choices.dest != dest {
        out.say(format_args!(
            "{}: {} from {} to {}",
            info.name(),
            BinaryBytes(info.geometry().total()),
            choices.dest.display(),
            dest.display()
        ));
    }
    let bar = Bar::new(info.name(), out);
    let on_step = move |step| {
        bar.show(step);
        if stop.asked() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    match move_payload(store, info, choices, dest, Arc::new(on_step)).await {
        Ok(moved) => Ok(Some(moved)),
        Err(EngineError::Stopped) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How far a move has come, with its rate, on a terminal.
struct Bar {
    out: Arc<Output>,
    name: String,
    drawn: Mutex<Option<ProgressBar>>,
}

impl Bar {
    fn new(name: &str, out: &Arc<Output>) -> Self {
        Self {
            out: Arc::clone(out),
            name: name.to_owned(),
            drawn: Mutex::default(),
        }
    }

    fn show(&self, step: Step) {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = |what: &str, total| {
            let name = format!("{what} {}", self.name);
            progress::bytes(&self.out, &name, total)
        };
        match step {
            Step::Copying(total) => clear(drawn.replace(begin("copying", total))),
            Step::Checking(total) => clear(drawn.replace(begin("checking", total))),
            Step::Copied(bytes) | Step::Checked(bytes) => {
                if let Some(bar) = &*drawn {
                    bar.inc(bytes);
                }
            }
            Step::Done => {}
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        clear(
            self.drawn
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }
}

fn clear(bar: Option<ProgressBar>) {
    bar.into_iter().for_each(|bar| bar.finish_and_clear());
}
