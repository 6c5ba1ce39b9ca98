//! What stands around the info dictionary, cleaned the same way from wherever it comes.

use std::collections::HashSet;

use super::{Metainfo, MetainfoError};
use crate::format::host::HostPort;
use crate::format::url;

impl Metainfo {
    /// Adds what somebody else knows of where to find the torrent: trackers, each a tier of its own, DHT nodes and web seeds, without
    /// what is here already. A private torrent keeps to its own trackers (BEP 27): whether it has any is for the caller to say.
    pub fn add_hints(&mut self, trackers: &[String], nodes: &[HostPort], web_seeds: &[String]) {
        let mut known: HashSet<String> = self.announce.iter().flatten().cloned().collect();
        let new = trackers.iter().filter(|&url| known.insert(url.clone()));
        self.announce.extend(new.map(|url| vec![url.clone()]));
        add_new(&mut self.nodes, nodes);
        add_new(&mut self.web_seeds, web_seeds);
    }
}

fn add_new<T: Clone + PartialEq>(to: &mut Vec<T>, from: &[T]) {
    for item in from {
        if !to.contains(item) {
            to.push(item.clone());
        }
    }
}

/// Tiers of trackers without what is no address, duplicates and empty tiers.
pub(super) fn tiers<'a>(
    tiers: impl IntoIterator<Item = impl IntoIterator<Item = &'a str>>,
) -> Vec<Vec<String>> {
    let mut seen = HashSet::new();
    let mut out = Vec::new();
    for tier in tiers {
        let mut urls = Vec::new();
        for tracker in tier.into_iter().filter_map(url::clean) {
            url::push_new(&mut urls, &mut seen, tracker);
        }
        if !urls.is_empty() {
            out.push(urls);
        }
    }
    out
}

/// Web seeds without what is no address and duplicates. Where there are several files, each address is that of their folder
/// and ends in a slash (BEP 19).
pub(super) fn web_seeds<'a>(
    seeds: impl IntoIterator<Item = &'a str>,
    several_files: bool,
) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut urls = Vec::new();
    for mut seed in seeds.into_iter().filter_map(url::clean) {
        if several_files && !seed.ends_with('/') {
            seed.push('/');
        }
        url::push_new(&mut urls, &mut seen, seed);
    }
    urls
}

/// Refuses what [`tiers`] and [`web_seeds`] would drop.
pub(super) fn check_addresses<'a>(
    addresses: impl IntoIterator<Item = &'a String>,
) -> Result<(), MetainfoError> {
    match addresses
        .into_iter()
        .find(|address| url::clean(address).is_none())
    {
        Some(address) => Err(MetainfoError::InvalidAddress(address.clone())),
        None => Ok(()),
    }
}

/// Whether a `.bit` can say this date: not before 1970 and not after the year 9999. In seconds since 1970.
pub(super) fn is_date(seconds: i64) -> bool {
    seconds >= 0 && jiff::Timestamp::from_second(seconds).is_ok()
}
