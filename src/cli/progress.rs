//! Progress bars: one line for each torrent and, when asked for, one for each peer. Nothing at all without a terminal.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use indicatif::{BinaryBytes, HumanDuration, ProgressBar, ProgressStyle};
use seedbank::base::InfoHash;
use seedbank::engine::{PeerStatus, State, Status};

use super::output::{Output, clean};

/// Of a bar that counts bytes which are hashed.
const HASHING: &str =
    "{prefix:.bold} [{bar:30}] {percent:>3} %  {msg}{binary_bytes_per_sec}  {eta} left";
/// Of the line of a torrent: it counts pieces.
const TORRENT: &str = "{prefix:.bold} [{bar:30}] {percent:>3} %  {msg}";

/// How often a bar is drawn at least.
const TICK: Duration = Duration::from_millis(500);

/// A bar for hashing `total` bytes of `name`.
pub(crate) fn bytes(out: &Output, name: &str, total: u64) -> ProgressBar {
    let Some(bars) = out.bars() else {
        return ProgressBar::hidden();
    };
    let bar = bars.add(ProgressBar::new(total));
    bar.set_style(style(HASHING));
    bar.set_prefix(clean(name));
    // Also while nothing is told: a disk that stalls shows.
    bar.enable_steady_tick(TICK);
    bar
}

/// A line of text that changes.
pub(crate) fn line(out: &Output) -> ProgressBar {
    let Some(bars) = out.bars() else {
        return ProgressBar::hidden();
    };
    let line = bars.add(ProgressBar::new(0));
    line.set_style(style("{msg}"));
    line
}

/// The line of a torrent.
#[derive(Debug)]
struct Line {
    bar: ProgressBar,
    /// Whether it shows how far a recheck is.
    checking: bool,
}

impl Line {
    fn draw(&mut self, status: &Status) {
        let checking = matches!(status.state, State::Checking { .. });
        if checking != self.checking {
            self.checking = checking;
            self.bar
                .set_style(style(if checking { HASHING } else { TORRENT }));
            self.bar.set_position(0);
            self.bar.reset_eta();
        }
        let (done, total) = match status.state {
            State::Checking { done, total } => (bytes_of(status, done), bytes_of(status, total)),
            _ => (status.verified.into(), status.total.into()),
        };
        self.bar.set_length(total);
        self.bar.set_position(done);
        self.bar.set_message(summary(status));
    }
}

/// About as many bytes as so many pieces have.
fn bytes_of(status: &Status, pieces: u32) -> u64 {
    let bytes = u128::from(status.bytes) * u128::from(pieces) / u128::from(status.total.max(1));
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The lines of the torrents and peers of an engine.
#[derive(Debug)]
pub(crate) struct Board<'a> {
    out: &'a Output,
    with_peers: bool,
    /// Torrents whose metadata is being fetched.
    inquiries: HashMap<InfoHash, ProgressBar>,
    torrents: HashMap<InfoHash, Line>,
    peers: HashMap<(InfoHash, SocketAddr), ProgressBar>,
}

impl<'a> Board<'a> {
    /// An empty board.
    pub(crate) fn new(out: &'a Output, with_peers: bool) -> Self {
        Self {
            out,
            with_peers,
            inquiries: HashMap::new(),
            torrents: HashMap::new(),
            peers: HashMap::new(),
        }
    }

    /// Whether there is anything to draw on.
    pub(crate) fn is_drawn(&self) -> bool {
        self.out.bars().is_some()
    }

    /// Draws that the metadata of a torrent is being fetched, until it is there or given up.
    pub(crate) fn inquire(&mut self, info_hash: InfoHash, name: &str) {
        let text = format!("{}  fetching metadata from peers", clean(name));
        let line = line(self.out);
        line.set_message(text);
        self.inquiries.insert(info_hash, line);
    }

