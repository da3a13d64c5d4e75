//! How long a ban lasts, as people write it: `30s`, `10m`, `1h`, `7d`, `1h30m`, `forever`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A ban's length; `None` is without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BanDuration(pub Option<Duration>);

/// Longest length that is taken for meant; beyond it people are told of `forever`.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Units from long to short, so that printing can walk them.
const UNITS: [(char, u64); 5] = [
    ('w', 7 * 86_400),
    ('d', 86_400),
    ('h', 3_600),
    ('m', 60),
    ('s', 1),
];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BanDurationError {
    #[error("`{0}` is no length of time: write e.g. 30s, 10m, 1h, 7d, 1h30m or forever")]
    Malformed(String),
    #[error("a ban of no length would do nothing: write at least 1s")]
    Zero,
    #[error("`{0}` is longer than ten years: write forever if that is meant")]
    TooLong(String),
}

impl BanDuration {
    /// When it ends that begins now; `None` is never.
    pub fn end(self, now: Timestamp) -> Option<Timestamp> {
        // A length that leaves the calendar is as good as no end.
        let duration = SignedDuration::try_from(self.0?).ok()?;
        now.checked_add(duration).ok()
    }
}

impl FromStr for BanDuration {
    type Err = BanDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "forever" {
            return Ok(Self(None));
        }
        let malformed = || BanDurationError::Malformed(text.to_owned());
        let too_long = || BanDurationError::TooLong(text.to_owned());
        let mut total: u64 = 0;
        let mut digits = String::new();
        for letter in text.chars() {
            if letter.is_ascii_digit() {
                digits.push(letter);
                continue;
            }
            let (_, seconds) = UNITS
                .iter()
                .find(|(unit, _)| *unit == letter)
                .ok_or_else(malformed)?;
            if digits.is_empty() {
                return Err(malformed());
            }
            let count: u64 = digits.parse().map_err(|_| too_long())?;
            digits.clear();
            total = count
                .checked_mul(*seconds)
                .and_then(|part| total.checked_add(part))
                .ok_or_else(too_long)?;
        }
        if !digits.is_empty() || text.is_empty() {
            return Err(malformed());
        }
        match Duration::from_secs(total) {
            Duration::ZERO => Err(BanDurationError::Zero),
            duration if duration > LONGEST => Err(too_long()),
            duration => Ok(Self(Some(duration))),
        }
    }
}

impl fmt::Display for BanDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(duration) = self.0 else {
            return formatter.write_str("forever");
        };
        let mut rest = duration.as_secs();
        if rest == 0 {
            return formatter.write_str("0s");
        }
        for (unit, seconds) in UNITS {
            if rest >= seconds {
                write!(formatter, "{}{unit}", rest / seconds)?;
                rest %= seconds;
            }
        }
        Ok(())
    }
}

impl Serialize for BanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(text: &str) -> Result<Option<u64>, BanDurationError> {
        text.parse::<BanDuration>()
            .map(|parsed| parsed.0.map(|duration| duration.as_secs()))
    }

    #[test]
    fn every_unit_and_their_sums_are_understood() {
        for (text, expected) in [
            ("30s", 30),
            ("10m", 600),
            ("1h", 3_600),
            ("7d", 604_800),
            ("2w", 1_209_600),
            ("1h30m", 5_400),
        ] {
            assert_eq!(seconds(text), Ok(Some(expected)), "{text}");
        }
        assert_eq!(seconds("forever"), Ok(None));
    }

    #[test]
    fn what_is_no_length_of_time_is_refused_with_the_forms_that_are() {
        for text in ["", "10", "h", "-1h", "1.5h", "1 h", "1y", "Forever", "10m5"] {
            let error = seconds(text).expect_err(text);
            assert!(matches!(error, BanDurationError::Malformed(_)), "{text}");
            assert!(error.to_string().contains("10m"), "{error}");
        }
    }

    #[test]
    fn no_length_and_absurd_lengths_are_refused() {
        assert_eq!(seconds("0s"), Err(BanDurationError::Zero));
        for text in ["11000d", "99999999999999999999s", "18446744073709551615w"] {
            assert_eq!(
                seconds(text),
                Err(BanDurationError::TooLong(text.to_owned()))
            );
        }
    }

    proptest! {
        #[test]
        fn a_printed_length_reads_back_the_same(length in 1u64..315_360_000) {
            let duration = BanDuration(Some(Duration::from_secs(length)));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
