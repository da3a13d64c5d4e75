//! The limit of a rule, and how people write it: `rate = "200/s"`, `per = "/24 /48"`.

use std::fmt;

pub use firewall_common::limit::{Per, Terms, Unfit, Unit};

/// A limit that was read and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub terms: Terms,
    pub unit: Unit,
    pub per: Per,
}

/// A rate as written: so many of something every so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub amount: u64,
    pub seconds: u32,
    /// It was written in bytes or bits.
    pub in_bytes: bool,
}

/// Words for the units.
pub const UNITS: &[(&str, Unit)] = &[
    ("packets", Unit::Packets),
    ("bytes", Unit::Bytes),
    ("connections", Unit::Connections),
    ("requests", Unit::Requests),
];
/// What a source is: an IPv4 address, an IPv6 /64.
pub const SOURCE: Per = Per::Sender { v4: 32, v6: 64 };
/// Smallest burst of bytes without the key: the largest frame that a card hands over merged.
const MERGED_FRAME: u64 = 65_536;
/// Sizes in bytes, longest word first where one is another's end.
const SIZES: &[(&str, u64, u64)] = &[
    ("kbit", 1_000, 8),
    ("Mbit", 1_000_000, 8),
    ("Gbit", 1_000_000_000, 8),
    ("kB", 1_000, 1),
    ("MB", 1_000_000, 1),
    ("GB", 1_000_000_000, 1),
    ("KiB", 1 << 10, 1),
    ("MiB", 1 << 20, 1),
    ("GiB", 1 << 30, 1),
    ("B", 1, 1),
];
const PERIODS: &[(&str, u32)] = &[("s", 1), ("m", 60), ("h", 3_600)];

impl Limit {
    /// The burst of a limit that names none: what comes in a second, but at least a unit.
    pub fn usual_burst(rate: Rate, unit: Unit) -> u64 {
        let second = rate.amount.div_ceil(u64::from(rate.seconds.max(1)));
        match unit {
            Unit::Bytes => second.max(MERGED_FRAME),
            _ => second.max(1),
        }
    }

    /// The limit as the kernel programs take it.
    pub fn compiled(&self) -> Result<firewall_common::limit::Limit, Unfit> {
        firewall_common::limit::Limit::new(self.terms, self.unit, self.per)
    }

    /// The rate as the language writes it.
    pub fn rate(&self) -> String {
        let amount = match self.unit {
            Unit::Bytes => print_size(self.terms.rate),
            _ => self.terms.rate.to_string(),
        };
        let known = PERIODS
            .iter()
            .find(|(_, seconds)| *seconds == self.terms.seconds);
        format!("{amount}/{}", known.map_or("s", |(word, _)| word))
    }

    /// The burst as the language writes it.
    pub fn burst(&self) -> String {
        match self.unit {
            Unit::Bytes => print_size(self.terms.burst),
            _ => self.terms.burst.to_string(),
        }
    }

    /// For whom, as the language writes it.
    pub fn per(&self) -> String {
        match self.per {
            Per::Rule => "rule".to_owned(),
            Per::Service => "service".to_owned(),
            SOURCE => "source".to_owned(),
            Per::Sender { v4: 32, v6 } if v6 > 32 => format!("/{v6}"),
            Per::Sender { v4, v6: 64 } => format!("/{v4}"),
            Per::Sender { v4, v6 } => format!("/{v4} /{v6}"),
        }
    }
}

impl fmt::Display for Limit {
    /// `200/s requests per source, burst 400`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = unit_name(self.unit);
        write!(
            formatter,
            "{} {unit} per {}, burst {}",
            self.rate(),
            self.per(),
            self.burst()
        )
    }
}

/// The word for a unit.
pub fn unit_name(unit: Unit) -> &'static str {
    let known = UNITS.iter().find(|(_, known)| *known == unit);
    known.map_or("packets", |(word, _)| word)
}

/// Reads `200/s`, `12/m`, `10MB/s`, `1.5Gbit/s`; or says what is wrong.
pub fn parse_rate(text: &str) -> Result<Rate, String> {
    let Some((amount, period)) = text.split_once('/') else {
        return Err("has no period".to_owned());
    };
    let period = period.trim();
    let Some((_, seconds)) = PERIODS.iter().find(|(word, _)| *word == period) else {
        return Err(format!(
            "has an unknown period \"{}\"",
            period.escape_debug()
        ));
    };
    let (amount, in_bytes) = parse_amount(amount.trim())?;
    Ok(Rate {
        amount,
        seconds: *seconds,
        in_bytes,
    })
}

