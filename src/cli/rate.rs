//! Amounts of bytes, and of bytes per second, as people type them: `500K`, `2M`, `1.5GiB`, `1MiB/s`.
//!
//! K, M, G and T count in thousands, as rates of networks do; Ki, Mi, Gi and Ti in 1,024s. Case does not matter.

use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) u64);

/// Bytes per second; none when the rate is 0, which means without a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(pub(crate) Option<u64>);

/// The text is no amount; the message says what one looks like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount of bytes; write 500K, 2M, 1MiB or a plain number")]
pub(crate) struct InvalidAmount(String);

impl FromStr for Bytes {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text.trim())
            .map(Self)
            .ok_or_else(|| InvalidAmount(text.to_owned()))
    }
}

impl FromStr for Rate {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let amount = text.trim();
        let amount = amount.strip_suffix("/s").unwrap_or(amount);
        let rate = parse(amount).ok_or_else(|| InvalidAmount(text.to_owned()))?;
        Ok(Self((rate > 0).then_some(rate)))
    }
}

fn parse(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "t" => 1_000_000_000_000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        "ti" => 1 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let fraction: f64 = number.parse().ok()?;
    let bytes = fraction * factor as f64;
    (bytes.is_finite() && bytes < u64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_in_thousands_and_in_1024s_are_told_apart() {
        let cases = [
            ("0", 0),
            ("17", 17),
            ("500K", 500_000),
            ("2M", 2_000_000),
            ("2MB", 2_000_000),
            ("1MiB", 1 << 20),
            ("1mib", 1 << 20),
            ("1.5GiB", 3 << 29),
            ("256 KiB", 256 << 10),
            ("7b", 7),
        ];
        for (text, bytes) in cases {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        let bad = [
            "",
            "K",
            "-1",
            "+1",
            "1X",
            "1KK",
            "1.2.3",
            "1e9",
            "NaN",
            "inf",
            "99999999999T",
            "1 0",
            ".",
            "é",
        ];
        for text in bad {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_rate_of_zero_is_no_limit_and_may_say_per_second() {
        assert_eq!("0".parse(), Ok(Rate(None)));
        assert_eq!("1MiB/s".parse(), Ok(Rate(Some(1 << 20))));
        assert!("1/s/s".parse::<Rate>().is_err());
    }
}
