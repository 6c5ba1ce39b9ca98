//! What goes over the DHT's socket, from outside: every message survives both dialects as far as they have words for it, and
//! bytes that mean harm do none.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that panics has failed, and says why"
)]

mod datagrams;
mod messages;
mod mutants;
mod round_trip;

use seedbank::base::Random;

/// Dice of the moment, whose seed is printed so that a failure can be repeated with `SEEDBANK_TEST_SEED`.
fn dice(test: &str) -> Random {
    let given = std::env::var("SEEDBANK_TEST_SEED").ok();
    let seed = given.map_or_else(rand::random, |text| text.parse().unwrap());
    eprintln!("{test}: SEEDBANK_TEST_SEED={seed}");
    Random::new(seed)
}