/// Reads `400`, `64kB`, `1.5MB`: a whole number of units or bytes, and whether it is of bytes.
pub fn parse_amount(text: &str) -> Result<(u64, bool), String> {
    let size = SIZES.iter().find(|(word, ..)| text.ends_with(word));
    let digits = match size {
        Some((word, ..)) => text[..text.len() - word.len()].trim_end(),
        None => text,
    };
    let (times, parts) = size.map_or((1, 1), |(_, times, parts)| (*times, *parts));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || digits.ends_with('.') || !plain(whole) || !plain(fraction) {
        return Err("has no number that can be read".to_owned());
    }
    let scale = 10_u128.checked_pow(fraction.len() as u32);
    let value = format!("{whole}{fraction}").parse::<u128>().ok();
    let exact = value
        .zip(scale)
        .and_then(|(value, scale)| {
            let units = value.checked_mul(u128::from(times))?;
            let scale = scale.checked_mul(u128::from(parts))?;
            Some((units / scale, units % scale))
        })
        .and_then(|(units, rest)| Some((u64::try_from(units).ok()?, rest)));
    match exact {
        Some((amount, 0)) => Ok((amount, size.is_some())),
        Some(_) => Err("is no whole number".to_owned()),
        None => Err("is out of range".to_owned()),
    }
}

/// Reads `rule`, `source`, `service`, `/24`, `/48`, `/24 /48`.
pub fn parse_per(text: &str) -> Option<Per> {
    match text {
        "rule" => return Some(Per::Rule),
        "source" => return Some(SOURCE),
        "service" => return Some(Per::Service),
        _ => {}
    }
    let lengths: Option<Vec<u8>> = text
        .split_whitespace()
        .map(|length| {
            let digits = length.strip_prefix('/')?;
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| plain)
        })
        .collect();
    match *lengths?.as_slice() {
        [v4 @ 1..=32] => Some(Per::Sender { v4, v6: 64 }),
        [v6 @ 33..=128] => Some(Per::Sender { v4: 32, v6 }),
        [v4 @ 1..=32, v6 @ 1..=128] => Some(Per::Sender { v4, v6 }),
        _ => None,
    }
}

/// Bytes in the largest unit that says them exactly.
fn print_size(bytes: u64) -> String {
    let fits = |(word, size, parts): &&(&str, u64, u64)| {
        *parts == 1 && word.ends_with('B') && !word.contains('i') && bytes.is_multiple_of(*size)
    };
    let best = SIZES.iter().filter(fits).max_by_key(|(_, size, _)| *size);
    match best {
        Some((word, size, _)) if bytes > 0 => format!("{}{word}", bytes / size),
        _ => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_written_and_anything_else_is_refused() {
        for (text, amount, seconds, in_bytes) in [
            ("200/s", 200, 1, false),
            ("12/m", 12, 60, false),
            ("7 / h", 7, 3_600, false),
            ("10MB/s", 10_000_000, 1, true),
            ("1Gbit/s", 125_000_000, 1, true),
            ("1.5Mbit/s", 187_500, 1, true),
            ("0.5 kB/m", 500, 60, true),
            ("2KiB/s", 2_048, 1, true),
        ] {
            let rate = Rate {
                amount,
                seconds,
                in_bytes,
            };
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
        for bad in [
            "",
            "200",
            "/s",
            "200/d",
            "200/sec",
            "-1/s",
            "1e3/s",
            "0.5/s",
            "1./s",
            ".5MB/s",
            "200 packets/s",
            "1mb/s",
            "10MB",
            "99999999999999999999/s",
            "1.0000000001kB/s",
        ] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for per in [
            "rule", "source", "service", "/24", "/48", "/24 /48", "/32 /32", "/8 /128",
        ] {
            let read = parse_per(per).unwrap();
            let limit = Limit {
                terms: Terms {
                    rate: 1_500_000,
                    seconds: 60,
                    burst: 2_048,
                },
                unit: Unit::Bytes,
                per: read,
            };
            assert_eq!(parse_per(&limit.per()), Some(read), "{per}");
            assert_eq!(limit.rate(), "1500kB/m");
            assert_eq!(parse_amount(&limit.burst()), Ok((2_048, true)));
        }
        for bad in [
            "",
            "sources",
            "24",
            "/0",
            "/33 /48",
            "/129",
            "/24/48",
            "/24 /48 /9",
            "/+4",
        ] {
            assert_eq!(parse_per(bad), None, "{bad}");
        }
    }
}
