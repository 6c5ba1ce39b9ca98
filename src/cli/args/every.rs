//! Spans of time as people type them: `7d`, `12h`, `30m`, `90s` or plain seconds.

use std::str::FromStr;
use std::time::Duration;

/// How often something is done: at least every second, at most every hundred years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Every(pub(crate) Duration);

const SECONDS_MAX: u64 = 100 * 365 * 24 * 3_600;

impl FromStr for Every {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_lowercase());
        let unit = match &text[digits.len()..] {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 24 * 3_600,
            "w" => 7 * 24 * 3_600,
            _ => return Err(LOOKS),
        };
        let number = u64::from(digits.parse::<u32>().map_err(|_| LOOKS)?);
        match number * unit {
            seconds @ 1..=SECONDS_MAX => Ok(Self(Duration::from_secs(seconds))),
            _ => Err(LOOKS),
        }
    }
}

const LOOKS: &str = "a span of time such as 7d, 12h, 30m or 90s, at least a second";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_whole_number_of_some_unit() {
        for (text, seconds) in [
            ("7d", 604_800),
            ("2w", 1_209_600),
            ("12h", 43_200),
            ("30m", 1_800),
            ("90s", 90),
            ("1", 1),
        ] {
            assert_eq!(text.parse(), Ok(Every(Duration::from_secs(seconds))));
        }
        for bad in [
            "",
            "0",
            "0d",
            "d",
            "-1",
            "1.5h",
            "1y",
            "1dd",
            "1 d",
            "1D",
            "9999999999",
            "9999999w",
        ] {
            assert!(bad.parse::<Every>().is_err(), "{bad}");
        }
    }
}
