//! The end of the demo: what was promised, what was measured, and whether it held.

use std::time::Duration;

use indicatif::BinaryBytes;
use serde::Serialize;

use super::swarm::{Role, Swarm};
use crate::cli::output::Output;

/// How long the leecher that was killed took, from its new start.
#[derive(Debug)]
pub(super) struct Times {
    /// Until it knew what it had.
    pub(super) back: Duration,
    /// Until it had a peer.
    pub(super) found: Duration,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Bytes of the payload.
    size: u64,
    /// Pieces of the payload.
    pieces: u32,
    /// Pieces that the first leecher had verified when it was killed.
    verified_at_kill: u32,
    /// Time from its new start until it was back, in seconds.
    back_after: f64,
    /// Nodes of its saved table that answered it then.
    warm: u64,
    /// Time from its new start until it had a peer, in seconds.
    peer_after: f64,
    trusted: u64,
    rechecked: u64,
    /// Pieces that it had to fetch after it was back.
    missing: u64,
    /// Payload bytes sent to the first leecher before it was killed.
    first_run: u64,
    /// Payload bytes that it received after it was back.
    second_run: u64,
    /// Payload bytes that it fetched more than once.
    twice: u64,
    /// Payload bytes that the second leecher received.
    second_leecher: u64,
    /// Payload bytes that the leechers sent each other.
    traded: u64,
    /// Whether every process ended in order when asked to.
    orderly: bool,
    /// Whether both leechers hold the bytes of the payload.
    equal: [bool; 2],
}

impl Report {
    /// Puts together what the processes said.
    pub(super) fn new(
        size: u64,
        swarm: &Swarm<'_>,
        times: &Times,
        first_run: u64,
        orderly: bool,
        equal: [bool; 2],
    ) -> Self {
        let (seeder, first) = (swarm.seen(Role::Seeder), swarm.seen(Role::First));
        let (second, again) = (swarm.seen(Role::Second), swarm.seen(Role::Again));
        let resume = again.resume;
        let second_run = again.complete.unwrap_or(0);
        let seeded = seeder.sent;
        let second_leecher = second.complete.unwrap_or(0);
        Self {
            size,
            pieces: again.total,
            verified_at_kill: first.verified,
            back_after: times.back.as_secs_f64(),
            warm: again.warm.unwrap_or(0),
            peer_after: times.found.as_secs_f64(),
            trusted: resume.map_or(0, |resume| resume.trusted),
            rechecked: resume.map_or(0, |resume| resume.rechecked),
            missing: resume.map_or(u64::MAX, |resume| resume.missing),
            first_run,
            second_run,
            twice: (first_run + second_run).saturating_sub(size),
            second_leecher,
            traded: (first_run + second_run + second_leecher).saturating_sub(seeded),
            orderly,
            equal,
        }
    }

    /// Pieces that were there when the killed leecher was back.
    fn kept(&self) -> u64 {
        u64::from(self.pieces).saturating_sub(self.missing)
    }

    /// Each promise with whether it held.
    fn promises(&self) -> [(&'static str, bool); 5] {
        [
            (
                "the killed leecher kept every piece it had verified",
                self.kept() >= u64::from(self.verified_at_kill),
            ),
            (
                "its own table of DHT nodes was of use, with no other given",
                self.warm > 0,
            ),
            (
                "the first leecher has the bytes of the payload",
                self.equal[0],
            ),
            (
                "the second leecher has the bytes of the payload",
                self.equal[1],
            ),
            ("every process stopped in order when asked to", self.orderly),
        ]
    }

    /// Prints it all; true if everything held.
    pub(super) fn print(&self, took: Duration, out: &Output) -> bool {
        let promises = self.promises();
        let held = promises.iter().all(|&(_, held)| held);
        if out.wants_json() {
            out.json(&serde_json::json!({
                "held": held, "seconds": took.as_secs_f64(), "report": self,
            }));
            return held;
        }
        let percent = 100.0 * f64::from(self.verified_at_kill) / f64::from(self.pieces.max(1));
        let row = |label: &str, value: String| out.line(format_args!("  {label:<34}{value}"));
        out.line("");
        row(
            "payload",
            format!("{} in {} pieces", BinaryBytes(self.size), self.pieces),
        );
        row(
            "killed the first leecher at",
            format!("{} pieces ({percent:.0} %)", self.verified_at_kill),
        );
        row("it was back after", format!("{:.2} s", self.back_after));
        row("  nodes of its table that answered", self.warm.to_string());
        row("  it had a peer after", format!("{:.2} s", self.peer_after));
        row("  pieces trusted", self.trusted.to_string());
        row("  pieces hashed again", self.rechecked.to_string());
        row("  pieces kept", self.kept().to_string());
        row("  pieces to fetch", self.missing.to_string());
        row(
            "sent to it before the kill",
            BinaryBytes(self.first_run).to_string(),
        );
        row(
            "received after it",
            BinaryBytes(self.second_run).to_string(),
        );
        let share = 100.0 * self.twice as f64 / self.size.max(1) as f64;
        row(
            "downloaded twice",
            format!("{} ({share:.1} %)", BinaryBytes(self.twice)),
        );
        row(
            "received by the second leecher",
            BinaryBytes(self.second_leecher).to_string(),
        );
        row(
            "of all that, from one another",
            BinaryBytes(self.traded).to_string(),
        );
        row("time", format!("{:.1} s", took.as_secs_f64()));
        out.line("");
        for (promise, held) in promises {
            let verdict = if held { "held  " } else { "BROKEN" };
            out.line(format_args!("  {verdict}  {promise}"));
        }
        held
    }
}
