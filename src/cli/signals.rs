//! Ctrl-C and SIGTERM: the first asks for an orderly stop, the second ends the process at once.

use std::thread;

use tokio::sync::watch;

use super::exit::{Exit, Failure};

/// Knows whether the user asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Takes over both signals for the rest of the process, on a thread of its own so that it works whatever else blocks.
    ///
    /// # Errors
    /// If the system refuses a handler or a thread.
    pub(crate) fn install() -> Result<Self, Failure> {
        let (asked, watched) = watch::channel(false);
        let (ready, installed) = std::sync::mpsc::channel();
        let refused = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::Unknown, format!("cannot handle signals: {error}"))
        };
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                match runtime {
                    Ok(runtime) => runtime.block_on(listen(&asked, &ready)),
                    Err(error) => drop(ready.send(Err(error))),
                }
            })
            .map_err(|error| refused(&error))?;
        match installed.recv() {
            Ok(Ok(())) => Ok(Self(watched)),
            Ok(Err(error)) => Err(refused(&error)),
            Err(error) => Err(refused(&error)),
        }
    }

    /// Whether the user asked to stop.
    pub(crate) fn asked(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the user asks to stop.
    pub(crate) async fn wait(&mut self) {
        if self.0.wait_for(|&asked| asked).await.is_err() {
            // The listener is gone, so nobody can ask any more.
            std::future::pending::<()>().await;
        }
    }
}

type Ready = std::sync::mpsc::Sender<std::io::Result<()>>;

#[cfg(unix)]
async fn listen(asked: &watch::Sender<bool>, ready: &Ready) {
    use tokio::signal::unix::{SignalKind, signal};
    let both = signal(SignalKind::interrupt())
        .and_then(|int| signal(SignalKind::terminate()).map(|term| (int, term)));
    let (mut interrupt, mut terminate) = match both {
        Ok(both) => both,
        Err(error) => return drop(ready.send(Err(error))),
    };
    drop(ready.send(Ok(())));
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        note(asked);
    }
}

#[cfg(not(unix))]
async fn listen(asked: &watch::Sender<bool>, ready: &Ready) {
    drop(ready.send(Ok(())));
    while tokio::signal::ctrl_c().await.is_ok() {
        note(asked);
    }
}

fn note(asked: &watch::Sender<bool>) {
    if asked.send_replace(true) {
        std::process::exit(i32::from(Exit::Stopped as u8));
    }
}
