//! What stands around the info dictionary, cleaned the same way from wherever it comes.

use std::collections::HashSet;

use super::MetainfoError;
use crate::format::url;

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
