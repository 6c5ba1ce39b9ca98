//! When the power goes.

use std::time::{Duration, Instant};

use crate::common::payload::Random;
use crate::common::seedbank::Seedbank;
use crate::common::wait;

/// A moment in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// While the files are looked at or made.
    Early,
    /// Whenever.
    Anytime,
    /// Right after some pieces were called durable.
    AfterDurable,
    /// Right after a torrent was called complete, if that comes soon.
    AfterComplete,
    /// While the client stops in order.
    Stopping,
    /// Right after the client has stopped in order.
    Stopped,
    /// Right after the client has ended because all is complete.
    Finished,
}

/// Longer than any orderly stop takes.
const STOP: Duration = Duration::from_secs(20);

/// A stop that took less did all that it had to do: the client gives up on a disk that does not answer in 1.8 s.
const IN_TIME: Duration = Duration::from_millis(1_500);

/// How long to wait for something to be durable.
const DURABLE: Duration = Duration::from_secs(8);

/// How long to wait for a torrent to be complete before the cut comes all the same.
const COMPLETE: Duration = Duration::from_secs(2);

impl Moment {
    /// One of them, but for the last.
    pub(crate) fn draw(random: &mut Random) -> Self {
        match random.below(20) {
            0..3 => Self::Early,
            3..11 => Self::Anytime,
            11..14 => Self::AfterDurable,
            14..16 => Self::AfterComplete,
            16..18 => Self::Stopping,
            _ => Self::Stopped,
        }
    }

    /// Waits for it. A client that ends before has an early one. False if the client was told to stop and ran out of time: then it
    /// says so, and what was under way is as after a kill.
    pub(crate) fn wait(self, client: &mut Seedbank, random: &mut Random) -> bool {
        let mut told = None;
        match self {
            Self::Early => pass(client, random.below(150)),
            Self::Anytime => pass(client, random.below(1_800)),
            Self::AfterDurable => {
                let nth = random.below(3);
                let mut seen = 0;
                client.look_for("durable", DURABLE, |_| {
                    seen += 1;
                    seen > nth
                });
            }
            Self::AfterComplete => drop(client.look_for("complete", COMPLETE, |_| true)),
            Self::Stopping | Self::Stopped => {
                // Before it takes connections it may not have said yet what Ctrl-C means to it.
                client.look_for("listening", wait::SOON, |_| true);
                pass(client, random.below(1_200));
                if client.process.runs() {
                    client.process.interrupt();
                    told = Some(Instant::now());
                }
                let left = match self {
                    Self::Stopping => random.below(60),
                    _ => STOP.as_millis() as u64,
                };
                pass(client, left);
            }
            Self::Finished => {
                wait::within(wait::TRANSFER, || (!client.process.runs()).then_some(()));
            }
        }
        told.is_none_or(|told| told.elapsed() < IN_TIME)
    }
}

/// Lets so many milliseconds pass, or fewer if the client ends.
fn pass(client: &mut Seedbank, millis: u64) {
    let limit = Duration::from_millis(millis);
    wait::within(limit, || (!client.process.runs()).then_some(()));
}
