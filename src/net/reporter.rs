//! What a connection says to its torrent's task, down to its last word.

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::peer::{Gone, Report};
use crate::proto::wire::Tally;
use crate::swarm::PeerKey;

/// Tells the torrent's task about one connection, and at the very end, come what may, that it is gone.
pub(super) struct Reporter {
    key: PeerKey,
    reports: mpsc::Sender<(PeerKey, Report)>,
    told: Tally,
    over: bool,
}

impl Reporter {
    pub(super) fn new(key: PeerKey, reports: mpsc::Sender<(PeerKey, Report)>) -> Self {
        Self {
            key,
            reports,
            told: Tally::default(),
            over: false,
        }
    }

    /// The last tally that was told.
    pub(super) fn told(&self) -> Tally {
        self.told
    }

    pub(super) async fn send(&self, report: Report) -> Result<(), Gone> {
        let sent = self.reports.send((self.key, report)).await;
        sent.map_err(|_| Gone::Orphaned)
    }

    pub(super) async fn tell_tally(&mut self, tally: Tally) -> Result<(), Gone> {
        self.told = tally;
        self.send(Report::Tally(tally)).await
    }

    pub(super) async fn tell_gone(mut self, gone: &Gone, tally: Tally) {
        let report = Report::Gone {
            reason: gone.to_string(),
            violation: matches!(gone, Gone::Violation(_)),
            tally,
        };
        // If the torrent's task is gone as well, nobody is left to tell.
        let _ = self.send(report).await;
        self.over = true;
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let report = Report::Gone {
            reason: "the connection's task was cut short".to_owned(),
            violation: false,
            tally: self.told,
        };
        if let Err(TrySendError::Full(report)) = self.reports.try_send((self.key, report))
            && let Ok(runtime) = Handle::try_current()
        {
            let reports = self.reports.clone();
            runtime.spawn(async move { reports.send(report).await });
        }
    }
}