    /// The metadata is there or given up.
    pub(crate) fn inquired(&mut self, info_hash: InfoHash) {
        let line = self.inquiries.remove(&info_hash);
        line.into_iter().for_each(|line| line.finish_and_clear());
    }

    /// Draws how things stand.
    pub(crate) fn draw(&mut self, torrents: &[Status]) {
        let Some(bars) = self.out.bars() else {
            return;
        };
        for status in torrents {
            let line = self.torrents.entry(status.info_hash).or_insert_with(|| {
                let bar = bars.add(ProgressBar::new(u64::from(status.total)));
                bar.set_style(style(TORRENT));
                bar.set_prefix(clean(&status.name));
                let checking = false;
                Line { bar, checking }
            });
            line.draw(status);
            if self.with_peers {
                self.draw_peers(status);
            }
        }
        self.drop_gone(torrents);
    }

    /// Takes all lines away.
    pub(crate) fn clear(&mut self) {
        let inquiries = self.inquiries.drain().map(|(_, line)| line);
        let peers = self.peers.drain().map(|(_, line)| line);
        let torrents = self.torrents.drain().map(|(_, line)| line.bar);
        peers
            .chain(torrents)
            .chain(inquiries)
            .for_each(|line| line.finish_and_clear());
    }

    fn draw_peers(&mut self, status: &Status) {
        let (Some(bars), Some(above)) = (self.out.bars(), self.torrents.get(&status.info_hash))
        else {
            return;
        };
        for peer in &status.peers {
            let key = (status.info_hash, peer.addr);
            let line = self.peers.entry(key).or_insert_with(|| {
                let line = bars.insert_after(&above.bar, ProgressBar::new(0));
                line.set_style(style("  {msg}"));
                line
            });
            line.set_message(describe(peer));
        }
    }

    fn drop_gone(&mut self, torrents: &[Status]) {
        let lives = |hash: &InfoHash, addr: &SocketAddr| {
            let torrent = torrents.iter().find(|status| status.info_hash == *hash);
            torrent.is_some_and(|status| status.peers.iter().any(|peer| peer.addr == *addr))
        };
        self.peers.retain(|(hash, addr), line| {
            let keep = lives(hash, addr);
            if !keep {
                line.finish_and_clear();
            }
            keep
        });
    }
}

fn summary(status: &Status) -> String {
    let peers = match status.peers.len() {
        1 => "1 peer".to_owned(),
        count => format!("{count} peers"),
    };
    match &status.state {
        State::Checking { .. } => "checking what is here  ".to_owned(),
        State::Downloading => {
            let rate = BinaryBytes(status.down_rate);
            let left = status.bytes.saturating_sub(status.bytes_verified);
            let eta = left.checked_div(status.down_rate).map(Duration::from_secs);
            let eta = eta.map_or_else(String::new, |eta| format!("  {} left", HumanDuration(eta)));
            format!("{rate}/s  {peers}{eta}")
        }
        State::Seeding => format!("seeding  {}/s up  {peers}", BinaryBytes(status.up_rate)),
        State::Paused => "paused".to_owned(),
        State::Failed(why) => clean(&why.to_string()),
        State::Removed => "removed".to_owned(),
    }
}

fn describe(peer: &PeerStatus) -> String {
    format!(
        "{}  {}  has {:.0} %  down {} ({}/s)  up {} ({}/s){}{}",
        peer.addr,
        clean(&peer.client),
        f64::from(peer.share) * 100.0,
        BinaryBytes(peer.downloaded),
        BinaryBytes(peer.down_rate),
        BinaryBytes(peer.uploaded),
        BinaryBytes(peer.up_rate),
        if peer.unchoked_us { "" } else { "  chokes us" },
        if peer.unchoked { "" } else { "  choked" },
    )
}

fn style(template: &'static str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates are constants that the tests parse")
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_parses() {
        for template in [HASHING, TORRENT, "  {msg}", "{msg}"] {
            style(template);
        }
    }
}
